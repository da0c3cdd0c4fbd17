"""Whether a network that stays at chance can learn one small batch by heart: what tells the network from its task.

If it can, the network and its gradients work, and the suspicion falls on labels, learning rate and budget. If it can't,
it falls on the network itself: architecture, initialisation, or again the rate.
"""

from __future__ import annotations

from typing import Any

import keras

from kerascnn.data.dataset import drawn_in_turn
from kerascnn.data.formats import Labels, Pixels
from kerascnn.recipe import Train
from kerascnn.training.overfit import IMAGES, Overfit, Watch, memorise
from kerascnn.training.randomness import turn_off
from kerascnn.training.steps import make_steps

# Of 16 images each: with a loss at chance, little beside the short run before them.
STEPS = 200


def memorise_a_few(
    network: keras.Model, optimizer: keras.optimizers.Optimizer, images: Pixels, labels: Labels, watch: Watch
) -> Overfit:
    """Train a copy of a network on a few of the images, of each class in turn, without what works against it.

    Args:
        network: ends in logits; it and the optimizer belong to nobody else and are changed.
        optimizer: with the training's first learning rate, not built yet.
        images: what the network takes.
        labels: integers from 0.
        watch: called after each step with its number, its loss and its accuracy.
    """
    turn_off(network)
    # Under loss scaling the optimizer that decays is inside.
    inner: Any = getattr(optimizer, "inner_optimizer", optimizer)
    inner.weight_decay = None
    optimizer.build(network.trainable_variables)
    chosen = drawn_in_turn(labels)[:IMAGES]
    steps = make_steps(network, optimizer, Train(), pixels=images.dtype.name)
    classes = int(network.outputs[0].shape[1])
    return memorise(steps, images[chosen], labels[chosen], classes, most=STEPS, watch=watch)
