"""Which networks are written by hand too, and what these variants are called. Importing this imports no backend."""

from __future__ import annotations

TWIN_NAMES = ("cnn2_cifar", "plain12_bn", "vgg16_cifar", "resnet20_cifar", "densenet40_k12_cifar")
CHANNELS_FIRST, CHANNELS_LAST = "plain NCHW", "plain channels_last"
TF_FUNCTION, TF_FUNCTION_XLA = "plain tf.function", "plain XLA"
