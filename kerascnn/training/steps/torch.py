"""Steps on torch, eager."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import torch
from keras.src.backend.torch.core import get_device
from torch.nn.functional import cross_entropy

from kerascnn.data.formats import Labels, Pixels
from kerascnn.errors import NotLoweredError
from kerascnn.recipe import Train
from kerascnn.training.lowering.torch.adam import fuse_adam
from kerascnn.training.lowering.torch.graph import lay_out, lower
from kerascnn.training.steps import decayed, has_penalties, may_add_losses


class TorchSteps:
    """See :class:`kerascnn.training.steps.Steps`."""

    execution = "keras"
    not_lowered = ""

    def __init__(
        self,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        train: Train,
        observed: Sequence[int],
        execution: str,
    ) -> None:
        """Lower the network unless ``execution`` is ``keras``.

        Raises:
            NotLoweredError: ``execution`` is ``lowered``, and the network can't be.
        """
        self._model = model
        self._compute: Callable[..., Any] = model
        self._adds_losses = may_add_losses(model)
        if execution != "keras":
            try:
                if has_penalties(model):
                    raise NotLoweredError("regularizers add to the loss as Keras calls the layers")
                self._compute, self.execution = lower(model), "lowered"
                lay_out((*model.variables, *optimizer.variables))
                fuse_adam(optimizer)
            except NotLoweredError as error:
                if execution == "lowered":
                    raise
                self.not_lowered = str(error)
        self._optimizer = optimizer
        self._train = train
        self._variables = model.trainable_variables
        self._observed = observed
        self._decayed = decayed(self._variables)
        self._device = get_device()

    def train(self, pixels: Pixels, labels: Labels, *, observe: bool = False) -> tuple[Any, Any, Any]:
        x, y = self._to_device(pixels, labels)
        # Before the forward pass, so that the last step's gradients aren't in memory beside its activations.
        for variable in self._variables:
            variable.value.grad = None
        logits = self._compute(x, training=True)
        loss = cross_entropy(_precise(logits), y, label_smoothing=self._train.label_smoothing)
        penalised = loss + sum(self._model.losses) if self._adds_losses else loss
        self._optimizer.scale_loss(penalised).backward()
        gradients = [variable.value.grad for variable in self._variables]
        with torch.no_grad():
            norms = self._norms(gradients) if observe else None
            self._add_weight_decay(gradients)
            self._optimizer.apply(gradients, self._variables)
            return loss.detach(), _count_right(logits, y), norms

    def evaluate(self, pixels: Pixels, labels: Labels) -> tuple[Any, Any]:
        x, y = self._to_device(pixels, labels)
        with torch.no_grad():
            logits = self._compute(x, training=False)
            return cross_entropy(_precise(logits), y), _count_right(logits, y)

    def _norms(self, gradients: list[Any]) -> Any:
        # The gradients are those of the scaled loss.
        nothing = torch.zeros((), device=self._device)
        # A kernel that the loss doesn't depend on has no gradient.
        wanted = [nothing if gradients[place] is None else gradients[place] for place in self._observed]
        norms = torch.stack(torch._foreach_norm(wanted))
        return norms / float(self._optimizer.scale_loss(1.0))

    def _add_weight_decay(self, gradients: list[Any]) -> None:
        if not self._train.weight_decay:
            return
        # The gradients are those of the scaled loss.
        decay = float(self._optimizer.scale_loss(self._train.weight_decay))
        pairs = [
            (gradient, variable.value)
            for gradient, variable, wanted in zip(gradients, self._variables, self._decayed, strict=True)
            if wanted and gradient is not None
        ]
        if pairs:
            torch._foreach_add_([gradient for gradient, _ in pairs], [kernel for _, kernel in pairs], alpha=decay)

    def _to_device(self, pixels: Pixels, labels: Labels) -> tuple[Any, Any]:
        return torch.from_numpy(pixels).to(self._device), torch.from_numpy(labels).to(self._device)


def _precise(logits: Any) -> Any:
    """In float32 at the least, which softmax needs."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _count_right(logits: Any, labels: Any) -> Any:
    return (logits.argmax(-1) == labels).sum()
