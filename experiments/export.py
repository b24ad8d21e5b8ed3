"""Export the network of a finished run: python experiments/export.py RUN --format onnx"""

from fidle_jax.cli.export import main

if __name__ == "__main__":
    main()
