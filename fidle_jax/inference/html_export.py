"""Export a trained network to an HTML page that runs it in the browser."""

from fidle_jax.data import SIGN_SETS
from fidle_jax.data.signs import parse_name
from fidle_jax.inference.load import Run
from fidle_jax.inference.preprocess import image_kind, resize_method
from fidle_jax.nn import layer_table
from fidle_jax.nn.graph import trace_graph
from fidle_jax.report.network_page import Examples, Network, choose_examples
from fidle_jax.train.run_content import read_evaluation


def describe_network(trained: Run) -> tuple[Network, Examples]:
    """Return the network, and test images, for `fidle_jax.report.network_page.render_network`.

    Raises:
        InputError: The network is neither `Compact` nor a sequence of this project's layers, or the
            predictions of the run are missing or damaged.
    """
    dataset = trained.config.data.dataset
    network = Network(
        kind=image_kind(dataset),
        name=trained.config.model.name,
        nodes=trace_graph(trained.model, trained.variables, trained.image_shape),
        layers=layer_table(trained.model, trained.image_shape),
        image_shape=trained.image_shape,
        class_names=trained.class_names,
        resize=resize_method(trained.config),
        treatment=parse_name(dataset)[1] if dataset in SIGN_SETS else None,
        result=trained.result,
    )
    test = read_evaluation(trained.run_dir)
    return network, choose_examples(test.images, test.labels, test.probabilities)
