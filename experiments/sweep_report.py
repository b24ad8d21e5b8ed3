"""Draw the page of a sweep and print its table:

python experiments/sweep_report.py runs/sweeps/mnist_cnn
"""

from fidle_jax.cli.sweep_report import main

if __name__ == "__main__":
    main()
