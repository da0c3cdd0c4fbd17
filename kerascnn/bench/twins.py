"""What the bench measures where nothing is named, and what variants are called. Importing this imports no backend."""

from __future__ import annotations

# In TensorFlow only these are written by hand.
BENCHED = ("cnn2_cifar", "plain12_bn", "vgg16_cifar", "resnet20_cifar", "densenet40_k12_cifar")
CHANNELS_FIRST, CHANNELS_LAST = "plain NCHW", "plain channels_last"
TF_FUNCTION, TF_FUNCTION_XLA = "plain tf.function", "plain XLA"
