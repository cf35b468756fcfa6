"""``sostenuto-studio evaluate``: how well an ear hears, and what goes wrong where.

On real recordings, on rendered segments (with curves of what the ear can bear), or on anybody's
MIDI against a reference. Basic Pitch is measured on the same sound in the same call where it is
installed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from edge.ear import DEFAULT_MODEL
from edge.errors import InputError, UsageError
from edge.midi import read_midi
from training.evaluation import NoteScores, mean_scores, score_notes
from training.hearing import (
    Hearing,
    Recording,
    RestrikeShare,
    hear,
    recordings_in,
    rendered_in,
    restrikes_by_rate,
    summary,
)
from training.peers import BASIC_PITCH, HOW_TO_GET_IT, basic_pitch_hears, has_basic_pitch

Points = list[tuple[float, NoteScores]]

HEADER = (
    "",
    "precision",
    "recall",
    "onset F1",
    "with offsets",
    "velocity",
    "levelled",
    "re-strikes",
)
NOTHING = "–"
WHAT_COUNTS = (
    "A note is found within 50 ms of its onset; with offsets, its key is let go within 50 ms or a "
    "fifth of its length (mir_eval). Velocity: mean absolute error over the notes found, in MIDI "
    "steps. Re-strikes: share found of the notes whose key was struck less than 0.25 s before. "
    "Figures are means over files; re-strikes are counted together."
)

_to_people = Console(stderr=True)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All that one call found: hearings by ear, ours first, and curves by name."""

    hearings: Mapping[str, Sequence[Hearing]]
    curves: Mapping[tuple[str, str], Points] = field(default_factory=dict)

    @property
    def ours(self) -> Sequence[Hearing]:
        return next(iter(self.hearings.values()))

    @property
    def restrikes(self) -> list[RestrikeShare]:
        return restrikes_by_rate(self.ours)

    def document(self) -> dict[str, Any]:
        """For programs: ours at the top, others under ``peers``."""
        (ours, *others) = self.hearings
        made: dict[str, Any] = {"model": ours, **summary(self.hearings[ours])}
        made["peers"] = {ear: summary(self.hearings[ear]) for ear in others}
        if self.restrikes:
            made["restrikes_by_rate"] = [asdict(share) for share in self.restrikes]
        if self.curves:
            made["curves"] = {
                name: {"unit": unit, "points": [{"step": s, **asdict(x)} for s, x in points]}
                for (name, unit), points in self.curves.items()
            }
        return made


