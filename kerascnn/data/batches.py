"""Batches in a fixed order: each is a pure function of (seed, epoch, number), so any of them can be made again."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np

from kerascnn.data.formats import Labels, Pixels
from kerascnn.data.images import Images, Indices
from kerascnn.recipe import Augment

Batch = tuple[Pixels, Labels]
Asked = TypeVar("Asked")
Made = TypeVar("Made")

READ_AHEAD = 3

# What a random generator is for, as the first word of its key: the same (seed, epoch) never serves two purposes.
ORDER, VARY, CROP = 1, 2, 3


@dataclass(frozen=True)
class TrainingBatches:
    """The training images of every epoch, shuffled and varied anew in each.

    The last batch of an epoch holds what is left.
    """

    images: Images
    batch_size: int
    seed: int
    augment: Augment

    @property
    def per_epoch(self) -> int:
        """Batches in an epoch."""
        return -(-len(self.images) // self.batch_size)

    def few(self, count: int) -> Pixels:
        """A few images as they are, the same whenever asked: those that the first epoch begins with."""
        return self.images.read(_epoch_order(len(self.images), self.seed, 0)[:count])

    def make(self, epoch: int, number: int) -> Batch:
        """Batch ``number`` of epoch ``epoch``, both from 0: uint8 pixels and int64 labels."""
        order = _epoch_order(len(self.images), self.seed, epoch)
        chosen = order[number * self.batch_size : (number + 1) * self.batch_size]
        if self.augment.random_resized_crop:
            pixels = self.images.read_random_crops(chosen, lambda index: random_for(self.seed, CROP, epoch, index))
        else:
            pixels = self.images.read(chosen)
        return vary(pixels, self.augment, random_for(self.seed, VARY, epoch, number)), self.images.labels[chosen]


@dataclass(frozen=True)
class ValidationBatches:
    """The validation images, always in the same order and as they are."""

    images: Images
    batch_size: int

    @property
    def count(self) -> int:
        """Batches in one pass."""
        return -(-len(self.images) // self.batch_size)

    def make(self, number: int) -> Batch:
        """Batch ``number``, from 0."""
        chosen = np.arange(number * self.batch_size, min((number + 1) * self.batch_size, len(self.images)))
        return self.images.read(chosen), self.images.labels[chosen]


def random_for(seed: int, *key: int) -> np.random.Generator:
    """A random generator of its own for each key, the same on every machine and backend."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, *key])))


@lru_cache(maxsize=2)
def _epoch_order(count: int, seed: int, epoch: int) -> Indices:
    return random_for(seed, ORDER, epoch).permutation(count)


def vary(pixels: Pixels, augment: Augment, random: np.random.Generator) -> Pixels:
    """Pad, crop and flip each image by a draw of its own.

    Args:
        pixels: uint8 ``(n, height, width, channels)``.
        augment: what to do; with nothing to do, ``pixels`` comes back.
        random: what draws.
    """
    if augment.pad_crop:
        pixels = _pad_and_crop(pixels, augment.pad_crop, augment.fill, random)
    if augment.flip:
        flipped = random.random(len(pixels)) < 0.5
        varied = pixels.copy()
        varied[flipped] = pixels[flipped, :, ::-1]
        return varied
    return pixels


def _pad_and_crop(pixels: Pixels, padding: int, fill: str, random: np.random.Generator) -> Pixels:
    n, height, width, _ = pixels.shape
    pads = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    padded = np.pad(pixels, pads, mode="reflect") if fill == "reflect" else np.pad(pixels, pads)
    tops, lefts = random.integers(0, 2 * padding + 1, size=(2, n))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(1, 2))
    cropped: Pixels = windows[np.arange(n), tops, lefts].transpose(0, 2, 3, 1)
    return np.ascontiguousarray(cropped)


@lru_cache(maxsize=1)
def _reader() -> ThreadPoolExecutor:
    """The thread that makes batches, one for the whole process.

    A thread that begins when memory has run out can leave the one that started it waiting for ever.
    """
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches")


def read_ahead(make: Callable[[Asked], Made], asked: Iterable[Asked]) -> Generator[Made]:
    """Yield ``make(one)`` of what is asked in order, the next few being made in a thread meanwhile.

    An error in ``make`` is raised where its batch would have come. Closing the iterator waits for what has begun.
    """
    waiting: deque[Future[Made]] = deque()
    try:
        for one in asked:
            waiting.append(_reader().submit(make, one))
            if len(waiting) > READ_AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        wait([future for future in waiting if not future.cancel()])
