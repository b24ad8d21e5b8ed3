"""PyTorch, compiled by `torch.compile`."""

import torch

from peers.case import Case, Trainer
from peers.fastest import pick_fastest
from peers.torch_network import FORMATS, make_trainer


def prepare(case: Case) -> Trainer:
    """Return the training loop with compiled forward and backward passes, in the faster format."""
    return pick_fastest([make_trainer(case, order, torch.compile) for order in FORMATS])
