"""Classify drawings in the browser: python experiments/demo.py RUN"""

from fidle_jax.cli.demo import main

if __name__ == "__main__":
    main()
