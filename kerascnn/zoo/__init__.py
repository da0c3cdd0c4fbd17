"""What learns: one file a family of networks, each a function from a recipe's keys to a ``keras.Model``.

Importing this package imports no Keras; :func:`build_model` does.
"""

from __future__ import annotations

import importlib
import re
import sys
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerascnn.errors import RecipeError, is_out_of_memory, kind_and_reason, nearest
from kerascnn.recipe import FAMILIES, Recipe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import keras

BUILDERS = {
    "plain": "kerascnn.zoo.plain:build_plain",
    "vgg": "kerascnn.zoo.vgg:build_vgg",
    "resnet": "kerascnn.zoo.residual:build_resnet",
    "wide_resnet": "kerascnn.zoo.residual:build_wide_resnet",
    "densenet": "kerascnn.zoo.dense:build_densenet",
}


def build_model(
    recipe: Recipe,
    *,
    mean: Sequence[float] | None = None,
    deviation: Sequence[float] | None = None,
) -> keras.Model:
    """Build a recipe's network on the backend that Keras was imported with.

    Args:
        recipe: what to build.
        mean: the training split's mean pixel per channel, 0 to 255; needed by ``scaling = "standardize"``.
        deviation: its deviation per channel, 0 to 255.

    Returns:
        A functional model from raw pixels (uint8 or float, 0 to 255, shape ``(batch, *recipe.input_shape)``,
        channels last) to one logit per class. Its initial weights are Keras's own draw; training assigns those
        of :mod:`kerascnn.training.initial_weights`.

    Raises:
        RecipeError: the builder can't be found, or rejects its arguments.
    """
    import keras

    from kerascnn.zoo.scaling import scale_pixels

    builder = find_builder(recipe.builder)

    def build() -> keras.Model:
        pixels = keras.Input(recipe.input_shape, dtype="uint8", name="pixels")
        x = scale_pixels(pixels, recipe.train.scaling, mean, deviation)
        return keras.Model(pixels, builder(x, **recipe.network()), name=_scope_name(recipe.name))

    policy = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_dtype_policy(recipe.train.precision)
    try:
        model = _named_as_in_a_fresh_process(build)
    except (TypeError, ValueError) as error:
        raise RecipeError(
            f"{recipe.name}: the builder {recipe.builder} rejects its arguments: {kind_and_reason(error)}"
        ) from error
    except Exception as error:
        # Somebody's own code may fail in any way.
        if is_out_of_memory(error):
            raise
        raise RecipeError(f"{recipe.name}: the builder {recipe.builder} fails: {kind_and_reason(error)}") from error
    finally:
        keras.mixed_precision.set_dtype_policy(policy)
    if model.output_shape != (None, recipe.classes):
        raise RecipeError(
            f"{recipe.name}: expected {recipe.classes} logits an image from the builder {recipe.builder}, got the "
            f"shape {model.output_shape}"
        )
    return model


def _named_as_in_a_fresh_process(build: Callable[[], keras.Model]) -> keras.Model:
    """Build a network whose layers have the names that they have where nothing was built before.

    Initial weights and checkpoints go by the names, and Keras counts those that it gives through a whole process.
    """
    try:
        with _fresh_names():
            return build()
    except ValueError as error:
        if "unique" not in str(error):
            raise
        # The builder also takes layers that are older than this call, and one has the name of a new one.
        return build()


@contextmanager
def _fresh_names() -> Iterator[None]:
    """Inside, Keras counts the names that it gives from the start; afterwards it repeats none of them."""
    from keras.src.backend.common.global_state import get_global_attribute
    from keras.src.utils.naming import reset_uids

    before = dict(get_global_attribute("object_name_uids") or {})
    reset_uids()
    try:
        yield
    finally:
        counts = get_global_attribute("object_name_uids")
        for name, count in before.items():
            counts[name] = max(counts[name], count)


def _scope_name(name: str) -> str:
    """A recipe's name as TensorFlow takes it, whose scopes Keras names after the model."""
    # At the beginning it takes no underscore either.
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name).lstrip("_") or "network"


def check_builder(name: str) -> str:
    """Where a recipe's ``builder`` lies, as ``module:function``; imports nothing.

    Raises:
        RecipeError: nothing has this name.
    """
    target = BUILDERS.get(name, name)
    if ":" in target:
        return target
    found = entry_points(group="kerascnn.builders", name=name)
    if not found:
        raise RecipeError(
            f"expected a builder out of {', '.join(FAMILIES)}, module:function or an entry point in the group "
            f"kerascnn.builders, got {name!r}{nearest(name, FAMILIES)}"
        )
    return next(iter(found)).value


def find_builder(name: str) -> Callable[..., Any]:
    """The function that a recipe's ``builder`` names: one of ours, ``module:function``, or an entry point.

    Raises:
        RecipeError: nothing has this name.
    """
    target = check_builder(name)
    module, _, function = target.partition(":")
    # A builder beside the user's catalog is found from the folder that the command is run in.
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        found_function = getattr(importlib.import_module(module), function)
    except Exception as error:
        # Importing it runs somebody's own code, which may fail in any way.
        raise RecipeError(f"expected a builder at {target}: {kind_and_reason(error)}") from error
    if not callable(found_function):
        raise RecipeError(f"expected a function at {target}, got {type(found_function).__name__}")
    return found_function  # type: ignore[no-any-return]
