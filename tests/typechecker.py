"""The type checker of the tests, for jaxtyping's import hook. It imports nothing of the package."""

import beartype

# As in PEP 484, an int is a valid float.
_beartype = beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))


def check(decorated):
    """Check the annotations of a class or function, except of functions within functions.

    These are decorated whenever the outer function runs, which takes longer than the function.
    """
    return decorated if "<locals>" in decorated.__qualname__ else _beartype(decorated)
