"""The first sections of the lesson on convolution: its windows, one after the other."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fidle_jax.lessons.convolution import Step
    from fidle_jax.report.lesson import Section, Slides


def principle(steps: "list[Step]") -> "Section":
    from fidle_jax.lessons.convolution import IMAGE, KERNEL
    from fidle_jax.report.lesson import Section
    from fidle_jax.report.lessons.convolution_windows import plane_slides

    return Section(
        "One window after the other",
        "The kernel is that of the course's slides, and so are the first three sums. It has ones where the "
        "cells are blue: only what lies under them counts.",
        [
            _slides(
                "principle",
                "A kernel of 3×3 slides over an image of 5×5",
                "Framed in the image: the window. Its values times the kernel's give the products, and their "
                "sum is the framed value of the result. A window of 3×3 has 3×3 places in an image of 5×5.",
                plane_slides(IMAGE, KERNEL, steps),
                steps,
            )
        ],
    )


def dimensions() -> "Section":
    from fidle_jax.lessons import convolution as computed
    from fidle_jax.report.lesson import Section, picture
    from fidle_jax.report.lessons.convolution_windows import cube_slides, signal_figure

    in_signal = computed.window_steps(computed.SIGNAL, computed.SIGNAL_KERNEL)
    in_cube = computed.window_steps(computed.CUBE, computed.CUBE_KERNEL)
    return Section(
        "In one dimension and in three",
        "A sound is a signal in time, a scan of a body or a short film is a block of values. The window then "
        "slides along one axis, or along three; nothing else changes.",
        [
            picture(
                "signal",
                "A kernel of 3 slides over a signal of 8",
                "Each row is one place of the kernel, framed, and the sum there. This kernel takes the value "
                "on the left from the value on the right: the result is zero where the signal is level, "
                "positive where it rises, negative where it falls.",
                signal_figure(computed.SIGNAL, computed.SIGNAL_KERNEL, in_signal),
            ),
            _slides(
                "cube",
                "A kernel of 2×2×2 slides over a cube of 3×3×3",
                "Orange in the cube: the window, which takes in parts of two slices. It has two places along "
                "each axis, eight in all.",
                cube_slides(computed.CUBE, computed.CUBE_KERNEL, in_cube),
                in_cube,
            ),
        ],
    )


def _slides(name: str, title: str, caption: str, figures: list, steps: "list[Step]") -> "Slides":
    from fidle_jax.report.lesson import Slides
    from fidle_jax.report.style import png

    labels = [
        f"window {place} of {len(steps)}: {step.total:g}" for place, step in enumerate(steps, 1)
    ]
    return Slides(name, title, caption, list(map(png, figures)), labels, seconds=1.6)
