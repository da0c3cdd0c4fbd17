"""The pixel scaling as a network's first layers, of built-in kinds only: a saved model takes raw images anywhere."""

from __future__ import annotations

from collections.abc import Sequence

from keras import KerasTensor, layers, ops

# Mean of ImageNet's training images in RGB order, as the first VGG's weights expect it to be subtracted.
CAFFE_MEAN = (123.68, 116.779, 103.939)


def scale_pixels(
    pixels: KerasTensor,
    scaling: str,
    mean: Sequence[float] | None,
    deviation: Sequence[float] | None,
) -> KerasTensor:
    """Scale raw pixels, 0 to 255, channels last.

    Standardised pixels don't change when the raw ones become aX + b with a > 0, a lighter or a harder picture. Inputs
    of mean 0 and like deviations make gradient descent converge faster (LeCun et al. 1998, Efficient BackProp).

    Args:
        pixels: shape ``(batch, height, width, channels)``.
        scaling: ``unit`` to [0, 1]; ``symmetric`` to [-1, 1]; ``standardize`` to mean 0 and deviation 1 per channel
            over the training split; ``caffe`` to BGR minus ImageNet's mean; ``none`` leaves 0 to 255.
        mean: mean pixel per channel, for ``standardize``.
        deviation: deviation per channel, for ``standardize``.

    Raises:
        ValueError: ``standardize`` without its constants, or ``caffe`` on other than three channels.
    """
    if scaling == "unit":
        return layers.Rescaling(1 / 255, name="scaling")(pixels)
    if scaling == "symmetric":
        return layers.Rescaling(1 / 127.5, -1.0, name="scaling")(pixels)
    if scaling == "standardize":
        if mean is None or deviation is None:
            raise ValueError('scaling = "standardize" needs the mean and deviation of the training images')
        # A channel that never varies stays finite.
        scale = [1 / max(float(d), 1e-3) for d in deviation]
        offset = [-float(m) * s for m, s in zip(mean, scale, strict=True)]
        return layers.Rescaling(scale, offset, name="scaling")(pixels)
    if scaling == "caffe":
        if pixels.shape[-1] != 3:
            raise ValueError(f'scaling = "caffe" needs three channels, red, green and blue, got {pixels.shape[-1]}')
        rgb = layers.Rescaling([1.0, 1.0, 1.0], [-m for m in CAFFE_MEAN], name="scaling")(pixels)
        return ops.flip(rgb, axis=-1)
    return layers.Rescaling(1.0, name="scaling")(pixels)
