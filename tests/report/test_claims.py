import pytest

from fidle_jax.errors import InputError
from fidle_jax.report.claims import Claim, by_setting, read_claims

from .conftest import write_json

CONFIG = {"model": "v1", "hold_out": "examples"}
RESULT = {
    "dataset": "24x24-L",
    "epochs": 16,
    "seed": 3,
    "best_validation_accuracy": 0.99,
    "test_accuracy": 0.95,
}


@pytest.fixture
def run(tmp_path):
    write_json(tmp_path / "config.json", CONFIG)
    write_json(tmp_path / "result.json", RESULT)
    return tmp_path


def test_a_run_tells_what_validation_claimed_and_the_test_found(run):
    assert read_claims((run,)) == [Claim("v1", "24x24-L", 16, "examples", 3, 0.99, 0.95)]


@pytest.mark.parametrize(
    ("file", "content", "named"),
    [
        ("result.json", None, r"result.json cannot be read .* not finished, or no run"),
        ("result.json", "{", "is no JSON"),
        ("result.json", "[]", "is no JSON object"),
        ("result.json", RESULT | {"best_validation_accuracy": None}, "no accuracy on validation"),
        ("result.json", RESULT | {"test_accuracy": 3}, "is damaged"),
        ("result.json", RESULT | {"test_accuracy": float("nan")}, "is damaged"),
        ("config.json", {"model": "v1"}, "does not tell its hold_out"),
        ("config.json", CONFIG | {"hold_out": "nothing"}, "is damaged"),
        ("config.json", CONFIG | {"hold_out": "test"}, "chose its epoch on the test set"),
    ],
)
def test_what_is_no_finished_run_is_named_in_one_line(run, file, content, named):
    if content is None:
        (run / file).unlink()
    elif isinstance(content, str):
        (run / file).write_text(content)
    else:
        write_json(run / file, content)
    with pytest.raises(InputError, match=named) as caught:
        read_claims((run,))
    assert str(run) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_not_there_is_no_run_directory(tmp_path):
    with pytest.raises(InputError, match="nowhere is no run directory"):
        read_claims((tmp_path / "nowhere",))


def test_runs_that_differ_by_their_seed_alone_stand_together(run):
    claims = [
        Claim("v1", "24x24-L", 16, way, seed, 0.9, 0.8)
        for seed in (1, 0)
        for way in ("groups", "examples")
    ]
    settings = by_setting(claims)
    assert [[claim.seed for claim in same] for same in settings.values()] == [[0, 1], [0, 1]]
    assert [what.split(", ")[-1] for what in settings] == [
        "random examples held out",
        "whole tracks held out",
    ]
