"""englishroom: a decompiler for small language models."""

__version__ = "0.2.0"
