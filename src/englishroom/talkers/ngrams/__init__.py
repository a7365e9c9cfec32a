"""Talkers that count: n-grams of bounded and unbounded length, and skip-trigrams."""
