"""A config as one types it is that config when it is read again."""

import dataclasses
from pathlib import Path

import tyro
from hypothesis import given
from hypothesis import strategies as st

from fidle_jax.train.config import Config
from fidle_jax.train.words import as_words

DEFAULTS = Config(model="cnn")


@given(
    st.builds(
        Config,
        epochs=st.none() | st.integers(0, 1000),
        learning_rate=st.none() | st.floats(1e-9, 1e9),
        dropout=st.none() | st.tuples(st.floats(0, 1), st.floats(0, 1)),
        parallel=st.sampled_from(["jit", "pmap"]),
        profile=st.booleans(),
        progress=st.booleans(),
        run_dir=st.none() | st.just(Path("/runs/a folder")),
    )
)
def test_the_words_of_a_config_make_that_config(config):
    model = dataclasses.replace(config, model="cnn")
    assert tyro.cli(Config, args=as_words(model, DEFAULTS), default=DEFAULTS) == model
