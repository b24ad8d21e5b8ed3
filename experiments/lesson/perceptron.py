"""Show the decision boundary of one neuron, and the effect of a hidden layer.

python experiments/lesson/perceptron.py --points moons
"""

from fidle_jax.cli.lesson import main

if __name__ == "__main__":
    main("perceptron")
