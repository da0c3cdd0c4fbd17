"""Which networks :mod:`kerascnn.bench.plain_torch` has. Importing it imports torch, importing this nothing."""

from __future__ import annotations

TWIN_NAMES = ("cnn2_cifar", "plain12_bn", "vgg16_cifar", "resnet20_cifar", "densenet40_k12_cifar")
CHANNELS_FIRST, CHANNELS_LAST = "plain NCHW", "plain channels_last"
