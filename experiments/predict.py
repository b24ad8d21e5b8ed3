"""Classify image files: python experiments/predict.py RUN IMAGE ..."""

from fidle_jax.cli.predict import main

if __name__ == "__main__":
    main()