def evaluate_command(
    recordings: Annotated[
        Path | None, typer.Option(help="Folder of audio files with a MIDI of the same stem each.")
    ] = None,
    rendered: Annotated[
        Path | None, typer.Option(help="Folder that `sostenuto-studio render` wrote.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Installed model, path to a .tflite, or 'templates'.")
    ] = None,
    curves: Annotated[
        bool, typer.Option(help="With --rendered: dry segments noisier, in rooms, detuned, softer.")
    ] = False,
    report: Annotated[
        Path | None, typer.Option(help="Folder for a page with the worst passages as piano rolls.")
    ] = None,
    peers: Annotated[bool, typer.Option(help="Measure Basic Pitch beside it.")] = True,
    reference: Annotated[Path | None, typer.Option(help="Folder of MIDI: what was played.")] = None,
    estimate: Annotated[Path | None, typer.Option(help="Folder of MIDI: what was heard.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Score an ear on recordings or rendered segments, or anyone's MIDI against a reference.

    Notes count as found within 50 ms of their onset; with offsets, when their key is let go within
    50 ms or a fifth of their length (mir_eval). Figures are means over files.
    """
    midi = reference is not None and estimate is not None
    if (recordings is not None) + (rendered is not None) + midi != 1 or (reference is None) == midi:
        raise UsageError("give --recordings DIR, or --rendered DIR, or --reference and --estimate")
    if curves and rendered is None:
        raise UsageError("--curves begin from dry rendered segments: give --rendered DIR")
    if reference is not None and estimate is not None:
        if report is not None:
            raise UsageError("--report shows what an ear heard: give --recordings or --rendered")
        _tell_midi(_scores_of_midi(reference, estimate), as_json)
        return
    found = _evaluation(
        recordings_in(recordings) if recordings is not None else rendered_in(rendered or Path()),
        model,
        with_peers=peers,
        with_curves=curves,
    )
    if as_json:
        typer.echo(json.dumps(found.document(), indent=1))
    else:
        for table in _tables(found, files=recordings is not None):
            Console().print(table)
        Console().print(_cost_line(found), highlight=False)
    if report is not None:
        _to_people.print(f"report: {_write_report(found, report)}", highlight=False)


def _evaluation(
    recordings: Sequence[Recording], model: str | None, *, with_peers: bool, with_curves: bool
) -> Evaluation:
    count = len(recordings)
    ours = model or DEFAULT_MODEL
    hearings = {ours: list(_watched(hear(model, recordings), count, ours))}
    if with_peers and has_basic_pitch():
        hearings[BASIC_PITCH] = list(_watched(basic_pitch_hears(recordings), count, BASIC_PITCH))
    elif with_peers:
        _to_people.print(HOW_TO_GET_IT)
    return Evaluation(hearings, _curves(recordings, model) if with_curves else {})


def _watched(hearings: Iterator[Hearing], count: int, ear: str) -> Iterable[Hearing]:
    with Progress(console=_to_people) as bar:
        yield from bar.track(hearings, total=count, description=f"listening: {ear}")


def _curves(recordings: Sequence[Recording], model: str | None) -> dict[tuple[str, str], Points]:
    from training.robustness import CURVES, curve, dry_pieces

    pieces = dry_pieces(recordings)
    drawn = {}
    with Progress(console=_to_people) as bar:
        for one in CURVES:
            steps = bar.track(
                curve(one, pieces, model), total=len(one.steps), description=f"curve: {one.name}"
            )
            drawn[(one.name, one.unit)] = list(steps)
    return drawn


def _scores_of_midi(reference: Path, estimate: Path) -> dict[str, NoteScores]:
    played = sorted(reference.glob("*.mid"))
    if not played:
        raise InputError(f"no .mid in {reference}")
    scores = {}
    for path in played:
        if not (estimate / path.name).exists():
            raise InputError(f"{estimate} has no {path.name}: every reference needs its estimate")
        heard = read_midi(estimate / path.name).notes
        scores[path.stem] = score_notes(read_midi(path).notes, heard)
    return scores


def _tell_midi(scores: dict[str, NoteScores], as_json: bool) -> None:
    mean = mean_scores(list(scores.values()))
    if as_json:
        files = {name: asdict(found) for name, found in scores.items()}
        typer.echo(json.dumps({"mean": asdict(mean), "files": files}, indent=1))
    else:
        rows = [(name, *figures(found)) for name, found in scores.items()]
        Console().print(_table(HEADER, rows, [("mean", *figures(mean))]))


def figures(found: NoteScores) -> list[str]:
    """A row of scores as they are written."""
    shares = (found.precision, found.recall, found.f1, found.f1_with_offsets)
    errors = (found.velocity_error, found.levelled_velocity_error)
    again = found.restrike_recall
    return [
        *(f"{share:.3f}" for share in shares),
        *(NOTHING if error is None else f"{error:.1f}" for error in errors),
        NOTHING if again is None else f"{again:.3f}",
    ]


def _files(found: Evaluation) -> list[list[str]]:
    return [[one.recording.name, *figures(one.scores)] for one in found.ours]


def _means(found: Evaluation) -> list[list[str]]:
    """Each ear: the mean, and that of each group."""
    rows = []
    for ear, hearings in found.hearings.items():
        told = summary(hearings)
        rows.append([ear, *figures(NoteScores(**told["mean"]))])
        rows += [[f"  {g}", *figures(NoteScores(**s))] for g, s in told["groups"].items()]
    return rows


def _restrikes(found: Evaluation) -> tuple[list[str], list[list[str]]]:
    header = ["struck again, a second", "pedal up", "pedal down"]
    rates = dict.fromkeys((share.from_hz, share.to_hz) for share in found.restrikes)
    cells = {
        (s.from_hz, s.to_hz, s.pedal_down): f"{s.found / s.count:.3f} of {s.count}"
        for s in found.restrikes
    }
    rows = [
        [f"{a:g} to {b:g}", cells.get((a, b, False), NOTHING), cells.get((a, b, True), NOTHING)]
        for a, b in rates
    ]
    return header, rows


def _curve_rows(points: Points) -> list[list[str]]:
    return [[f"{step:g}", *figures(scores)] for step, scores in points]


def _cost_line(found: Evaluation) -> str:
    """CPU seconds for a second of sound, from the file to the notes, the median over files."""
    costs = {ear: summary(hearings)["cpu_s_per_s"] for ear, hearings in found.hearings.items()}
    told = ", ".join(f"{ear} {cost:.4f}" for ear, cost in costs.items())
    line = f"CPU seconds for a second of sound, file to notes, median over files: {told}"
    (ours, *others) = costs.values()
    return line + "".join(f"; {ours / other:.2f} of its time" for other in others)


def _table(
    header: Sequence[str], rows: Sequence[Sequence[str]], last: Sequence[Sequence[str]] = ()
) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for number, name in enumerate(header):
        table.add_column(name, justify="right" if number else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    if rows and last:
        table.add_section()
    for row in last:
        table.add_row(*row)
    return table


def _tables(found: Evaluation, *, files: bool) -> Iterator[Table]:
    yield _table(HEADER, _files(found) if files else [], _means(found))
    if found.restrikes:
        yield _table(*_restrikes(found))
    for (name, unit), points in found.curves.items():
        yield _table((f"{name}: {unit}", *HEADER[1:]), _curve_rows(points))


def _write_report(found: Evaluation, folder: Path) -> Path:
    from training import report

    sections = [
        ("Means", f"<p>{WHAT_COUNTS}</p>" + report.html_table(HEADER, _means(found))),
        ("Cost", f"<p>{_cost_line(found)}.</p>"),
    ]
    if found.restrikes:
        sections.append(("Re-strikes", report.html_table(*_restrikes(found))))
    if found.curves:
        charts = [report.curve_chart(*named, points) for named, points in found.curves.items()]
        told = "<p>The same dry pieces at every step. Grey: precision; dashed: recall.</p>"
        sections.append(("Curves", f'{told}<div class="curves">{"".join(charts)}</div>'))
    sections += [
        ("Worst passages", report.passages(found.ours)),
        ("Files", report.html_table(HEADER, _files(found))),
    ]
    title = f"What {next(iter(found.hearings))} hears in {len(found.ours)} recordings"
    page = report.write_page(folder, title, sections)
    figures_of_all = json.dumps(found.document(), indent=1)
    (folder / "figures.json").write_text(figures_of_all + "\n", encoding="utf-8")
    return page
