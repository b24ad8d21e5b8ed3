"""PyTorch, eager."""

from peers.case import Case, Trainer
from peers.fastest import pick_fastest
from peers.torch_network import FORMATS, make_trainer


def prepare(case: Case) -> Trainer:
    """Return the usual training loop, in the faster memory format."""
    return pick_fastest([make_trainer(case, memory_format) for memory_format in FORMATS])
