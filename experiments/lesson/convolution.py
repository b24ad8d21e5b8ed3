"""Show what a convolution computes, and why it is not a dense layer.

python experiments/lesson/convolution.py --height 64 --width 64
"""

from fidle_jax.cli.lesson import main

if __name__ == "__main__":
    main("convolution")
