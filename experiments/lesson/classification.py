"""Classify tumours with a sigmoid and digits with a softmax.

python experiments/lesson/classification.py --epochs 20
"""

from fidle_jax.cli.lesson import main

if __name__ == "__main__":
    main("classification")
