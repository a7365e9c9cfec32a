"""Sparse dictionaries: coders for every site of a target, trained on streamed activations."""
