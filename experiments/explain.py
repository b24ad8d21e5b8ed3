"""Explain predictions of a finished run: python experiments/explain.py RUN [IMAGE ...] [--test INDEX]"""

from fidle_jax.cli.explain import main

if __name__ == "__main__":
    main()
