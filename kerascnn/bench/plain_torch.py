"""Networks of the zoo as one would write them in PyTorch, and the lecture's loop around them.

The reference that the bench holds kerascnn against: eager, ``torch.optim``, PyTorch's own initial weights and settings.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from kerascnn.bench.turns import Turns
from kerascnn.data.formats import Labels, Pixels
from kerascnn.recipe import Sgd, Train


def plain(filters: list[int], depths: list[int], hidden: list[int], act: Callable[[], Any], *, norm: bool) -> Any:
    """Groups of 3×3 convolutions with an activation, and BatchNorm after it; a max pool after each; dense layers."""
    layers: list[Any] = []
    channels, side = 3, 32
    for width, depth in zip(filters, depths, strict=True):
        for _ in range(depth):
            layers += [nn.Conv2d(channels, width, 3, padding=1), act()]
            layers += [nn.BatchNorm2d(width)] if norm else []
            channels = width
        layers.append(nn.MaxPool2d(2))
        side //= 2
    layers.append(nn.Flatten())
    inputs = channels * side * side
    for width in hidden:
        layers += [nn.Linear(inputs, width), act()]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, 10))


class BasicBlock(nn.Module):  # type: ignore[misc]
    """Two convolutions and a shortcut without weights: every second pixel, zeros in the new channels."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.stride, self.extra = stride, width - inputs

    def forward(self, x: Any) -> Any:
        out = functional.relu(self.norm1(self.conv1(x)))
        out = self.norm2(self.conv2(out))
        if self.extra:
            half = self.extra // 2
            x = functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, half, self.extra - half))
        return functional.relu(out + x)


def resnet20() -> Any:
    """He 2015, for CIFAR."""
    layers: list[Any] = [nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    inputs = 16
    for width in (16, 32, 64):
        for block in range(3):
            layers.append(BasicBlock(inputs, width, 2 if width > 16 and not block else 1))
            inputs = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


class DenseLayer(nn.Module):  # type: ignore[misc]
    """BatchNorm, ReLU, a convolution to ``growth`` channels, behind those that came in."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(inputs)
        self.conv = nn.Conv2d(inputs, growth, 3, padding=1, bias=False)

    def forward(self, x: Any) -> Any:
        return torch.cat([x, self.conv(functional.relu(self.norm(x)))], 1)


def densenet40() -> Any:
    """Huang 2016, growth 12."""
    layers: list[Any] = [nn.Conv2d(3, 16, 3, padding=1, bias=False)]
    width = 16
    for block in range(3):
        for _ in range(12):
            layers.append(DenseLayer(width, 12))
            width += 12
        layers += [nn.BatchNorm2d(width), nn.ReLU()]
        if block < 2:
            layers += [nn.Conv2d(width, width, 1, bias=False), nn.AvgPool2d(2)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))


TWINS: dict[str, Callable[[], Any]] = {
    "cnn2_cifar": lambda: plain([64, 128], [1, 1], [512], nn.Sigmoid, norm=False),
    "plain12_bn": lambda: plain([64, 128, 256, 512], [3, 3, 3, 3], [512], nn.ReLU, norm=True),
    "vgg16_cifar": lambda: plain([64, 128, 256, 512, 512], [2, 2, 3, 3, 3], [256, 256], nn.ReLU, norm=False),
    "resnet20_cifar": resnet20,
    "densenet40_k12_cifar": densenet40,
}


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
    betas = (asked.beta_1, asked.beta_2)
    return torch.optim.Adam(model.parameters(), lr=asked.learning_rate, betas=betas, eps=asked.epsilon)


def train_plain(
    name: str, train: Train, pixels: Pixels, labels: Labels, turns: Turns, *, channels_last: bool, device: str
) -> None:
    """Train a twin for as long as its turns last.

    Args:
        name: one of :data:`TWINS`.
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
    model = TWINS[name]().to(place).to(memory_format=layout).train()
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
