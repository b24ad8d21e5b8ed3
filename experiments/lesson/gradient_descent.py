"""Show gradient descent on a loss surface: batch size, learning rate, optimizer.

python experiments/lesson/gradient_descent.py --batch-size 10
"""

from fidle_jax.cli.lesson import main

if __name__ == "__main__":
    main("gradient_descent")
