"""Predict a number from a table row with a dense network.

python experiments/lesson/regression.py --table diabetes
"""

from fidle_jax.cli.lesson import main

if __name__ == "__main__":
    main("regression")
