"""Prepare the course's traffic-sign data sets (GTSRB) and draw a page about them:

python experiments/gtsrb_prepare.py --archives DIR
"""

from fidle_jax.cli.gtsrb_prepare import main

if __name__ == "__main__":
    main()
