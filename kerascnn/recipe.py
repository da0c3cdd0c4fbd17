"""What a run is: network, data, optimizer, schedule, seed. Validated, immutable, TOML in and out.

A recipe is one entry of a catalog (``models.toml``) with every default filled in. Its top level describes the network
and is handed to the builder; ``train`` describes how it learns; ``card`` is what is known about it.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal

import tomli_w
from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, TypeAdapter, model_validator
from pydantic_core import ErrorDetails, ValidationError

from kerascnn.errors import RecipeError, brief, nearest

Activation = Literal["relu", "sigmoid", "tanh", "silu", "gelu", "elu", "leaky_relu", "linear"]
Initializer = Literal["glorot_uniform", "glorot_normal", "he_normal", "he_uniform", "lecun_normal", "lecun_uniform"]
BatchNorm = Literal["none", "after", "before"]
Scaling = Literal["unit", "symmetric", "standardize", "caffe", "none"]

# It names the run's folder and Keras's model.
Name = Annotated[str, Field(max_length=100, pattern=r"^\w[\w.+ -]*$")]
Width = Annotated[int, Field(gt=0, le=65536)]
Fraction = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
Rate = Annotated[float, Field(gt=0, le=1e3, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class Strict(BaseModel):
    """A frozen table in which an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Sgd(Strict):
    """Stochastic gradient descent, with momentum and Nesterov's variant of it."""

    name: Literal["sgd"] = "sgd"
    learning_rate: Rate = 0.01
    momentum: Fraction = 0.0
    nesterov: bool = False


class Adam(Strict):
    """Adam (Kingma and Ba 2014). ``epsilon`` is PyTorch's default, as in the lecture, in Keras's formula."""

    name: Literal["adam"] = "adam"
    learning_rate: Rate = 1e-3
    beta_1: Fraction = 0.9
    beta_2: Fraction = 0.999
    epsilon: Rate = 1e-8


class AdamW(Adam):
    """Adam with weight decay outside the gradient (Loshchilov and Hutter 2017)."""

    name: Literal["adamw"] = "adamw"  # type: ignore[assignment]
    decoupled_weight_decay: Annotated[float, Field(ge=0, le=10)] = 0.01


# The tables of which there are several kinds, and the kind that one without a name is of.
DEFAULT_KINDS = {"train.optimizer": "adam", "train.schedule": "constant"}
_SEVERAL_KINDS = [key.rpartition(".")[2] for key in DEFAULT_KINDS]


def _named(key: str) -> Discriminator:
    """Tell the kinds of a table apart by its ``name``; a table without one is of the default kind."""
    default = DEFAULT_KINDS[key]

    def kind(table: Any) -> Any:
        return table.get("name", default) if isinstance(table, dict) else getattr(table, "name", None)

    return Discriminator(kind)


def table_of(value: Any) -> Any:
    """A name alone stands for its table: ``schedule = "cosine"``."""
    return {"name": value} if isinstance(value, str) else value


Optimizer = Annotated[
    Annotated[Sgd, Tag("sgd")] | Annotated[Adam, Tag("adam")] | Annotated[AdamW, Tag("adamw")],
    _named("train.optimizer"),
    BeforeValidator(table_of),
]


class Constant(Strict):
    """The same learning rate from the first step to the last."""

    name: Literal["constant"] = "constant"


class Step(Strict):
    """The learning rate is multiplied by ``factor`` at each of these fractions of the run."""

    name: Literal["step"] = "step"
    at: Annotated[list[Fraction], Field(max_length=100)] = [0.5, 0.75]
    factor: Annotated[float, Field(gt=0, le=1)] = 0.1


class Cosine(Strict):
    """Half a cosine from the learning rate down to ``final`` times it."""

    name: Literal["cosine"] = "cosine"
    final: Annotated[float, Field(ge=0, le=1)] = 0.0


Schedule = Annotated[
    Annotated[Constant, Tag("constant")] | Annotated[Step, Tag("step")] | Annotated[Cosine, Tag("cosine")],
    _named("train.schedule"),
    BeforeValidator(table_of),
]


