"""``kerascnn data``: what lies where, and prefetching."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from kerascnn.cli.options import is_followed
from kerascnn.cli.output import print_json, print_table, say
from kerascnn.data import fetch as fetching
from kerascnn.data import locate
from kerascnn.data.dataset import folder_size
from kerascnn.data.known import DATASETS, KnownDataset, known_dataset

app = typer.Typer(help="List the datasets and where they lie; fetch one.", invoke_without_command=True)

DataDir = Annotated[Path | None, typer.Option("--data-dir", help="A folder to look into first.")]


@app.callback()
def data(
    context: typer.Context,
    data_dir: DataDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the datasets, and where each lies on this machine."""
    if is_followed(context):
        return
    rows = [_row(dataset, data_dir) for dataset in DATASETS.values()]
    if as_json:
        print_json(rows)
        return
    columns = [
        ("dataset", "left"),
        ("images", "right"),
        ("shape", "left"),
        ("licence", "wrapped"),
        ("where", "wrapped"),
    ]
    print_table(
        columns,
        [
            [
                row["name"],
                f"{row['train_images']:,} + {row['test_images']:,}",
                "×".join(map(str, row["shape"])),
                row["licence"],
                _where(row),
            ]
            for row in rows
        ],
    )
    say("and any folder of images: --dataset folder:PATH")


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="A dataset's name.")],
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="Where to put it; else $KERASCNN_DATA, else the cache.")
    ] = None,
) -> None:
    """Download a dataset, unless it is here already, be it as its archive.

    With --data-dir it is there in the end: copied, where it lies elsewhere on this machine.
    """
    dataset = known_dataset(name)
    everywhere = locate.search_places(None)
    wanted = everywhere if data_dir is None else [(locate.DATA_DIR, data_dir)]
    if (found := locate.find_in(wanted, dataset)) is not None:
        say(f"{name} is here already ({found.source})")
        typer.echo(found.path)
    elif data_dir is not None and (found := locate.find_in(everywhere, dataset)) is not None:
        say(f"{name}: copying {found.path} ({found.source})")
        typer.echo(fetching.copy(dataset, found, data_dir))
    elif (archive := locate.find_archive_in([*wanted, *everywhere], dataset)) is not None:
        say(f"{name} is here already, as {archive.path} ({archive.source})")
        typer.echo(fetching.unpack(dataset, archive.path, data_dir))
    else:
        typer.echo(fetching.fetch(dataset, data_dir, report=say))


def _row(dataset: KnownDataset, data_dir: Path | None) -> dict[str, Any]:
    found = locate.find(dataset, data_dir) or locate.find_archive(dataset, data_dir)
    return {
        "name": dataset.name,
        "train_images": dataset.train_images,
        "test_images": dataset.test_images,
        "shape": list(dataset.shape),
        "classes": len(dataset.class_names) or 100,
        "licence": dataset.licence,
        "path": str(found.path) if found else None,
        "source": found.source if found else None,
        "bytes": folder_size(found.path) if found else None,
        "download_bytes": dataset.download_bytes,
    }


def _where(row: dict[str, Any]) -> str:
    if row["path"]:
        return f"{row['path']} ({row['source']})"
    return f"not here; {row['download_bytes'] / 1e6:.0f} MB to download"
