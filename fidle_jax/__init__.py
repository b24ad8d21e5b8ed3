"""Convolutional networks of the Fidle course, as functional JAX."""

__version__ = "0.1.0"
