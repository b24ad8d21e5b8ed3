"""The page of a run: one HTML file that needs nothing else."""

from fidle_jax.report.html import Picture, page_template
from fidle_jax.report.scores import ClassScore, GroupScore
from fidle_jax.train.run_dir import Run


def render(
    run: Run,
    scores: list[ClassScore],
    pictures: list[Picture],
    groups: list[GroupScore] | None = None,
) -> str:
    """The page as HTML text; everything that comes from the run is escaped.

    The table of ``groups`` stands below the picture "group_confusion".
    """
    settings = {key: value for key, value in run.config.items() if key != "command"}
    wrong = int((run.evaluation.predicted != run.evaluation.labels).sum())
    return page_template("report.html.j2").render(
        result=run.result,
        chosen_epoch=run.chosen_epoch,
        chosen_on_test=run.chosen_on_test,
        command=run.config["command"],
        settings=settings,
        model=run.model,
        scores=scores,
        groups=groups,
        wrong=wrong,
        pictures=pictures,
    )
