"""``kerascnn bench``: how fast networks train here, and how fast beside the same written by hand."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import typer

from kerascnn.bench.figures import report
from kerascnn.bench.measuring import Variant, measure
from kerascnn.bench.twins import BENCHED, CHANNELS_FIRST, CHANNELS_LAST, TF_FUNCTION, TF_FUNCTION_XLA
from kerascnn.catalog import load_recipe
from kerascnn.cli.options import Catalog, Device
from kerascnn.cli.output import print_json, print_table, say, stderr
from kerascnn.errors import UnknownNameError, UsageError, nearest
from kerascnn.machine import machine
from kerascnn.recipe import FAMILIES, Recipe
from kerascnn.training.backend import check_device, choose_backend
from kerascnn.wording import whole_percent

REFERENCES = ("plain", "allocator")

Models = Annotated[list[str] | None, typer.Argument(metavar="[MODEL]...", help=f"By default {', '.join(BENCHED)}.")]
Backends = Annotated[list[str] | None, typer.Option(help="torch, tensorflow or jax; can be given more than once.")]
Against = Annotated[
    list[str] | None,
    typer.Option(
        help="plain: the same network written by hand in PyTorch (both layouts) or, for the backend tensorflow, in "
        "TensorFlow (with XLA and without); allocator: torch without the setting."
    ),
]


def bench(
    models: Models = None,
    backend: Backends = None,
    against: Against = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="By default each recipe's own.")] = None,
    precision: Annotated[str | None, typer.Option(help="By default each recipe's own.")] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="Of steps that count, a network and variant.")] = 30.0,
    device: Device = "auto",
    catalog: Catalog = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, every block in it.")] = False,
) -> None:
    """How fast networks train here: each variant in its own process, blocks of their steps in turn."""
    check_device(device)
    references = _references(against or [])
    names = models or list(BENCHED)
    asked = {"train.batch_size": batch_size, "train.precision": precision}
    changes = {key: value for key, value in asked.items() if value is not None}
    recipes = [load_recipe(name, changes, catalog=catalog) for name in names]
    variants = make_variants(backend or [], references)
    for library in {variant.backend for variant in variants if variant.kind != "kerascnn"}:
        for recipe in recipes:
            check_by_hand(library, recipe)
    reports = []
    for recipe in recipes:
        with _status() as tell:
            found = report(recipe, measure(recipe, variants, seconds, device, tell))
        reports.append(found)
        if not as_json:
            _print(found)
    if as_json:
        print_json({"machine": machine(), "seconds": seconds, "models": reports})


def _references(asked: list[str]) -> list[str]:
    for name in asked:
        if name not in REFERENCES:
            raise UnknownNameError(
                f"--against: expected {' or '.join(REFERENCES)}, got {name!r}{nearest(name, REFERENCES)}"
            )
    return asked


def make_variants(backends: list[str], references: list[str]) -> list[Variant]:
    """What to measure: kerascnn on each backend, and what each of them is held against.

    Raises:
        UnknownNameError, BackendError: a backend doesn't exist or isn't installed.
        UsageError: there is nothing to hold against.
    """
    names = list(dict.fromkeys(choose_backend(name).name for name in backends or [None]))  # type: ignore[list-item]
    if "allocator" in references and "torch" not in names:
        raise UsageError(f"--against allocator: expected torch, whose setting it is, got {', '.join(names)}")
    by_hand = {name: _by_hand("tensorflow" if name == "tensorflow" else "torch") for name in names}
    plain = list(dict.fromkeys(itertools.chain(*by_hand.values()))) if "plain" in references else []
    variants = []
    for name in names:
        own = f"{name}, default allocator"
        held_against = [variant.name for variant in plain if variant in by_hand[name]]
        if "allocator" in references and name == "torch":
            variants.append(Variant(own, "kerascnn", name, default_allocator=True, against=tuple(held_against)))
            held_against.append(own)
        variants.append(Variant(name, "kerascnn", name, against=tuple(held_against)))
    for variant in plain:
        choose_backend(variant.backend, "--against plain")
    return [*plain, *variants]


def check_by_hand(library: str, recipe: Recipe) -> None:
    """Whether this network is written by hand in a library.

    Raises:
        UsageError: it isn't, or not in its precision.
    """
    if library != "tensorflow" and recipe.builder not in FAMILIES:
        raise UsageError(
            f"--against plain: expected a network of a builder that is written by hand in PyTorch too, "
            f"{', '.join(FAMILIES)}, got {recipe.builder!r} for {recipe.name}"
        )
    if library == "tensorflow" and recipe.name not in BENCHED:
        raise UsageError(
            f"--against plain: expected networks that are written by hand in TensorFlow too, {', '.join(BENCHED)}, "
            f"got {recipe.name!r}{nearest(recipe.name, BENCHED)}"
        )
    if library == "tensorflow" and not _is_shipped(recipe):
        raise UsageError(
            f"--against plain: expected {recipe.name} as it is in the zoo, which is written by hand in TensorFlow; "
            "the catalog's is another network"
        )
    if library == "tensorflow" and recipe.train.precision != "float32":
        raise UsageError(
            f"--against plain: expected float32, as the networks written in TensorFlow have it, got "
            f"{recipe.train.precision} for {recipe.name}"
        )


def _is_shipped(recipe: Recipe) -> bool:
    """Whether a catalog of one's own leaves the network as it is in the zoo."""
    shipped = load_recipe(recipe.name)
    return (recipe.network(), recipe.input_shape) == (shipped.network(), shipped.input_shape)


def _by_hand(library: str) -> list[Variant]:
    """The two ways in which a network is written by hand; the second is held against the first."""
    if library == "tensorflow":
        return [
            Variant(TF_FUNCTION, "tf_function", library),
            Variant(TF_FUNCTION_XLA, "tf_function_xla", library, against=(TF_FUNCTION,)),
        ]
    return [
        Variant(CHANNELS_FIRST, "channels_first", library),
        Variant(CHANNELS_LAST, "channels_last", library, against=(CHANNELS_FIRST,)),
    ]


@contextlib.contextmanager
def _status() -> Iterator[Callable[[str], None]]:
    """On a terminal one line that says what is going on; elsewhere a line each."""
    console = stderr()
    if not console.is_terminal:
        yield say
        return
    with console.status("starting") as status:
        yield status.update


def _print(found: dict[str, Any]) -> None:
    """One network's variants, under its name."""
    references = list(dict.fromkeys(name for variant in found["variants"] for name in variant["ratios"]))
    how = str(found["batch_size"]) + (f", {found['precision']}" if found["precision"] != "float32" else "")
    columns = [(f"{found['model']} ({how})", "left"), ("images/s", "right")]
    columns += [(f"over {name}", "right") for name in references]
    columns += [("of peak", "right"), ("first step", "right"), ("memory", "right")]
    rows = []
    for variant in found["variants"]:
        share = variant["share_of_peak"]
        row = [variant["variant"], f"{variant['images_per_s']['median']:,.0f}"]
        row += [_ratio(variant["ratios"].get(name)) for name in references]
        row += ["–" if share is None else whole_percent(share), f"{variant['to_first_step_s']:.1f} s"]
        rows.append([*row, f"{variant['peak_memory_bytes'] / 1e9:.2f} GB"])
    print_table(columns, rows)
    say(f"the peak is a product of float32 matrices here: {found['product_flops'] / 1e9:,.0f} GFLOP/s")


def _ratio(found: dict[str, float] | None) -> str:
    return "–" if found is None else f"{found['median']:.2f} ({found['low']:.2f}–{found['high']:.2f})"
