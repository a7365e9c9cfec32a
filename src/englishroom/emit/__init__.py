"""From a program to plain Python that needs nothing but the standard library."""
