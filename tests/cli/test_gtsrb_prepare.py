import json
import os
import re
import signal

import pytest

from fidle_jax.cli.gtsrb_prepare import main
from fidle_jax.data import gtsrb, gtsrb_archives, signs
from fidle_jax.train.config import Config, to_json
from tests.data import small_gtsrb


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    folder = tmp_path_factory.mktemp("archives")
    with pytest.MonkeyPatch.context() as patch:
        small_gtsrb.install(patch)
        small_gtsrb.write(folder, small_gtsrb.members())
    return folder


@pytest.fixture
def small(monkeypatch):
    """Expect the small archives of ``small_gtsrb``, with two classes."""
    small_gtsrb.install(monkeypatch)
    monkeypatch.setattr(gtsrb, "EXAMPLES", small_gtsrb.EXAMPLES)
    monkeypatch.setattr(signs, "NAMES", signs.NAMES[:2])
    monkeypatch.setattr(signs, "MIRRORED", (1, 0))
    monkeypatch.setattr(gtsrb_archives, "CHUNK", 8)


@pytest.fixture
def call(capsys, monkeypatch):
    """``call(*flags)`` returns the exit status, the output and the errors."""
    monkeypatch.delenv("FIDLE_JAX_ARCHIVES", raising=False)

    def call(*flags):
        with pytest.raises(SystemExit) as caught:
            main([*map(str, flags)])
        return caught.value.code, *capsys.readouterr()

    return call


def write_run(folder, dataset="24x24-L", seed=0, **changes):
    folder.mkdir()
    settings = {"dataset": dataset, "model": "v1", "hold_out": "examples", "seed": seed}
    config = to_json(Config().replace(**settings | changes))
    result = {"experiment": "gtsrb_cnn", "dataset": dataset, "epochs": 2, "seed": seed}
    result |= {"parameters": 9, "test_accuracy": 0.9, "test_loss": 0.1}
    result |= {"compile_seconds": 1.0, "train_seconds": 1.0}
    result |= {"variant": "full", "recipe": "fast", "train_examples": 90}
    result["best_validation_accuracy"] = None if config["hold_out"] == "groups" else 0.99
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "result.json").write_text(json.dumps(result))
    return folder


def test_help_lists_the_eight_data_sets_of_the_course(call):
    status, out, _ = call("--help")
    words = " ".join(re.sub(r"[^\w-]+", " ", out).split())
    sets = "24x24-L 24x24-RGB 48x48-L 48x48-RGB 24x24-L-LHE 24x24-RGB-HE 48x48-L-LHE 48x48-RGB-HE"
    assert (status, sets in words) == (0, True)


@pytest.mark.usefixtures("small")
def test_each_data_set_has_a_line_and_the_page_is_written(call, archives, tmp_path):
    report = tmp_path / "pages" / "signs.html"
    flags = ("--archives", archives, "--data-dir", tmp_path / "data", "--report", report)
    sets = ("--datasets", "24x24-L", "32x32-RGB-HE", "24x24-L")
    status, out, err = call(*flags, *sets, "--runs", write_run(tmp_path / "run"))
    assert status == 0, err
    first, second, third, last = out.splitlines()
    shape = r": prepared in \d+\.\d s, \d+ MB, read in \d+\.\d s$"
    assert re.match("24x24-L" + shape, first)
    assert re.match("32x32-RGB-HE" + shape, second)
    assert third.startswith("24x24-L: already prepared, ")
    assert last.startswith(f"page: {report} (")
    page = report.read_text()
    assert page.count("<img") == 7
    assert '<td class="right">99.00</td>' in page


@pytest.mark.usefixtures("small")
def test_an_interrupt_has_status_130_and_leaves_no_incomplete_data_set(
    call, archives, tmp_path, monkeypatch
):
    process_photos = gtsrb.process_photos

    def interrupted(*args, **settings):
        for number, photo in enumerate(process_photos(*args, **settings)):
            if number == 10:
                os.kill(os.getpid(), signal.SIGINT)
            yield photo

    monkeypatch.setattr(gtsrb, "process_photos", interrupted)
    data_dir = tmp_path / "data"
    flags = ("--archives", archives, "--data-dir", data_dir, "--report", tmp_path / "p.html")
    status, out, err = call(*flags, "--datasets", "24x24-L")
    assert (status, out) == (130, "")
    assert err.splitlines()[-1].startswith("interrupted; the same command resumes")
    assert not list((data_dir / "fidle_gtsrb" / "24x24-L").iterdir())
    assert not (tmp_path / "p.html").exists()


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--datasets", "24x24-RBG"], "unknown data set '24x24-RBG'; did you mean 24x24-RGB"),
        (["--crop", "rio"], "--crop is 'rio'; did you mean roi"),
        (["--dataset", "24x24-L"], "did you mean --datasets"),
        (["--archives", "no/such/folder"], "no/such/folder"),
        (["--runs", "no/run"], "no/run"),
        (["--report", "."], ". cannot be used: Is a directory; choose another --report"),
    ],
)
def test_wrong_input_is_one_line_and_status_2(call, flags, named, tmp_path):
    report = [] if "--report" in flags else ["--report", tmp_path / "p.html"]
    status, _, err = call(*flags, *report, "--data-dir", tmp_path / "data")
    assert (status, err.count("\n")) == (2, 1)
    assert err.startswith("error: ")
    assert named in err
    assert not (tmp_path / "data").exists()


def test_runs_that_cannot_be_compared_are_refused_before_anything_is_read(call, tmp_path):
    digits = write_run(tmp_path / "digits", dataset="mnist")
    status, _, err = call("--runs", digits)
    assert status == 2
    assert err == f"error: {digits} is a run on mnist; give --runs on traffic signs\n"
    for hold_out in ("groups", "test"):
        run = write_run(tmp_path / hold_out, hold_out=hold_out)
        status, _, err = call("--runs", run)
        assert (status, err.count("\n")) == (2, 1)
        assert err.startswith(f"error: {run} has no hold-out set; give runs")


def test_debug_shows_the_traceback(call, monkeypatch):
    monkeypatch.setattr("sys.argv", ["gtsrb_prepare.py", "--crop", "rio", "--debug"])
    status, _, err = call("--crop", "rio", "--debug")
    assert (status, "Traceback" in err) == (2, True)
