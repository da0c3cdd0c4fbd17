"""Steps on JAX: pure functions of the variables, compiled, with the new values assigned back after each step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import keras

from kerascnn.data.formats import Labels, Pixels
from kerascnn.recipe import Train
from kerascnn.training.steps import count_right, cross_entropy, decayed

Values = list[Any]


class JaxSteps:
    """See :class:`kerascnn.training.steps.Steps`."""

    execution = "keras"
    not_lowered = ""

    def __init__(
        self, model: keras.Model, optimizer: keras.optimizers.Optimizer, train: Train, observed: Sequence[int]
    ) -> None:
        self._model = model
        self._optimizer = optimizer
        self._recipe = train
        self._observed = observed
        self._decayed = decayed(model.trainable_variables)
        self._train = jax.jit(self._pure_train)
        self._evaluate = jax.jit(self._pure_evaluate)

    def train(self, pixels: Pixels, labels: Labels, *, observe: bool = False) -> tuple[Any, Any, Any]:
        groups = (self._model.trainable_variables, self._model.non_trainable_variables, self._optimizer.variables)
        values = [[variable.value for variable in group] for group in groups]
        loss, right, norms, *new = self._train(*values, pixels, labels)
        for group, new_values in zip(groups, new, strict=True):
            for variable, value in zip(group, new_values, strict=True):
                variable.assign(value)
        return loss, right, norms

    def evaluate(self, pixels: Pixels, labels: Labels) -> tuple[Any, Any]:
        groups = (self._model.trainable_variables, self._model.non_trainable_variables)
        loss, right = self._evaluate(*([variable.value for variable in group] for group in groups), pixels, labels)
        return loss, right

    def _pure_train(self, trainable: Values, other: Values, optimizer: Values, x: Any, y: Any) -> tuple[Any, ...]:
        def scale(value: Any) -> Any:
            with keras.StatelessScope(state_mapping=list(zip(self._optimizer.variables, optimizer, strict=True))):
                return self._optimizer.scale_loss(value)

        def scaled_loss(trainable: Values) -> tuple[Any, tuple[Any, Any, Values]]:
            logits, new_other, penalties = self._model.stateless_call(
                trainable, other, x, training=True, return_losses=True
            )
            loss = cross_entropy(y, logits, self._recipe.label_smoothing)
            return scale(loss + sum(penalties)), (loss, logits, new_other)

        gradients, (loss, logits, new_other) = jax.grad(scaled_loss, has_aux=True)(trainable)
        norms = [jax.numpy.linalg.norm(gradients[place].ravel()) / scale(1.0) for place in self._observed]
        if self._recipe.weight_decay:
            decay = scale(self._recipe.weight_decay)
            gradients = [
                gradient + decay * value if wanted else gradient
                for gradient, value, wanted in zip(gradients, trainable, self._decayed, strict=True)
            ]
        new_trainable, new_optimizer = self._optimizer.stateless_apply(optimizer, gradients, trainable)
        return loss, count_right(y, logits), jax.numpy.asarray(norms), new_trainable, new_other, new_optimizer

    def _pure_evaluate(self, trainable: Values, other: Values, x: Any, y: Any) -> tuple[Any, Any]:
        logits, _ = self._model.stateless_call(trainable, other, x, training=False)
        return cross_entropy(y, logits, 0.0), count_right(y, logits)
