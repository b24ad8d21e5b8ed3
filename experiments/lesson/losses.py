"""Show cross-entropy and squared error step by step, and why losses accept logits.

python experiments/lesson/losses.py --logits 3 1 -2
"""

from fidle_jax.cli.lesson import main

if __name__ == "__main__":
    main("losses")
