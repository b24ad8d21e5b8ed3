from hypothesis import given
from hypothesis import strategies as st

from fidle_jax.report.style import finish, longest, new_figure, png, short, wrapped


@given(st.text(max_size=60), st.integers(4, 30))
def test_a_shortened_name_fits_and_a_short_name_is_unchanged(name, most):
    assert len(short(name, most)) <= most
    if len(name) <= most:
        assert short(name, most) == name


def test_names_that_differ_at_the_end_still_differ():
    assert short("Speed limit (20km/h)", 14) != short("Speed limit (30km/h)", 14)


@given(st.text("ab cd", max_size=60), st.integers(5, 20), st.integers(1, 4))
def test_the_lines_of_a_wrapped_name_fit(name, width, most_lines):
    lines = wrapped(name, width, most_lines)
    assert len(lines) <= most_lines
    assert all(len(line) <= width for line in lines)


def test_a_wrapped_name_is_complete_if_there_is_space_and_else_loses_its_middle():
    name = "end of no overtaking by trucks"
    assert wrapped(name, 15, 3) == ["end of no", "overtaking by", "trucks"]
    assert wrapped(name, 15, 2) == ["end of no…aking", "by trucks"]


def test_longest_is_the_length_of_the_longest_name():
    assert longest(["a", "abc", "ab"]) == 3


def test_a_figure_becomes_a_png():
    assert png(new_figure(height=1)).startswith(b"\x89PNG\r\n\x1a\n")


def test_a_dollar_in_a_text_starts_no_formula():
    figure = new_figure(2)
    axes = figure.subplots()
    finish(axes, "$x^$ costs $5", "a$b_$")
    axes.set_yscale("log")
    axes.set_xticks([0, 1], ["$", "$_$"])
    assert png(figure)
    assert all(label.get_parse_math() for label in axes.get_yticklabels())
    assert not any(text.get_parse_math() for text in (axes.title, *axes.get_xticklabels()))


def test_characters_without_a_font_give_no_warning():
    figure = new_figure(2)
    finish(figure.subplots(), "猫 \U0010fffd", "\ue000")
    assert png(figure)  # warnings are errors in tests
