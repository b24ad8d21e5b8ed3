"""Show the usual activation functions, their derivatives, and where they saturate.

python experiments/lesson/activations.py --layers 20
"""

from fidle_jax.cli.lesson import main

if __name__ == "__main__":
    main("activations")
