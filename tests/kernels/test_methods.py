import jax.numpy as jnp
import numpy as np
import pytest

from fidle_jax import kernels
from fidle_jax.kernels import methods

X, W = jnp.ones((2, 6, 7, 4)), jnp.ones((3, 2, 2, 4))


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch):
    monkeypatch.setattr(methods, "_METHODS", dict(methods._METHODS))


def test_a_registered_method_receives_validated_arguments():
    calls = []

    def conv(x, w, **arguments):
        calls.append((x.shape, w.shape, arguments))
        return jnp.zeros((2, 3, 4, 4))

    kernels.register("mine", conv)
    y = kernels.conv(X, W, strides=2, padding="same", groups=2, method="mine")

    np.testing.assert_array_equal(y, np.zeros((2, 3, 4, 4)))
    padding = ((0, 1), (0, 1))
    arguments = {"strides": (2, 2), "padding": padding, "dilation": (1, 1), "groups": 2}
    assert calls == [(X.shape, W.shape, arguments)]
    assert list(kernels.conv_methods())[-1] == "mine"


def test_registering_a_name_again_replaces_the_function():
    for value in (1, 2):
        kernels.register(
            "mine", lambda x, w, value=value, **_: jnp.full((2, 4, 6, 4), value, x.dtype)
        )
    assert kernels.conv(X, W, groups=2, method="mine").max() == 2


@pytest.mark.parametrize("name", ["auto", "reference", "xla", "im2col"])
def test_the_names_of_the_package_cannot_be_registered(name):
    with pytest.raises(ValueError, match=f"method '{name}' belongs to fidle_jax; choose another"):
        kernels.register(name, lambda x, w, **_: x)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((None, None), "the name of a method is None; it must be a non-empty string"),
        (("", lambda: None), "the name of a method is ''; it must be a non-empty string"),
        (("mine", None), "conv is None; it must be a function"),
        (("mine", lambda: None, 3), "supports is 3; it must be a function"),
    ],
    ids=["name", "empty name", "conv", "supports"],
)
def test_registering_wrong_arguments_raises_an_error_and_registers_nothing(arguments, message):
    before = kernels.conv_methods()
    with pytest.raises(TypeError, match=message):
        kernels.register(*arguments)
    assert kernels.conv_methods() == before


def test_an_unknown_method_raises_an_error_with_the_known_ones():
    kernels.register("mine", lambda x, w, **_: x)
    known = "'auto', 'reference', 'xla', 'forward', 'im2col', 'shifted', 'winograd', 'fft'.*'mine'"
    with pytest.raises(ValueError, match=f"unknown method 'yours'; it must be {known}"):
        kernels.conv(X, W, groups=2, method="yours")


def test_unsupported_windows_raise_an_error_before_the_method_is_called():
    def conv(*_, **__):
        raise AssertionError

    kernels.register("mine", conv, supports=lambda size, strides, dilation: max(strides) == 1)
    with pytest.raises(
        ValueError, match=r"'mine' does not support windows of \(3, 2\), strides \(2, 2\)"
    ):
        kernels.conv(X, W, strides=2, groups=2, method="mine")


def test_the_list_of_methods_is_a_copy():
    kernels.conv_methods().clear()
    assert "reference" in kernels.conv_methods()
