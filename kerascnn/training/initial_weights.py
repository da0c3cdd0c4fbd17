"""The same initial weights on every backend: drawn with NumPy, keyed by the seed and the variable's name."""

from __future__ import annotations

import hashlib
import math
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache, partial
from statistics import NormalDist
from typing import Any, TypeAlias, TypeGuard

import keras
import numpy as np
from keras import ops
from keras.src.backend.common.stateless_scope import in_stateless_scope
from keras.src.backend.common.variables import Variable
from numpy.typing import NDArray

from kerascnn.machine import usable_cores
from kerascnn.recipe import Recipe
from kerascnn.training.steps import is_kernel
from kerascnn.zoo import BUILDERS, build_model

# What is drawn here: Glorot's, He's and LeCun's, and a normal distribution of a given deviation.
Initializer: TypeAlias = keras.initializers.VarianceScaling | keras.initializers.RandomNormal
DRAWN = (keras.initializers.VarianceScaling, keras.initializers.RandomNormal)
# A normal distribution cut at two deviations has this deviation.
TRUNCATED_DEVIATION = 0.87962566103423978
# Values that are drawn at once, so few that they stay in a core's cache. Four come from one random number, and so it
# doesn't matter for which values they are.
PIECE = 2**15
# A normal value is the middle of one of so many equally likely parts of its distribution: a look into a table, where
# NumPy's own draw of it takes five times as long. Weights don't need the finer values between, nor those beyond 4.3
# deviations, 2 in 100,000.
QUANTILES = 2**16
# Values that come from one generator. A kernel of more has several, so that cores can share it.
STRIPE = 2**24
# From so many values on, some milliseconds, a draw is another thread's.
SHARED = 2**17

# What is changed of Keras's classes while one network is built would be taken for Keras's own by a second one's thread.
_building = threading.RLock()


