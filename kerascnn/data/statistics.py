"""Mean and deviation of the training images, exact, in one streaming pass, kept in the cache."""

from __future__ import annotations

import json
import math
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from kerascnn.data.dataset import Dataset
from kerascnn.data.images import AdaptedImages, Images
from kerascnn.data.locate import cache_folder
from kerascnn.recipe import Recipe

CHUNK_BYTES = 2**21


@dataclass(frozen=True)
class PixelStatistics:
    """Per channel, on the scale of 0 to 255; ``deviation`` is over all pixels (divided by n)."""

    mean: list[float]
    deviation: list[float]

    def for_channels(self, channels: int) -> PixelStatistics:
        """The constants of images whose grey channel is repeated, where it is."""
        times = channels // len(self.mean)
        return PixelStatistics(self.mean * times, self.deviation * times)


def constants_of(recipe: Recipe, dataset: Dataset) -> PixelStatistics | None:
    """What a network's scaling layer takes from its data: the whole training split's, whatever limits say.

    Only ``standardize`` takes anything.
    """
    if recipe.train.scaling != "standardize":
        return None
    images, channels = dataset.whole_train, recipe.input_shape[2]
    if channels < images.shape[2]:
        # The deviation of grey pixels doesn't follow from the colours' own.
        images = AdaptedImages(images, (*images.shape[:2], channels))
    return pixel_statistics(images, dataset.fingerprint).for_channels(channels)


def pixel_statistics(images: Images, fingerprint: str) -> PixelStatistics:
    """Mean and deviation of each channel, computed once for each fingerprint and shape.

    A histogram of the 256 values a channel is exact and its size doesn't depend on the number of images.
    """
    shape = "x".join(map(str, images.shape))
    kept = cache_folder() / "statistics" / f"{fingerprint}-{shape}.json"
    try:
        return PixelStatistics(**json.loads(kept.read_text()))
    except (OSError, ValueError, TypeError):
        computed = compute_statistics(images)
        _keep(kept, computed)
        return computed


def compute_statistics(images: Images) -> PixelStatistics:
    """The pass over all images that :func:`pixel_statistics` keeps the result of."""
    channels = images.shape[2]
    counts = np.zeros((channels, 256), np.int64)
    chunk = max(1, CHUNK_BYTES // math.prod(images.shape))
    for start in range(0, len(images), chunk):
        batch = images.read(np.arange(start, min(start + chunk, len(images))))
        for channel in range(channels):
            counts[channel] += np.bincount(batch[..., channel].ravel(), minlength=256)
    values = np.arange(256, dtype=np.float64)
    total = counts.sum(axis=1)
    mean = counts @ values / total
    variance = counts @ values**2 / total - mean**2
    return PixelStatistics(mean.tolist(), np.sqrt(np.maximum(variance, 0)).tolist())


def _keep(path: Path, statistics: PixelStatistics) -> None:
    """Write the cache entry; a cache that can't be written only costs the next run its time."""
    partial = path.with_suffix(f".{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(asdict(statistics)))
        partial.replace(path)
    except OSError:
        # Where the cache's folder can't be looked into, nothing in it can be removed.
        with suppress(OSError):
            partial.unlink()
