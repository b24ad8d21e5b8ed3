import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from fidle_jax.kernels import dropout

KEY = jax.random.fold_in(jax.random.key(0), 3)
UNLIKELY = 1e-4


def _kept(rate=0.5, key=KEY, index=None, shape=(64, 5, 5, 16)):
    index = jnp.arange(shape[0]) if index is None else index
    return np.asarray(dropout(jnp.ones(shape), rate, key, index) != 0)


@settings(max_examples=15)
@given(st.floats(0.001, 0.999), st.integers(0, 2**32 - 1))
def test_as_many_are_kept_as_the_rate_says(rate, seed):
    kept = _kept(rate, jax.random.key(seed), shape=(128, 400))
    # Drawn anew on each run of the tests: only what never happens by chance may fail.
    assert scipy.stats.binomtest(int(kept.sum()), kept.size, 1 - rate).pvalue > 1e-9


def test_kept_values_are_scaled_by_the_share_kept_and_others_are_zero():
    x = jnp.arange(1.0, 4097.0).reshape(8, 512)
    y = dropout(x, 0.2, KEY, jnp.arange(8))
    np.testing.assert_allclose(y[y != 0], x[y != 0] / 0.8, rtol=1e-6)
    assert 0 < (y == 0).sum() < y.size


@pytest.mark.parametrize("rate", [0.2, 0.5, 0.9])
def test_the_mean_is_preserved(rate):
    y = dropout(jnp.ones((256, 1000)), rate, KEY, jnp.arange(256))
    error = np.sqrt(rate / (1 - rate) / y.size)
    assert abs(y.mean() - 1) < 4 * error


def test_a_rate_of_zero_changes_nothing():
    x = jnp.ones((2, 3))
    assert dropout(x, 0.0, KEY, jnp.arange(2)) is x


@pytest.mark.parametrize("rate", [1 - 2**-20, 1 - 1e-12])
def test_a_rate_just_below_one_zeroes_nearly_all(rate):
    assert _kept(rate).mean() < 1e-3


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5, float("nan"), float("inf")])
def test_a_rate_outside_its_range_raises_an_error(rate):
    with pytest.raises(
        ValueError, match=f"dropout rate is {rate}; it must be at least 0 and less than 1"
    ):
        dropout(jnp.ones((2, 3)), rate, KEY, jnp.arange(2))