class WarmUp(Strict):
    """The first ``steps`` steps at ``factor`` times the learning rate, flat or rising linearly to the full rate."""

    steps: Annotated[int, Field(ge=0)] = 0
    factor: Annotated[float, Field(gt=0, le=1)] = 0.1
    shape: Literal["flat", "linear"] = "linear"


class Augment(Strict):
    """How training images are varied, drawn anew for each image in each epoch."""

    pad_crop: Annotated[int, Field(ge=0, le=64)] = 0
    """Pixels of padding on every side before a random crop back to size."""
    fill: Literal["black", "reflect"] = "black"
    flip: bool = False
    random_resized_crop: bool = False
    """A random part of 8 % to 100 % of the area, for folders of images (Szegedy 2014)."""


class EarlyStopping(Strict):
    """Stop when ``monitor`` hasn't improved for ``patience`` epochs."""

    monitor: Literal["val_loss", "val_accuracy", "loss", "accuracy"] = "val_accuracy"
    patience: Annotated[int, Field(gt=0)] = 10


class Train(Strict):
    """How the network learns."""

    scaling: Scaling = "unit"
    optimizer: Optimizer = Adam()
    schedule: Schedule = Constant()
    warm_up: WarmUp = WarmUp()
    weight_decay: Annotated[float, Field(ge=0, le=10)] = 0.0
    """L2 on the kernels, added to their gradients: what papers mean by weight decay with SGD."""
    batch_size: Annotated[int, Field(gt=0, le=65536)] = 256
    epochs: Annotated[int, Field(gt=0, le=1_000_000)] = 40
    seed: Seed = 0
    augment: Augment = Augment()
    label_smoothing: Fraction = 0.0
    clip_norm: Annotated[float, Field(ge=0)] = 0.0
    """Largest norm of all gradients together; 0 leaves them alone."""
    ema: Fraction = 0.0
    """Share of the old value that the moving average of the weights keeps at each step; 0 keeps no average."""
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    early_stopping: EarlyStopping | None = None
    val_split: Fraction = 0.0
    """Share of the training images held out for validation; 0 uses the dataset's own second split."""
    limit_train: Annotated[int, Field(gt=0)] | None = None
    limit_val: Annotated[int, Field(gt=0)] | None = None


class Card(Strict):
    """What is known about a network. The counts are of the network as it stands in the catalog."""

    trainable_weights: int | None = None
    total_weights: int | None = None
    multiply_adds: int | None = None
    """Multiplications with their additions in one forward pass of one image, in convolutions and dense layers."""
    published_accuracy: float | None = None
    """Test accuracy, single view, in per cent."""
    published_where: str | None = None


class Recipe(Strict):
    """One network with the way it learns. Subclasses add the keys of their builder."""

    described_by: ClassVar[frozenset[str]] = frozenset(
        {"name", "family", "summary", "paper", "builder", "dataset", "input_shape", "train", "card"}
    )
    """Keys that are not arguments of the builder."""

    name: Name
    family: str = "own"
    summary: str = ""
    paper: str = ""
    builder: str
    dataset: str
    input_shape: tuple[Width, Width, Literal[1, 3]] = (32, 32, 3)
    classes: Annotated[int, Field(gt=1, le=100_000)] = 10
    activation: Activation = "relu"
    initializer: Initializer = "glorot_uniform"
    batch_norm: BatchNorm = "none"
    batch_norm_momentum: Fraction = 0.9
    batch_norm_epsilon: Rate = 1e-5
    conv_bias: bool | None = None
    """None: a bias, except where BatchNorm follows the convolution at once and would remove it."""
    train: Train = Train()
    card: Card = Card()

    @model_validator(mode="after")
    def _caffe_is_for_colours(self) -> Recipe:
        if self.train.scaling == "caffe" and self.input_shape[2] != 3:
            raise ValueError('train.scaling = "caffe" subtracts red, green and blue and needs three channels')
        return self

    def network(self) -> dict[str, Any]:
        """The builder's own arguments, by name."""
        return {key: value for key, value in self if key not in self.described_by}

    def starts_from(self) -> str:
        """In words, what the kernels are drawn from."""
        return self.initializer

    def to_toml(self) -> str:
        """The whole recipe as TOML that reads back as the same recipe."""
        tables = self.model_dump(mode="json", exclude_none=True, exclude={"name"})
        return tomli_w.dumps({"models": {self.name: tables}})


