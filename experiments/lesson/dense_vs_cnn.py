"""Compare a dense and a convolutional network with nearly the same number of parameters.

python experiments/lesson/dense_vs_cnn.py --data full
"""

from fidle_jax.cli.lesson import main

if __name__ == "__main__":
    main("dense_vs_cnn")
