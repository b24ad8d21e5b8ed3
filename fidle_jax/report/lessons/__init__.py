"""The figures of the lessons, a module for each: arrays in, a figure out."""
