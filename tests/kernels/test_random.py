import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from fidle_jax import kernels
from fidle_jax.kernels import dropout

# The bits of a fixed key do not change: a probability below this is a pattern, not bad luck.
UNLIKELY = 1e-4
# The shape of the CNN's first dropout; the simplest keys are the hardest.
EXAMPLES, ELEMENTS = 256, 13 * 13 * 8
KEYS = [jax.random.key(0), jax.random.key(1), jax.random.fold_in(jax.random.key(0), 7)]
KEY = jax.random.fold_in(jax.random.key(0), 3)

hash_bits = jax.jit(kernels.hash_bits, static_argnums=2)
permutation = jax.jit(kernels.permutation, static_argnums=1)


@functools.cache
def _bits(key_index=0, examples=EXAMPLES, elements=ELEMENTS):
    return np.asarray(hash_bits(KEYS[key_index], jnp.arange(examples), elements))


def _correlation(a, b):
    """Return the correlation of 32-bit words, in standard deviations of independent words."""
    a, b = (words.astype(np.float64).ravel() / 2**32 - 0.5 for words in (a, b))
    return 12 * math.sqrt(a.size) * np.mean(a * b)


EACH_KEY = pytest.mark.parametrize("key", range(3))


@EACH_KEY
def test_each_of_the_32_bits_is_set_half_of_the_time(key):
    bits = _bits(key)
    set_count = np.array([((bits >> i) & 1).sum() for i in range(32)])
    half = bits.size / 2
    chi_square = ((set_count - half) ** 2 / half + (bits.size - set_count - half) ** 2 / half).sum()
    assert scipy.stats.chi2.sf(chi_square, 32) > UNLIKELY


@EACH_KEY
@pytest.mark.parametrize("byte", range(4))
def test_each_value_of_each_byte_is_equally_frequent(key, byte):
    counts = np.bincount((_bits(key).ravel() >> (8 * byte)) & 255, minlength=256)
    assert scipy.stats.chisquare(counts).pvalue > UNLIKELY


@EACH_KEY
@pytest.mark.parametrize("lag", [1, 2, 3, 8, 13 * 8, 128])
def test_neighbouring_elements_and_neighbouring_examples_are_uncorrelated(key, lag):
    bits = _bits(key)
    assert abs(_correlation(bits[:, lag:], bits[:, :-lag])) < 4.5
    assert abs(_correlation(bits[lag:], bits[:-lag])) < 4.5


@pytest.mark.parametrize(("one", "other"), [(0, 1), (0, 2), (1, 2)])
def test_bits_of_similar_keys_are_uncorrelated(one, other):
    assert abs(_correlation(_bits(one), _bits(other))) < 4.5


def test_words_are_repeated_no_more_often_than_by_chance():
    words = _bits(2)
    repeats = words.size - np.unique(words).size
    assert scipy.stats.poisson.sf(repeats - 1, words.size**2 / 2**33) > UNLIKELY


@settings(max_examples=15)
@given(st.lists(st.integers(0, 2**31 - 1), min_size=5, max_size=5))
def test_bits_depend_only_on_key_example_index_and_element(indices):
    indices = np.array(indices, np.int32)
    together = hash_bits(KEYS[2], indices, 7)
    alone = [hash_bits(KEYS[2], indices[i : i + 1], 4)[0] for i in range(5)]
    np.testing.assert_array_equal(together[:, :4], alone)
    assert together.dtype == jnp.uint32


def test_bits_are_those_of_earlier_versions():
    bits = kernels.hash_bits(jax.random.key(0), jnp.arange(2), 3)
    expected = [[0, 1492470133, 911671261], [604019821, 19936761, 2571377106]]
    np.testing.assert_array_equal(bits, expected)
    with jax.enable_x64(True):
        wide = kernels.hash_bits(jax.random.key(0), jnp.arange(2), 3)
    np.testing.assert_array_equal(wide, expected)


@pytest.mark.parametrize("implementation", ["rbg", "unsafe_rbg"])
def test_keys_of_other_implementations_are_supported(implementation):
    keys = (jax.random.key(seed, impl=implementation) for seed in (3, 4))
    one, other = (np.asarray(hash_bits(key, jnp.arange(EXAMPLES), ELEMENTS)) for key in keys)
    assert abs(_correlation(one, other)) < 4.5


@pytest.mark.parametrize("size", [0, 1, 2, 1000])
def test_a_permutation_contains_every_number_once(size):
    @settings(max_examples=15)
    @given(st.integers(0, 2**32 - 1))
    def check(seed):
        order = permutation(jax.random.key(seed), size)
        assert order.dtype == jnp.int32
        np.testing.assert_array_equal(np.sort(order), np.arange(size))

    check()


