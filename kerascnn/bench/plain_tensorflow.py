"""Networks of the zoo in TensorFlow's own operations, and a hand-written ``tf.function`` around them.

What the bench holds kerascnn on TensorFlow against: no Keras, channels last, TensorFlow's fused BatchNorm and fused
optimizers, with XLA or without.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from kerascnn.bench.turns import Turns
from kerascnn.data.formats import Labels, Pixels
from kerascnn.recipe import Sgd, Train

Layer = Callable[[Any], Any]


class Weights:
    """The variables of a network, in the order in which its layers were made."""

    def __init__(self) -> None:
        self.trainable: list[Any] = []
        self.moving: list[Any] = []

    def conv(self, inputs: int, width: int, size: int = 3, stride: int = 1, *, bias: bool = False) -> Layer:
        """A convolution that keeps the images' size, or halves it."""
        kernel = self._draw((size, size, inputs, width))
        add_bias = self._bias(width) if bias else lambda x: x
        # TensorFlow's "SAME" would pad one side more than the other where images are halved.
        sides = ((0, 0), (size // 2, size // 2), (size // 2, size // 2), (0, 0))
        return lambda x: add_bias(tf.nn.conv2d(x, kernel, stride, "SAME" if stride == 1 else sides))

    def dense(self, inputs: int, width: int) -> Layer:
        """A fully connected layer."""
        kernel = self._draw((inputs, width))
        add_bias = self._bias(width)
        return lambda x: add_bias(tf.matmul(x, kernel))

    def norm(self, width: int) -> Layer:
        """BatchNorm with the batch's statistics; the moving ones follow it."""
        gamma, beta = self._variable(tf.ones(width)), self._variable(tf.zeros(width))
        mean, variance = (tf.Variable(start, trainable=False) for start in (tf.zeros(width), tf.ones(width)))
        self.moving += [mean, variance]

        def run(x: Any) -> Any:
            y, batch_mean, batch_variance = tf.compat.v1.nn.fused_batch_norm(
                x, gamma, beta, epsilon=1e-5, is_training=True
            )
            for moving, now in ((mean, batch_mean), (variance, batch_variance)):
                moving.assign_sub(0.1 * (moving - now))
            return y

        return run

    def _variable(self, start: Any) -> Any:
        self.trainable.append(tf.Variable(start))
        return self.trainable[-1]

    def _draw(self, shape: tuple[int, ...]) -> Any:
        return self._variable(tf.random.normal(shape, stddev=0.05))

    def _bias(self, width: int) -> Layer:
        bias = self._variable(tf.zeros(width))
        return lambda x: tf.nn.bias_add(x, bias)


def in_order(layers: Sequence[Layer]) -> Layer:
    """One layer after the other."""

    def run(x: Any) -> Any:
        for layer in layers:
            x = layer(x)
        return x

    return run


def flatten(x: Any) -> Any:
    """A row of each image."""
    return tf.reshape(x, (-1, x.shape[1] * x.shape[2] * x.shape[3]))


def mean_of_pixels(x: Any) -> Any:
    """Global average pooling."""
    return tf.reduce_mean(x, (1, 2))


def plain(w: Weights, filters: list[int], depths: list[int], hidden: list[int], act: Layer, *, norm: bool) -> Layer:
    """Groups of 3×3 convolutions with an activation, and BatchNorm after it; a max pool after each; dense layers."""
    layers: list[Layer] = []
    channels, side = 3, 32
    for width, depth in zip(filters, depths, strict=True):
        for _ in range(depth):
            layers += [w.conv(channels, width, bias=True), act]
            layers += [w.norm(width)] if norm else []
            channels = width
        layers.append(lambda x: tf.nn.max_pool2d(x, 2, 2, "VALID"))
        side //= 2
    layers.append(flatten)
    inputs = channels * side * side
    for width in hidden:
        layers += [w.dense(inputs, width), act]
        inputs = width
    return in_order([*layers, w.dense(inputs, 10)])


def basic_block(w: Weights, inputs: int, width: int, stride: int) -> Layer:
    """Two convolutions and a shortcut without weights: every second pixel, zeros in the new channels."""
    inside = in_order(
        [w.conv(inputs, width, stride=stride), w.norm(width), tf.nn.relu, w.conv(width, width), w.norm(width)]
    )
    half = (width - inputs) // 2
    pads = ((0, 0), (0, 0), (0, 0), (half, width - inputs - half))
    if inputs == width:
        return lambda x: tf.nn.relu(inside(x) + x)
    return lambda x: tf.nn.relu(inside(x) + tf.pad(x[:, ::stride, ::stride], pads))


def resnet20(w: Weights) -> Layer:
    """He 2015, for CIFAR."""
    layers: list[Layer] = [w.conv(3, 16), w.norm(16), tf.nn.relu]
    inputs = 16
    for width in (16, 32, 64):
        for block in range(3):
            layers.append(basic_block(w, inputs, width, 2 if width > 16 and not block else 1))
            inputs = width
    return in_order([*layers, mean_of_pixels, w.dense(64, 10)])


def dense_layer(w: Weights, inputs: int, growth: int) -> Layer:
    """BatchNorm, ReLU, a convolution to ``growth`` channels, behind those that came in."""
    inside = in_order([w.norm(inputs), tf.nn.relu, w.conv(inputs, growth)])
    return lambda x: tf.concat([x, inside(x)], 3)


def densenet40(w: Weights) -> Layer:
    """Huang 2016, growth 12."""
    layers: list[Layer] = [w.conv(3, 16)]
    width = 16
    for block in range(3):
        for _ in range(12):
            layers.append(dense_layer(w, width, 12))
            width += 12
        layers += [w.norm(width), tf.nn.relu]
        if block < 2:
            layers += [w.conv(width, width, 1), lambda x: tf.nn.avg_pool2d(x, 2, 2, "VALID")]
    return in_order([*layers, mean_of_pixels, w.dense(width, 10)])


TWINS: dict[str, Callable[[Weights], Layer]] = {
    "cnn2_cifar": lambda w: plain(w, [64, 128], [1, 1], [512], tf.nn.sigmoid, norm=False),
    "plain12_bn": lambda w: plain(w, [64, 128, 256, 512], [3, 3, 3, 3], [512], tf.nn.relu, norm=True),
    "vgg16_cifar": lambda w: plain(w, [64, 128, 256, 512, 512], [2, 2, 3, 3, 3], [256, 256], tf.nn.relu, norm=False),
    "resnet20_cifar": resnet20,
    "densenet40_k12_cifar": densenet40,
}


def make_update(weights: Weights, train: Train) -> Callable[[Sequence[Any]], None]:
    """The recipe's optimizer by TensorFlow's fused kernels."""
    asked = train.optimizer

    def slots() -> list[Any]:
        return [tf.Variable(tf.zeros_like(one)) for one in weights.trainable]

    if isinstance(asked, Sgd):
        velocities = slots()

        def momentum(gradients: Sequence[Any]) -> None:
            for weight, gradient, velocity in zip(weights.trainable, gradients, velocities, strict=True):
                tf.raw_ops.ResourceApplyKerasMomentum(
                    var=weight.handle,
                    accum=velocity.handle,
                    lr=asked.learning_rate,
                    grad=gradient + train.weight_decay * weight if train.weight_decay else gradient,
                    momentum=asked.momentum,
                    use_nesterov=asked.nesterov,
                )

        return momentum
    powers, firsts, seconds = tf.Variable([asked.beta_1, asked.beta_2]), slots(), slots()

    def adam(gradients: Sequence[Any]) -> None:
        for weight, gradient, first, second in zip(weights.trainable, gradients, firsts, seconds, strict=True):
            tf.raw_ops.ResourceApplyAdam(
                var=weight.handle,
                m=first.handle,
                v=second.handle,
                beta1_power=powers[0],
                beta2_power=powers[1],
                lr=asked.learning_rate,
                beta1=asked.beta_1,
                beta2=asked.beta_2,
                epsilon=asked.epsilon,
                grad=gradient,
            )
        powers.assign(powers * [asked.beta_1, asked.beta_2])

    return adam


def share_gpus() -> None:
    """Take a GPU's memory as it is needed: other variants wait on the same one."""
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)


def train_plain(name: str, train: Train, pixels: Pixels, labels: Labels, turns: Turns, *, xla: bool) -> None:
    """Train a twin for as long as its turns last.

    Args:
        name: one of :data:`TWINS`.
        train: batch size and optimizer are taken from it; pixels are scaled to [0, 1], nothing is varied.
        pixels: uint8 ``(n, height, width, channels)``.
        labels: int64 ``(n,)``.
        turns: says when the next steps may begin.
        xla: whether the step is compiled by XLA.
    """
    weights = Weights()
    network = TWINS[name](weights)
    update = make_update(weights, train)
    images, targets = tf.constant(pixels), tf.constant(labels)

    def eagerly(x: Any, y: Any) -> tuple[Any, Any]:
        with tf.GradientTape() as tape:
            logits = network(tf.cast(x, tf.float32) / 255)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits))
        update(tape.gradient(loss, weights.trainable))
        return loss, tf.math.count_nonzero(tf.equal(tf.argmax(logits, 1), y))

    step = tf.function(eagerly, jit_compile=xla)
    seen, loss_sum, right = 0, 0.0, 0
    turns.begin(synchronise=lambda: None)
    order = tf.zeros(0, tf.int64)
    for number in itertools.count():
        turns.between_steps(number)
        if len(order) < train.batch_size:
            order = tf.random.shuffle(tf.range(len(images), dtype=tf.int64))
        chosen, order = order[: train.batch_size], order[train.batch_size :]
        loss, hits = step(tf.gather(images, chosen), tf.gather(targets, chosen))
        seen += train.batch_size
        loss_sum += float(loss) * train.batch_size
        right += int(hits)
