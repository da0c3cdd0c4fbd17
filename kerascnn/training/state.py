"""The state of a network in training as an ordered list of arrays, taken and put back."""

from __future__ import annotations

import io
import json
import re
from typing import Any

import keras
import numpy as np
from keras import ops
from keras.src.saving import saving_lib

from kerascnn.errors import CheckpointError
from kerascnn.recipe import Recipe
from kerascnn.training.checkpoint import Arrays, in_order


def take_state(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> Arrays:
    """Copies of all variables, the state of dropout's random generators among them, and torch's own generator."""
    arrays = in_order("model", [_to_numpy(variable) for variable in model.variables])
    arrays |= in_order("optimizer", [_to_numpy(variable) for variable in optimizer.variables])
    if keras.backend.backend() == "torch":
        import torch

        arrays["torch/cpu"] = torch.get_rng_state().numpy()
        if torch.cuda.is_available():
            arrays["torch/cuda"] = torch.cuda.get_rng_state().cpu().numpy()
    return arrays


def weights_file(model: keras.Model) -> bytes:
    """What ``model.save_weights`` writes, made in memory.

    HDF5 that finds no room on the disk for the rest of a file takes the whole process with it.
    """
    content = io.BytesIO()
    store = saving_lib.H5IOStore(content, mode="w")
    saving_lib._save_state(model, weights_store=store, assets_store=None, inner_path="", visited_saveables=set())
    store.close()
    return content.getvalue()


def put_state(model: keras.Model, optimizer: keras.optimizers.Optimizer, arrays: Arrays) -> None:
    """Put back what :func:`take_state` took. Whether it fits is checked first, so nothing is half put back.

    Raises:
        CheckpointError: an array is missing, or has another shape or type than its variable.
    """
    variables = in_order("model", model.variables) | in_order("optimizer", optimizer.variables)
    for name, now in take_state(model, optimizer).items():
        what = variables[name].path if name in variables else name
        if name not in arrays:
            if name not in variables:
                continue  # written on a machine without this generator
            raise CheckpointError(f"expected {name} for {what}, and the checkpoint doesn't hold it")
        found = arrays[name]
        if (found.shape, found.dtype) != (now.shape, now.dtype):
            raise CheckpointError(
                f"{what}: expected the shape {now.shape} of {now.dtype}, "
                f"the checkpoint has {found.shape} of {found.dtype}"
            )
    _put_generators(arrays)
    for name, variable in variables.items():
        variable.assign(arrays[name])


def _put_generators(arrays: Arrays) -> None:
    """Torch's own random generators, which check their state themselves."""
    if keras.backend.backend() != "torch" or "torch/cpu" not in arrays:
        return
    import torch

    try:
        torch.set_rng_state(torch.from_numpy(arrays["torch/cpu"].copy()))
        if torch.cuda.is_available() and "torch/cuda" in arrays:
            torch.cuda.set_rng_state(torch.from_numpy(arrays["torch/cuda"].copy()))
    except (RuntimeError, TypeError) as error:
        raise CheckpointError(f"expected the state of torch's random generator: {error}") from None


def identity_of(recipe: Recipe, model: keras.Model, optimizer: keras.optimizers.Optimizer) -> dict[str, Any]:
    """What a checkpoint must have been written for to fit: backend, network, batch size, and every variable."""
    return {
        "model": recipe.name,
        "backend": keras.backend.backend(),
        "batch_size": recipe.train.batch_size,
        "precision": recipe.train.precision,
        "variables": [[variable.path, list(variable.shape)] for variable in (*model.variables, *optimizer.variables)],
    }


def is_same(found: Any, expected: Any) -> bool:
    """Whether a part of an identity is the same but for the numbers of dropout's generators: Keras counts them on."""
    return _without_numbers(found) == _without_numbers(expected)


def _without_numbers(part: Any) -> str:
    return re.sub(r"seed_generator_\d+", "seed_generator", json.dumps(part))


def _to_numpy(variable: keras.Variable) -> Any:
    return np.array(ops.convert_to_numpy(variable.value), copy=True, order="C")
