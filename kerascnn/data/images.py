"""Images of one split, in memory or in a folder, read by index as raw uint8 pixels, channels last."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kerascnn.data.formats import Labels, Pixels
from kerascnn.errors import DatasetError
from kerascnn.machine import usable_cores

Shape = tuple[int, int, int]
Indices = NDArray[np.int64]
RandomFor = Callable[[int], np.random.Generator]

# What photographs come in, and Pillow's packages read on every system.
IMAGE_FORMATS = ("JPEG", "PNG", "WEBP")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
# The published way of looking at ImageNet: the short side to 256, then the middle 224.
RESIZE_PER_CROP = 256 / 224

# Pillow's own limit. Below it, only a WebP of hardly any detail packs more than about 8,000 pixels into a byte.
MAX_PIXELS = 89_478_485
MAX_PIXELS_PER_BYTE = 10_000
PIXELS_AT_LEAST = 2**20

# EXIF's tag that says how the camera was held, and what turns the image upright, by the tag's value.
ORIENTATION = 0x0112
UPRIGHT = 1
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# An image longer than this many times its short side is cut before it is resized.
LONGEST_SHAPE = 8

# A file of so few bytes, for a network of images of at most such a side, is decoded before a thread gets to it.
SMALL_FILE, SMALL_SIDE = 4096, 64

# The largest difference in size that is padded or cropped away; beyond it images are resized.
LARGEST_PADDING = 8


class Images(Protocol):
    """A split of a dataset."""

    labels: Labels

    def __len__(self) -> int:
        """Number of images."""

    @property
    def shape(self) -> Shape:
        """Height, width and channels that :meth:`read` returns."""

    def read(self, indices: Indices) -> Pixels:
        """The images as they are validated: uint8 ``(len(indices), *shape)``."""

    def read_random_crops(self, indices: Indices, random_for: RandomFor) -> Pixels:
        """A random part of each image at full size; ``random_for(index)`` draws it."""


class ArrayImages:
    """Images in one uint8 array ``(n, height, width, channels)``."""

    def __init__(self, pixels: Pixels, labels: Labels) -> None:
        self.pixels = pixels
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> Shape:
        _, height, width, channels = self.pixels.shape
        return height, width, channels

    def read(self, indices: Indices) -> Pixels:
        return self.pixels[indices]

    def read_random_crops(self, indices: Indices, random_for: RandomFor) -> Pixels:
        size = self.shape[:2]
        out = np.empty((len(indices), *self.shape), np.uint8)
        for row, index in enumerate(indices.tolist()):
            image = _to_pillow(self.pixels[index])
            out[row] = _to_pixels(random_resized_crop(image, size, random_for(index)), self.shape[2])
        return out


class FolderImages:
    """Images in files, decoded when they are read, in threads where that pays."""

    def __init__(self, files: Sequence[Path], labels: Labels, shape: Shape) -> None:
        self.files = files
        self.labels = labels
        self._shape = shape
        self._pool = ThreadPoolExecutor(max_workers=usable_cores(), thread_name_prefix="decode")

    def __len__(self) -> int:
        return len(self.files)

    @property
    def shape(self) -> Shape:
        return self._shape

    def read(self, indices: Indices) -> Pixels:
        return self._decode_all(indices, lambda image, _: resize_and_crop(image, self._shape[:2]))

    def read_random_crops(self, indices: Indices, random_for: RandomFor) -> Pixels:
        return self._decode_all(
            indices, lambda image, index: random_resized_crop(image, self._shape[:2], random_for(index))
        )

    def _decode_all(self, indices: Indices, cut: Callable[[Image.Image, int], Image.Image]) -> Pixels:
        out = np.empty((len(indices), *self._shape), np.uint8)

        def decode(row: int, index: int) -> None:
            try:
                image = open_image(self.files[index])
            except DatasetError as error:
                raise DatasetError(f"{error}; `kerascnn train` with --skip-bad-images leaves such files out") from None
            out[row] = _to_pixels(cut(image, index), self._shape[2])

        over = fastest_map(self._pool, self.files[int(indices[0])], self._shape) if len(indices) else map
        for _ in over(decode, range(len(indices)), indices.tolist()):
            pass
        return out


class AdaptedImages:
    """Images of another shape than the network takes, adapted batch by batch."""

    def __init__(self, images: Images, shape: Shape) -> None:
        self._images = images
        self._shape = shape
        self.labels = images.labels

    def __len__(self) -> int:
        return len(self._images)

    @property
    def shape(self) -> Shape:
        return self._shape

    def read(self, indices: Indices) -> Pixels:
        return adapt(self._images.read(indices), self._shape)

    def read_random_crops(self, indices: Indices, random_for: RandomFor) -> Pixels:
        return adapt(self._images.read_random_crops(indices, random_for), self._shape)


class Subset:
    """Some of another split's images, in the order of ``chosen``; nothing is copied."""

    def __init__(self, images: Images, chosen: Indices) -> None:
        self._images = images
        self._chosen = chosen
        self.labels = images.labels[chosen]

    def __len__(self) -> int:
        return len(self._chosen)

    @property
    def shape(self) -> Shape:
        return self._images.shape

    def read(self, indices: Indices) -> Pixels:
        return self._images.read(self._chosen[indices])

    def read_random_crops(self, indices: Indices, random_for: RandomFor) -> Pixels:
        return self._images.read_random_crops(self._chosen[indices], random_for)


