"""What a file of weights is labelled with."""

import json

from fidle_jax.inference.load import Trained


def metadata(trained: Trained) -> dict[str, str]:
    """The model's name; as JSON, its classes in the order of the outputs, and the shape of an image."""
    return {
        "model": trained.config.model.name,
        "classes": json.dumps(trained.class_names, ensure_ascii=False),
        "image_shape": json.dumps(trained.image_shape),
    }