def _check_pools(input_shape: tuple[int, int, int], groups: int) -> None:
    """A 2×2 pool needs two pixels."""
    side = min(input_shape[:2])
    if side >> groups < 1:
        raise ValueError(f"{groups} pools of 2×2 leave nothing of {side} pixels")


class Plain(Recipe):
    """Groups of 3×3 convolutions, each closed by a pool, with the lecture's skips."""

    builder: Literal["plain"]
    filters: Annotated[list[Width], Field(min_length=1, max_length=64)]
    convs_per_group: Annotated[int, Field(gt=0, le=64)] = 3
    hidden: Annotated[list[Width], Field(max_length=16)] = [512]
    skip: Literal["none", "group", "full", "dense", "long"] = "none"

    @model_validator(mode="after")
    def _long_skip_needs_two_groups(self) -> Plain:
        if self.skip == "long" and len(self.filters) < 2:
            raise ValueError('skip = "long" leads from the first group to the last and needs two groups in filters')
        return self

    @model_validator(mode="after")
    def _pixels_left(self) -> Plain:
        _check_pools(self.input_shape, len(self.filters))
        return self


class Vgg(Recipe):
    """VGG (Simonyan and Zisserman 2014)."""

    builder: Literal["vgg"]
    filters: Annotated[list[Width], Field(min_length=1, max_length=64)] = [64, 128, 256, 512, 512]
    convs_per_group: Annotated[list[Width], Field(min_length=1, max_length=64)] = [2, 2, 3, 3, 3]
    hidden: Annotated[list[Width], Field(max_length=16)] = [4096, 4096]
    dense_deviation: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Of the dense kernels' initial values, normal around 0; 0 leaves them to ``initializer``."""
    dropout: Fraction = 0.0

    def starts_from(self) -> str:
        """In words, what the kernels are drawn from."""
        dense = f" (dense layers: normal, {self.dense_deviation:g})" if self.dense_deviation else ""
        return f"{super().starts_from()}{dense}"

    @model_validator(mode="after")
    def _one_depth_a_group(self) -> Vgg:
        if len(self.filters) != len(self.convs_per_group):
            raise ValueError(
                f"convs_per_group needs one number for each of the {len(self.filters)} widths in filters, "
                f"but has {len(self.convs_per_group)}"
            )
        _check_pools(self.input_shape, len(self.filters))
        return self


class Resnet(Recipe):
    """Residual networks of basic blocks, activation after the addition (He 2015)."""

    builder: Literal["resnet"]
    filters: Annotated[list[Width], Field(min_length=1, max_length=64)] = [16, 32, 64]
    blocks_per_stage: Annotated[int, Field(gt=0, le=1000)] = 3
    shortcut: Literal["pad", "projection"] = "pad"
    """Where the width grows: zeros in the new channels (the paper's option A), or a 1×1 convolution (option B)."""

    @model_validator(mode="after")
    def _padding_only_widens(self) -> Resnet:
        if self.shortcut == "pad" and self.filters != sorted(self.filters):
            raise ValueError(f'shortcut = "pad" can only widen: expected filters that grow, got {self.filters}')
        return self


class WideResnet(Recipe):
    """Wide residual networks, BatchNorm and activation before each convolution (Zagoruyko 2016)."""

    builder: Literal["wide_resnet"]
    depth: Annotated[int, Field(ge=10, le=10_000)] = 28
    widen: Annotated[int, Field(gt=0, le=64)] = 10
    dropout: Fraction = 0.0

    @model_validator(mode="after")
    def _depth_fits(self) -> WideResnet:
        if (self.depth - 4) % 6:
            raise ValueError(f"depth is 6 n + 4 (16, 22, 28, 34, 40 …), not {self.depth}")
        return self


