"""The course's dense network on handwritten digits, a baseline for the convolutional one:

python experiments/mnist_dnn.py
"""

from fidle_jax.cli.train import main
from fidle_jax.train.config import Config

DEFAULTS = Config().replace(model="dnn")

if __name__ == "__main__":
    main("mnist_dnn", __doc__, DEFAULTS)
