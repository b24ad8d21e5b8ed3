"""Figures and HTML pages from run directories, sweeps and arrays."""

from pathlib import Path

from fidle_jax.files import write_atomically, write_digests


def write_report(run_dir: Path) -> Path:
    """Write figures/*.png, report.html and SHA256SUMS of a run atomically. Return the path of the page.

    Raises:
        InputError: A file of the run is missing or malformed. Nothing is written.
    """
    # Matplotlib and scikit-learn take seconds to import.
    from fidle_jax.report.run_page import draw_figures, render_run
    from fidle_jax.train.run_content import read_run

    run = read_run(run_dir)
    figures = draw_figures(run)
    page = render_run(run, figures)
    (run_dir / "figures").mkdir(exist_ok=True)
    for name, png in figures.items():
        if png is not None:
            write_atomically(run_dir / "figures" / f"{name}.png", png)
    write_atomically(run_dir / "report.html", page)
    write_digests(run_dir)
    return run_dir / "report.html"
