"""Lessons: a module with the computation and the figures, and the text in a file of the same name."""
