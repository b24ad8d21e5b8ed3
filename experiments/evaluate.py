"""Evaluate one finished run or compare two: python experiments/evaluate.py RUN [RUN]"""

from fidle_jax.cli.evaluate import main

if __name__ == "__main__":
    main()
