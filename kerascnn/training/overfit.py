"""Whether a network can memorise one small batch: the first thing to try with one that doesn't learn.

A network that can't learn a few images by heart can't learn many (Karpathy 2019, A recipe for training neural
networks). Importing this module imports no Keras; :func:`overfit` does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from kerascnn.data.dataset import Dataset, drawn_in_turn
from kerascnn.data.formats import Labels, Pixels
from kerascnn.data.known import DATASETS
from kerascnn.data.statistics import constants_of
from kerascnn.diagnosis.record import Chance
from kerascnn.errors import RunError, UsageError, is_out_of_memory
from kerascnn.recipe import AdamW, Augment, Constant, Recipe, WarmUp
from kerascnn.training import backend as backends
from kerascnn.training import session

if TYPE_CHECKING:
    from kerascnn.training.steps import Steps

Verdict = Literal["memorised", "stuck at chance", "learns, but hasn't memorised", "diverged"]
Tell = Callable[[str], None]
Watch = Callable[[int, float, float], None]

IMAGES = 16
STEPS = 500
# Memorised: every image right and the loss below this share of chance, so many steps running.
MEMORISED_LOSS = 0.05
MEMORISED_STEPS = 3
# Where a loss stands is its mean over so many last steps, in a short curve over its second half, for many a curve
# begins with a leap; it is at a level when it is within this share of it.
LAST_STEPS = 20
AT_LEVEL = 0.02
# A loss that ends so many times above both chance and its beginning has left for good.
DIVERGED = 2.0


@dataclass(frozen=True)
class Overfit:
    """What became of one batch.

    Losses are in nats, each from before its step; ``accuracy`` from 0 to 1, in training mode. ``chance`` is ln C, C the
    number of the network's classes, however few of them are in the batch. ``set_aside`` is what the recipe has against
    memorising and was left out.
    """

    verdict: Verdict
    steps: int
    loss: float
    accuracy: float
    chance: float
    images: int
    losses: tuple[float, ...]
    set_aside: tuple[str, ...] = ()

    @property
    def memorised(self) -> bool:
        """Whether the network told all images apart."""
        return self.verdict == "memorised"

    @property
    def in_words(self) -> str:
        """The verdict; where all images are right and it still isn't memorised, what is missing."""
        if self.verdict == "learns, but hasn't memorised" and self.accuracy == 1:
            surely = f"a loss below {MEMORISED_LOSS * self.chance:.3f}, {MEMORISED_STEPS} steps running"
            return f"learns, and isn't sure yet (memorised is {surely})"
        return self.verdict


def overfit(
    recipe: Recipe,
    *,
    images: int = IMAGES,
    steps: int = STEPS,
    options: session.Options | None = None,
    tell: Tell = lambda _: None,
    watch: Watch = lambda *_: None,
) -> Overfit:
    """Train a recipe's network on one small batch until it knows it by heart. No run is left.

    The network begins as in :func:`kerascnn.train`: first weights of the seed, scaling constants of the whole training
    split, optimizer, precision. Augmentation, dropout, noise, weight decay, label smoothing, schedule and warm-up
    are left out: they work against memorising.

    Args:
        recipe: from :func:`kerascnn.load_recipe`.
        images: how many, drawn from all over the training images, of each class in turn.
        steps: so many optimizer steps at the most.
        options: backend, device, execution, where data lies.
        tell: is told what a user should know.
        watch: called after each step with its number, its loss and its accuracy.

    Raises:
        UsageError: more images than there are, or no step; nothing has been loaded.
        DatasetError, BackendError: as in training.
        RunError: there isn't enough memory.
    """
    options = options or session.Options()
    _check_numbers(recipe, images, steps)
    choice, dataset = session.load(recipe, options, tell)
    pixels, labels = one_batch(dataset, images)
    backends.activate(choice.name, options.device)
    try:
        with backends.unrepeatable_told(tell):
            network_steps, set_aside = _build(recipe, dataset, options.execution, tell)
            return memorise(
                network_steps, pixels, labels, recipe.classes, most=steps, watch=watch, set_aside=tuple(set_aside)
            )
    except Exception as error:
        if is_out_of_memory(error):
            raise RunError(f"out of memory: try --images below {images}") from error
        raise


def one_batch(dataset: Dataset, images: int) -> tuple[Pixels, Labels]:
    """Some training images as they are, of each class in turn.

    Raises:
        UsageError: there are fewer.
    """
    if images > len(dataset.train):
        raise _too_many(images, len(dataset.train))
    chosen = drawn_in_turn(dataset.train.labels)[:images]
    return dataset.train.read(chosen), dataset.train.labels[chosen]


