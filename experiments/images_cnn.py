"""A network for your own images: one folder for each class, or a CSV, .npz, Parquet or idx file:

python experiments/images_cnn.py --dataset photos/
"""

from fidle_jax.cli.train import main
from fidle_jax.train.config import Config

DEFAULTS = Config().replace(dataset="", model="compact")

if __name__ == "__main__":
    main("images_cnn", __doc__, DEFAULTS)
