"""The network of the case in PyTorch, and its training loop."""

from collections.abc import Callable

import torch
from torch import nn

from peers.case import LEARNING_RATE, Case, Trainer, made_up_images

FORMATS = "contiguous_format", "channels_last"


def make_trainer(case: Case, memory_format: str, transform: Callable | None = None) -> Trainer:
    """Return the usual training loop.

    Args:
        case: The network.
        memory_format: Name of the memory format of images and weights.
        transform: Function that compiles the computation of the loss.
    """
    order = getattr(torch, memory_format)
    images, labels = map(torch.from_numpy, made_up_images(case))
    images = images.permute(0, 3, 1, 2).float().div(255).contiguous(memory_format=order)
    labels = labels.long()
    model = make_network(case).to(memory_format=order)
    # By default, Adam on a CPU updates one array after the other with several operations each.
    optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE, fused=True)
    loss_function = nn.CrossEntropyLoss()

    def compute_loss(x, y):
        return loss_function(model(x), y)

    if transform:
        compute_loss = transform(compute_loss)

    def train(steps):
        done = 0
        while done < steps:
            for rows in torch.randperm(len(labels)).split(case.batch_size)[: steps - done]:
                loss = compute_loss(images[rows], labels[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                done += 1
        return loss.item()

    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Trainer(train, parameters, memory_format, torch.__version__)


def make_network(case: Case) -> nn.Module:
    """Return the network, from images in PyTorch's order of axes to the logits."""
    layers, (height, width, channels) = [], case.image_shape
    for block, rate in zip(case.blocks, case.dropout[:-1], strict=True):
        for number, features in enumerate(block, start=1):
            padding = "valid" if number == len(block) else "same"
            layers += [nn.Conv2d(channels, features, 3, padding=padding), nn.ReLU()]
            channels = features
        layers += [nn.MaxPool2d(2), nn.Dropout(rate)]
        height, width = (height - 2) // 2, (width - 2) // 2
    layers += [nn.Flatten(), nn.Linear(height * width * channels, case.hidden), nn.ReLU()]
    return nn.Sequential(
        *layers, nn.Dropout(case.dropout[-1]), nn.Linear(case.hidden, case.classes)
    )