def memorise(
    network_steps: Steps,
    pixels: Pixels,
    labels: Labels,
    classes: int,
    *,
    most: int = STEPS,
    watch: Watch = lambda *_: None,
    set_aside: tuple[str, ...] = (),
) -> Overfit:
    """Train on one batch until it is memorised, ``most`` steps are done, or the loss is no number.

    Args:
        network_steps: the network's optimizer step, from :func:`kerascnn.training.steps.make_steps`.
        pixels: uint8 ``(images, height, width, channels)``.
        labels: int64 ``(images,)``.
        classes: how many the network tells apart.
        most: so many steps at the most.
        watch: called after each step with its number, its loss and its accuracy.
        set_aside: handed on to the result.
    """
    from keras import ops

    losses: list[float] = []
    accuracies: list[float] = []
    while len(losses) < most:
        loss, right, _ = network_steps.train(pixels, labels)
        losses.append(float(ops.convert_to_numpy(loss)))
        accuracies.append(int(ops.convert_to_numpy(right)) / len(labels))
        watch(len(losses), losses[-1], accuracies[-1])
        if not math.isfinite(losses[-1]) or is_memorised(losses, accuracies, classes):
            break
    return Overfit(
        verdict=judge(losses, accuracies, labels, classes),
        steps=len(losses),
        loss=losses[-1],
        accuracy=accuracies[-1],
        chance=math.log(classes),
        images=len(labels),
        losses=tuple(losses),
        set_aside=set_aside,
    )


def is_memorised(losses: Sequence[float], accuracies: Sequence[float], classes: int) -> bool:
    """Whether the last steps had every image right, and surely so."""
    last = range(-MEMORISED_STEPS, 0)
    low = MEMORISED_LOSS * math.log(classes)
    return len(losses) >= MEMORISED_STEPS and all(losses[n] < low and accuracies[n] == 1 for n in last)


def judge(losses: Sequence[float], accuracies: Sequence[float], labels: Labels, classes: int) -> Verdict:
    """What a curve says.

    A network that ignores its images has two levels to be stuck at: chance, ln C, where all classes are equally likely,
    and the entropy of the batch's labels, where it has learnt how often each class comes.
    """
    chance = math.log(classes)
    loss = float(np.mean(losses[-max(1, min(LAST_STEPS, len(losses) // 2)) :]))
    if not math.isfinite(loss) or min(loss, losses[-1]) > DIVERGED * max(chance, losses[0]):
        return "diverged"
    if is_memorised(losses, accuracies, classes):
        return "memorised"
    frequencies = Chance.of_labels(labels, classes).loss
    if loss >= (1 - AT_LEVEL) * chance or abs(loss - frequencies) <= AT_LEVEL * frequencies:
        return "stuck at chance"
    return "learns, but hasn't memorised"


def _check_numbers(recipe: Recipe, images: int, steps: int) -> None:
    """What can be told before anything is loaded."""
    if images < 1:
        raise UsageError(f"--images: expected at least 1, got {images}")
    if steps < 1:
        raise UsageError(f"--steps: expected at least 1, got {steps}")
    known = DATASETS.get(recipe.dataset)
    limits = [known.train_images if known else None, recipe.train.limit_train]
    there = min((limit for limit in limits if limit is not None), default=images)
    if images > there:
        raise _too_many(images, there)


def _too_many(images: int, there: int) -> UsageError:
    return UsageError(f"--images: expected up to {there:,}, as many as there are for training, got {images:,}")


def _build(recipe: Recipe, dataset: Dataset, execution: str, tell: Tell) -> tuple[Steps, list[str]]:
    """The network's step as training makes it, but for what works against memorising, which is named."""
    from kerascnn.training.network import initial_model, make_network
    from kerascnn.training.randomness import turn_off

    recipe, set_aside = _without_obstacles(recipe)
    model = initial_model(recipe, constants_of(recipe, dataset), tell)
    set_aside += turn_off(model)
    if set_aside:
        tell(f"left out, as it works against memorising: {', '.join(set_aside)}")
    else:
        tell("the recipe has nothing that works against memorising, such as augmentation, dropout or weight decay")
    return make_network(model, recipe.train, execution).steps, set_aside


def _without_obstacles(recipe: Recipe) -> tuple[Recipe, list[str]]:
    train = recipe.train
    optimizer, decay = train.optimizer, train.weight_decay
    if isinstance(optimizer, AdamW):
        decay += optimizer.decoupled_weight_decay
        optimizer = optimizer.model_copy(update={"decoupled_weight_decay": 0.0})
    obstacles = {
        "augmentation": train.augment != Augment(),
        "weight decay": decay > 0,
        "label smoothing": train.label_smoothing > 0,
        f"the {train.schedule.name} schedule": train.schedule.name != "constant",
        "warm-up": train.warm_up.steps > 0,
    }
    without = {
        "optimizer": optimizer,
        "augment": Augment(),
        "weight_decay": 0.0,
        "label_smoothing": 0.0,
        "schedule": Constant(),
        "warm_up": WarmUp(),
    }
    changed = recipe.model_copy(update={"train": train.model_copy(update=without)})
    return changed, [name for name, there in obstacles.items() if there]