def build_initial(
    recipe: Recipe,
    seed: int,
    *,
    mean: Sequence[float] | None = None,
    deviation: Sequence[float] | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> keras.Model:
    """Build a recipe's network with the first weights of a seed.

    Kernels that somebody's own builder assigns, such as those of a trained network, keep what it gives them. Other
    arguments and errors are those of :func:`kerascnn.zoo.build_model`.

    Args:
        recipe: what to build.
        seed: of the weights.
        mean: as for :func:`kerascnn.zoo.build_model`.
        deviation: likewise.
        tell: is told of kernels that aren't drawn alike on every backend, and of those that the builder assigned.
    """
    with _assignments() as assigned:
        model = build_undrawn(recipe, mean=mean, deviation=deviation)
    kept = [variable.path for variable in model.weights if id(variable) in assigned and is_kernel(variable)]
    if kept:
        others = f" and {len(kept) - 1:,} other kernels keep" if len(kept) > 1 else " keeps"
        tell(f"{kept[0]}{others} what the builder assigned; the seed draws the rest")
    for path in assign_initial_weights(model, seed, kept=assigned):
        tell(f"{path}: its initial values are {keras.backend.backend()}'s own draw")
    return model


def assign_initial_weights(model: keras.Model, seed: int, kept: Collection[int] = ()) -> list[str]:
    """Replace each kernel's initial values by a draw that depends on the seed and its name alone.

    Variables that start from a constant (biases, BatchNorm) keep it. Dropout's random generators are seeded likewise.
    Of layers with the same name, as in two blocks of one kind, the second has a draw of its own.

    Args:
        model: a built network.
        seed: of the draws.
        kept: the ids of variables that keep what they have.

    Returns:
        Paths of the variables whose initializer has no NumPy form here; they keep the backend's own draw.
    """
    unknown: list[str] = []
    named: Counter[str] = Counter()
    elsewhere: list[tuple[keras.Variable, NDArray[np.float32]]] = []
    draws: list[_Draw] = []
    for layer in _innermost_layers(model):
        for variable in layer.weights:
            name = _numbered(f"{layer.name}/{variable.name}", named)
            if id(variable) in kept:
                continue
            initializer = _initializer(layer, variable.name)
            if _is_drawn_here(initializer):
                values = _memory_of(variable)
                if values is None:
                    values = np.empty(tuple(variable.shape), np.float32)
                    elsewhere.append((variable, values))
                draws += _draws_of(values, initializer, seed, name)
            elif initializer is not None and not isinstance(
                initializer, (keras.initializers.Zeros, keras.initializers.Ones, keras.initializers.Constant)
            ):
                unknown.append(name)
        generator = getattr(layer, "seed_generator", None)
        if generator is not None:
            number = random_for(seed, _numbered(f"{layer.name}/seed", named)).integers(0, 2**31)
            generator.state.assign(np.array([number, 0], dtype=np.int64))
    _carry_out(draws)
    for variable, values in elsewhere:
        variable.assign(values)
    return unknown


def _numbered(name: str, named: Counter[str]) -> str:
    """A name, with a number from its second time on."""
    named[name] += 1
    return name if named[name] == 1 else f"{name} ({named[name]})"


def build_undrawn(
    recipe: Recipe, *, mean: Sequence[float] | None = None, deviation: Sequence[float] | None = None
) -> keras.Model:
    """Build what gets its kernels afterwards: they begin as zeros, and Keras draws nothing that is thrown away.

    On torch it would draw four numbers for each of a truncated normal's, 2.2 GB for VGG16's 138 million weights.
    Somebody else's builder may have kernels that nobody assigns, and so it keeps Keras's draw. Arguments and errors are
    those of :func:`kerascnn.zoo.build_model`.
    """
    with _no_draw() if recipe.builder in BUILDERS else nullcontext():
        return build_model(recipe, mean=mean, deviation=deviation)


@contextmanager
def _no_draw() -> Iterator[None]:
    """Inside, this thread's kernels begin as zeros; in another one Keras may be drawing for somebody else."""
    mine = threading.get_ident()

    def undrawn(draw: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: Any, shape: Any, dtype: Any = None) -> Any:
            return ops.zeros(shape, dtype) if threading.get_ident() == mine else draw(self, shape, dtype)

        return call

    kinds: tuple[Any, ...] = DRAWN
    with _building:
        draws = [kind.__call__ for kind in kinds]
        for kind, draw in zip(kinds, draws, strict=True):
            kind.__call__ = undrawn(draw)
        try:
            yield
        finally:
            for kind, draw in zip(kinds, draws, strict=True):
                kind.__call__ = draw


@contextmanager
def _assignments() -> Iterator[dict[int, keras.Variable]]:
    """Inside, the variables that are assigned to are collected, by their ids."""
    assigned: dict[int, keras.Variable] = {}

    def noted(self: Any, value: Any) -> Any:
        # While a layer is traced nothing is assigned yet.
        if not in_stateless_scope():
            assigned[id(self)] = self
        return assign(self, value)

    with _building:
        assign = Variable.assign
        Variable.assign = noted
        try:
            yield assigned
        finally:
            Variable.assign = assign


@dataclass(frozen=True)
class _Draw:
    """Values of a kernel that one generator fills, one draw after the other."""

    values: NDArray[np.float32]
    fill: Callable[[NDArray[np.float32], np.random.Generator], None]
    random: np.random.Generator

    def __call__(self) -> None:
        self.fill(self.values, self.random)


def _draws_of(values: NDArray[np.float32], initializer: Initializer, seed: int, name: str) -> list[_Draw]:
    flat, fill = values.reshape(-1), fill_of(initializer, values.shape)
    names = [name] + [f"{name}/{number}" for number in range(1, -(-flat.size // STRIPE))]
    return [
        _Draw(flat[number * STRIPE : (number + 1) * STRIPE], fill, random_for(seed, its_name))
        for number, its_name in enumerate(names)
    ]


def _carry_out(draws: Sequence[_Draw]) -> None:
    """Large ones on all cores, as NumPy draws without Python's lock; small ones would wait for that lock alone."""
    with ThreadPoolExecutor(max_workers=usable_cores(), thread_name_prefix="draw") as pool:
        for _ in pool.map(lambda draw: draw(), [draw for draw in draws if draw.values.size >= SHARED]):
            pass
    for draw in draws:
        if draw.values.size < SHARED:
            draw()


def _is_drawn_here(initializer: object) -> TypeGuard[Initializer]:
    """Whether it is one of Keras's, or inherits how they draw; somebody's own draw is left as it is."""
    return any(isinstance(initializer, kind) and type(initializer).__call__ is kind.__call__ for kind in DRAWN)


def _memory_of(variable: keras.Variable) -> NDArray[np.float32] | None:
    """A variable's own memory, to draw into it without a copy; None where NumPy can't write there."""
    if keras.backend.backend() != "torch":
        return None
    tensor: Any = variable.value.detach()
    reachable = tensor.device.type == "cpu" and tensor.is_contiguous() and str(tensor.dtype) == "torch.float32"
    return tensor.numpy() if reachable else None


def fill_of(
    initializer: Initializer, shape: Sequence[int]
) -> Callable[[NDArray[np.float32], np.random.Generator], None]:
    """What fills a kernel of this shape from an initializer's distribution, as Keras defines it.

    Var W = scale / n, n the inputs of a unit (``fan_in``), its outputs, or their mean (``fan_avg``): 1 / fan_avg by
    Glorot and Bengio (2010), 2 / fan_in by He et al. (2015), 1 / fan_in by LeCun et al. (1998). Keras's normal
    distributions are cut at two deviations and widened to keep the variance; PyTorch's ``kaiming_normal_`` isn't cut.
    """
    if isinstance(initializer, keras.initializers.RandomNormal):
        return partial(fill_normal, initializer.stddev, mean=initializer.mean)
    receptive = math.prod(shape[:-2])
    fan_in, fan_out = (shape[-2] * receptive, shape[-1] * receptive) if len(shape) > 1 else (shape[0], shape[0])
    n = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[initializer.mode]
    deviation = math.sqrt(initializer.scale / max(1.0, n))
    if initializer.distribution == "uniform":
        return partial(_fill_uniform, math.sqrt(3) * deviation)
    if initializer.distribution == "untruncated_normal":
        return partial(fill_normal, deviation)
    return partial(fill_normal, deviation / TRUNCATED_DEVIATION, cut=2.0)


def _fill_uniform(limit: float, values: NDArray[np.float32], random: np.random.Generator) -> None:
    for piece in _pieces(values):
        piece[:] = random.uniform(-limit, limit, size=piece.size)


def fill_normal(
    deviation: float,
    values: NDArray[np.float32],
    random: np.random.Generator,
    *,
    mean: float = 0.0,
    cut: float = math.inf,
) -> None:
    """Normal values; of those beyond ``cut`` deviations there are none."""
    quantiles = _normal_quantiles(cut) * np.float32(deviation) + np.float32(mean)
    for piece in _pieces(values):
        bits = random.bit_generator.random_raw(-(-piece.size // 4)).astype("<u8", copy=False).view("<u2")
        # "wrap" is the way of `take` that has no check of its own, and 16 bits always lie in the table.
        np.take(quantiles, bits[: piece.size], out=piece, mode="wrap")


@cache
def _normal_quantiles(cut: float) -> NDArray[np.float32]:
    """Middles of equally likely parts of the standard normal distribution between -cut and cut, from the lowest."""
    normal = NormalDist()
    lowest = normal.cdf(-cut)
    parts = lowest + (0.5 - lowest) * (np.arange(QUANTILES // 2) + 0.5) / (QUANTILES // 2)
    below = np.array([normal.inv_cdf(part) for part in parts.tolist()], np.float32)
    return np.concatenate([below, -below[::-1]])


def _pieces(values: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    return (values[start : start + PIECE] for start in range(0, values.size, PIECE))


def random_for(seed: int, name: str) -> np.random.Generator:
    """A generator of its own for each name, the same on every machine."""
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, key])))


def _innermost_layers(model: keras.Model) -> list[keras.layers.Layer]:
    return [
        layer for layer in model._flatten_layers(include_self=False) if not layer._flatten_layers(include_self=False)
    ]


def _initializer(layer: keras.layers.Layer, variable_name: str) -> object | None:
    """The initializer behind a variable: Keras names the attribute after the variable, but for the separable ones."""
    names = [variable_name, variable_name.removesuffix("_kernel")] + ["depthwise"] * (variable_name == "kernel")
    found = (getattr(layer, f"{name}_initializer", None) for name in names)
    return next((initializer for initializer in found if initializer is not None), None)
