"""Show the computation of a convolution, and its difference from a dense layer.

python experiments/lesson/convolution.py --height 64 --width 64
"""

from fidle_jax.cli.lesson import main

if __name__ == "__main__":
    main("convolution")
