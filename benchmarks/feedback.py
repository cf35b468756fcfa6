"""Is the player told what went wrong, and nothing else? Mistakes put into human performances.

    python -m benchmarks.feedback [--performances 88] [--seed 1] [--json]
    python -m benchmarks.feedback --perturbed [--performances 60]

The 88 performances of ``vienna4x22``, whose match files tie every note to the score by hand.
Into each performance mistakes are put at random: 2 % of its notes left out, 2 % struck on a
wrong key (one to three semitones off), 2 % struck 150 ms early, 2 % as much late, and for 2 % a
note too many within a fifth, at any time before the next chord. *Recall* is the share of these
that were told as what they are, of the right note. *Told at all* allows any verdict on it.

A *false alarm* is any other verdict than right that answers to no mistake: neither to one put in,
nor to one of the pianists' own, which the match files name (notes they left out, notes they
added). Nobody wrote down where the pianists themselves were early or late, so every such
verdict on a note that was not moved counts as false, rubato or not. It is given per expected
note; *as played* is the same for the performances as they were, with nothing put in.

``--perturbed`` does the same on the CC BY scores that may train, played on paper: what the
thresholds of ``edge/practice`` were chosen on. ``--by-ear`` renders the performances
with fluidsynth and asks again through the installed note model, which says what the ear adds.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mido
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.perturbed import TRAINING, wandering
from benchmarks.places import EVALUATION, ROOT
from converters.catalogue import described_pieces, read_score
from edge.audio.file import AudioFile
from edge.following import FollowedScore
from edge.matching import Piece, Score
from edge.matching.score import Hand
from edge.note import HIGHEST_PITCH_MIDI, LOWEST_PITCH_MIDI, NoteEvent
from edge.practice import BarFeedback, ExpectedNotes, Finding, Verdict, practised
from edge.practice.verdict import TOLD_FROM
from edge.recogniser import Recogniser, load_recogniser
from edge.transcription import finished_notes

VIENNA = EVALUATION / "performances" / "vienna4x22.tar.xz"
CACHE = ROOT / ".cache" / "feedback"

SOUNDFONT = Path("/usr/share/sounds/sf2/TimGM6mb.sf2")
HEARD_WITHIN_S = 0.08

SHARE_OF_EACH = 0.02
SHIFT_S = 0.15
WRONG_SEMITONES = (-3, -2, -1, 1, 2, 3)
EXTRA_SEMITONES = tuple(each for each in range(-7, 8) if each)

_SNOTE = re.compile(
    r"snote\([^,]+,\[(\w),([n#bx]+)\],(-?\d+),[^,]+,[^,]+,[^,]+,(-?[\d.]+),(-?[\d.]+),\[(.*?)\]\)-"
    r"(?:note\([^,]+,(\d+),(\d+),(\d+),(\d+),.*|deletion.*)"
)
_INSERTION = re.compile(r"insertion-note\([^,]+,(\d+),(\d+),.*")
_SEMITONES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_ACCIDENTALS = {"n": 0, "#": 1, "b": -1, "x": 2, "##": 2, "bb": -2}


@dataclass(frozen=True, slots=True)
class Played:
    """One played note and what it was meant to be.

    ``written`` is the index of the expected note, -1 for a note too many; ``mistake`` what was
    put in, None for a note as it was played.
    """

    onset_s: float
    pitch_midi: int
    written: int
    mistake: Verdict | None = None
    length_s: float = 0.4
    velocity: int = 64


@dataclass(frozen=True, slots=True)
class Performance:
    """A performance with the truth about it; ``missed`` are written notes put out by us."""

    name: str
    score: Score
    expected: ExpectedNotes
    notes: tuple[Played, ...]
    missed: tuple[int, ...] = ()


def vienna(count: int, seed: int) -> Iterator[Performance]:
    """Performances of ``vienna4x22``, at random; all of them where ``count`` is large enough."""
    if not (CACHE / "vienna4x22.whole").exists():
        with tarfile.open(VIENNA) as tar:
            tar.extractall(CACHE / "vienna4x22", filter="data")
        (CACHE / "vienna4x22.whole").touch()
    files = sorted((CACHE / "vienna4x22").rglob("*.match"))
    chosen = np.random.default_rng(seed).permutation(len(files))[:count]
    for path in (files[each] for each in chosen):
        yield _of_match_file(path.read_text(encoding="utf-8"), path.stem)


def _of_match_file(text: str, name: str) -> Performance:
    beats, unit = (int(part) for part in re.findall(r"timeSignature,(\d+)/(\d+)", text)[0])
    ticks_a_s = 1e6 * float(re.findall(r"midiClockUnits,(\d+)", text)[0])
    ticks_a_s /= float(re.findall(r"midiClockRate,(\d+)", text)[0])
    lines = text.splitlines()
    rows = [match.groups() for match in map(_SNOTE.match, lines) if match]
    added = [match.groups() for match in map(_INSERTION.match, lines) if match]
    quarters = np.array([float(row[3]) for row in rows]) * 4 / unit
    length = np.array([float(row[4]) for row in rows]) * 4 / unit - quarters
    length[["grace" in row[5] for row in rows]] = 0.0
    pitch = np.array([12 * (int(r[2]) + 1) + _SEMITONES[r[0]] + _ACCIDENTALS[r[1]] for r in rows])
    hand = np.array([Hand.LEFT if "staff2" in row[5] else Hand.RIGHT for row in rows])
    bar_length = beats * 4 / unit
    first = min(float(quarters.min()), 0.0)
    bars = np.arange(-bar_length if first < 0 else 0.0, (quarters + length).max(), bar_length)
    order = np.lexsort((pitch, quarters))
    end = float((quarters + length).max()) + 4.0
    score = Score(
        piece=Piece(name, name, name, ""),
        pitch_midi=pitch[order].astype(np.uint8),
        onset_quarters=quarters[order],
        duration_quarters=length[order],
        hand=hand[order].astype(np.uint8),
        bar_quarters=bars,
        bar_number=np.arange(bars.size, dtype=np.int32) + (0 if first < 0 else 1),
        bar_beat_quarters=np.full(bars.size, 1.5 if beats % 3 == 0 and unit == 8 else 4 / unit),
        tempo_quarters=np.array([bars[0], end]),
        tempo_s=np.array([bars[0], end]) * 0.6,
    )
    expected = ExpectedNotes.of_score(score)
    notes = []
    for row, at in zip(rows, quarters - bars[0] if first < 0 else quarters, strict=True):
        if row[6] is not None:
            key = int(row[6])
            near = np.abs(expected.onset_quarters - at) < 0.06
            same = np.flatnonzero(near & (expected.pitch_midi == key))
            onset_s, end_s = int(row[7]) / ticks_a_s, int(row[8]) / ticks_a_s
            written = int(same[0]) if same.size else -1
            notes.append(Played(onset_s, key, written, None, end_s - onset_s, int(row[9])))
    notes += [Played(int(row[1]) / ticks_a_s, int(row[0]), -1) for row in added]
    return Performance(name, score, expected, _in_order(notes))


def perturbed(count: int, seed: int) -> Iterator[Performance]:
    """Stretches of CC BY scores, played on paper with rubato and without a mistake."""
    folder = ROOT / ".cache" / "perturbed" / "scores_cc_by_midi"
    if not (folder / ".whole").exists():
        with tarfile.open(TRAINING / "scores_cc_by_midi.tar.xz") as tar:
            tar.extractall(folder, filter="data")
        (folder / ".whole").touch()
    with (folder / "catalogue.csv").open(encoding="utf-8", newline="") as lines:
        duplicates = {row["id"] for row in csv.DictReader(lines) if row["dup_of"]}
    pieces = described_pieces(sorted((folder / "midi").glob("*.mid")))
    pieces = [each for each in pieces if each[1].piece_id not in duplicates]
    rng = np.random.default_rng(seed)
    for which in rng.permutation(len(pieces))[:count]:
        score = read_score(*pieces[which])
        expected = ExpectedNotes.of_score(score)
        bars = expected.bar_quarters.size
        start = int(expected.bar_starts[int(rng.integers(0, max(bars - 24, 1)))])
        end_quarters = expected.onset_quarters[min(start + 500, expected.pitch_midi.size) - 1]
        end = int(np.searchsorted(expected.onset_quarters, end_quarters + 1e-6))
        stretch = np.arange(start, end)
        if stretch.size < 60:
            continue
        at_s = _with_rubato(expected.onset_s[stretch] - expected.onset_s[start], rng)
        at_s += rng.normal(0.0, 0.012, at_s.size)
        at_s += np.where(expected.hand[stretch] == Hand.LEFT, rng.normal(0.01, 0.01), 0.0)
        notes = [
            Played(float(s), int(expected.pitch_midi[each]), int(each))
            for s, each in zip(at_s - at_s.min(), stretch, strict=True)
        ]
        yield Performance(score.piece.piece_id, score, expected, _in_order(notes))


def _with_rubato(at_s: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """A tempo that swings by phrases, slows at their ends, and wanders from second to second.

    Half to nearly one and a half times the score's tempo; each phrase (5 to 12 s as written)
    arches by up to 20 %, and its last second and a half slows down to as much as a half. On top
    every interval is longer or shorter by some 10 % of itself, and one in fifteen is drawn out by
    15 to 40 %, as an accent (the orders of size in Repp, "Diversity and commonality in music
    performance", JASA 1992).
    """
    wandered = wandering(at_s, rng) / 2.0 ** rng.uniform(-0.8, 0.5)
    grid = np.arange(0.0, wandered[-1] + 1.0, 0.05)
    slowness = np.ones(grid.size)
    begin_s = 0.0
    while begin_s < grid[-1]:
        length_s = rng.uniform(5.0, 12.0)
        here = (grid >= begin_s) & (grid < begin_s + length_s)
        slowness[here] *= 1 - rng.uniform(0, 0.2) * np.sin(
            np.pi * (grid[here] - begin_s) / length_s
        )
        left_s = begin_s + length_s - grid
        slowness[here] *= 1 + rng.uniform(0, 0.9) * np.clip(1 - left_s[here] / 1.5, 0, 1)
        begin_s += length_s
    flowing_s = np.interp(wandered, grid, np.cumsum(slowness) * 0.05)
    chord_s, chord = np.unique(flowing_s, return_inverse=True)
    steps_s = np.diff(chord_s) * np.exp(rng.normal(0.0, 0.1, chord_s.size - 1))
    drawn_out = rng.random(steps_s.size) < 1 / 15
    steps_s *= np.where(drawn_out, rng.uniform(1.15, 1.4, steps_s.size), 1.0)
    return np.concatenate(([chord_s[0]], chord_s[0] + np.cumsum(steps_s)))[chord]


def _in_order(notes: Sequence[Played]) -> tuple[Played, ...]:
    return tuple(sorted(notes, key=lambda note: (note.onset_s, note.pitch_midi)))


def with_mistakes(performance: Performance, rng: np.random.Generator) -> Performance:
    """Put mistakes in, no two into one note; grace notes are left alone."""
    expected, notes = performance.expected, list(performance.notes)
    meant = [i for i, n in enumerate(notes) if n.written >= 0 and not expected.grace[n.written]]
    each = max(round(SHARE_OF_EACH * len(meant)), 1)
    chosen = rng.permutation(meant)
    missed, wrong, early, late = (chosen[k * each : (k + 1) * each] for k in range(4))
    struck = np.array(sorted({round(note.onset_s, 3) for note in notes}))
    for which in wrong:
        note = notes[which]
        chord = _chord_of(expected, note.written)
        keys = [k for k in (note.pitch_midi + d for d in WRONG_SEMITONES) if _may_be(k, chord)]
        notes[which] = replace(note, pitch_midi=int(rng.choice(keys)), mistake=Verdict.WRONG)
    for some, by_s, mistake in ((early, -SHIFT_S, Verdict.EARLY), (late, SHIFT_S, Verdict.LATE)):
        for which in some:
            note = notes[which]
            notes[which] = replace(note, onset_s=note.onset_s + by_s, mistake=mistake)
    for which in rng.choice(meant, each, replace=False):
        note = performance.notes[which]
        chord = _chord_of(expected, note.written)
        keys = [k for k in (note.pitch_midi + d for d in EXTRA_SEMITONES) if _may_be(k, chord)]
        following = struck[struck > note.onset_s + 0.05]
        until_s = float(following[0]) if following.size else note.onset_s + 0.5
        at_s = float(rng.uniform(note.onset_s, until_s))
        notes.append(Played(at_s, int(rng.choice(keys)), -1, Verdict.EXTRA))
    gone = {int(which) for which in missed}
    kept = [note for which, note in enumerate(notes) if which not in gone]
    return replace(
        performance,
        notes=_in_order(kept),
        missed=tuple(notes[which].written for which in sorted(gone)),
    )


def _chord_of(expected: ExpectedNotes, note: int) -> set[int]:
    same = np.abs(expected.onset_quarters - expected.onset_quarters[note]) < 1e-6
    return {int(key) for key in expected.pitch_midi[same]}


def _may_be(key: int, chord: set[int]) -> bool:
    return LOWEST_PITCH_MIDI <= key <= HIGHEST_PITCH_MIDI and key not in chord


def as_played(performance: Performance) -> list[NoteEvent]:
    """The notes as a keyboard sends them."""
    return [NoteEvent(n.pitch_midi, max(n.onset_s, 0.0), None, 64, 1.0) for n in performance.notes]


def heard(performance: Performance, recogniser: Recogniser) -> list[NoteEvent]:
    """The notes as an ear hears them from a piano that it was not trained on."""
    steps = []
    for note in performance.notes:
        start_s = max(note.onset_s, 0.0)
        steps.append((start_s, note.velocity, note.pitch_midi))
        steps.append((start_s + max(note.length_s, 0.05), 0, note.pitch_midi))
    keys = mido.MidiFile(ticks_per_beat=5000)
    track, last = keys.add_track(""), 0
    for at_s, velocity, pitch in sorted(steps):
        tick = round(at_s * 1e4)
        track.append(mido.Message("note_on", note=pitch, velocity=velocity, time=tick - last))
        last = tick
    with tempfile.TemporaryDirectory() as folder:
        midi, wav = Path(folder) / "played.mid", Path(folder) / "played.wav"
        keys.save(midi)
        command = ["fluidsynth", "-niq", "-g", "0.7", "-F", str(wav), "-T", "wav"]
        subprocess.run([*command, str(SOUNDFONT), str(midi)], check=True)
        recogniser.reset()
        with AudioFile(wav) as recording:
            return list(finished_notes(recogniser, recording.blocks(1.0)))


def told(performance: Performance, notes: Sequence[NoteEvent]) -> list[BarFeedback]:
    """What the player is told, who began where the first note is written."""
    first = next(note.written for note in performance.notes if note.written >= 0)
    start = float(performance.expected.onset_quarters[first])
    score = FollowedScore.of_score(performance.score)
    return practised(performance.expected, score, notes, start)


def judged(
    performance: Performance,
    bars: Sequence[BarFeedback],
    within_s: float = 1e-3,
    sure_from: float = TOLD_FROM,
) -> Counter[str]:
    """Mistakes put in, found and told at all by kind, and false alarms by kind.

    ``within_s``: how far what was heard of a note may lie from it. ``sure_from``: findings of
    less confidence count as not told.
    """
    findings = [
        finding
        for bar in bars
        for finding in bar.findings
        if finding.verdict is not Verdict.RIGHT and finding.confidence >= sure_from
    ]

    def struck(note: Played) -> list[Finding]:
        return [
            each
            for each in findings
            if each.played_pitch_midi == note.pitch_midi
            and abs(each.t_s - max(note.onset_s, 0.0)) <= within_s
        ]

    counts: Counter[str] = Counter()
    explained: set[int] = set()
    truths = [(Verdict.MISSED, written, None) for written in performance.missed]
    truths += [(note.mistake, note.written, note) for note in performance.notes if note.mistake]
    for mistake, written, note in truths:
        about = [each for each in findings if written >= 0 and each.note == written]
        about += [] if note is None else struck(note)
        counts[f"put in {mistake}"] += 1
        counts[f"found {mistake}"] += any(_same(each, mistake, note) for each in about)
        counts[f"at all {mistake}"] += bool(about)
        explained |= {id(each) for each in about}
    played = {note.written for note in performance.notes}
    for finding in findings:
        left_out = finding.note is not None and finding.note not in played
        if left_out and finding.verdict in (Verdict.MISSED, Verdict.WRONG):
            explained.add(id(finding))
    for note in performance.notes:
        if note.written < 0:
            explained |= {id(each) for each in struck(note) if each.verdict is Verdict.EXTRA}
    for finding in findings:
        counts[f"false {finding.verdict}"] += id(finding) not in explained
    written_notes = [note.written for note in performance.notes if note.written >= 0]
    counts["expected"] = max(written_notes) + 1 - min(written_notes)
    counts["judged"] = len({f.note for bar in bars for f in bar.findings if f.note is not None})
    return counts


def _same(finding: Finding, mistake: Verdict | None, note: Played | None) -> bool:
    played = note is None or finding.played_pitch_midi == note.pitch_midi
    return finding.verdict is mistake and played


KINDS = (Verdict.WRONG, Verdict.MISSED, Verdict.EXTRA, Verdict.EARLY, Verdict.LATE)


def summed(counts: Counter[str], other: Counter[str]) -> dict[str, Any]:
    """Shares by kind and altogether; ``other`` gives the second count of false alarms."""

    def share(part: str, kinds: Sequence[Verdict]) -> float:
        put_in = sum(counts[f"put in {kind}"] for kind in kinds)
        return sum(counts[f"{part} {kind}"] for kind in kinds) / max(put_in, 1)

    def false(of: Counter[str], kinds: Sequence[Verdict]) -> float:
        return sum(of[f"false {kind}"] for kind in kinds) / max(of["expected"], 1)

    rows = {str(kind): (kind,) for kind in KINDS} | {"all": KINDS}
    return {
        name: {
            "put_in": sum(counts[f"put in {kind}"] for kind in kinds),
            "recall": share("found", kinds),
            "told_at_all": share("at all", kinds),
            "false_alarms": false(counts, kinds),
            "false_alarms_otherwise": false(other, kinds),
        }
        for name, kinds in rows.items()
    } | {
        "expected_notes": counts["expected"],
        "judged_share": other["judged"] / max(other["expected"], 1),
    }


def measure(performances: int, seed: int = 1, on_paper: bool = False) -> dict[str, Any] | None:
    """Shares over all mistakes; None where the data is not beside the project."""
    if not (TRAINING.is_dir() if on_paper else VIENNA.exists()):
        return None
    rng = np.random.default_rng(seed)
    counts: Counter[str] = Counter()
    untouched: Counter[str] = Counter()
    given = (perturbed if on_paper else vienna)(performances, seed)
    for performance in track(given, "feedback", total=performances, console=Console(stderr=True)):
        untouched += judged(performance, told(performance, as_played(performance)))
        spoilt = with_mistakes(performance, rng)
        counts += judged(spoilt, told(spoilt, as_played(spoilt)))
    return summed(counts, untouched)


def measure_by_ear(
    performances: int, seed: int = 1, on_paper: bool = False
) -> dict[str, Any] | None:
    """The same through the ear; ``as_played`` is then what would be told if it had no doubt."""
    if not (TRAINING.is_dir() if on_paper else VIENNA.exists()):
        return None
    if not (shutil.which("fluidsynth") and SOUNDFONT.exists()):
        return None
    rng = np.random.default_rng(seed)
    recogniser = load_recogniser()
    counts: Counter[str] = Counter()
    undoubting: Counter[str] = Counter()
    given = (perturbed if on_paper else vienna)(performances, seed)
    for performance in track(given, "by ear", total=performances, console=Console(stderr=True)):
        spoilt = with_mistakes(performance, rng)
        bars = told(spoilt, heard(spoilt, recogniser))
        counts += judged(spoilt, bars, HEARD_WITHIN_S)
        undoubting += judged(spoilt, bars, HEARD_WITHIN_S, sure_from=0.0)
    return summed(counts, undoubting)


def table(found: dict[str, Any], last: str) -> Table:
    """The shares for people; ``last`` heads the last column."""
    rows = Table(title=f"{found['expected_notes']} expected notes", title_justify="left")
    for head in ("mistake", "put in", "recall", "told at all", "false alarms", last):
        rows.add_column(head, justify="left" if head == "mistake" else "right")
    for name in [*map(str, KINDS), "all"]:
        row = found[name]
        rows.add_row(
            name,
            str(row["put_in"]),
            f"{row['recall']:.3f}",
            f"{row['told_at_all']:.3f}",
            f"{row['false_alarms']:.2%}",
            f"{row['false_alarms_otherwise']:.2%}",
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--performances", type=int, default=88)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--perturbed", action="store_true", help="scores that may train")
    parser.add_argument("--by-ear", action="store_true", help="rendered, through the note model")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    ask = measure_by_ear if given.by_ear else measure
    found = ask(given.performances, given.seed, given.perturbed)
    if found is None:
        Console(stderr=True).print(
            "feedback left out: its data does not lie beside the project, or there is no "
            "fluidsynth (apt-get install fluidsynth timgm6mb-soundfont)"
        )
    elif given.json:
        print(json.dumps(found, indent=2))
    else:
        Console().print(table(found, "without doubt" if given.by_ear else "as played"))


if __name__ == "__main__":
    main()
