"""What can be seen before a training: do the labels belong to the images, and does each image stand for itself?"""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from kerascnn.data.formats import Labels

# A linear classifier of coarse images needs no more to leave chance, and with fewer it can't be told from luck.
MOST_IMAGES = 2000
FEWEST_IMAGES = 100
COARSE = 8
MOST_FEATURES = 256
# The sum of an image's probabilities may be off by so much: bfloat16 rounds each by up to 0.4 %.
SUM_OFF = 5e-3

Array = NDArray[Any]


def label_score(images: Array, labels: Labels, classes: int) -> float | None:
    """How far above chance a linear classifier of coarse images comes, in standard deviations.

    It is fitted by ridge regression to one half and judged on the other, where each class counts the same: with one
    that is rare, the commonest alone would be mostly right. None where there are too few images.
    """
    images, labels = images[:MOST_IMAGES], labels[:MOST_IMAGES]
    if len(images) < FEWEST_IMAGES:
        return None
    features = _coarse(np.asarray(images, np.float64))
    deviation = features.std(axis=0)
    features = (features - features.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)
    half = len(features) // 2
    train, test = features[:half], features[half:]
    frequencies = np.bincount(labels[:half], minlength=classes)
    # Of each image, so that those of a class have the same weight together, and all have that of their number.
    weight = half / (np.count_nonzero(frequencies) * frequencies[labels[:half]])
    targets = np.eye(classes)[labels[:half]]
    middle, level = (np.average(values, axis=0, weights=weight) for values in (train, targets))
    weighted = (train - middle).T * weight
    ridge = weighted @ (train - middle) + half / 10 * np.eye(train.shape[1])
    weights = np.linalg.solve(ridge, weighted @ (targets - level))
    return _above_chance(((test - middle) @ weights + level).argmax(axis=1), labels[half:], classes)


def _above_chance(answers: Array, labels: Labels, classes: int) -> float:
    """What is right of each class beyond how often it is answered, summed, in standard deviations of luck."""
    images = np.bincount(labels, minlength=classes)
    right = np.bincount(labels[answers == labels], minlength=classes)
    answered = np.bincount(answers, minlength=classes) / len(answers)
    there = images > 0
    images, right, answered = images[there], right[there], answered[there]
    deviation = math.sqrt(float((answered * (1 - answered) / images).sum()))
    return float((right / images - answered).sum()) / deviation if deviation else 0.0


def _coarse(images: Array) -> Array:
    """Images as a few means of their parts; other data as they are, or where they are many as random sums."""
    if images.ndim == 4:
        rows, columns = (max(1, size // COARSE) for size in images.shape[1:3])
        height, width = images.shape[1] // rows, images.shape[2] // columns
        cut = images[:, : height * rows, : width * columns]
        images = cut.reshape(len(cut), height, rows, width, columns, -1).mean(axis=(2, 4))
    flat = images.reshape(len(images), -1)
    if flat.shape[1] > MOST_FEATURES:
        flat = flat @ np.random.default_rng(0).choice([-1.0, 1.0], (flat.shape[1], MOST_FEATURES))
    return flat


def mixing(network: keras.Model, images: Array) -> float:
    """How much the first image's logits change, of their size, when all of its batch are copies of it."""
    alone = np.repeat(images[:1], len(images), axis=0)
    here, there = (_answers(network, batch)[0] for batch in (images, alone))
    size = float(np.abs(here).max())
    return float(np.abs(here - there).max()) / size if size > 0 else 0.0


def gives_probabilities(network: keras.Model, images: Array) -> bool:
    """Whether the outputs for these images are all probabilities, however the network comes by them."""
    answers = _answers(network, images)
    sums = answers.sum(axis=1)
    return bool(np.isfinite(sums).all() and (answers >= 0).all() and (np.abs(sums - 1) < SUM_OFF).all())


def _answers(network: keras.Model, images: Array) -> Array:
    """The outputs in inference mode."""
    outputs = network(ops.convert_to_tensor(images), training=False)
    return np.asarray(ops.convert_to_numpy(ops.stop_gradient(outputs)), np.float64)
