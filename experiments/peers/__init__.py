"""The course's networks in several frameworks, each in its fastest configuration.

Each framework has a module with a function ``prepare(case) -> Trainer``. The modules import their
frameworks separately, so that a framework that is not installed can be left out.
"""
