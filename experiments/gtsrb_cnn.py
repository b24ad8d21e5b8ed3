"""Networks for traffic signs (GTSRB): the course's networks, and one designed for two CPU cores:

python experiments/gtsrb_cnn.py
"""

from fidle_jax.cli.train import main
from fidle_jax.train.config import Config

DEFAULTS = Config().replace(dataset="32x32-RGB", model="compact_small")

if __name__ == "__main__":
    main("gtsrb_cnn", __doc__, DEFAULTS)
