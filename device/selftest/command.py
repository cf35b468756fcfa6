"""`sostenuto-device selftest`: which checks are run, in which order, and how they are told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from device.selftest.hashes import check_catalogue, check_models, manifests_in
from device.selftest.known_answer import check_known_answer
from device.selftest.verdict import summed_up, verdict_of
from edge.cli import console
from edge.ear import DEFAULT_MODEL
from edge.errors import CatalogueError, ModelError
from edge.matching import Catalogue, default_catalogue_dir
from edge.messages import Check, SelfTest, Verdict
from edge.resources import models_dir

FAILED_EXIT = 1

Told = Callable[[str, float], None]
"""Is told what is being looked at, and which share of it is done."""


@dataclass(frozen=True, slots=True)
class Where:
    """What is tested: the folders of the models and of the catalogue's packs."""

    models: Path
    catalogue: Path


def known_answer_checks(where: Where, told: Told, *, every_model: bool) -> Iterator[Check]:
    """The hashes, and the known recording heard with every model, or only with the usual one."""
    yield check_models(where.models)
    yield check_catalogue(where.catalogue)
    try:
        manifests = manifests_in(where.models)
    except ModelError:
        return
    if not every_model:
        manifests = [path for path in manifests if path.stem == DEFAULT_MODEL] or manifests[:1]
    yield from check_known_answer(manifests, _catalogue(where.catalogue), told)


def run(*, known_answer: bool, models: Path | None, catalog: Path | None, json: bool) -> int:
    """Run the checks and tell of them; returns the exit code."""
    console.mute_libraries()
    where = Where(models or models_dir(), catalog or default_catalogue_dir())
    with progress() as told:
        found = summed_up(known_answer_checks(where, told, every_model=known_answer))
    if json:
        console.out(msgspec.json.encode(found).decode())
    else:
        show(found)
    return 0 if found.passed else FAILED_EXIT


def show(found: SelfTest) -> None:
    """The checks as a table, and one line that sums them up."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    colours = {Verdict.PASSED: "green", Verdict.FAILED: "red", Verdict.NOT_TRIED: "yellow"}
    table = Table(box=None, pad_edge=False)
    for heading in ("verdict", "check", "found"):
        table.add_column(heading, no_wrap=heading != "found")
    for check in found.checks:
        verdict = verdict_of(check)
        text = check.text if check.remedy is None else f"{check.text}\n→ {check.remedy}"
        word = verdict.value.replace("_", " ")
        table.add_row(Text(word, style=colours[verdict]), check.name, Text(text))
    screen = Console()
    screen.print(table)
    screen.print(Text(summary(found)))


def summary(found: SelfTest) -> str:
    """One line for people."""
    verdicts = [verdict_of(check) for check in found.checks]
    counted = [
        f"{verdicts.count(verdict)} {verdict.value.replace('_', ' ')}"
        for verdict in Verdict
        if verdict in verdicts
    ]
    word = "self-test passed" if found.passed else "self-test FAILED"
    return f"{word}: {', '.join(counted)}"


def _catalogue(folder: Path) -> Catalogue | None:
    try:
        return Catalogue.open(folder)
    except CatalogueError:
        return None


@contextmanager
def progress() -> Iterator[Told]:
    """A bar on standard error, where that is a screen; gone when all is done."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:.0f} %"))
    screen = Console(stderr=True)
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda what, share: bar.update(task, description=what, completed=share)
