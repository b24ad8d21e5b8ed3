"""Run every lesson on a small budget and write a page with links to their pages.

python experiments/lesson/all.py
"""

from fidle_jax.cli.lesson import main

if __name__ == "__main__":
    main("all")
