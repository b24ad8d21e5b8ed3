"""Show the border that one neuron learns, and what a hidden layer adds.

python experiments/lesson/perceptron.py --points moons
"""

from fidle_jax.cli.lesson import main

if __name__ == "__main__":
    main("perceptron")