def fastest_map(pool: ThreadPoolExecutor, file: Path, shape: Shape) -> Callable[..., Iterable[Any]]:
    """``pool.map``, or ``map`` for small images: Pillow decodes outside Python's lock, but opens a file inside.

    Args:
        pool: threads.
        file: one of those to decode, which the others are like.
        shape: what the network takes.
    """
    with suppress(OSError):
        if max(shape[:2]) <= SMALL_SIDE and file.stat().st_size <= SMALL_FILE:
            return map
    return pool.map


def undecodable(files: Sequence[Path]) -> list[Path]:
    """Decode all files once and tell which of them can't be."""

    def bad(path: Path) -> bool:
        try:
            open_image(path)
        except DatasetError:
            return True
        return False

    with ThreadPoolExecutor(max_workers=usable_cores()) as pool:
        return [path for path, is_bad in zip(files, pool.map(bad, files), strict=True) if is_bad]


def open_image(path: Path) -> Image.Image:
    """Decode one JPEG, PNG or WebP file, whatever its name ends in: upright by its EXIF, of several frames the first.

    Raises:
        DatasetError: it doesn't decode; the file is named.
    """
    try:
        with Image.open(path, formats=IMAGE_FORMATS) as image:
            most = min(MAX_PIXELS, PIXELS_AT_LEAST + MAX_PIXELS_PER_BYTE * path.stat().st_size)
            if image.width * image.height > most:
                raise ValueError(
                    f"it claims {image.width:,}×{image.height:,} pixels, more than the {most:,} it may have"
                )
            image.load()
            turn = TURNS.get(_orientation(image.info.get("exif")))
            plain = _in_bytes(image)
            return plain if turn is None else plain.transpose(turn)
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise DatasetError(f"{path}: expected a JPEG, PNG or WebP image: {reason}") from None


