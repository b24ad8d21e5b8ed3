import json

from fidle_jax.report.contents import draw_pictures
from fidle_jax.train.run_dir import read_run


def pictures_of(run_dir):
    return {picture.name: picture for picture in draw_pictures(read_run(run_dir))}


def test_captions_tell_the_facts_of_the_run(make_run):
    pictures = pictures_of(make_run(epochs=4))
    assert "weights of epoch 4" in pictures["training_curves"].caption
    assert "class 0 taken for class 1 (2)" in pictures["confusion_matrix"].caption
    assert "test example 7 (class class 1)" in pictures["feature_maps"].caption


def test_errors_within_groups_are_counted_where_there_are_groups(make_run):
    caption = pictures_of(make_run(groups=True))["group_confusion"].caption
    assert "Of 5 errors, 2 took an image for another class of its own group" in caption
    assert "group_confusion" not in pictures_of(make_run())


def test_augmentation_is_shown_where_there_was_any(make_run):
    caption = pictures_of(make_run(augmented=True))["augmented"].caption
    assert "A training image (class class 1), and 32 versions of it" in caption
    assert "A flip gave the framed ones another class." in caption


def test_figures_that_cannot_be_say_why(make_run):
    pictures = pictures_of(make_run(epochs=0, errors=False, kernels=False))
    absent = {name: picture.caption for name, picture in pictures.items() if picture.png is None}
    assert absent.keys() == {"training_curves", "worst_errors", "kernels"}
    assert "no epochs" in absent["training_curves"]
    assert "No test example" in absent["worst_errors"]
    assert "no convolution" in absent["kernels"]


def test_without_validation_the_last_weights_are_said_to_be_kept(make_run):
    caption = pictures_of(make_run(validation=False))["training_curves"].caption
    assert "the last weights were kept" in caption


def test_an_epoch_chosen_on_the_test_split_is_said_to_be(make_run):
    run_dir = make_run(epochs=4)
    config = json.loads((run_dir / "config.json").read_text()) | {"hold_out": "test"}
    (run_dir / "config.json").write_text(json.dumps(config))
    caption = pictures_of(run_dir)["training_curves"].caption
    assert "The test split, looked at after every epoch, chose the weights of epoch 4" in caption
    assert "read once" not in caption
