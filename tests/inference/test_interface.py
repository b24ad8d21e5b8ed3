"""`fidle_jax.train` on tiny arrays: runs with Python objects keep what runs from the command line promise."""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx
from PIL import Image

import fidle_jax as fj
from fidle_jax.errors import InputError
from fidle_jax.report.tables import read_runs
from fidle_jax.train import run as run_module
from fidle_jax.train.signals import Stop


class Net(nn.Module):
    """A network with all that other people's networks have."""

    features: int = 4
    classes: int = 2

    @nn.compact
    def __call__(self, x, training: bool):
        """Return the logits."""
        x = nn.relu(nn.Conv(self.features, (3, 3))(x))
        x = nn.BatchNorm(use_running_average=not training)(x)
        x = nn.Dropout(0.1, deterministic=not training)(x)
        scale = self.param("scale", nn.initializers.ones, ())
        return scale * nn.Dense(self.classes)(x.mean((1, 2)))


class Plain(nn.Module):
    """A network without a training mode."""

    @nn.compact
    def __call__(self, x):
        """Return the logits."""
        return nn.Dense(2)(x.reshape(len(x), -1))


def arrays(count=64):
    """Return dark and bright images."""
    images = np.random.default_rng(0).integers(0, 60, (count, 8, 8, 1), dtype=np.uint8)
    labels = np.arange(count) % 2
    images[labels == 1, 2:5, 2:5] = 220
    return images, labels


IMAGES, LABELS = arrays()
CHOICES = {
    "model": Net(),
    "optimizer": optax.sgd(0.1),
    "loss": optax.softmax_cross_entropy_with_integer_labels,
    "metrics": {"mean_logit": lambda logits, labels: logits.mean(-1)},
    "epochs": 3,
    "batch_size": 16,
    "progress": False,
}


@pytest.fixture(scope="module")
def data():
    return fj.load_data((IMAGES, LABELS), class_names=["dark", "bright"])


@pytest.fixture(scope="module")
def events():
    return []