def test_a_permutation_of_a_whole_data_set_depends_only_on_the_key():
    first, again, other = (permutation(jax.random.key(seed), 60_000) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    # Two random orders agree at one position on average.
    assert (first == other).sum() < 10
    assert (first == np.arange(60_000)).sum() < 10


def test_all_24_orders_of_four_are_equally_frequent():
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(0), i))(jnp.arange(4800))
    orders = jax.jit(jax.vmap(lambda key: kernels.permutation(key, 4)))(keys)
    counts = np.unique(orders, axis=0, return_counts=True)[1]
    assert counts.size == math.factorial(4)
    assert scipy.stats.chisquare(counts).pvalue > UNLIKELY


def test_the_first_and_last_number_of_a_permutation_are_uniform_over_the_seeds():
    keys = jax.vmap(jax.random.key)(jnp.arange(2000))
    orders = jax.jit(jax.vmap(lambda key: kernels.permutation(key, 10)))(keys)
    for index in (0, 9):
        counts = np.bincount(orders[:, index], minlength=10)
        assert scipy.stats.chisquare(counts).pvalue > UNLIKELY


def _kept(rate=0.5, key=KEY, index=None, shape=(64, 5, 5, 16)):
    index = jnp.arange(shape[0]) if index is None else index
    return np.asarray(dropout(jnp.ones(shape), rate, key, index) != 0)


@settings(max_examples=15)
@given(st.floats(0.001, 0.999), st.integers(0, 2**32 - 1))
def test_the_share_of_kept_values_is_one_minus_the_rate(rate, seed):
    kept = _kept(rate, jax.random.key(seed), shape=(128, 400))
    # Drawn again in each run of the tests: only an impossible result may fail.
    assert scipy.stats.binomtest(int(kept.sum()), kept.size, 1 - rate).pvalue > 1e-9


def test_kept_values_are_scaled_by_the_share_of_kept_values_and_others_are_zero():
    x = jnp.arange(1.0, 4097.0).reshape(8, 512)
    y = dropout(x, 0.2, KEY, jnp.arange(8))
    np.testing.assert_allclose(y[y != 0], x[y != 0] / 0.8, rtol=1e-6)
    assert 0 < (y == 0).sum() < y.size


@pytest.mark.parametrize("rate", [0.2, 0.5, 0.9])
def test_dropout_preserves_the_mean(rate):
    y = dropout(jnp.ones((256, 1000)), rate, KEY, jnp.arange(256))
    error = np.sqrt(rate / (1 - rate) / y.size)
    assert abs(y.mean() - 1) < 4 * error


def test_a_rate_of_zero_changes_nothing():
    x = jnp.ones((2, 3))
    assert dropout(x, 0.0, KEY, jnp.arange(2)) is x


@pytest.mark.parametrize("rate", [1 - 2**-20, 1 - 1e-12])
def test_a_rate_just_below_one_zeroes_nearly_all_values(rate):
    assert _kept(rate).mean() < 1e-3


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5, float("nan"), float("inf")])
def test_a_rate_outside_its_range_raises_an_error(rate):
    message = f"dropout rate is {rate}; it must be at least 0 and less than 1"
    with pytest.raises(ValueError, match=message):
        dropout(jnp.ones((2, 3)), rate, KEY, jnp.arange(2))


