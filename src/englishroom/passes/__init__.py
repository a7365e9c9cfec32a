"""Rewrites of programs, one file each, and what they record."""
