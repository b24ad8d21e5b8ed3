"""The course's networks in several frameworks, each as somebody at home in it would train them.

A file a framework, with one function, ``prepare(case) -> Trainer``. Each imports its framework alone,
so that it can be left out where that is not installed.
"""
