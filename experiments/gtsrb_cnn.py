"""Networks for traffic signs (GTSRB): the course's, and one made for two CPU cores."""

from fidle_jax.cli.train import main
from fidle_jax.train.config import Config

DEFAULTS = Config().replace(dataset="32x32-RGB", model="compact")

if __name__ == "__main__":
    main("gtsrb_cnn", __doc__, DEFAULTS)
