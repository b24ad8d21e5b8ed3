"""Show under-fitting and over-fitting with polynomials, then with a network.

python experiments/lesson/overfitting.py --points 30
"""

from fidle_jax.cli.lesson import main

if __name__ == "__main__":
    main("overfitting")
