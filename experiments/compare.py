"""Compare finished runs, with mean and standard deviation over the seeds of each setting:

python experiments/compare.py runs/course/* runs/best/*
"""

from fidle_jax.cli.compare import main

if __name__ == "__main__":
    main()
