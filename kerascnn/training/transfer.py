"""Beginning with another run's weights. They are copied into the new run, which needs the other one no more."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kerascnn.errors import CheckpointError, nearest
from kerascnn.runs.directory import Run
from kerascnn.training.checkpoint import (
    Arrays,
    Checkpoint,
    Progress,
    newest_whole,
    read_checkpoint,
    weights_of,
    write_checkpoint,
)

if TYPE_CHECKING:
    import keras

RANDOM_STATE = "seed_generator_state"


def find_weights(source: Path) -> Checkpoint:
    """Read the weights that a run stands at.

    Args:
        source: a run's directory, whose newest whole checkpoint is taken, or one of its checkpoints.

    Returns:
        Arrays by the paths of their variables; ``identity["origin"]`` says in words where they are from.

    Raises:
        CheckpointError: there is no whole checkpoint.
    """
    if source.is_dir():
        path, checkpoint, _ = newest_whole(Run(source).checkpoints)
    else:
        path, checkpoint = source, read_checkpoint(source)
    identity = checkpoint.identity
    origin = (
        f"{identity.get('model')} after {checkpoint.progress.step:,} steps with {identity.get('backend')}, "
        f"from {path.absolute()}"
    )
    return Checkpoint(weights_of(checkpoint), Progress(), {"origin": origin})


def store_weights(run: Run, weights: Checkpoint) -> None:
    """Copy weights into a new run."""
    write_checkpoint(run.initial_weights_file, weights)


def put_stored_weights(model: keras.Model, run: Run) -> str:
    """Assign the weights that a run begins with.

    Returns:
        In words where they are from.

    Raises:
        CheckpointError: they are damaged, or of a network that differs in more than its number of classes.
    """
    stored = read_checkpoint(run.initial_weights_file)
    logits = put_weights(model, stored.arrays)
    without, anew = "", "optimizer"
    if logits:
        without = f", without its {stored.arrays[logits[0]].shape[-1]:,} logits"
        anew = f"this network's {model.output_shape[-1]:,} logits, optimizer"
    origin = stored.identity.get("origin")
    return f"the initial weights are those of {origin}{without}; {anew} and schedule begin anew"


def put_weights(model: keras.Model, weights: Arrays) -> list[str]:
    """Assign weights by the paths of their variables. The states of random generators stay the model's own.

    Args:
        model: a network with the same layers as the one that the weights are from, but for the number of classes.
        weights: arrays by path, from any backend.

    Returns:
        The paths of the weights that keep their first draw: those of the logits, where the classes are others.

    Raises:
        CheckpointError: a weight is missing, has another shape, or is one too many. Nothing is assigned then.
    """
    wanted = {variable.path: variable for variable in model.weights}
    given = {path: array for path, array in weights.items() if not path.endswith(RANDOM_STATE)}
    logits = _other_logits(model, given)
    for path in logits:
        del wanted[path], given[path]
    for path, variable in wanted.items():
        if path not in given:
            raise CheckpointError(
                f"initial weights of another network: expected {path}{nearest(path, list(given))}, and it isn't there"
            )
        if given[path].shape != tuple(variable.shape):
            raise CheckpointError(
                f"initial weights of another network: expected {path} of shape {tuple(variable.shape)}, "
                f"got {given[path].shape}"
            )
    for path in given.keys() - wanted.keys():
        raise CheckpointError(f"initial weights of another network: it has {path}, and this one hasn't")
    for path, variable in wanted.items():
        variable.assign(given[path])
    return logits


def _other_logits(model: keras.Model, given: Arrays) -> list[str]:
    """The paths of the logits' weights, kernel first, where they differ from those given in the class axis alone."""
    # Imported late: a process imports Keras once it has chosen its backend.
    from kerascnn.diagnosis.signals import kernel_layers

    layers = kernel_layers(model)
    logits = {variable.path: tuple(variable.shape) for variable in layers[-1].layer.weights} if layers else {}

    def has_other_classes(path: str) -> bool:
        shape, found = logits[path], given[path].shape if path in given else ()
        alike = len(found) == len(shape) and found[:-1] == shape[:-1]
        return alike and found[-1:] != shape[-1:] == model.output_shape[-1:]

    return list(logits) if all(map(has_other_classes, logits)) else []
