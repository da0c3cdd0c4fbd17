"""Images, Keras models and optimizers of the benchmark's networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.diagnosis.networks import Network

IMAGES = 6000


def load_images(network: Network, data_dir: Path | None) -> tuple[Any, Any]:
    """The images as the network takes them, and the labels that it is given."""
    from kerascnn.data.dataset import load_known
    from kerascnn.data.known import known_dataset

    name = {"fashion": "fashion_mnist_mini", "cifar": "cifar10"}[network.data]
    train = load_known(known_dataset(name), data_dir=data_dir, download=False).train
    random = np.random.default_rng(0)
    chosen = random.permutation(len(train))[:IMAGES]
    labels = train.labels[chosen].astype(np.int64)
    pixels = halved(train.read(chosen).astype(np.float32))
    if network.scaling == "unit":
        pixels /= 255
    elif network.scaling == "standardize":
        pixels = (pixels - pixels.mean()) / pixels.std()
    return pixels, given_labels(network.labels, labels, random)


def halved(pixels: Any) -> Any:
    """Images of half the side, so that a deep network is a matter of seconds."""
    count, height, width, channels = pixels.shape
    return pixels.reshape(count, height // 2, 2, width // 2, 2, channels).mean(axis=(2, 4))


def given_labels(kind: str, labels: Any, random: np.random.Generator) -> Any:
    """True labels, or of other images, shuffled or shifted, or some of them wrong, or with the classes renamed."""
    if kind == "shuffled":
        return random.permutation(labels)
    if kind == "shifted":
        return np.roll(labels, 1)
    if kind == "renamed":
        return random.permutation(10)[labels]
    if kind.endswith(" noise"):
        wrong = random.random(len(labels)) < float(kind.removesuffix(" noise"))
        return np.where(wrong, random.integers(0, 10, len(labels)), labels)
    return labels


def build(network: Network, shape: tuple[int, ...]) -> Any:
    """The network, not compiled: convolutions with two poolings, and a dense layer or two."""
    from keras import Model, layers

    def initializer() -> Any:
        return make_initializer(network.initializer)

    inputs = layers.Input(shape)
    x = inputs
    if network.first != "none":
        x = {"rescaling": layers.Rescaling(1 / 255), "batch_norm": layers.BatchNormalization()}[network.first](x)
    for number in range(1, network.depth + 1):
        before = x
        x = layers.Conv2D(
            network.width,
            3,
            padding="same",
            kernel_initializer=initializer(),
            bias_initializer=make_initializer(f"constant {network.bias}"),
        )(x)
        if network.norm == "batch":
            x = layers.BatchNormalization()(x)
        x = layers.Activation(network.activation)(x)
        if network.skip and before.shape == x.shape:
            x = layers.Add()([before, x])
        if number in (1, network.depth // 2):
            x = layers.MaxPooling2D()(x)
    x = layers.Flatten()(x)
    if network.hidden:
        x = layers.Dense(network.hidden, activation=network.activation, kernel_initializer=initializer())(x)
    ending = "softmax" if network.head == "softmax" else None
    last = make_initializer("zeros") if network.head == "zeros" else initializer()
    return Model(inputs, layers.Dense(10, activation=ending, kernel_initializer=last)(x))


def make_initializer(name: str) -> Any:
    """One of Keras's by name, or ``normal DEVIATION``, or ``constant VALUE``."""
    from keras import initializers

    kind, _, value = name.partition(" ")
    if kind == "normal":
        return initializers.RandomNormal(stddev=float(value))
    if kind == "constant":
        return initializers.Constant(float(value))
    return initializers.get(name)


def make_optimizer(network: Network) -> Any:
    """The network's optimizer."""
    from keras import optimizers

    if network.optimizer == "momentum":
        return optimizers.SGD(network.rate, momentum=0.9)
    return {"adam": optimizers.Adam, "sgd": optimizers.SGD, "rmsprop": optimizers.RMSprop}[network.optimizer](
        network.rate
    )
