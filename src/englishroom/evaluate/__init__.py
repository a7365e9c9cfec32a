"""Judging talkers: one protocol, one set of measures for all of them."""
