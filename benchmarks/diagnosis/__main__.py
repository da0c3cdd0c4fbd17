"""How well ``kerascnn.diagnose`` tells networks that learn from those that don't, and whether it names the cause.

The networks are small, of plain Keras layers, and none is of the zoo. What is true of each is found by training it, on
two seeds, with Keras's own ``fit``; the diagnosis then sees a third seed. Half are for calibration; the other half is
held out: it is evaluated once, when the rules are final. Both lists go on where they were stopped.

    python -m benchmarks.diagnosis truth --part calibration --out DIR --data-dir CIFAR
    python -m benchmarks.diagnosis evaluate --part calibration --out DIR --data-dir CIFAR
    python -m benchmarks.diagnosis table --part calibration --out DIR

``repair`` is about ``kerascnn diagnose --fix``: recipes that don't learn, what it changes in them, whether they learn
then, and whether random remedies bring them back as often.

    python -m benchmarks.diagnosis repair-truth --part calibration --out DIR --data-dir CIFAR
    python -m benchmarks.diagnosis repair --part calibration --out DIR --data-dir CIFAR
    python -m benchmarks.diagnosis repair-table --part calibration --out DIR
    python -m benchmarks.diagnosis list
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.diagnosis.networks import NETWORKS, Network
from benchmarks.diagnosis.recipes import RECIPES, Broken
from benchmarks.diagnosis.repair_scores import is_fixable, judge_repairs, print_repair_table
from benchmarks.diagnosis.repairing import REPAIR_METHOD, find_recipe_truth, find_repair
from benchmarks.diagnosis.scores import judge, print_table
from benchmarks.diagnosis.training import BUDGET, METHOD, find_diagnosis, find_truth, rules_fingerprint

# What is found, of what, and by which function.
FIND: dict[str, Callable[[Any, Path | None], dict[str, Any]]] = {
    "truth": find_truth,
    "evaluate": find_diagnosis,
    "repair-truth": find_recipe_truth,
    "repair": find_repair,
}


def work_through(asked: argparse.Namespace) -> int:
    """Find what is asked of each network that has no record yet. Returns how many failed."""
    file = asked.out / f"{asked.what}-{asked.backend}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    done = {record["name"] for record in current(read_records(file))}
    waiting = [network for network in chosen_networks(asked) if network.name not in done]
    if asked.what == "evaluate":
        truths = {r["name"]: r["truth"] for r in current(read_records(asked.out / f"truth-{asked.backend}.jsonl"))}
        waiting = [network for network in waiting if truths.get(network.name) in ("learns", "does not learn")]
    elif asked.what == "repair":
        truths = current(read_records(asked.out / f"repair-truth-{asked.backend}.jsonl"))
        fixable = {one["name"] for one in truths if is_fixable(one)}
        waiting = [recipe for recipe in waiting if recipe.name in fixable]
    failed = 0
    with ThreadPoolExecutor(asked.jobs) as pool, file.open("a", encoding="utf-8") as out:
        for number, (network, record) in enumerate(pool.map(lambda one: (one, in_a_process(one, asked)), waiting), 1):
            failed += record is None
            if record is not None:
                out.write(json.dumps(record) + "\n")
                out.flush()
                print(f"{number}/{len(waiting)} {network.name}: {in_brief(record)}", flush=True)
    return failed


def in_a_process(network: Network | Broken, asked: argparse.Namespace) -> dict[str, Any] | None:
    """The record of one network, from a process of its own: Keras keeps memory of what it trained."""
    command = [sys.executable, "-m", "benchmarks.diagnosis", asked.what, "--part", network.part]
    command += ["--network", network.name, "--backend", asked.backend]
    command += ["--data-dir", str(asked.data_dir)] if asked.data_dir else []
    # One thread: networks this small gain nothing from a second, and wait for it where the machine is busy.
    finished = subprocess.run(
        command, capture_output=True, text=True, check=False, env={"OMP_NUM_THREADS": "1", **os.environ}
    )
    if finished.returncode:
        print(f"{network.name}: exit code {finished.returncode}\n{finished.stderr[-2000:]}", file=sys.stderr)
        return None
    record: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    return record


def alone(network: Network | Broken, asked: argparse.Namespace) -> dict[str, Any]:
    """What is asked of one network, in this process."""
    from kerascnn.training.backend import activate, thread_count, versions

    activate(asked.backend, "cpu")
    os.environ["KERAS_BACKEND"] = asked.backend
    found = FIND[asked.what](network, asked.data_dir)
    return {
        "name": network.name,
        "part": network.part,
        **found,
        "command": f"python -m benchmarks.diagnosis {asked.what} --part {network.part} --backend {asked.backend} "
        f"--network '{network.name}'",
        "threads": thread_count(asked.backend),
        "versions": versions(asked.backend),
    }


def chosen_networks(asked: argparse.Namespace) -> list[Any]:
    """Those of a part, without those of a dataset that isn't there: recipes where a repair is asked for."""
    every: Sequence[Network | Broken] = RECIPES if asked.what.startswith("repair") else NETWORKS
    networks = [one for one in every if one.part == asked.part and (asked.data_dir or one.data != "cifar")]
    return sorted(networks, key=lambda one: one.place)


