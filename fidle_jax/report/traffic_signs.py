"""The page about a set of traffic signs: what is in it, and what a random split of it would claim."""

import numpy as np

from fidle_jax.report import likeness, sign_charts
from fidle_jax.report.claims import Claim, by_setting
from fidle_jax.report.html import Picture, page_template
from fidle_jax.report.likeness import Nearest
from fidle_jax.report.sign_contents import draw_photographs
from fidle_jax.report.sign_data import Signs
from fidle_jax.report.sign_likeness import draw_likeness
from fidle_jax.report.style import png


def render_signs(signs: Signs) -> str:
    """The page as HTML text, one file that needs nothing else."""
    copies, test_copies = (likeness.grey_copies(x.images) for x in (signs.train, signs.test))
    nearest = likeness.find_nearest(copies, signs.train.groups, test_copies)
    return page_template("traffic_signs.html.j2").render(
        glance=_glance(signs),
        pictures=[*draw_photographs(signs), *draw_likeness(signs, copies, nearest)],
        neighbour=_neighbour_accuracies(signs, nearest),
        claims=_claims(signs.claims),
        rows=_claim_rows(signs.claims),
        commands=signs.commands,
    )


def _glance(signs: Signs) -> dict[str, str]:
    train, test = signs.train, signs.test
    counts = np.bincount(train.labels)
    sides = np.concatenate([train.sizes, test.sizes])
    return {
        "Training photographs": f"{len(train.labels):,}",
        "Test photographs": f"{len(test.labels):,}",
        "Classes": f"{len(signs.names)}",
        "Tracks in training": f"{len(np.unique(train.groups)):,}",
        "Pixels a side": f"{sides.min()} to {sides.max()}",
        "Rarest to commonest": f"1 : {counts.max() / counts.min():.1f}",
    }


def _neighbour_accuracies(signs: Signs, nearest: Nearest) -> list[tuple[str, float]]:
    """How often the most similar photograph is of the same class, by where it may be from."""
    labels = signs.train.labels
    return [
        (
            "a training photograph, compared with all others",
            float((labels[nearest.index] == labels).mean()),
        ),
        (
            "a training photograph, compared with those of other tracks",
            float((labels[nearest.elsewhere] == labels).mean()),
        ),
        (
            "a test photograph, compared with the training set",
            float((labels[nearest.test_index] == signs.test.labels).mean()),
        ),
    ]


def _claims(claims: list[Claim]) -> Picture | None:
    if not claims:
        return None
    settings = by_setting(claims)
    caption = (
        "A point is a run, a bar the mean of a row. How far the two colours are apart is what the way of "
        "holding out got wrong: of random examples the network has seen other frames of the same tracks, and "
        "validation measures its memory."
    )
    figure = sign_charts.claims_chart(settings)
    return Picture("claims", "What runs claimed", caption, png(figure))


def _claim_rows(claims: list[Claim]) -> list[dict[str, str]]:
    rows = []
    for setting, runs in by_setting(claims).items():
        excess = 100 * np.mean([run.validation - run.test for run in runs])
        rows.append(
            {
                "setting": setting,
                "seeds": ", ".join(str(run.seed) for run in runs),
                "validation": _mean_and_spread([run.validation for run in runs]),
                "test": _mean_and_spread([run.test for run in runs]),
                "excess": f"{excess:+.2f}".replace("-", "\N{MINUS SIGN}"),
            }
        )
    return rows


def _mean_and_spread(shares: list[float]) -> str:
    spread = f" ± {100 * np.std(shares, ddof=1):.2f}" if len(shares) > 1 else ""
    return f"{100 * np.mean(shares):.2f}{spread}\N{NO-BREAK SPACE}%"
