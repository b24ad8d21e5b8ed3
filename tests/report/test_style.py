from hypothesis import given
from hypothesis import strategies as st

from fidle_jax.report.style import longest, new_figure, png, short


@given(st.text(max_size=60), st.integers(4, 30))
def test_a_short_name_has_room_and_keeps_what_fits(name, most):
    assert len(short(name, most)) <= most
    if len(name) <= most:
        assert short(name, most) == name


def test_names_that_differ_at_the_end_still_differ():
    assert short("Speed limit (20km/h)", 14) != short("Speed limit (30km/h)", 14)


def test_longest_is_of_the_longest_name():
    assert longest(["a", "abc", "ab"]) == 3


def test_a_figure_becomes_a_png():
    assert png(new_figure(height=1)).startswith(b"\x89PNG\r\n\x1a\n")
