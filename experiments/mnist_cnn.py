"""The course's convolutional network on handwritten digits:

python experiments/mnist_cnn.py
"""

from fidle_jax.cli.train import main
from fidle_jax.train.config import Config

DEFAULTS = Config().replace(model="cnn")

if __name__ == "__main__":
    main("mnist_cnn", __doc__, DEFAULTS)
