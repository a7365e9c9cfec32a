"""Circuits in the feature basis: what attends to what, what moves what, what adds what, and what really causes it."""
