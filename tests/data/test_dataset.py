"""A split can be read in parts, which are the whole when put together."""

from hypothesis import given
from hypothesis import strategies as st

from fidle_jax.data.dataset import WHOLE, part_rows


@given(examples=st.integers(0, 1000), count=st.integers(1, 20))
def test_parts_hold_every_example_once_in_order_and_differ_in_size_only_at_the_end(examples, count):
    parts = [part_rows(examples, (index, count)) for index in range(count)]
    assert [row for part in parts for row in part] == list(range(examples))
    sizes = [len(part) for part in parts]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == -(-examples // count)


def test_the_whole_is_one_part():
    assert part_rows(7, WHOLE) == range(7)