def _in_bytes(image: Image.Image) -> Image.Image:
    """A byte a channel, grey or red, green and blue."""
    if image.mode.startswith("I"):
        # 16 bits of grey; Pillow's own conversion would cut everything above 255 to white.
        return Image.fromarray((np.asarray(image, np.uint32) >> 8).clip(0, 255).astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:
        # Straight to RGB the same pixels, and a warning of Pillow's.
        image = image.convert("RGBA")
    return image if image.mode in ("L", "RGB") else image.convert("RGB")


def _orientation(exif: object) -> int:
    """The value of one tag among those of an image's EXIF; upright where it isn't there or can't be read.

    Pillow's own look takes all tags apart, which is 3 % of the time that a JPEG of 500×375 pixels takes.
    """
    # It may be damaged, and in a PNG a text of this name. The rest of the image is whole all the same.
    if not isinstance(exif, bytes):
        return UPRIGHT
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return UPRIGHT
    try:
        (first,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, first)
        for entry in range(first + 2, first + 2 + 12 * count, 12):
            tag, _, _, value = struct.unpack_from(f"{order}HHIH", tiff, entry)
            if tag == ORIENTATION:
                return int(value)
    except struct.error:
        return UPRIGHT
    return UPRIGHT


def resize_and_crop(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The short side to 256/224 of the wanted one, then the middle: how ImageNet is validated (single view)."""
    image = _without_far_ends(image)
    height, width = size
    scale = max(height / image.height, width / image.width) * RESIZE_PER_CROP
    new = max(width, round(image.width * scale)), max(height, round(image.height * scale))
    image = image.resize(new, Image.Resampling.BILINEAR)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def _without_far_ends(image: Image.Image) -> Image.Image:
    """The middle of a very long image: enlarged with its ends, a strip of one pixel would fill the memory."""
    longest = LONGEST_SHAPE * min(image.size)
    if max(image.size) <= longest:
        return image
    width, height = min(image.width, longest), min(image.height, longest)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def random_resized_crop(image: Image.Image, size: tuple[int, int], random: np.random.Generator) -> Image.Image:
    """A random part, 8 % to 100 % of the area, 3:4 to 4:3 in shape, resized (Szegedy 2014, arXiv 1409.4842)."""
    height, width = size
    for _ in range(10):
        area = image.width * image.height * random.uniform(0.08, 1.0)
        ratio = np.exp(random.uniform(np.log(3 / 4), np.log(4 / 3)))
        w, h = round(float(np.sqrt(area * ratio))), round(float(np.sqrt(area / ratio)))
        if 0 < w <= image.width and 0 < h <= image.height:
            left, top = int(random.integers(image.width - w + 1)), int(random.integers(image.height - h + 1))
            box = (left, top, left + w, top + h)
            return image.resize((width, height), Image.Resampling.BILINEAR, box=box)
    return resize_and_crop(image, size)


def adapt(pixels: Pixels, shape: Shape) -> Pixels:
    """Bring images to another shape: channels repeated or made grey, sides padded, cropped or resized.

    Args:
        pixels: uint8 ``(n, height, width, channels)``.
        shape: the wanted height, width and channels.
    """
    height, width, channels = shape
    if pixels.shape[3] != channels:
        pixels = np.repeat(pixels, channels, axis=3) if pixels.shape[3] == 1 else _to_grey(pixels)
    rows, columns = height - pixels.shape[1], width - pixels.shape[2]
    if not rows and not columns:
        return pixels
    if _fits_by_padding(rows, columns):
        pads = ((0, 0), _halves(max(rows, 0)), _halves(max(columns, 0)), (0, 0))
        pixels = np.pad(pixels, pads)
        top, left = (pixels.shape[1] - height) // 2, (pixels.shape[2] - width) // 2
        return pixels[:, top : top + height, left : left + width]
    resized = [
        _to_pixels(_to_pillow(image).resize((width, height), Image.Resampling.BILINEAR), channels) for image in pixels
    ]
    return np.stack(resized)


def describe_adaptation(found: Shape, wanted: Shape) -> str | None:
    """Say aloud what :func:`adapt` does, or None where there is nothing to do.

    Raises:
        DatasetError: the channels can't be brought together.
    """
    if found == wanted:
        return None
    done = []
    if found[2] != wanted[2]:
        if 1 not in (found[2], wanted[2]):
            raise DatasetError(f"expected images of {wanted[2]} channels, got {found[2]}")
        done.append("the grey channel is repeated" if found[2] == 1 else "colours are made grey")
    rows, columns = wanted[0] - found[0], wanted[1] - found[1]
    if (rows or columns) and _fits_by_padding(rows, columns):
        done.append("padded with black" if max(rows, columns) > 0 else "cropped to the middle")
    elif rows or columns:
        done.append("resized")
    before, after = "×".join(map(str, found)), "×".join(map(str, wanted))
    return f"images of {before} meet a network for {after}: {' and '.join(done)}"


def _fits_by_padding(rows: int, columns: int) -> bool:
    return max(abs(rows), abs(columns)) <= LARGEST_PADDING


def _halves(whole: int) -> tuple[int, int]:
    return whole // 2, whole - whole // 2


def _to_grey(pixels: Pixels) -> Pixels:
    """ITU-R 601 luma, as Pillow computes it."""
    weights = np.array([299, 587, 114], np.uint32)
    grey = (pixels[..., :3].astype(np.uint32) @ weights + 500) // 1000
    return grey.astype(np.uint8)[..., None]


def _to_pillow(pixels: Pixels) -> Image.Image:
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def _to_pixels(image: Image.Image, channels: int) -> Pixels:
    mode = "L" if channels == 1 else "RGB"
    array = np.asarray(image if image.mode == mode else image.convert(mode), np.uint8)
    return array[..., None] if channels == 1 else array