def test_the_mask_of_an_example_is_the_same_in_permuted_and_divided_batches():
    index = jnp.arange(64)
    whole = _kept()
    order = np.random.default_rng(0).permutation(64)
    np.testing.assert_array_equal(_kept(index=index[order]), whole[order])
    parts = [_kept(index=part, shape=(16, 5, 5, 16)) for part in jnp.split(index, 4)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_compiled_masks_are_the_same():
    x, index = jnp.ones((8, 100)), jnp.arange(8)
    compiled = jax.jit(dropout, static_argnums=1)(x, 0.5, KEY, index)
    np.testing.assert_array_equal(compiled, dropout(x, 0.5, KEY, index))


TRACED = jax.jit(dropout)
NORMAL = jnp.asarray(np.random.default_rng(0).normal(size=(64, 400)), jnp.float32)


@pytest.mark.parametrize("rate", [0.0, 0.125, 0.25, 0.5, 0.75, 1 - 2**-10])
def test_a_traced_rate_has_exactly_the_mask_of_the_same_concrete_rate(rate):
    traced, concrete = (call(NORMAL, rate, KEY, jnp.arange(64)) for call in (TRACED, dropout))
    np.testing.assert_array_equal(traced == 0, concrete == 0)
    # The scale of a concrete rate is rounded once; a half is exact.
    np.testing.assert_allclose(traced, concrete, rtol=0 if rate == 0.5 else 1e-6)


def test_the_rate_may_be_a_concrete_array():
    np.testing.assert_array_equal(_kept(jnp.array(0.25)), _kept(0.25))


@pytest.mark.parametrize("batch", [0, 2])
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_dropout_preserves_the_type_and_accepts_an_empty_batch(dtype, batch):
    for call in (dropout, TRACED):
        y = call(jnp.ones((batch, 4), dtype), 0.5, KEY, jnp.arange(batch))
        assert (y.shape, y.dtype) == ((batch, 4), dtype)


def test_the_gradient_is_zero_for_dropped_values():
    index = jnp.arange(64)
    slopes = jax.grad(lambda x: dropout(x, 0.5, KEY, index).sum())(jnp.ones((64, 5, 5, 16)))
    np.testing.assert_array_equal(slopes, 2.0 * _kept())


def _agree_by_chance(one, other):
    # Independent fair masks agree at half of the positions.
    return scipy.stats.binomtest(int((one == other).sum()), one.size, 0.5).pvalue > UNLIKELY


def test_masks_of_two_steps_are_independent():
    one, other = (_kept(key=jax.random.fold_in(jax.random.key(0), step)) for step in (0, 1))
    assert _agree_by_chance(one, other)


def test_masks_of_neighbouring_examples_positions_and_channels_are_independent():
    kept = _kept()
    for axis in range(kept.ndim):
        later = np.take(kept, range(1, kept.shape[axis]), axis)
        earlier = np.take(kept, range(kept.shape[axis] - 1), axis)
        assert _agree_by_chance(later, earlier)


# The CNN's first dropout with the usual batch and the course's rate, over a few steps.
BATCH, STEPS, RATE = 512, 8, 0.2
STEP_KEYS = [jax.random.fold_in(jax.random.key(0), step) for step in range(STEPS)]
LAYER_KEYS = [jax.random.fold_in(key, layer) for key in STEP_KEYS for layer in range(3)]


@functools.cache
def _standardized(by):
    """Return the masks of several keys with mean 0 and variance 1: (key, example, element)."""
    keys = {"step": STEP_KEYS, "layer": LAYER_KEYS}[by]
    kept = np.stack([_kept(RATE, key, shape=(BATCH, ELEMENTS)) for key in keys])
    return (kept - (1 - RATE)) / np.sqrt(RATE * (1 - RATE))


@pytest.mark.parametrize("axis", range(3))
def test_no_step_example_or_element_is_dropped_more_often_than_others(axis):
    masks = _standardized("step")
    others = tuple(a for a in range(3) if a != axis)
    sums = masks.sum(axis=others) / np.sqrt(masks.size / masks.shape[axis])
    probability = scipy.stats.chi2.cdf((sums**2).sum(), sums.size)
    assert UNLIKELY < probability < 1 - UNLIKELY


def _assert_no_pattern(mask):
    """Check that no power of the spectrum is too large.

    The spectrum contains the autocorrelation at all distances, along examples and elements. The powers
    of noise are exponentially distributed.
    """
    powers = np.abs(np.fft.rfft2(mask)) ** 2 / mask.size
    assert powers[1:, 1:-1].max() < np.log(powers.size / UNLIKELY)


@pytest.mark.parametrize("step", range(STEPS))
def test_a_mask_has_no_pattern_at_any_distance(step):
    _assert_no_pattern(_standardized("step")[step])


def test_successive_masks_of_one_example_have_no_pattern_at_any_distance():
    keys = jax.vmap(lambda step: jax.random.fold_in(jax.random.key(0), step))(jnp.arange(BATCH))
    alone = jax.vmap(lambda key: dropout(jnp.ones((1, ELEMENTS)), 0.5, key, jnp.arange(1)))
    _assert_no_pattern(np.sign(np.asarray(jax.jit(alone)(keys))[:, 0] - 1))


def test_masks_of_all_steps_and_layers_are_uncorrelated():
    masks = _standardized("layer").reshape(len(LAYER_KEYS), -1)
    correlations = (masks @ masks.T)[np.triu_indices(len(masks), 1)] / np.sqrt(masks.shape[1])
    probability = scipy.stats.chi2.cdf((correlations**2).sum(), correlations.size)
    assert UNLIKELY < probability < 1 - UNLIKELY


@pytest.mark.parametrize("axis", ["elements", "examples"])
def test_each_sequence_of_eight_kept_or_dropped_values_is_as_frequent_as_by_chance(axis):
    kept = _standardized("step")[0] > 0
    kept = kept if axis == "elements" else kept.T
    runs = kept[:, : kept.shape[1] // 8 * 8].reshape(-1, 8)
    counts = np.bincount(np.packbits(runs), minlength=256)
    ones = np.array([byte.bit_count() for byte in range(256)])
    expected = len(runs) * (1 - RATE) ** ones * RATE ** (8 - ones)
    # Sequences too rare for a chi-square test are counted together.
    rare = expected < 5
    pooled, chances = (np.append(n[~rare], n[rare].sum()) for n in (counts, expected))
    assert scipy.stats.chisquare(pooled, chances).pvalue > UNLIKELY
