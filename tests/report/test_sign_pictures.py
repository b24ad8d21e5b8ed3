import numpy as np
import pytest

from fidle_jax.report import sign_pictures


def flat(*greys):
    """Pictures that are told apart by their grey."""
    return np.stack([np.full((8, 8, 3), grey, np.uint8) for grey in greys])


def greys_of(figure):
    return [int(image.get_array()[0, 0, 0]) for image in figure.axes[0].get_images()]


def texts_of(figure):
    return [text.get_text() for text in figure.axes[0].texts if text.get_text()]


def test_examples_of_a_class_are_evenly_spaced_through_it():
    figure = sign_pictures.class_examples(
        flat(*range(10)), np.array([0] * 9 + [1]), ("stop", "straight ahead or to the left again")
    )
    assert greys_of(figure) == [1, 4, 7, 9, 9, 9]
    assert texts_of(figure) == ["0 stop", "1 straight ahead or\nto the left again"]


def test_a_track_is_shown_whole_frame_after_frame():
    figure = sign_pictures.filmstrips([flat(*range(17)), flat(50)], ["first", "second"])
    assert greys_of(figure) == [*range(17), 50]
    assert texts_of(figure) == ["first", "second"]
    tops = [image.get_extent()[3] for image in figure.axes[0].get_images()]
    assert len(set(tops[:15])) == 1
    assert tops[0] < tops[15] < tops[17]


def test_treatments_have_a_row_for_each_set():
    treated = {"24x24-L": flat(1, 2)[..., :1], "24x24-RGB": flat(3, 4)}
    figure = sign_pictures.treatments_sheet(treated)
    assert texts_of(figure) == ["24x24-L", "24x24-RGB"]
    assert len(figure.axes[0].get_images()) == 4


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (("stop", "stop"), "stop"),
        (("stop", "give way"), "stop\ngive way"),
        (("the end of no overtaking by trucks", "stop"), "the end …by trucks\nstop"),
    ],
)
def test_pairs_have_both_names_or_the_one_that_they_share(names, text):
    (shown,) = texts_of(sign_pictures.pairs_sheet([list(flat(1, 2))], [names]))
    assert shown.split("\n")[1:] == text.split("\n")[1:]
    assert shown[:4] == text[:4]


def test_the_darkest_have_their_number_and_their_name():
    figure = sign_pictures.rows_of(list(flat(1, 2)), ["7\nno overtaking by trucks", "8\nstop"], 6)
    assert texts_of(figure) == ["7\nno overtaking\nby trucks", "8\nstop"]


def test_words_stay_within_the_figure():
    names = tuple(f"a rather long name of a sign with the number {k}" for k in range(5))
    figure = sign_pictures.class_examples(flat(*range(5)), np.arange(5), names)
    figure.draw_without_rendering()
    width = figure.bbox.width
    for text in figure.axes[0].texts:
        box = text.get_window_extent()
        assert box.x0 >= 0
        assert box.x1 <= width