@pytest.fixture(scope="module")
def run(data, events, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("interface") / "run"
    return fj.train(data, run_dir=run_dir, callbacks=[events.append], **CHOICES)


def error_of(function, *args, **kwargs):
    with pytest.raises(InputError) as caught:
        function(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_importing_the_package_does_not_import_jax():
    code = (
        "import sys, fidle_jax as fj; fj.train; print('jax' in sys.modules, 'numpy' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False", "False"]


def test_a_run_prints_three_lines_and_a_notebook_also_shows_the_curves(run):
    lines = repr(run).splitlines()
    assert len(lines) == 3
    assert lines[0] == f"Net with 59 parameters, trained on 46 images of {run.result['dataset']}"
    assert f"test accuracy {100 * run.test_accuracy:.2f} % on 12 images" in lines[1]
    assert "data:image/png;base64," in run._repr_html_()
    assert len(run.report()._repr_html_()) > run.report().stat().st_size


def test_the_data_has_one_line():
    data = fj.load_data((IMAGES, LABELS), test=arrays(10))
    assert (
        repr(data) == f"<{data.name} (full): 64 training and 10 test images of 8x8x1 in 2 classes>"
    )
    assert data.class_names == ("0", "1")


def test_metrics_are_in_the_files_of_the_run(run, data):
    assert list(run.history["epoch"]) == [1, 2, 3]
    assert run.history["validation_mean_logit"].notna().all()
    logits = run.model.apply(
        run.variables, jnp.asarray(data.read("test").images / 255, jnp.float32)
    )
    assert run.result["test_mean_logit"] == pytest.approx(float(logits.mean()), abs=1e-5)


def test_callbacks_receive_each_epoch_and_the_result(run, events):
    assert [event.epoch for event in events] == [1, 2, 3, run.result["best_epoch"]]
    assert [event.metrics.get("validation_accuracy") for event in events[:3]] == list(
        run.history["validation_accuracy"]
    )
    # The learning rate of an optimizer is unknown. Trackers accept only numbers.
    assert all(np.isfinite(list(event.metrics.values())).all() for event in events)
    assert events[-1].result == run.result
    assert events[-1].metrics["test_accuracy"] == run.test_accuracy
    jax.tree.map(np.testing.assert_array_equal, events[-1].params, run.variables["params"])


def test_config_json_has_the_names_of_objects_and_not_the_settings_that_they_replace(run):
    config = json.loads((run.run_dir / "config.json").read_text())
    assert config["objects"]["model"] == "Net( features = 4 classes = 2 )"
    assert config["objects"]["metrics"] == ["mean_logit"]
    assert [
        config[name] for name in ("model", "optimizer", "learning_rate", "label_smoothing")
    ] == [None] * 4


def test_tables_of_runs_tell_runs_with_other_objects_apart(run):
    (flags,) = read_runs([run.run_dir])["flags"]
    assert flags["objects"].startswith("model Net( features = 4 classes = 2 ), optimizer ")


def test_streamed_images_have_the_same_metrics(run, data, tmp_path):
    streamed = fj.train(data, run_dir=tmp_path / "run", loader="stream", **CHOICES)
    names = ["validation_loss", "validation_mean_logit"]
    np.testing.assert_array_equal(streamed.history[names], run.history[names])


def test_variables_are_those_of_the_module_itself(run):
    logits = Net().apply(run.variables, IMAGES[:3] / np.float32(255), training=False)
    np.testing.assert_allclose(jax.nn.softmax(logits), run.predict(IMAGES[:3]), atol=1e-6)


def test_load_returns_the_same_network_and_needs_the_module(run):
    again = fj.load(run.run_dir, model=Net())
    np.testing.assert_array_equal(again.predict(IMAGES), run.predict(IMAGES))
    assert "has a model of its own, Net, which is not stored; pass it" in error_of(
        fj.load, run.run_dir
    )


def test_files_and_pillow_images_are_predicted_like_arrays(run, tmp_path):
    expected = run.predict(IMAGES[:2])
    pictures = [Image.fromarray(image[..., 0]) for image in IMAGES[:2]]
    paths = [tmp_path / f"{number}.png" for number in range(2)]
    for picture, path in zip(pictures, paths, strict=True):
        picture.save(path)
    for images in (pictures, paths, list(map(str, paths))):
        np.testing.assert_array_equal(run.predict(images), expected)
    np.testing.assert_array_equal(run.predict(str(paths[0])), run.predict(pictures[0]))


def test_an_explanation_names_the_class_and_shows_figures(run):
    found = run.explain(IMAGES[1], target="dark")
    assert "class dark explained" in repr(found)
    assert found._repr_html_().count("<img") >= 5
    assert "unknown class 'drak'; did you mean dark?" in error_of(run.explain, IMAGES[1], "drak")


def test_a_finished_run_is_not_overwritten_and_resuming_changes_nothing(run, data):
    before = (run.run_dir / "result.json").read_bytes()
    assert "holds another run" in error_of(fj.train, data, run_dir=run.run_dir, **CHOICES)
    again = fj.train(data, run_dir=run.run_dir, resume=True, **CHOICES)
    assert again.result == run.result
    assert (run.run_dir / "result.json").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": Net(5)}, "--model Net( features = 5"),
        ({"epochs": 2}, "--epochs 2"),
        ({"loss": None}, "--loss"),
    ],
)
def test_another_object_or_setting_does_not_resume_a_run(run, data, change, message):
    assert message in error_of(fj.train, data, run_dir=run.run_dir, resume=True, **CHOICES | change)


def test_other_data_does_not_resume_a_run(run):
    other = fj.load_data((255 - IMAGES, LABELS), class_names=["dark", "bright"])
    assert "--dataset" in error_of(fj.train, other, run_dir=run.run_dir, resume=True, **CHOICES)


def test_an_interrupted_run_resumes_to_the_same_bits(run, data, tmp_path, monkeypatch):
    stops = []
    monkeypatch.setattr(Stop, "check", lambda stop: None)
    defer = Stop.defer
    monkeypatch.setattr(Stop, "defer", lambda stop: stops.append(stop) or defer(stop))

    def interrupt(event):
        stops[-1].requested = True

    run_dir = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt, match="the state is saved; to resume: call"):
        fj.train(data, run_dir=run_dir, callbacks=[interrupt], **CHOICES)
    assert "call fidle_jax.train with the same arguments" in error_of(fj.load, run_dir, model=Net())
    resumed = fj.train(data, run_dir=run_dir, resume=True, **CHOICES)
    jax.tree.map(np.testing.assert_array_equal, resumed.variables, run.variables)


def test_a_callback_that_returns_false_ends_the_training_for_good(data, tmp_path, monkeypatch):
    stopped = fj.train(data, run_dir=tmp_path / "run", callbacks=[lambda e: e.epoch < 2], **CHOICES)
    assert len(stopped.history) == 2
    # The decision is part of the checkpoint.
    (tmp_path / "run" / "report.html").unlink()
    again = fj.train(data, run_dir=tmp_path / "run", resume=True, **CHOICES)
    assert again.test_accuracy == stopped.test_accuracy
    assert len(again.history) == 2


