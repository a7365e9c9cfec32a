"""Running a program: the readable reference, and the fast interpreter with the same answers."""