def test_each_examples_mask_follows_it_through_permuted_and_parted_batches():
    index = jnp.arange(64)
    whole = _kept()
    order = np.random.default_rng(0).permutation(64)
    np.testing.assert_array_equal(_kept(index=index[order]), whole[order])
    parts = [_kept(index=part, shape=(16, 5, 5, 16)) for part in jnp.split(index, 4)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_masks_are_the_same_compiled_and_not():
    x, index = jnp.ones((8, 100)), jnp.arange(8)
    compiled = jax.jit(dropout, static_argnums=1)(x, 0.5, KEY, index)
    np.testing.assert_array_equal(compiled, dropout(x, 0.5, KEY, index))


TRACED = jax.jit(dropout)
NORMAL = jnp.asarray(np.random.default_rng(0).normal(size=(64, 400)), jnp.float32)


@pytest.mark.parametrize("rate", [0.0, 0.125, 0.25, 0.5, 0.75, 1 - 2**-10])
def test_a_traced_rate_has_exactly_the_mask_of_the_same_concrete_rate(rate):
    traced, concrete = (call(NORMAL, rate, KEY, jnp.arange(64)) for call in (TRACED, dropout))
    np.testing.assert_array_equal(traced == 0, concrete == 0)
    np.testing.assert_allclose(traced, concrete, rtol=1e-6)


def test_a_traced_rate_of_one_half_has_exactly_the_values_of_the_concrete_rate():
    traced, concrete = (call(NORMAL, 0.5, KEY, jnp.arange(64)) for call in (TRACED, dropout))
    np.testing.assert_array_equal(traced, concrete)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_a_traced_rate_preserves_the_type(dtype):
    assert TRACED(jnp.ones((2, 4), dtype), 0.5, KEY, jnp.arange(2)).dtype == dtype


def test_the_rate_may_be_a_concrete_array():
    np.testing.assert_array_equal(_kept(jnp.array(0.25)), _kept(0.25))


def _agreement_is_chance(one, other):
    # Independent fair masks agree in half of the places.
    return scipy.stats.binomtest(int((one == other).sum()), one.size, 0.5).pvalue > UNLIKELY


def test_masks_of_two_steps_are_independent():
    one, other = (_kept(key=jax.random.fold_in(jax.random.key(0), step)) for step in (0, 1))
    assert _agreement_is_chance(one, other)


def test_masks_of_neighbouring_examples_positions_and_channels_are_independent():
    kept = _kept()
    for axis in range(kept.ndim):
        later = np.take(kept, range(1, kept.shape[axis]), axis)
        earlier = np.take(kept, range(kept.shape[axis] - 1), axis)
        assert _agreement_is_chance(later, earlier)


# The CNN's first dropout, at its usual batch, over a few steps; the rate is the course's.
EXAMPLES, VALUES, STEPS, RATE = 512, 13 * 13 * 8, 8, 0.2
STEP_KEYS = [jax.random.fold_in(jax.random.key(0), step) for step in range(STEPS)]
LAYER_KEYS = [jax.random.fold_in(key, layer) for key in STEP_KEYS for layer in range(3)]


@functools.cache
def _standardized(by):
    """Masks of one key after another, less their mean and over their deviation: (key, example, value)."""
    keys = {"step": STEP_KEYS, "layer": LAYER_KEYS}[by]
    kept = np.stack([_kept(RATE, key, shape=(EXAMPLES, VALUES)) for key in keys])
    return (kept - (1 - RATE)) / np.sqrt(RATE * (1 - RATE))


@pytest.mark.parametrize("axis", range(3))
def test_no_step_no_example_and_no_value_is_dropped_more_often_than_others(axis):
    masks = _standardized("step")
    others = tuple(a for a in range(3) if a != axis)
    sums = masks.sum(axis=others) / np.sqrt(masks.size / masks.shape[axis])
    chance = scipy.stats.chi2.cdf((sums**2).sum(), sums.size)
    assert UNLIKELY < chance < 1 - UNLIKELY


@pytest.mark.parametrize("step", range(STEPS))
def test_a_mask_has_no_pattern_at_any_distance(step):
    # The spectrum holds the autocorrelation at all distances at once, along examples and values.
    # Of noise, each of its powers is exponentially distributed; a pattern is one that stands out.
    mask = _standardized("step")[step]
    powers = np.abs(np.fft.rfft2(mask)) ** 2 / mask.size
    assert powers[1:, 1:-1].max() < np.log(powers.size / UNLIKELY)


def test_successive_masks_of_one_example_have_no_pattern_at_any_distance():
    keys = jax.vmap(lambda step: jax.random.fold_in(jax.random.key(0), step))(jnp.arange(EXAMPLES))
    alone = jax.jit(jax.vmap(lambda key: dropout(jnp.ones((1, VALUES)), 0.5, key, jnp.arange(1))))
    mask = np.sign(np.asarray(alone(keys))[:, 0] - 1)
    powers = np.abs(np.fft.rfft2(mask)) ** 2 / mask.size
    assert powers[1:, 1:-1].max() < np.log(powers.size / UNLIKELY)


def test_masks_of_all_steps_and_layers_are_uncorrelated():
    masks = _standardized("layer").reshape(len(LAYER_KEYS), -1)
    correlations = (masks @ masks.T)[np.triu_indices(len(masks), 1)] / np.sqrt(masks.shape[1])
    chance = scipy.stats.chi2.cdf((correlations**2).sum(), correlations.size)
    assert UNLIKELY < chance < 1 - UNLIKELY


@pytest.mark.parametrize("across", ["values", "examples"])
def test_each_run_of_eight_kept_or_dropped_comes_as_often_as_chance_has_it(across):
    kept = _standardized("step")[0] > 0
    kept = kept if across == "values" else kept.T
    runs = kept[:, : kept.shape[1] // 8 * 8].reshape(-1, 8)
    counts = np.bincount(np.packbits(runs), minlength=256)
    ones = np.array([byte.bit_count() for byte in range(256)])
    expected = len(runs) * (1 - RATE) ** ones * RATE ** (8 - ones)
    # Runs too rare for a chi-square are taken together.
    rare = expected < 5
    pooled, chances = (np.append(n[~rare], n[rare].sum()) for n in (counts, expected))
    assert scipy.stats.chisquare(pooled, chances).pvalue > UNLIKELY


def test_the_gradient_flows_through_what_is_kept_alone():
    index = jnp.arange(64)
    slopes = jax.grad(lambda x: dropout(x, 0.5, KEY, index).sum())(jnp.ones((64, 5, 5, 16)))
    np.testing.assert_array_equal(slopes, 2.0 * _kept())


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_the_type_is_kept_and_the_batch_may_be_empty(dtype):
    y = dropout(jnp.ones((0, 4), dtype), 0.5, KEY, jnp.arange(0))
    assert (y.shape, y.dtype) == ((0, 4), dtype)
