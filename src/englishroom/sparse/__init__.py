"""Sparse models: features that read few features, started from a target and its dictionaries, pruned and refitted."""
