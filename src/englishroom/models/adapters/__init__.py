"""One file per family: how its config and its tensors map to ours."""