def test_a_schedule_and_a_plain_module_are_used(data, tmp_path):
    schedule = optax.linear_schedule(0.1, 0.0, 6)
    options = CHOICES | {
        "model": Plain(),
        "optimizer": "sgd",
        "learning_rate": schedule,
        "epochs": 2,
    }
    run = fj.train(data, run_dir=tmp_path / "run", **options)
    assert run.history["learning_rate"].tolist() == pytest.approx(
        [float(schedule(2)), float(schedule(5))]
    )


def test_a_named_set_trains_as_from_the_command_line(trained_run, tmp_path, monkeypatch):
    loaded = fj.load_data("mnist", data="sample")
    parts = []
    real = run_module._load
    monkeypatch.setattr(run_module, "_load", lambda *args: parts.append(real(*args)) or 1 / 0)
    for data, options in ((loaded, {}), ("mnist", {"data": "sample"}), (loaded, {"seed": 3})):
        with pytest.raises(ZeroDivisionError):
            fj.train(data, run_dir=tmp_path / "run", model="cnn", epochs=3, **options)
    saved = json.loads((trained_run / "config.json").read_text())
    for part in parts[:2]:
        assert {
            k: v for k, v in part.config.settings().items() if k in ("dataset", "data", "seed")
        } == {k: saved[k] for k in ("dataset", "data", "seed")}
        np.testing.assert_array_equal(part.dataset.read("test").images, loaded.read("test").images)
    assert (parts[2].dataset.read("test").images != loaded.read("test").images).any()


class Nnx(nnx.Module):
    """Another kind of module."""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"model": Net},
            "the model Net is not a Flax linen module or a name of a model; create it",
        ),
        ({"model": Nnx()}, "the model Nnx is not a Flax linen module"),
        ({"model": Net(classes=3)}, "the model Net returns (2, 3) for 2 images; expected (2, 2)"),
        ({"model": Net(features=[4])}, "the model Net is not hashable; use tuples"),
        ({"model": "compcat"}, "unknown model 'compcat'; did you mean compact or compact_small?"),
        ({"optimizer": optax.adam}, "the optimizer is <function adam"),
        (
            {"learning_rate": 0.1},
            "learning_rate has no effect, because a Python object replaces it",
        ),
        ({"loss": lambda z, y: z.mean()}, "the loss returns () for 2 examples; expected (2,)"),
        ({"metrics": {"accuracy": lambda z, y: y}}, "the metric 'accuracy' has a wrong name"),
        ({"metrics": {"m": lambda z, y: z}}, "the metric m returns (2, 2) for 2 examples"),
        ({"epoch": 3}, "unknown flag 'epoch'; did you mean epochs"),
        ({"batch_size": 0}, "--batch-size is 0"),
    ],
)
def test_wrong_arguments_are_one_line_and_write_nothing(data, tmp_path, change, message):
    found = error_of(fj.train, data, run_dir=tmp_path / "run", **CHOICES | change)
    assert found.startswith(message)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ((IMAGES / 255, LABELS), {}, "the train images have type float64; expected uint8"),
        ((IMAGES[..., 0, 0], LABELS), {}, "the train images have shape (64, 8)"),
        ((IMAGES, LABELS[:9]), {}, "the train labels have shape (9,)"),
        ((IMAGES, LABELS / 2), {}, "the train labels have shape (64,) and type float64"),
        ((IMAGES, LABELS - 1), {}, "the train labels are -1 to 0; expected"),
        (
            (IMAGES, LABELS),
            {"class_names": ["one"]},
            "the train labels are 0 to 1; expected indices",
        ),
        (
            (IMAGES, LABELS),
            {"test": (IMAGES[:, 1:], LABELS)},
            "the test images have shape (7, 8, 1)",
        ),
        ((IMAGES, LABELS), {"data": "sample"}, "data has no effect on arrays"),
        ("mnist", {"class_names": "0123456789"}, "test and class_names are for arrays"),
        ("mnist", {"epochs": 3}, "unknown flag of a data set 'epochs'"),
        ("mnits", {}, "unknown dataset 'mnits'; did you mean mnist?"),
    ],
)
def test_wrong_data_is_one_line(source, options, message):
    assert error_of(fj.load_data, source, **options).startswith(message)
