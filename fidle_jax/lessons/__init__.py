"""The computations of the course's smaller lessons: pure functions, which their figures and pages show."""
