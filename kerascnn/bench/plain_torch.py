"""The lecture's loop in PyTorch, around a network in PyTorch: the reference that the bench holds kerascnn against.

Eager, ``torch.optim``, PyTorch's own settings.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch.nn import functional

from kerascnn.bench.turns import Turns
from kerascnn.data.formats import Labels, Pixels
from kerascnn.recipe import AdamW, Sgd, Train

# PyTorch's own way to a mixed precision: weights in float32, an operation in what suits it.
MIXED = {"mixed_bfloat16": torch.bfloat16, "mixed_float16": torch.float16}


def make_optimizer(model: Any, train: Train) -> Any:
    """The recipe's optimizer as PyTorch has it."""
    asked = train.optimizer
    if isinstance(asked, Sgd):
        return torch.optim.SGD(
            model.parameters(),
            lr=asked.learning_rate,
            momentum=asked.momentum,
            nesterov=asked.nesterov,
            weight_decay=train.weight_decay,
        )
    return (torch.optim.AdamW if isinstance(asked, AdamW) else torch.optim.Adam)(
        model.parameters(),
        lr=asked.learning_rate,
        betas=(asked.beta_1, asked.beta_2),
        eps=asked.epsilon,
        weight_decay=asked.decoupled_weight_decay if isinstance(asked, AdamW) else train.weight_decay,
    )


def train_plain(
    network: Any, train: Train, pixels: Pixels, labels: Labels, turns: Turns, *, channels_last: bool, device: str
) -> None:
    """Train a network for as long as its turns last.

    Args:
        network: a ``torch.nn.Module`` from images, channels first, to logits.
        train: batch size, optimizer and precision are taken from it; pixels are scaled to [0, 1], nothing is varied.
        pixels: uint8 ``(n, height, width, channels)``, in memory for as long as the training lasts.
        labels: int64 ``(n,)``.
        turns: says when the next steps may begin.
        channels_last: PyTorch's ``memory_format`` for network and images, in place of its default, NCHW.
        device: ``auto`` and ``gpu`` take a GPU where PyTorch sees one.
    """
    cuda = device != "cpu" and torch.cuda.is_available()
    place = torch.device("cuda" if cuda else "cpu")
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model = network.to(place).to(memory_format=layout).train()
    optimizer = make_optimizer(model, train)
    lower = MIXED.get(train.precision)
    scaler = torch.amp.GradScaler(place.type, enabled=lower is torch.float16)
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    targets = torch.from_numpy(labels)
    seen, loss_sum, right = 0, 0.0, 0
    turns.begin(synchronise=torch.cuda.synchronize if cuda else lambda: None)
    order = torch.empty(0, dtype=torch.int64)
    for step in itertools.count():
        turns.between_steps(step)
        if len(order) < train.batch_size:
            order = torch.randperm(len(images))
        chosen, order = order[: train.batch_size], order[train.batch_size :]
        x = images[chosen].to(place).to(memory_format=layout).float() / 255
        y = targets[chosen].to(place)
        optimizer.zero_grad()
        with torch.autocast(place.type, lower, enabled=lower is not None):
            logits = model(x)
            loss = functional.cross_entropy(logits, y)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        seen += len(y)
        loss_sum += loss.item() * len(y)
        right += (logits.argmax(1) == y).sum().item()
