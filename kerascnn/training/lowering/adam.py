"""Which optimizers a backend's fused Adam may stand in for."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import keras


def plain_adam(optimizer: keras.optimizers.Optimizer, kinds: Collection[type]) -> Any | None:
    """The optimizer, or the one inside its loss scaling, if it is of these kinds and as the paper has it; else None."""
    adam: Any = getattr(optimizer, "inner_optimizer", optimizer)
    if type(adam) not in kinds or adam.amsgrad or adam.gradient_accumulation_steps:
        return None
    return adam