class Densenet(Recipe):
    """Densely connected networks for 32×32 images (Huang 2016)."""

    builder: Literal["densenet"]
    depth: Annotated[int, Field(ge=4, le=10_000)] = 40
    growth: Width = 12
    bottleneck: bool = False
    compression: Annotated[float, Field(gt=0, le=1)] = 1.0
    dropout: Fraction = 0.0

    @model_validator(mode="after")
    def _depth_fits(self) -> Densenet:
        step = 6 if self.bottleneck else 3
        if (self.depth - 4) % step:
            raise ValueError(
                f"depth is {step} n + 4 with bottleneck = {str(self.bottleneck).lower()}, not {self.depth}"
            )
        _check_pools(self.input_shape, 2)
        return self


class Custom(Recipe):
    """A builder of the user's own: ``module:function``, or an entry point in the group ``kerascnn.builders``."""

    arguments: dict[str, Any] = {}

    def network(self) -> dict[str, Any]:
        """The keys that all networks share, and the builder's own arguments."""
        arguments = super().network()
        own: dict[str, Any] = arguments.pop("arguments")
        return arguments | own


FAMILIES: dict[str, type[Recipe]] = {
    "plain": Plain,
    "vgg": Vgg,
    "resnet": Resnet,
    "wide_resnet": WideResnet,
    "densenet": Densenet,
}


def schema_of(builder: str) -> type[Recipe]:
    """The keys that a builder's recipe may have."""
    return FAMILIES.get(builder, Custom)


def parse_recipe(name: str, entry: dict[str, Any], *, file: str = "") -> Recipe:
    """Validate one catalog entry.

    Args:
        name: the entry's name.
        entry: its keys, `base` already resolved.
        file: where it stands, for the error's first words; empty where options have changed it.

    Raises:
        RecipeError: an unknown key, a wrong type, a value out of range.
    """
    entry_name = brief(name).strip("'\"")
    shown = f"{file}: {entry_name}" if file else entry_name
    builder = entry.get("builder")
    if not isinstance(builder, str):
        raise RecipeError(
            f"{shown}: expected the key 'base', the name of another model, or 'builder', one of {', '.join(FAMILIES)}"
        )
    kind = schema_of(builder)
    try:
        return TypeAdapter(kind).validate_python({**entry, "name": name})
    except ValidationError as error:
        first = error.errors()[0]
        if kind is Custom and first["type"] == "extra_forbidden" and len(first["loc"]) == 1:
            raise RecipeError(
                f"{shown}: {brief(builder)} is none of our builders{nearest(builder, FAMILIES)}; "
                f"one of your own takes its keys in the table 'arguments', got {brief(first['loc'][0])}"
            ) from None
        raise RecipeError(f"{shown}: {_sentence(first, kind)}") from None


def _sentence(error: ErrorDetails, kind: type[Recipe]) -> str:
    """One error of pydantic's as our kind of sentence."""
    location = error["loc"]
    # After the key of such a table comes the name of its kind, which is no key.
    named = [step for before, step in zip(("", *location), location, strict=False) if before not in _SEVERAL_KINDS]
    key = ".".join(map(str, named))
    if key == "name":
        return "expected a name of up to 100 letters, digits, spaces and . _ + -, the first a letter or a digit"
    if error["type"] == "extra_forbidden":
        return f"unknown key {brief(key)}{nearest(key, known_keys(kind))}"
    if error["type"] == "union_tag_invalid":
        name, kinds = str(error["ctx"]["tag"]), str(error["ctx"]["expected_tags"])
        known = re.findall(r"\w+", kinds)
        return f"{key}.name should be {kinds}, got {brief(name)}{nearest(name, known)}"
    # What isn't a table has no key to tell its kind by, either.
    if error["type"] in ("model_type", "union_tag_not_found"):
        return f"{key} should be a table of keys, got {brief(error['input'])}"
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    said = error["msg"].removeprefix("Input ")
    return f"{key or 'the entry'} {said[0].lower()}{said[1:]}, got {brief(error['input'])}"


def known_keys(kind: type[BaseModel], prefix: str = "") -> list[str]:
    """Every key of a table and of the tables in it, dotted."""
    keys: list[str] = []
    for name, field in kind.model_fields.items():
        keys.append(prefix + name)
        for table in _tables_in(field.annotation):
            keys += known_keys(table, f"{prefix}{name}.")
    return keys


def _tables_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [table for part in getattr(annotation, "__args__", ()) for table in _tables_in(part)]
