"""A line is found in any key, between the keys, at any pace, sung too wide or too narrow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.singing import some_singer, sound_of, sung_notes
from edge.errors import CatalogueError
from edge.matching import Catalogue, MatchState, melody
from edge.matching.hummed import melody_of_voice
from edge.matching.match import PieceMatch
from edge.matching.melody import (
    Melody,
    TopLines,
    identify_melody,
    melody_of_notes,
    passages,
    top_lines,
)
from edge.matching.score import Hand, Score
from edge.note import NoteEvent
from tests.tunes import made_up_score

SCORES = [made_up_score(seed) for seed in range(40)]
ASKED, FROM_NOTE, NOTES = 7, 50, 16


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return Catalogue.from_scores(SCORES)


@pytest.fixture(scope="module")
def lines(catalogue: Catalogue) -> TopLines:
    return top_lines(catalogue)


def written(lines: TopLines, notes: int = NOTES, piece: int = ASKED) -> Melody:
    """A passage of a top line, at 100 quarters a minute."""
    part = slice(int(lines.start[piece]) + FROM_NOTE, int(lines.start[piece]) + FROM_NOTE + notes)
    quarters = lines.quarters[part].astype(np.float64)
    return Melody(lines.pitch[part].astype(np.float64), (quarters - quarters[0]) * 0.6)


def is_asked(answer: PieceMatch) -> bool:
    return answer.candidates[0].piece_id == f"piece-{ASKED}"


def a_score(notes: list[tuple[float, int, float, Hand]]) -> Score:
    """Notes as onset, pitch, length and hand."""
    onset, pitch, length, hand = (np.array(each) for each in zip(*notes, strict=True))
    return replace(
        made_up_score(0),
        pitch_midi=pitch.astype(np.uint8),
        onset_quarters=onset.astype(np.float64),
        duration_quarters=length.astype(np.float64),
        hand=hand.astype(np.uint8),
    )


def test_the_top_line_is_the_right_hands_highest_where_no_higher_one_is_held() -> None:
    right, left = Hand.RIGHT, Hand.LEFT
    notes = [
        *[(0.0, 72, 2.0, right), (0.0, 64, 2.0, right), (0.0, 48, 1.0, left)],
        (1.0, 67, 1.0, right),  # under the held 72
        *[(2.0, 71, 1.0, right), (2.0, 50, 1.0, left)],
        (2.5, 90, 0.5, left),  # a hand that crosses over
        (3.0, 69, 1.0, right),
    ]
    lines = top_lines(Catalogue.from_scores([a_score(notes)]))
    assert lines.pitch.tolist() == [72, 71, 69]
    assert lines.quarters.tolist() == [0.0, 2.0, 3.0]
    assert lines.chord.tolist() == [0, 2, 4]


def test_pieces_of_several_packs_lie_end_to_end() -> None:
    one, other = Catalogue.from_scores(SCORES[:2]), Catalogue.from_scores(SCORES[2:3])
    together = top_lines(Catalogue((*one.packs, *other.packs)))
    assert together.start.size == 4
    alone = top_lines(other)
    assert together.pitch[together.start[2] :].tolist() == alone.pitch.tolist()
    assert together.quarters[together.start[2] :].tolist() == alone.quarters.tolist()


def test_a_line_as_written_fits_wholly_and_where_it_is_written(lines: TopLines) -> None:
    best = passages(written(lines), lines)[0]
    assert best.piece == ASKED
    assert best.first_note == lines.start[ASKED] + FROM_NOTE
    assert best.fit == pytest.approx(1.0, abs=1e-6)
    assert best.stretch == pytest.approx(1.0, abs=1e-3)
    assert best.quarters_per_s == pytest.approx(100 / 60, rel=1e-3)


@pytest.mark.parametrize("stretch", [0.86, 1.0, 1.14])
@pytest.mark.parametrize("tempo", [0.5, 2.0])
def test_offset_drift_stretch_and_tempo_of_a_singer_are_fitted(
    catalogue: Catalogue, lines: TopLines, stretch: float, tempo: float
) -> None:
    as_written = written(lines)
    pitch, count = as_written.pitch_semitones, len(as_written)
    rise = np.linspace(-0.4, 0.4, count)
    sung = Melody(pitch.mean() + (pitch - pitch.mean()) * stretch - 4.6 + rise, as_written.onset_s)
    sung = replace(sung, onset_s=sung.onset_s / tempo)
    best = passages(sung, lines)[0]
    assert best.piece == ASKED
    assert best.offset_semitones == pytest.approx(-4.6, abs=0.15)
    assert best.stretch == pytest.approx(stretch, abs=0.04)
    assert best.drift_semitones == pytest.approx(0.8, abs=0.3)
    assert best.quarters_per_s == pytest.approx(tempo * 100 / 60, rel=0.05)
    answer = identify_melody(sung, catalogue, lines)
    assert answer.state is MatchState.MATCHED
    assert answer.candidates[0].transposition == -5
    assert answer.candidates[0].bar > 1


def test_a_wrong_a_missed_a_split_note_and_uneven_time_are_forgiven(
    catalogue: Catalogue, lines: TopLines
) -> None:
    rng = np.random.default_rng(3)
    line = written(lines)
    pitch = line.pitch_semitones + 2.5 + rng.normal(0.0, 0.2, len(line))
    onset_s = line.onset_s + rng.normal(0.0, 0.03, len(line))
    pitch[4] += 2.0
    twice = (onset_s[10] + onset_s[11]) / 2
    pitch, onset_s = np.insert(pitch, 11, pitch[10]), np.insert(onset_s, 11, twice)
    sung = Melody(np.delete(pitch, 7), np.delete(onset_s, 7))
    assert is_asked(identify_melody(sung, catalogue, lines))


def test_one_finger_on_the_keys_is_a_line(catalogue: Catalogue, lines: TopLines) -> None:
    line = written(lines)
    notes = [
        NoteEvent(int(pitch) - 5, float(at), None, 64, 1.0)
        for pitch, at in zip(line.pitch_semitones, line.onset_s, strict=True)
    ]
    answer = identify_melody(melody_of_notes(notes), catalogue)
    assert is_asked(answer)
    assert answer.candidates[0].transposition == -5


def test_too_little_and_one_note_repeated_are_searching(
    catalogue: Catalogue, lines: TopLines
) -> None:
    assert identify_melody(written(lines, 4), catalogue, lines).state is MatchState.SEARCHING
    assert identify_melody(Melody(np.zeros(0), np.zeros(0)), catalogue, lines).candidates == ()
    knocking = Melody(np.full(12, 60.0), np.arange(12) * 0.5)
    assert identify_melody(knocking, catalogue, lines).state is MatchState.SEARCHING


def test_what_the_catalogue_does_not_hold_is_not_claimed(
    catalogue: Catalogue, lines: TopLines
) -> None:
    stranger = top_lines(Catalogue.from_scores([made_up_score(999)]))
    sung = written(stranger, 30, piece=0)
    assert identify_melody(sung, catalogue, lines).state is MatchState.NONE
    known = identify_melody(written(lines), catalogue, lines, without_works={f"work-{ASKED}"})
    assert known.state is not MatchState.MATCHED
    assert f"piece-{ASKED}" not in [each.piece_id for each in known.candidates]


def test_reading_in_chunks_of_any_size_finds_the_same(
    lines: TopLines, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = passages(written(lines), lines)
    monkeypatch.setattr(melody, "CHUNK_NOTES", 97)
    assert passages(written(lines), lines) == whole


def test_a_catalogue_that_is_too_large_is_refused_in_a_line(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(melody, "MOST_PIECES", 39)
    with pytest.raises(CatalogueError, match="holds 40 pieces; melodies are searched among at mos"):
        top_lines(catalogue)


def test_a_line_that_is_hummed_is_named(catalogue: Catalogue, lines: TopLines) -> None:
    rng = np.random.default_rng(11)
    line = written(lines, 14)
    singer = replace(some_singer(rng), voice="hum", tempo=1.0)
    low = line.pitch_semitones - 12 * round((line.pitch_semitones.mean() - 55) / 12)
    meant = sung_notes(low, line.onset_s / 0.6, singer, rng)
    answer = identify_melody(melody_of_voice(sound_of(meant, singer, rng)), catalogue, lines)
    assert is_asked(answer)
