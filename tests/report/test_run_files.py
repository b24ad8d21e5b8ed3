import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fidle_jax.errors import InputError
from fidle_jax.report.run_files import read_run

FILES = (
    "config.json",
    "metrics.csv",
    "result.json",
    "model.json",
    "evaluation.npz",
    "layers.npz",
)


def assert_refused(run_dir, name):
    with pytest.raises(InputError) as caught:
        read_run(run_dir)
    assert str(run_dir / name) in str(caught.value)
    assert "\n" not in str(caught.value)


def change_json(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_npz(path, **changes):
    with np.load(path) as arrays:
        content = dict(arrays) | changes
    np.savez(path, **{name: array for name, array in content.items() if array is not None})


@pytest.fixture
def run_dir(make_run):
    return make_run()


def test_a_run_is_read_whole(make_run):
    run = read_run(make_run(classes=4, epochs=3))
    assert run.config["batch_size"] == 512
    assert run.metrics["epoch"].tolist() == [1, 2, 3]
    assert run.evaluation.images.shape == (40, 8, 8, 1)
    assert run.evaluation.class_names[3] == "class 3"
    assert (run.evaluation.predicted != run.evaluation.labels).sum() == 5
    assert run.kernels["conv_1"].shape == (3, 3, 1, 4)
    assert run.digit == 7


def test_a_run_of_before_costs_were_measured_is_read_too(make_run):
    run_dir = make_run()
    result = json.loads((run_dir / "result.json").read_text())
    del result["peak_memory_bytes"], result["step_milliseconds"]
    (run_dir / "result.json").write_text(json.dumps(result))
    assert read_run(run_dir).result["peak_memory_bytes"] is None


def test_groups_are_read_where_there_are_any(make_run):
    groups = read_run(make_run(groups=True)).evaluation.groups
    assert groups.names == ["first", "others"]
    assert groups.of_class.tolist() == [0, 1, 1]
    assert read_run(make_run()).evaluation.groups is None


@pytest.mark.parametrize(
    "changes",
    [
        {"group_names": None},
        {"group_names": np.array([1, 2])},
        {"class_groups": None},
        {"class_groups": np.array([0, 1])},
        {"class_groups": np.array([0.0, 1.0, 1.0])},
        {"class_groups": np.array([0, 1, 2])},
        {"class_groups": np.array([0, 1, -1])},
    ],
    ids=str,
)
def test_groups_that_contradict_the_classes_are_refused(make_run, changes):
    run_dir = make_run(groups=True)
    change_npz(run_dir / "evaluation.npz", **changes)
    assert_refused(run_dir, "evaluation.npz")


def test_augmented_versions_are_read_where_there_are_any(make_run):
    augmented = read_run(make_run(augmented=True)).augmented
    assert augmented.versions.shape == (32, 8, 8, 1)
    assert (augmented.label, augmented.labels[1]) == (1, 2)


def test_a_run_without_augmentation_has_no_versions(make_run):
    assert read_run(make_run()).augmented is None


@pytest.mark.parametrize(
    "changes",
    [
        {"image": None},
        {"image": np.zeros((8, 8), np.uint8)},
        {"image": np.zeros((8, 8, 1), np.float32)},
        {"image": np.zeros((9, 8, 1), np.uint8)},
        {"versions": np.zeros((0, 8, 8, 1), np.uint8), "labels": np.zeros(0, int)},
        {"versions": np.zeros((32, 8, 8, 1), np.float32)},
        {"label": np.array([1])},
        {"label": 1.0},
        {"label": 3},
        {"labels": np.zeros(31, int)},
        {"labels": np.full(32, -1)},
    ],
    ids=lambda changes: "-".join(changes),
)
def test_augmented_versions_that_contradict_themselves_are_refused(make_run, changes):
    run_dir = make_run(augmented=True)
    change_npz(run_dir / "augmented.npz", **changes)
    assert_refused(run_dir, "augmented.npz")


def test_an_augmented_file_of_something_else_is_refused(make_run):
    run_dir = make_run()
    (run_dir / "augmented.npz").write_bytes(b"garbage")
    assert_refused(run_dir, "augmented.npz")


def test_maps_come_in_the_order_of_their_numbers(make_run):
    assert list(read_run(make_run()).maps) == ["00 input", "01 conv_1", "02 flatten", "03 dense_1"]


def test_kernels_come_in_the_order_of_the_network(make_run):
    run_dir = make_run()
    kernel = np.ones((3, 3, 4, 4), np.float32)
    change_npz(run_dir / "layers.npz", **{"kernel/a_last": kernel})
    layers = json.loads((run_dir / "model.json").read_text())["layers"]
    last = layers[-1] | {"layer": "a_last (Conv)"}
    change_json(run_dir / "model.json", layers=[*layers, last])
    assert list(read_run(run_dir).kernels) == ["conv_1", "a_last"]


def test_empty_validation_columns_are_nan(make_run):
    metrics = read_run(make_run(validation=False)).metrics
    assert np.isnan(metrics["validation_loss"]).all()
    assert np.isfinite(metrics["train_loss"]).all()


def test_no_epochs_are_no_rows(make_run):
    assert len(read_run(make_run(epochs=0)).metrics["epoch"]) == 0


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(make_run, name):
    run_dir = make_run()
    (run_dir / name).unlink()
    assert_refused(run_dir, name)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("content", [b"", b"\x80\x02garbage\n\n\x00", b"[1, 2]"])
def test_a_file_of_something_else_is_named(make_run, name, content):
    run_dir = make_run()
    (run_dir / name).write_bytes(content)
    assert_refused(run_dir, name)


@given(where=st.floats(0, 1, exclude_max=True), byte=st.integers(1, 255), cut=st.booleans())
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_read_or_refused_but_never_a_crash(run_dir, name, where, byte, cut):
    whole = (run_dir / name).read_bytes()
    at = int(where * len(whole))
    rest = b"" if cut else bytes([whole[at] ^ byte]) + whole[at + 1 :]
    (run_dir / name).write_bytes(whole[:at] + rest)
    try:
        read_run(run_dir)
    except InputError as error:
        assert name in str(error)  # noqa: PT017
    finally:
        (run_dir / name).write_bytes(whole)


@pytest.mark.parametrize(
    ("signature", "offset", "value"),
    [
        (b"PK\x01\x02", 10, 99),
        (b"PK\x01\x02", 8, 1),
        (b"PK\x01\x02", 8, 64),
        (b"PK\x01\x02", 6, 215),
    ],
    ids=["unknown compression", "encrypted", "strong encryption", "version from the future"],
)
def test_an_archive_that_zip_cannot_read_is_refused(make_run, signature, offset, value):
    run_dir = make_run()
    content = bytearray((run_dir / "layers.npz").read_bytes())
    content[content.index(signature) + offset] = value
    (run_dir / "layers.npz").write_bytes(content)
    assert_refused(run_dir, "layers.npz")


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("result.json", {"test_accuracy": None}),
        ("result.json", {"test_accuracy": 98.7}),
        ("result.json", {"test_loss": "low"}),
        ("result.json", {"epochs": None}),
        ("result.json", {"peak_memory_bytes": "much"}),
        ("result.json", {"versions": "all"}),
        ("model.json", {"layers": 3}),
        ("model.json", {"layers": [{"layer": "conv_1"}]}),
        ("model.json", {"parameters": "many"}),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused(make_run, name, changes):
    run_dir = make_run()
    change_json(run_dir / name, **changes)
    assert_refused(run_dir, name)


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": None},
        {"labels": np.full(40, 3)},
        {"labels": np.full(40, -1)},
        {"labels": np.zeros(40)},
        {"labels": np.zeros(39, int)},
        {"images": np.zeros((40, 8, 8, 2), np.uint8)},
        {"images": np.zeros((40, 8, 8, 1), np.float32)},
        {"probabilities": np.full((40, 3), np.nan)},
        {"probabilities": np.zeros((40, 4))},
    ],
    ids=lambda changes: "-".join(changes),
)
def test_an_evaluation_that_contradicts_itself_is_refused(make_run, changes):
    run_dir = make_run()
    change_npz(run_dir / "evaluation.npz", **changes)
    assert_refused(run_dir, "evaluation.npz")


@pytest.mark.parametrize(
    "changes",
    [
        {"digit": None},
        {"digit": 40},
        {"digit": 1.5},
        {"kernel/conv_1": np.zeros((3, 3))},
        {"map/01 conv_1": np.zeros((6, 6))},
        {f"map/{name}": None for name in ("00 input", "01 conv_1", "02 flatten", "03 dense_1")},
    ],
    ids=lambda changes: "-".join(changes),
)
def test_layers_of_the_wrong_shape_are_refused(make_run, changes):
    run_dir = make_run()
    change_npz(run_dir / "layers.npz", **changes)
    assert_refused(run_dir, "layers.npz")


def test_pickled_arrays_are_refused_unread(make_run):
    run_dir = make_run()
    change_npz(run_dir / "evaluation.npz", class_names=np.array(["a", "b", {}], dtype=object))
    assert_refused(run_dir, "evaluation.npz")


def test_text_among_the_metrics_is_refused(make_run):
    run_dir = make_run()
    path = run_dir / "metrics.csv"
    path.write_text(path.read_text().replace("0.5", "half"))
    assert_refused(run_dir, "metrics.csv")
