"""The notebook runs from top to bottom and shows what its text promises."""

from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / "experiments" / "notebook.ipynb"


def test_the_notebook_runs_and_shows_runs_and_explanations(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(NOTEBOOK.parents[1]))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    shown = "\n".join(output["data"].get("text/html", "") for output in outputs if "data" in output)
    printed = "\n".join(output.get("text", "") for output in outputs)
    assert shown.count("run directory runs/python/") == 2
    assert shown.count("data:image/png;base64,") >= 7
    assert "test accuracy" in printed
    assert "Warning" not in printed
    assert "100%|" in printed  # the progress bar
    assert {path.name for path in tmp_path.iterdir()} == {"runs"}
