import re
import subprocess
import sys

import pytest
from matplotlib.image import imread

from fidle_jax.errors import InputError
from fidle_jax.report import write_report

FIGURES = {
    "training_curves",
    "confusion_matrix",
    "predictions",
    "worst_errors",
    "kernels",
    "feature_maps",
}


def figures(run_dir):
    return {path.stem for path in (run_dir / "figures").glob("*.png")}


def test_a_run_gets_all_figures_and_one_page(make_run):
    run_dir = make_run()
    page = write_report(run_dir)
    assert page == run_dir / "report.html"
    assert figures(run_dir) == FIGURES
    for path in (run_dir / "figures").iterdir():
        assert imread(path).std() > 0.01, f"{path.name} is blank"


def test_a_run_with_groups_of_classes_has_a_figure_of_them(make_run):
    run_dir = make_run(groups=True)
    page = write_report(run_dir).read_text(encoding="utf-8")
    assert figures(run_dir) == {*FIGURES, "group_confusion"}
    assert "Right group" in page


def test_a_run_that_augmented_has_a_figure_of_it(make_run):
    run_dir = make_run(augmented=True)
    page = write_report(run_dir).read_text(encoding="utf-8")
    assert figures(run_dir) == {*FIGURES, "augmented"}
    assert "What augmentation makes of one image" in page


@pytest.mark.parametrize(
    ("kind", "absent"),
    [
        ({"epochs": 0}, {"training_curves"}),
        ({"epochs": 1, "validation": False}, set()),
        ({"errors": False}, {"worst_errors"}),
        ({"kernels": False}, {"kernels"}),
        ({"channels": 3}, set()),
        ({"classes": 2}, set()),
        ({"classes": 100}, set()),
    ],
    ids=str,
)
def test_odd_runs_get_the_figures_that_they_can_have(make_run, kind, absent):
    run_dir = make_run(**kind)
    page = write_report(run_dir).read_text(encoding="utf-8")
    assert figures(run_dir) == FIGURES - absent
    assert page.count("data:image/png") == len(FIGURES - absent)


def test_the_page_needs_nothing_else(make_run):
    page = write_report(make_run()).read_text(encoding="utf-8")
    sources = re.findall(r"(?:src|href)\s*=\s*[\"']([^\"']*)", page)
    assert len(sources) == len(FIGURES)
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert "http" not in page
    assert "<script" not in page


def test_written_again_it_is_the_same_and_leaves_nothing_beside(make_run):
    run_dir = make_run()
    first = write_report(run_dir).read_bytes()
    assert write_report(run_dir).read_bytes() == first
    names = {path.name for path in [*run_dir.iterdir(), *(run_dir / "figures").iterdir()]}
    assert not [name for name in names if name.startswith(".")]


def test_a_broken_run_is_refused_before_anything_is_written(make_run):
    run_dir = make_run()
    (run_dir / "layers.npz").unlink()
    with pytest.raises(InputError, match=r"layers\.npz"):
        write_report(run_dir)
    assert not (run_dir / "figures").exists()
    assert not (run_dir / "report.html").exists()


def test_a_report_needs_neither_jax_nor_pyplot(make_run):
    code = (
        "import sys; from pathlib import Path; from fidle_jax.report import write_report\n"
        f"assert 'matplotlib' not in sys.modules\nwrite_report(Path({str(make_run())!r}))\n"
        "assert not {'jax', 'matplotlib.pyplot', 'fidle_jax.nn'} & set(sys.modules), 'imported'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
