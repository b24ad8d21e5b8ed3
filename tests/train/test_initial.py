"""``--from`` copies the weights that fit, and ``--freeze conv`` does not change a bit of them."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

from fidle_jax.data import Split, StoredSplit
from fidle_jax.errors import InputError
from fidle_jax.files import write_json
from fidle_jax.train import run as run_module
from fidle_jax.train.checkpoints import Checkpoints
from fidle_jax.train.trained import read_trained


@pytest.fixture
def use(squares, monkeypatch):
    """``use(**changes)`` replaces the data set of the next runs."""

    def use(change=lambda images: images, **fields):
        def read(split):
            found = squares.read(split)
            return Split(change(found.images), found.labels)

        def open_(split):
            return StoredSplit(read(split).labels, None, read(split).read_images)

        shape = read("test").images.shape[1:]
        data = dataclasses.replace(squares, read=read, open=open_, image_shape=shape, **fields)
        monkeypatch.setattr(run_module, "load_dataset", lambda *_, **__: data)

    return use


@pytest.fixture
def source(run, tmp_path, tmp_path_factory, capsys):
    """Directory of a finished run, trained once."""
    once = tmp_path_factory.getbasetemp() / "source"
    if not once.exists():
        run(run_dir=once, dropout=(0.1, 0.2), ema_decay=0.9)
        capsys.readouterr()
    return shutil.copytree(once, tmp_path / "source")


def start(run, source, **flags):
    run(**{"from": source, "epochs": 0} | flags)
    return read_trained(flags.get("run_dir", source.parent / "run")).variables["params"]


def weights_line(capsys):
    printed = capsys.readouterr().out
    (line,) = (line for line in printed.splitlines() if line.startswith("weights: "))
    return line


def test_a_run_with_the_same_classes_starts_from_all_tested_weights(run, source, capsys):
    params = start(run, source, ema_decay=0.9)
    old = read_trained(source)
    jax.tree.map(np.testing.assert_array_equal, params, old.variables["params"])
    assert weights_line(capsys) == (
        f"weights: from {source} (dnn, 12x12-L, 3 classes); all layers are kept, because the classes "
        "are the same"
    )
    started = read_trained(source.parent / "run").config
    assert started.model.dropout == (0.1, 0.2)
    assert json.loads((source.parent / "run" / "config.json").read_text())["from"] == str(source)


def test_another_split_of_the_same_data_is_a_warning(run, source, caplog):
    start(run, source, ema_decay=0.9)
    assert not caplog.records
    start(run, source, seed=1, run_dir=source.parent / "other")
    assert "another split of squares: it may have been trained on images" in caplog.text
    assert caplog.text.strip().endswith("to use its split, give --seed 0")


def test_the_head_is_new_if_the_classes_differ(run, use, source, capsys):
    old = read_trained(source).variables["params"]
    for names, reason in [("abcd", "for 4 classes"), ("abc", "because the class names differ")]:
        use(class_names=tuple(names))
        params = start(run, source, run_dir=source.parent / names)
        for layer in ("dense_1", "dense_2"):
            np.testing.assert_array_equal(params[layer]["kernel"], old[layer]["kernel"])
        assert params["dense_3"]["kernel"].shape == (100, len(names))
        assert weights_line(capsys).endswith(f"; new head dense_3 {reason}")


def test_images_of_another_size_need_a_new_first_dense_layer(run, use, source, capsys):
    use(lambda images: images[:, 1:-1, 1:-1])
    params, old = start(run, source), read_trained(source).variables["params"]
    assert params["dense_1"]["kernel"].shape == (100, 100)
    for layer in ("dense_2", "dense_3"):
        np.testing.assert_array_equal(params[layer]["kernel"], old[layer]["kernel"])
    assert weights_line(capsys).endswith("; new layer dense_1 for 10x10-L images")


@pytest.mark.slow
def test_frozen_layers_and_their_statistics_keep_every_bit(run, use, tmp_path, capsys):
    common = {"model": "compact", "width": 0.1, "ema_decay": 0.9}
    run(run_dir=tmp_path / "source", **common)
    use(class_names=tuple("abcd"))
    how = {"weight_decay": 0.1, "optimizer": "adamw", "clip_norm": 1.0, "accumulate": 2}
    run(**{"from": tmp_path / "source", "freeze": "conv"}, **common, **how)
    old, new = (read_trained(tmp_path / name).variables for name in ("source", "run"))
    for layer, values in old["params"].items():
        for name, value in values.items():
            same = np.array_equal(value, new["params"][layer][name])
            trained = layer.startswith("dense") or layer == "norm_6"
            assert same != trained, (layer, name)
    for layer, values in old["batch_stats"].items():
        for name, value in values.items():
            same = np.array_equal(value, new["batch_stats"][layer][name])
            assert same == (layer != "norm_6"), (layer, name)
    printed = capsys.readouterr().out
    trained = sum(
        leaf.size
        for layer in ("dense_1", "dense_2", "norm_6")
        for leaf in new["params"][layer].values()
    )
    assert f"trained: {trained:,} of " in printed
    with pytest.raises(InputError, match=r"--width is 0.2, but .* has 0.1; leave --width out"):
        run(**{"from": tmp_path / "source"}, model="compact", width=0.2, run_dir=tmp_path / "wide")
    use(lambda images: images.repeat(3, axis=-1))
    with pytest.raises(InputError, match=r"trained on 12x12-L images, but squares has 12x12-RGB"):
        run(**{"from": tmp_path / "source"}, model="compact", run_dir=tmp_path / "colour")
    assert not (tmp_path / "wide").exists()
    assert not (tmp_path / "colour").exists()


def test_a_run_without_a_checkpoint_resumes_from_the_same_weights(run, source, monkeypatch):
    flags = {"from": source, "dropout": (0.1, 0.2)}
    run(**flags, run_dir=source.parent / "undisturbed")

    class Killed(BaseException):
        pass

    def die(*_, **__):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "Loop", die)
        with pytest.raises(Killed):
            run(**flags)
    run(**flags, resume=True)
    expected, found = (
        read_trained(source.parent / name).variables for name in ("undisturbed", "run")
    )
    jax.tree.map(np.testing.assert_array_equal, expected, found)

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "Loop", die)
        with pytest.raises(Killed):
            run(**flags, run_dir=source.parent / "changed")
    run(run_dir=source, resume=True, dropout=(0.1, 0.2), ema_decay=0.9, epochs=3)
    with pytest.raises(InputError, match=r"the weights of .* have changed since the run in"):
        run(**flags, run_dir=source.parent / "changed", resume=True)
    shutil.rmtree(source)
    with pytest.raises(InputError, match="there is no run in"):
        run(**flags, run_dir=source.parent / "changed", resume=True)


def test_a_run_with_a_checkpoint_resumes_without_its_source(run, source):
    flags = {"from": source, "dropout": (0.1, 0.2)}
    result = run(**flags)
    shutil.rmtree(source)
    (source.parent / "run" / "report.html").unlink()
    assert run(**flags, resume=True)["test_loss"] == result["test_loss"]


def test_wrong_sources_are_one_line_and_write_nothing(run, source, tmp_path):
    unfinished, lesson = tmp_path / "unfinished", tmp_path / "lesson"
    shutil.copytree(source, unfinished)
    (unfinished / "report.html").unlink()
    lesson.mkdir()
    write_json(lesson / "config.json", {"experiment": "lesson/losses"})
    for flags, expected in [
        ({"from": tmp_path / "missing"}, "there is no run in"),
        ({"from": unfinished}, "is not finished; continue it: "),
        ({"from": lesson}, "belongs to a lesson"),
        ({"from": tmp_path / "run"}, "--from and --run-dir are both"),
        ({"from": source, "model": "cnn"}, "--model is cnn, but the run in .* has the network dnn"),
        ({"from": source, "freeze": "conv"}, "the network dnn has no convolutions"),
        ({"freeze": "conv"}, "--freeze conv would keep random weights; give --from RUN"),
    ]:
        with pytest.raises(InputError, match=expected) as caught:
            run(**flags)
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "run").exists()


def test_a_damaged_source_is_one_line(run, source):
    for path in (source / "checkpoints").rglob("*"):
        if path.is_file() and path.stat().st_size > 1000:
            path.write_bytes(b"")
    with pytest.raises(InputError, match=r"is damaged or of another version \(.*\); run it again"):
        start(run, source)


def test_one_checkpoint_can_be_kept_besides_the_latest(tmp_path):
    checkpoints = Checkpoints(tmp_path, kept=1)
    for step in range(1, 7):
        checkpoints.save(step, {"a": np.zeros(2)}, {"a": np.zeros(2)}, {})
        checkpoints.wait()
    checkpoints.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "4", "5", "6"]
