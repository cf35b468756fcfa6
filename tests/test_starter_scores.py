"""The starter scores are music that can be played and counted: every file, every bar."""

from __future__ import annotations

import csv
import re
import warnings
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import pytest

from converters.kern_score import read_kern_score
from converters.starter_catalogue import read_checks, read_entries, read_explanations
from edge.matching.score import Hand, Piece
from edge.note import HIGHEST_PITCH_MIDI, LOWEST_PITCH_MIDI

STARTER = Path(__file__).resolve().parent.parent / "scores" / "starter"
FILES = sorted(STARTER.glob("*.krn"))
LEAST_PIECES = 24
LEAST_BARS = 16
EVERY_FILE = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


@dataclass
class Counted:
    """A kern file counted by hand: no tempo, no ties, only how long each column is."""

    meter_quarters: Fraction = Fraction(0)
    bars: list[tuple[str, Fraction, set[Fraction]]] = field(default_factory=list)
    struck: int = 0


def quarters(token: str) -> Fraction:
    digits, dots = re.search(r"(\d+)(\.*)", token).groups()
    return Fraction(4, int(digits)) * (2 - Fraction(1, 2 ** len(dots)))


def count(path: Path) -> Counted:
    counted = Counted()
    columns: list[Fraction] = []
    number = "pickup"

    def close() -> None:
        if any(columns):
            counted.bars.append((number, counted.meter_quarters, set(columns)))

    for line in path.read_text(encoding="utf-8").splitlines():
        tokens = line.split("\t")
        if line.startswith("!"):
            continue
        if line.startswith("**"):
            columns = [Fraction(0)] * len(tokens)
        elif line.startswith("="):
            close()
            columns = [Fraction(0)] * len(columns)
            number = tokens[0].strip("=!|:-") or "end"
        elif line.startswith("*"):
            if meter := re.fullmatch(r"\*M(\d+)/(\d+)", tokens[0]):
                counted.meter_quarters = Fraction(4 * int(meter[1]), int(meter[2]))
            columns = rearranged(tokens, columns)
        else:
            for index, token in enumerate(tokens):
                if token == ".":
                    continue
                notes = token.split(" ")
                counted.struck += sum(
                    "r" not in note and "_" not in note and "]" not in note for note in notes
                )
                if "q" not in token:
                    columns[index] += quarters(notes[0])
    return counted


def rearranged(tokens: list[str], columns: list[Fraction]) -> list[Fraction]:
    after: list[Fraction] = []
    joining = False
    for token, column in zip(tokens, columns, strict=True):
        if token == "*^":
            after += [column, column]
        elif token == "*v" and joining:
            assert after[-1] == column, "voices of different length are joined"
        elif token != "*-":
            after.append(column)
        joining = token == "*v"
    return after


def score(path: Path):
    return read_kern_score(path, Piece(path.stem, path.stem, "", ""))


def test_there_are_enough_pieces_for_a_beginner():
    assert len(FILES) >= LEAST_PIECES


@EVERY_FILE
def test_every_bar_is_as_long_as_its_metre(path):
    """A pickup may be short, and then the last bar, or the one before a repeat, lacks it."""
    counted = count(path)
    pickup = next(iter(counted.bars[0][2])) if counted.bars[0][0] == "pickup" else Fraction(0)
    for number, meter, lengths in counted.bars:
        assert len(lengths) == 1, f"bar {number}: columns of {sorted(map(str, lengths))} quarters"
        length = lengths.pop()
        lacks_pickup = pickup and length == meter - pickup and number == counted.bars[-1][0]
        assert length == meter or number == "pickup" or lacks_pickup, (
            f"bar {number} has {length} quarters of {meter}"
        )


@EVERY_FILE
def test_a_piece_has_sixteen_bars_or_more_numbered_without_a_gap(path):
    numbers = [int(number) for number, _, _ in count(path).bars if number != "pickup"]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) >= LEAST_BARS
    assert len(numbers) == read_entries(STARTER)[path.stem].bars


@EVERY_FILE
def test_both_hands_play_keys_that_a_piano_has(path):
    read = score(path)
    for hand in (Hand.LEFT, Hand.RIGHT):
        assert (read.hand == hand).sum() >= LEAST_BARS
    assert not (read.hand == Hand.UNKNOWN).any()
    assert read.pitch_midi.min() >= LOWEST_PITCH_MIDI
    assert read.pitch_midi.max() <= HIGHEST_PITCH_MIDI


@EVERY_FILE
def test_partitura_reads_the_same_notes_and_bars(path):
    """Another reader, so that a file does not only suit ours: tied chords apart, the same."""
    partitura = pytest.importorskip("partitura")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        other = partitura.load_score(str(path))
    notes = other.note_array(include_grace_notes=True)
    ours = score(path)
    shift = ours.onset_quarters.min() - notes["onset_quarter"].min()
    theirs = {
        (round(float(onset + shift), 3), int(pitch))
        for onset, pitch in zip(notes["onset_quarter"], notes["pitch"], strict=True)
    }
    mine = {
        (round(float(onset), 3), int(pitch))
        for onset, pitch in zip(ours.onset_quarters, ours.pitch_midi, strict=True)
    }
    assert mine <= theirs
    bars = [bar for bar in other.parts[0].measures if bar.end.t > bar.start.t]
    assert len(bars) == len(count(path).bars)


@EVERY_FILE
def test_no_note_is_lost_in_reading(path):
    """Fewer only where both hands, or a note and its grace, share a key at one moment."""
    struck, read = count(path).struck, score(path).pitch_midi.size
    assert read <= struck
    assert struck - read <= 0.05 * struck


@EVERY_FILE
def test_the_file_names_itself(path):
    text = path.read_text(encoding="utf-8")
    for record in ("!!!OTL", "!!!COM", "*MM", "*M", "*k["):
        assert record in text
    entry = read_entries(STARTER)[path.stem]
    assert entry.title
    assert entry.composer
    assert entry.work_id
    assert entry.arrangement


def test_the_tables_speak_of_pieces_that_exist_and_are_sorted():
    stems = [path.stem for path in FILES]
    with (STARTER / "catalogue.csv").open(newline="", encoding="utf-8") as file:
        rows = [row["piece_id"] for row in csv.DictReader(file)]
    assert rows == sorted(stems)
    assert {check.piece_id for check in read_checks(STARTER)} <= set(stems)
    assert {each.piece_id for each in read_explanations(STARTER)} <= set(stems)


def test_every_piece_was_proof_read():
    assert {path.stem for path in FILES} == {check.piece_id for check in read_checks(STARTER)}


def test_the_page_lists_every_piece_and_leaves_no_difference_unexplained():
    text = (STARTER.parent.parent / "docs" / "starter-catalogue.md").read_text(encoding="utf-8")
    for path in FILES:
        assert f"| `{path.stem}` |" in text
    assert "not explained" not in text
