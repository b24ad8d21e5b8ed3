"""PyTorch, eager."""

import time

import torch
from torch import nn

from peers.case import LEARNING_RATE, Case, Trainer, made_up_images

TRIED_TURNS, TRIED_STEPS = 3, 4


def prepare(case: Case) -> Trainer:
    """The usual loop, in the faster of the two orders that PyTorch keeps images in."""
    trainers = [_trainer(case, order) for order in ("contiguous_format", "channels_last")]
    turns = [[_seconds(trainer) for trainer in trainers] for _ in range(TRIED_TURNS)]
    fastest = [min(seconds) for seconds in zip(*turns, strict=True)]
    return trainers[fastest.index(min(fastest))]


def _trainer(case, order):
    memory_format = getattr(torch, order)
    images, labels = map(torch.from_numpy, made_up_images(case))
    images = images.permute(0, 3, 1, 2).float().div(255).contiguous(memory_format=memory_format)
    labels = labels.long()
    model = make_network(case).to(memory_format=memory_format)
    optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE)
    loss_function = nn.CrossEntropyLoss()

    def train(steps):
        done = 0
        while done < steps:
            for rows in torch.randperm(len(labels)).split(case.batch_size)[: steps - done]:
                loss = loss_function(model(images[rows]), labels[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                done += 1

    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Trainer(train, parameters, order, torch.__version__)


def make_network(case: Case) -> nn.Module:
    """The network, from images in PyTorch's order of axes to the logits."""
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


def _seconds(trainer):
    trainer.train(1)
    began = time.perf_counter()
    trainer.train(TRIED_STEPS)
    return time.perf_counter() - began
