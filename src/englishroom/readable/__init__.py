"""Readable programs in torch: looks, moved features, rules and votes, fitted to a target, then cut to what is short."""
