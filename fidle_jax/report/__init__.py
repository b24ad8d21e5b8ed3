"""What a person looks at: figures and one HTML page, made of what a run left on disk."""

from pathlib import Path

from fidle_jax.files import write_atomically


def write_report(run_dir: Path) -> Path:
    """Writes ``figures/*.png`` and ``report.html`` in a run's directory; returns the page's path.

    Raises InputError, naming the file, where one that the run should have left is missing or
    malformed; nothing is written then. Each file is written whole or not at all.
    """
    # Matplotlib and scikit-learn take seconds to import: a run pays for them once, at its end.
    from fidle_jax.report.contents import draw_pictures
    from fidle_jax.report.page import render
    from fidle_jax.report.scores import class_scores, group_scores
    from fidle_jax.train.run_dir import read_run

    run = read_run(run_dir)
    evaluation = run.evaluation
    scores = class_scores(evaluation.labels, evaluation.predicted, evaluation.class_names)
    groups = evaluation.groups and group_scores(
        evaluation.labels,
        evaluation.predicted,
        evaluation.groups.of_class,
        evaluation.groups.names,
    )
    pictures = draw_pictures(run)
    page = render(run, scores, pictures, groups)

    figures = run_dir / "figures"
    figures.mkdir(exist_ok=True)
    for picture in pictures:
        if picture.png is not None:
            write_atomically(figures / f"{picture.name}.png", picture.png)
    write_atomically(run_dir / "report.html", page)
    return run_dir / "report.html"
