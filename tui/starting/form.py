"""A new run as a form: what can be changed, what that makes of the recipe, and the command that does the same."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from kerascnn.catalog import load_recipe
from kerascnn.data.dataset import absolute, classes_of, folder_path
from kerascnn.data.known import DATASETS, EMBEDDED, FOLDER
from kerascnn.data.locate import find, find_archive
from kerascnn.errors import KerascnnError
from kerascnn.recipe import Activation, Adam, AdamW, BatchNorm, Initializer, Plain, Recipe, Resnet, Scaling, Sgd

OPTIMIZERS: dict[str, type[Sgd] | type[Adam]] = {"sgd": Sgd, "adam": Adam, "adamw": AdamW}
OPTIMIZER = "train.optimizer.name"
LEARNING_RATE = "train.optimizer.learning_rate"


@dataclass(frozen=True)
class Field:
    """One line of the form, for one key of the recipe."""

    key: str
    label: str
    kind: Literal["choice", "int", "float"]
    help: str
    options: tuple[str, ...] = ()
    optional: bool = False
    """May be empty where the catalog sets no limit: none."""


FIELDS = (
    Field("dataset", "dataset", "choice", "What it learns from.", (*DATASETS, FOLDER)),
    Field("train.epochs", "epochs", "int", "Passes over the training images."),
    Field("train.batch_size", "batch size", "int", "Images in an optimizer step."),
    Field(OPTIMIZER, "optimizer", "choice", "How a step follows from its gradient.", tuple(OPTIMIZERS)),
    Field(LEARNING_RATE, "learning rate", "float", "Of the optimizer, before its schedule."),
    Field("train.scaling", "scaling", "choice", "What the first layer makes of the pixels.", get_args(Scaling)),
    Field("activation", "activation", "choice", "After each convolution and hidden layer.", get_args(Activation)),
    Field("initializer", "initializer", "choice", "Where the kernels start.", get_args(Initializer)),
    Field("batch_norm", "BatchNorm", "choice", "Before or after each activation.", get_args(BatchNorm)),
    Field("skip", "skip", "choice", "What leads past layers.", get_args(Plain.model_fields["skip"].annotation)),
    Field(
        "shortcut", "shortcut", "choice", "Where the width grows.", get_args(Resnet.model_fields["shortcut"].annotation)
    ),
    Field("dropout", "dropout", "float", "Share of units that a training step drops."),
    Field("train.seed", "seed", "int", "Of initial weights, batches and augmentation."),
    Field("train.limit_train", "limit train", "int", "Use only so many training images.", optional=True),
    Field("train.limit_val", "limit val", "int", "Use only so many validation images.", optional=True),
)


def fields_of(recipe: Recipe) -> list[Field]:
    """The fields whose keys this network's recipe has."""
    return [field for field in FIELDS if field.key.partition(".")[0] in type(recipe).model_fields]


def texts_of(recipe: Recipe) -> dict[str, str]:
    """What the form shows before anything is changed."""
    return {field.key: _text(_at(recipe, field.key)) for field in fields_of(recipe)}


def default_rate(optimizer: str) -> str:
    """The learning rate that an optimizer has if none is given."""
    return _text(OPTIMIZERS[optimizer].model_fields["learning_rate"].default)


@dataclass(frozen=True)
class Checked:
    """What the form amounts to: a recipe, or what is wrong and with which field."""

    recipe: Recipe | None
    changes: dict[str, Any]
    error: str = ""
    field: str | None = None


def changes_of(base: Recipe, texts: Mapping[str, str]) -> dict[str, Any]:
    """The keys whose values aren't the catalog's. What is no number stays text, for the schema to refuse."""
    before = texts_of(base)
    if texts.get(OPTIMIZER) in OPTIMIZERS and texts[OPTIMIZER] != before[OPTIMIZER]:
        # Another optimizer begins with its own learning rate.
        before[LEARNING_RATE] = default_rate(texts[OPTIMIZER])
    changes = {}
    for field in fields_of(base):
        text = texts.get(field.key, "").strip()
        if not text and field.optional:
            continue
        value = _typed(field, text)
        if value != _typed(field, before[field.key]):
            changes[field.key] = value
    return changes


def check(base: Recipe, texts: Mapping[str, str], catalog: Path | None = None) -> Checked:
    """Hold the form to the recipe's own schema, as the command would."""
    changes = changes_of(base, texts)
    if (emptied := _emptied(base, texts)) is not None:
        # No option of the command lifts a limit either.
        limit = _at(base, emptied.key)
        told = f"the catalog's limit of {limit:,} holds if this is empty; a number as large as the dataset lifts it"
        return Checked(None, changes, told, emptied.key)
    try:
        asked = dict(changes)
        if "dataset" in asked:
            asked["dataset"] = absolute(asked["dataset"])
            classes = classes_of(asked["dataset"])
            if classes is not None and classes != base.classes:
                asked["classes"] = classes
        return Checked(load_recipe(base.name, asked, catalog=catalog), changes)
    except KerascnnError as error:
        message = str(error).removeprefix(f"{base.name}: ").removeprefix("--set: ")
        return Checked(None, changes, message, _field_named_in(message, base))


def where_data_lies(dataset: str, data_dir: Path | None) -> str:
    """Where a dataset is on this machine, or what fetching it costs."""
    if dataset.startswith(FOLDER):
        path = dataset.removeprefix(FOLDER).removeprefix(":")
        if not path:
            return "a folder of images, one folder a class: type its path"
        try:
            there = folder_path(dataset).is_dir()
        except (KerascnnError, OSError):
            # Why it can't be looked at is told by the check.
            there = False
        return f"folder of images at {path}" if there else f"no folder at {path}"
    known = DATASETS.get(dataset)
    if known is None:
        return ""
    if dataset == EMBEDDED:
        return f"embedded: {known.train_images:,} images of Fashion-MNIST"
    if found := find(known, data_dir) or find_archive(known, data_dir):
        return f"on disk: {found.path} ({found.source})"
    return f"not here: {known.download_bytes / 1e6:,.0f} MB to download first"


def _emptied(base: Recipe, texts: Mapping[str, str]) -> Field | None:
    """A field that the catalog fills, and that has been left empty."""
    before = texts_of(base)
    optional = [field for field in fields_of(base) if field.optional and before[field.key]]
    return next((field for field in optional if not texts.get(field.key, "").strip()), None)


def _field_named_in(message: str, base: Recipe) -> str | None:
    """The field whose key an error names, the longest if several do."""
    named = [
        field.key for field in fields_of(base) if re.search(rf"(?<![\w.]){re.escape(field.key)}(?![\w.])", message)
    ]
    if not named and message.startswith("train.optimizer"):
        return OPTIMIZER
    return max(named, key=len, default="dataset" if FOLDER in message else None)


def _typed(field: Field, text: str) -> Any:
    kinds = {"int": int, "float": float, "choice": str}
    try:
        return kinds[field.kind](text)
    except ValueError:
        return text


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)


def _at(recipe: Recipe, key: str) -> Any:
    value: Any = recipe
    for name in key.split("."):
        value = getattr(value, name)
    return value
