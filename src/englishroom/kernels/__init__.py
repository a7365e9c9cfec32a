"""Loops compiled by numba for the CPU, and how they share out their work."""
