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

Array = NDArray[Any]


def label_score(images: Array, labels: Labels, classes: int) -> float | None:
    """How far above chance a linear classifier of coarse images comes, in standard deviations.

    It is fitted by ridge regression to one half and judged on the other. None where there are too few images.
    """
    images, labels = images[:MOST_IMAGES], labels[:MOST_IMAGES]
    if len(images) < FEWEST_IMAGES:
        return None
    features = _coarse(np.asarray(images, np.float64))
    deviation = features.std(axis=0)
    features = (features - features.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)
    half = len(features) // 2
    train, test = features[:half], features[half:]
    targets = np.eye(classes)[labels[:half]]
    ridge = train.T @ train + half / 10 * np.eye(train.shape[1])
    weights = np.linalg.solve(ridge, train.T @ (targets - targets.mean(axis=0)))
    answers = (test @ weights + targets.mean(axis=0)).argmax(axis=1)
    # What the commonest class alone would get, and how much that varies.
    share = min(max(float(np.bincount(labels[half:]).max()) / len(test), 1 / classes), 1 - 1 / len(test))
    deviation_of_share = math.sqrt(share * (1 - share) / len(test))
    return float(((answers == labels[half:]).mean() - share) / deviation_of_share)


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
    here, there = (
        np.asarray(ops.convert_to_numpy(ops.stop_gradient(network(ops.convert_to_tensor(batch), training=False))))[0]
        for batch in (images, alone)
    )
    size = float(np.abs(here).max())
    return float(np.abs(here - there).max()) / size if size > 0 else 0.0
