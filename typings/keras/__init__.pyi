# What kerascnn uses of Keras, typed: Keras ships no type information. Everything else is unknown on purpose.
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, overload

from keras import activations as activations
from keras import backend as backend
from keras import config as config
from keras import initializers as initializers
from keras import layers as layers
from keras import losses as losses
from keras import mixed_precision as mixed_precision
from keras import models as models
from keras import ops as ops
from keras import optimizers as optimizers
from keras import tree as tree
from keras import utils as utils

class KerasTensor:
    # The batch alone is unknown; what kerascnn reads are the sizes after it.
    shape: tuple[int, ...]
    dtype: str

class Variable:
    name: str
    path: str
    shape: tuple[int, ...]
    value: Any
    _value: Any
    trainable: bool
    def assign(self, value: Any) -> Any: ...
    def __rmul__(self, other: Any) -> Any: ...

class Model(layers.Layer):
    def __init__(
        self,
        inputs: KerasTensor | Sequence[KerasTensor],
        outputs: KerasTensor | Sequence[KerasTensor],
        name: str | None = ...,
    ) -> None: ...
    inputs: list[KerasTensor]
    outputs: list[KerasTensor]
    built: bool
    losses: list[Any]
    layers: list[layers.Layer]
    _nodes_by_depth: dict[int, list[Any]]
    variables: list[Variable]
    weights: list[Variable]
    trainable_variables: list[Variable]
    non_trainable_variables: list[Variable]
    input_shape: tuple[int, ...]
    output_shape: tuple[int | None, ...]
    def build(self, input_shape: Sequence[int | None]) -> None: ...
    def __call__(self, x: Any, training: bool = ...) -> Any: ...
    def set_weights(self, weights: list[Any]) -> None: ...
    def save(self, filepath: str | Path) -> None: ...
    def save_weights(self, filepath: str | Path) -> None: ...
    def load_weights(self, filepath: str | Path) -> None: ...
    def predict_on_batch(self, x: Any) -> Any: ...
    def zero_grad(self) -> None: ...
    @overload
    def stateless_call(
        self, trainable: list[Any], non_trainable: list[Any], x: Any, *, training: bool
    ) -> tuple[Any, list[Any]]: ...
    @overload
    def stateless_call(
        self, trainable: list[Any], non_trainable: list[Any], x: Any, *, training: bool, return_losses: Literal[True]
    ) -> tuple[Any, list[Any], list[Any]]: ...

class Sequential(Model): ...

class StatelessScope:
    def __init__(self, state_mapping: list[tuple[Variable, Any]]) -> None: ...
    def __enter__(self) -> StatelessScope: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None: ...

def Input(
    shape: Sequence[int] = ...,
    batch_shape: Sequence[int | None] = ...,
    dtype: str = ...,
    name: str | None = ...,
) -> KerasTensor: ...
