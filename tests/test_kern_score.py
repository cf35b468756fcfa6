"""Kern, read by its rules: columns that split and join, ties, pickups, grace notes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from converters.kern_score import read_kern_score
from edge.errors import InputError
from edge.matching.score import Hand, Piece, Score

BLANK = Piece("a", "a", "", "")


def read(tmp_path: Path, *lines: str) -> Score:
    """Columns are written apart by two blanks or more."""
    text = "\n".join("\t".join(line.split("  ")) for line in lines)
    path = tmp_path / "score.krn"
    path.write_text(text + "\n", encoding="utf-8")
    return read_kern_score(path, BLANK)


def notes(score: Score) -> list[tuple[float, int, float]]:
    return [
        (float(onset), int(pitch), float(length))
        for onset, pitch, length in zip(
            score.onset_quarters, score.pitch_midi, score.duration_quarters, strict=True
        )
    ]


def test_two_staves_are_two_hands_with_pitches_and_lengths(tmp_path: Path) -> None:
    score = read(
        tmp_path,
        "!!!COM: Nobody, N.",
        "!!!OTL: A tune",
        "**kern  **kern",
        "*staff2  *staff1",
        "*M3/4  *M3/4",
        "=1  =1",
        "2.C  4c",
        ".  8.cc#",
        ".  16B-",
        ".  4r",
        "=2  =2",
        "2.GG 2.G  2.ee- 2.gg",
        "==  ==",
        "*-  *-",
    )
    assert notes(score) == [
        (0.0, 48, 3.0),
        (0.0, 60, 1.0),
        (1.0, 73, 0.75),
        (1.75, 58, 0.25),
        (3.0, 43, 3.0),
        (3.0, 55, 3.0),
        (3.0, 75, 3.0),
        (3.0, 79, 3.0),
    ]
    assert score.hand[0] == Hand.LEFT
    assert score.hand[1] == Hand.RIGHT
    assert score.bar_number.tolist() == [1, 2]
    assert score.bar_quarters.tolist() == [0.0, 3.0]
    assert (score.piece.title, score.piece.composer) == ("A tune", "Nobody, N.")


def test_a_pickup_is_bar_nought(tmp_path: Path) -> None:
    score = read(tmp_path, "**kern", "*M4/4", "4g", "=1", "1cc", "=2", "1dd", "==", "*-")
    assert score.bar_number.tolist() == [0, 1, 2]
    assert score.bar_quarters.tolist() == [0.0, 1.0, 5.0]


def test_a_double_bar_line_within_a_bar_begins_none(tmp_path: Path) -> None:
    score = read(tmp_path, "**kern", "=1", "2c", "=:|!", "2d", "=2", "1e", "==", "*-")
    assert score.bar_quarters.tolist() == [0.0, 4.0]


def test_tied_notes_are_one_also_in_chords_and_across_columns(tmp_path: Path) -> None:
    score = read(
        tmp_path,
        "**kern",
        "=1",
        "2c 2e",
        "[2d [2g",
        "=2",
        "*^",
        "2d_  2g]",
        "2d]  2a",
        "*v  *v",
        "==",
        "*-",
    )
    assert notes(score) == [
        (0.0, 60, 2.0),
        (0.0, 64, 2.0),
        (2.0, 62, 6.0),
        (2.0, 67, 4.0),
        (6.0, 69, 2.0),
    ]


def test_a_tie_that_ends_elsewhere_strikes_again(tmp_path: Path) -> None:
    score = read(tmp_path, "**kern", "=1", "[4c", "4r", "2c]", "==", "*-")
    assert notes(score) == [(0.0, 60, 1.0), (2.0, 60, 2.0)]


def test_columns_that_split_and_join_keep_their_time(tmp_path: Path) -> None:
    score = read(
        tmp_path,
        "**kern  **kern",
        "=1  =1",
        "*  *^",
        "1C  4e  2g",
        ".  4f  .",
        ".  2a  4b",
        ".  .  4cc",
        "*  *v  *v",
        "=2  =2",
        "1D  1d",
        "==  ==",
        "*-  *-",
    )
    assert notes(score)[-2:] == [(4.0, 50, 4.0), (4.0, 62, 4.0)]
    assert (3.0, 72, 1.0) in notes(score)


def test_columns_that_change_places_keep_their_staff(tmp_path: Path) -> None:
    score = read(
        tmp_path,
        "**kern  **kern",
        "*staff2  *staff1",
        "4C  4c",
        "*x  *x",
        "4d  4D",
        "*-  *-",
    )
    hands = dict(zip(score.pitch_midi.tolist(), score.hand.tolist(), strict=True))
    assert hands == {48: Hand.LEFT, 60: Hand.RIGHT, 62: Hand.RIGHT, 50: Hand.LEFT}


def test_grace_notes_take_no_time(tmp_path: Path) -> None:
    score = read(tmp_path, "**kern", "4c", "8qd", "8qqe", "4f", "*-")
    assert notes(score) == [(0.0, 60, 1.0), (1.0, 62, 0.0), (1.0, 64, 0.0), (1.0, 65, 1.0)]


def test_triplets_add_up(tmp_path: Path) -> None:
    score = read(tmp_path, "**kern", *["12c"] * 2, "12d", "3%2e", "4f", "*-")
    np.testing.assert_allclose(score.onset_quarters, [0, 1 / 3, 2 / 3, 1, 1 + 8 / 3])


def test_a_rest_longer_than_its_bar_does_not_shift_the_next(tmp_path: Path) -> None:
    score = read(
        tmp_path, "**kern  **kern", "=1  =1", "2c  0r", "=2  =2", "2d  2e", "==  ==", "*-  *-"
    )
    assert notes(score)[1:] == [(2.0, 62, 2.0), (2.0, 64, 2.0)]


def test_a_line_of_placeholders_passes_no_time(tmp_path: Path) -> None:
    score = read(tmp_path, "**kern  **kern", "4c  2e", ".  .", "4d  .", "*-  *-")
    assert [note[0] for note in notes(score)] == [0.0, 0.0, 1.0]


def test_the_main_text_is_taken_of_an_ossia(tmp_path: Path) -> None:
    score = read(
        tmp_path,
        "**kern",
        "*^",
        "*  *S/ossia",
        "4c  4b",
        "*v  *v",
        "4d",
        "*-",
    )
    assert [note[1] for note in notes(score)] == [60, 62]


def test_other_columns_are_passed_over(tmp_path: Path) -> None:
    score = read(tmp_path, "**kern  **dynam  **text", "4c  f  la", "4d  .  .", "*-  *-  *-")
    assert [note[1] for note in notes(score)] == [60, 62]


@pytest.mark.parametrize(
    ("marking", "seconds_per_quarter"),
    [("*MM60", 1.0), ("*MM90.5", 60 / 90.5), ("*MM[Adagio]", 0.5), ("*", 0.5)],
)
def test_the_tempo_is_quarters_a_minute(
    tmp_path: Path, marking: str, seconds_per_quarter: float
) -> None:
    score = read(tmp_path, "**kern", marking, "4c", "4d", "*-")
    np.testing.assert_allclose(score.onset_s, [0.0, seconds_per_quarter])


def test_a_marked_tempo_counts_its_own_unit(tmp_path: Path) -> None:
    score = read(tmp_path, "!!!OMD: Presto. [half-dot] = 80", "**kern", "4c", "4d", "*-")
    np.testing.assert_allclose(score.onset_s[1], 60 / 240)


@pytest.mark.parametrize(
    ("meter", "beat"), [("*M3/4", 1.0), ("*M6/8", 1.5), ("*M2/2", 2.0), ("*M3/8", 0.5)]
)
def test_the_beat_is_the_meter_s(tmp_path: Path, meter: str, beat: float) -> None:
    assert read(tmp_path, "**kern", meter, "=1", "1c", "*-").bar_beat_quarters.tolist() == [beat]


@pytest.mark.parametrize(
    "lines",
    [
        ("**kern", "4c  4d", "*-"),
        ("**kern", "4r", "*-"),
        ("**text", "la", "*-"),
        ("nothing of the kind",),
        (),
    ],
    ids=["a column too many", "rests alone", "no kern column", "no kern", "empty"],
)
def test_what_is_no_score_is_one_line(tmp_path: Path, lines: tuple[str, ...]) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, *lines)
    assert "\n" not in str(caught.value)


def test_bar_lines_lead_back_to_where_their_part_begins(tmp_path: Path) -> None:
    lines = ["=1", "1c", "=2:|!|:", "1d", "=3:|!", "1e", "=4!|:", "1f", "==:|!"]
    score = read(tmp_path, "**kern", *lines, "*-")
    assert score.repeat_quarters.tolist() == [[4.0, 0.0], [8.0, 4.0], [16.0, 12.0]]


def test_a_part_without_its_own_sign_begins_where_the_one_before_ended(tmp_path: Path) -> None:
    score = read(tmp_path, "**kern", "4g", "=1", "1c", "=2:|!", "1d", "=3:|!", "1e", "==", "*-")
    assert score.repeat_quarters.tolist() == [[5.0, 0.0], [9.0, 5.0]]


def test_the_order_of_sections_gives_endings_and_da_capo(tmp_path: Path) -> None:
    score = read(
        tmp_path,
        *("**kern", "*>[A,A1,A,A2,B,A]", "*>norep[A,A2,B]"),
        *("*>A", "=1", "1c", "*>A1", "=2", "1d", "=3:|!", "*>A2", "1e", "=4", "*>B", "1f", "4r"),
        *("==", "*-"),
    )
    assert score.repeat_quarters.tolist() == [[4.0, 8.0], [8.0, 0.0], [17.0, 0.0]]


def test_a_score_without_signs_has_no_repeats(tmp_path: Path) -> None:
    assert read(tmp_path, "**kern", "=1", "1c", "==", "*-").repeat_quarters.shape == (0, 2)