def read_records(file: Path) -> Iterator[dict[str, Any]]:
    """The records of a file; a line that a kill cut off is none."""
    if file.exists():
        text = file.read_text(encoding="utf-8")
        if not text.endswith("\n") and text:
            file.write_text(text[: text.rfind("\n") + 1], encoding="utf-8")
        yield from (json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n"))


def current(records: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those of today's networks that were found with today's budget or today's rules."""
    rules, names = rules_fingerprint(), {one.name for one in (*NETWORKS, *RECIPES)}
    return [
        one
        for one in records
        if one["name"] in names and one.get("budget", BUDGET) == BUDGET and one.get("rules", rules) == rules
    ]


def in_brief(record: dict[str, Any]) -> str:
    """A record as a line of progress."""
    if "fix" in record:
        fix, draws = record["fix"], [one["truth"] == "learns" for one in record["random"]]
        answer = f"{fix['truth']} with {fix['answer']}" if fix["answer"] else "no answer"
        return f"{answer}, {fix['steps']} steps; {sum(draws)} of {len(draws)} at random ({record['seconds']} s)"
    if "truth" in record:
        ends = ", ".join(f"loss {curve[-1][0]}, accuracy {curve[-1][1]}" for curve in record["curves"])
        known = f", {record['counterpart']} with the known change" if "counterpart" in record else ""
        return f"{record['truth']}{known} ({ends}; {record['seconds']} s)"
    told = ", ".join(f"{one['severity']} {one['rule']}" for one in record["findings"]) or "nothing"
    return f"{told} ({record['steps']} steps, loss {record['loss']}; {record['seconds']} s)"


def records_of_part(asked: argparse.Namespace, what: str) -> list[dict[str, Any]]:
    """What was found of one part on one backend, as far as it still holds."""
    records = current(read_records(asked.out / f"{what}-{asked.backend}.jsonl"))
    return [one for one in records if one["part"] == asked.part]


def heading(asked: argparse.Namespace, records: Sequence[dict[str, Any]]) -> str:
    """The part, the versions it was judged with, and the rules."""
    versions = ", ".join(f"{name} {version}" for name, version in records[-1]["versions"].items())
    return f"{asked.part} ({versions}; rules {rules_fingerprint()})"


def table(asked: argparse.Namespace) -> None:
    """Print the figures of one part on one backend."""
    truths, diagnoses = records_of_part(asked, "truth"), records_of_part(asked, "evaluate")
    judged = judge(truths, diagnoses)
    if not judged:
        raise SystemExit(f"expected records of the {asked.part} part in {asked.out}: run truth, then evaluate")
    left_out = Counter(one["truth"] for one in truths if one["truth"] in ("in between", "seeds disagree"))
    waiting = len(truths) - sum(left_out.values()) - len(judged)
    if waiting:
        left_out["not diagnosed yet"] = waiting
    trainings = [seconds for one in truths for seconds in one["seconds"]]
    print(f"{METHOD}\n")
    print_table(judged, left_out, trainings, heading(asked, diagnoses))


def repair_table(asked: argparse.Namespace) -> None:
    """Print how one part's recipes were repaired on one backend."""
    truths, repairs = records_of_part(asked, "repair-truth"), records_of_part(asked, "repair")
    judged = judge_repairs(truths, repairs)
    if not judged:
        raise SystemExit(f"expected records of the {asked.part} part in {asked.out}: run repair-truth, then repair")
    print(f"{METHOD}\n\n{REPAIR_METHOD}\n")
    print_repair_table(truths, judged, heading(asked, repairs))


def main() -> None:
    """Read the command line and carry it out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=[*FIND, "table", "repair-table", "list"])
    parser.add_argument("--part", choices=["calibration", "held-out", "later"], default="calibration")
    parser.add_argument("--backend", choices=["torch", "tensorflow", "jax"], default="torch")
    parser.add_argument("--out", type=Path, default=Path("diagnosis"), help="folder of the records")
    parser.add_argument("--data-dir", type=Path, help="where CIFAR-10 is; without it, its networks are left out")
    parser.add_argument("--jobs", type=int, default=1, help="networks at a time")
    parser.add_argument("--network", metavar="NAME", help="this one alone, its record on the standard output")
    asked = parser.parse_args()
    if asked.what == "list":
        for network in sorted(NETWORKS, key=lambda one: (one.part, one.place)):
            print(f"{network.part}\t{'fails' if network.fails else 'learns'}\t{network.name}")
        for recipe in sorted(RECIPES, key=lambda one: (one.part, one.place)):
            print(f"{recipe.part}\trecipe\t{recipe.name}")
    elif asked.what in ("table", "repair-table"):
        {"table": table, "repair-table": repair_table}[asked.what](asked)
    elif asked.network:
        # The part has to be named: a held-out network that is diagnosed by mistake is one no more.
        found = [network for network in chosen_networks(asked) if network.name == asked.network]
        if not found:
            raise SystemExit(f"--network: expected a {asked.part} network out of `list`, got {asked.network!r}")
        print(json.dumps(alone(found[0], asked)))
    elif failed := work_through(asked):
        raise SystemExit(f"{failed} networks failed")


if __name__ == "__main__":
    main()
