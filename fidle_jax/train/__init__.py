"""Training. As a function, this package trains a network: ``fidle_jax.train(data, ...)``.

Args:
    data: What `fidle_jax.load_data` returned, or a name or path of a data set.
    model: Name of a model (default: "compact"), or any Flax linen module that returns one logit per class.
        Its ``__call__`` receives the images as floats from 0 to 1, and ``train``, ``training`` or
        ``is_training`` if it has an argument of this name, or the opposite as ``deterministic`` or
        ``use_running_average``. Dropout layers use the rng "dropout".
    optimizer: Name, or an ``optax.GradientTransformation``, which replaces all settings of the optimizer.
    learning_rate: Number, or an optax schedule: a function from the step to the learning rate.
    loss: Function (logits, labels) -> loss of each example (default: cross-entropy). The test loss remains
        the cross-entropy.
    metrics: Functions (logits, labels) -> value of each example, by name. Their means are in metrics.csv and
        TensorBoard as ``validation_NAME``, and in result.json as ``test_NAME``.
    callbacks: Functions of a `fidle_jax.train.custom.Event`, called after each epoch and at the end of the
        run. If one returns False, the training stops after this epoch and the best epoch so far is tested.
    settings: The flags of the command line, such as ``epochs=10``, ``run_dir="runs/a"`` or ``resume=True``.
        Write ``from_`` for the flag ``--from``.

Returns:
    The `fidle_jax.inference.load.Run`, which `fidle_jax.load` also returns.

Raises:
    InputError: The data, an argument or the run directory is wrong.
    KeyboardInterrupt: The run was interrupted. Its state is saved; the message says how to resume.
"""

import sys

from fidle_jax import CallablePackage

# The function has the name of this package. Importing a submodule sets `fidle_jax.train` to the package.
sys.modules[__name__].__class__ = CallablePackage
