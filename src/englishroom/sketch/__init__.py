"""Sketches: the shortest readable program that keeps a stated share of what a talker does."""
