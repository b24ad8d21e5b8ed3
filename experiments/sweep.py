"""Run an experiment for all combinations of flags:

python experiments/sweep.py --grid learning-rate=3e-4,1e-3,3e-3 --seeds 5 --launch local --workers 2
python experiments/sweep.py --file experiments/gtsrb_ingredients.toml
"""

from fidle_jax.cli.sweep import main

if __name__ == "__main__":
    main()
