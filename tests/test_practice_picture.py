"""The summing up of practice, its picture, and the command that prints them."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import mido
import pytest

from edge.cli.app import run_command
from edge.matching.score import Hand
from edge.note import NoteEvent
from edge.practice import BarFeedback, Verdict
from edge.practice.picture import page
from edge.practice.summary import sentences, spelled, summed, worst_bars
from tests.test_practice import EXPECTED, SCORE, faults, played, told


def spoilt() -> list[NoteEvent]:
    notes = played(SCORE, quarters=60)
    wrong = replace(notes[30], pitch_midi=notes[30].pitch_midi + 1)
    late = replace(notes[34], onset_s=notes[34].onset_s + 0.15)
    return [*notes[:30], wrong, *notes[31:34], late, *notes[35:50], *notes[51:]]


BARS = told(spoilt())


def test_the_figures_are_those_of_the_findings() -> None:
    of = summed(BARS)
    assert (of.wrong, of.missed, of.extra, of.early, of.late) == (1, 1, 0, 0, 1)
    assert of.asked - of.right == 3
    assert of.accuracy == pytest.approx(of.right / of.asked)
    assert of.evenness_ms == pytest.approx(0.0, abs=5.0)
    assert of.tempo_bpm == pytest.approx(120.0, rel=0.02)
    right, left = summed(BARS, Hand.RIGHT), summed(BARS, Hand.LEFT)
    assert right.asked + left.asked == of.asked


def test_unsure_findings_count_neither_way() -> None:
    doubtful = [
        replace(bar, findings=tuple(replace(f, confidence=0.3) for f in bar.findings))
        for bar in BARS
    ]
    of = summed(doubtful)
    assert of.faults == 0
    assert of.unsure == 3
    assert of.accuracy == 1.0
    assert "ear" in " ".join(sentences(doubtful))


def test_the_worst_bars_are_named_in_a_sentence() -> None:
    worst = worst_bars(BARS)
    assert len(worst[0].faults) >= len(worst[-1].faults) > 0
    assert spelled(worst[0]) in " ".join(sentences(BARS))
    assert sentences([]) == ["Nothing of this piece was recognised in what was played."]


def svgs(text: str) -> list[ElementTree.Element]:
    return [
        ElementTree.fromstring(part[: part.index("</svg>") + 6])
        for part in ("<svg" + rest for rest in text.split("<svg")[1:])
    ]


def marks(text: str, css: str) -> int:
    rows = [svg for svg in svgs(text) if svg.get("class") == "row"]
    return sum(each.get("class") == css for row in rows for each in row.iter())


def test_every_note_is_drawn_with_its_verdict() -> None:
    text = page(EXPECTED, BARS)
    assert marks(text, "right") == summed(BARS).right
    assert (marks(text, "missed"), marks(text, "wrong"), marks(text, "late")) == (1, 1, 1)
    assert marks(text, "bar") + marks(text, "bar worst") == len(BARS)
    assert "http" not in text.replace("http://www.w3.org", ""), "a page loads nothing"
    assert "prefers-color-scheme: dark" in text


def test_titles_cannot_break_the_page() -> None:
    piece = replace(EXPECTED.piece, title="<b>Für & Elise</b>")
    assert "<b>" not in page(replace(EXPECTED, piece=piece), BARS)


def midi(folder: Path, notes: list[NoteEvent]) -> Path:
    steps = sorted(
        step
        for note in notes
        for step in ((note.onset_s, 1, note.pitch_midi), (note.onset_s + 0.1, 0, note.pitch_midi))
    )
    track, last = mido.MidiTrack(), 0
    for at_s, on, pitch in steps:
        tick = round(at_s * 960)
        velocity = 64 if on else 0
        track.append(mido.Message("note_on", note=pitch, velocity=velocity, time=tick - last))
        last = tick
    file = mido.MidiFile(ticks_per_beat=480)
    file.tracks.append(track)
    path = folder / "played.mid"
    file.save(path)
    return path


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    from edge.matching.pack import pack_scores, write_pack

    write_pack(pack_scores([SCORE]), tmp_path / "catalogue" / "own")
    return tmp_path / "catalogue"


def test_the_command_prints_what_to_look_at_and_draws_it(
    tmp_path: Path, catalogue: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    played_file, html = midi(tmp_path, spoilt()), tmp_path / "bars.html"
    where = ["--piece", SCORE.piece.piece_id, "--catalog", str(catalogue)]
    assert run_command(["practice", str(played_file), *where, "--html", str(html)]) == 0
    out = capsys.readouterr().out
    assert "1 wrong, 1 missed and 1 late" in out
    assert "Look at bar" in out
    assert html.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert run_command(["practice", str(played_file), *where, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    verdicts = sorted(fault["verdict"] for bar in found["bars"] for fault in bar["faults"])
    assert verdicts == sorted([Verdict.WRONG, Verdict.MISSED, Verdict.LATE])
    assert found["summary"]["asked"] - found["summary"]["right"] == 3


@pytest.mark.parametrize(
    ("more", "code", "says"),
    [
        (["--piece", "piece-33"], 4, "did you mean piece-3"),
        (["--piece", "piece-3", "--bar", "99"], 2, "bars 1 to"),
        (["--piece", "piece-3", "--html", "/nowhere/bars.html"], 2, "choose another file"),
    ],
)
def test_a_users_mistake_is_told_in_a_line(
    tmp_path: Path,
    catalogue: Path,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    code: int,
    says: str,
) -> None:
    played_file = midi(tmp_path, spoilt())
    command = ["practice", str(played_file), "--catalog", str(catalogue), *more]
    assert run_command(command) == code
    assert says in capsys.readouterr().err


def test_what_is_not_the_piece_is_not_judged(
    tmp_path: Path, catalogue: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = midi(tmp_path, [NoteEvent(60, 0.1, None, 64, 1.0), NoteEvent(61, 0.5, None, 64, 1.0)])
    command = ["practice", str(few), "--catalog", str(catalogue)]
    assert run_command(command) == 4
    assert "--piece ID" in capsys.readouterr().err


def test_bars_have_faults_only_where_something_was_put_in() -> None:
    bars: list[BarFeedback] = [bar for bar in BARS if bar.faults]
    assert len(faults(BARS)) == 3
    assert len(bars) <= 3
