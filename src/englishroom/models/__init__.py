"""Models in: what a target is, how it is read from disk, and its plain forward pass."""
