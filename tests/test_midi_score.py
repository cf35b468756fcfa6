"""Scores from MIDI files: quarters, bars, hands and tempi."""

from __future__ import annotations

from pathlib import Path

import mido
import numpy as np
import pytest

from converters.midi_score import read_midi_score
from edge.errors import InputError
from edge.matching.score import Hand, Piece

BLANK = Piece("a", "a", "A", "B")


def save(path: Path, *tracks: list[mido.Message | mido.MetaMessage]) -> Path:
    midi = mido.MidiFile(ticks_per_beat=96)
    midi.tracks.extend(mido.MidiTrack(track) for track in tracks)
    midi.save(path)
    return path


def note(pitch: int, ticks: int, after: int = 0) -> list[mido.Message]:
    return [
        mido.Message("note_on", note=pitch, velocity=64, time=after),
        mido.Message("note_on", note=pitch, velocity=0, time=ticks),
    ]


def test_two_tracks_are_two_hands_and_ticks_are_quarters(tmp_path: Path) -> None:
    path = save(
        tmp_path / "a.mid",
        [
            mido.MetaMessage("time_signature", numerator=6, denominator=8),
            mido.MetaMessage("set_tempo", tempo=1_000_000),
            mido.MetaMessage("set_tempo", tempo=500_000, time=192),
        ],
        note(48, 288) + note(43, 288),
        note(72, 96) + note(74, 48) + note(76, 144, after=144),
    )
    score = read_midi_score(path, BLANK)
    assert score.pitch_midi.tolist() == [48, 72, 74, 43, 76]
    assert score.onset_quarters.tolist() == [0.0, 0.0, 1.0, 3.0, 3.0]
    assert score.duration_quarters.tolist() == [3.0, 1.0, 0.5, 3.0, 1.5]
    assert score.hand.tolist() == [Hand.LEFT, Hand.RIGHT, Hand.RIGHT, Hand.LEFT, Hand.RIGHT]
    assert score.bar_quarters.tolist() == [0.0, 3.0]
    assert score.bar_number.tolist() == [1, 2]
    assert score.bar_beat_quarters.tolist() == [1.5, 1.5]
    np.testing.assert_allclose(score.onset_s, [0.0, 0.0, 1.0, 2.5, 2.5])


def test_a_change_of_meter_moves_the_bars(tmp_path: Path) -> None:
    path = save(
        tmp_path / "a.mid",
        [
            mido.MetaMessage("time_signature", numerator=2, denominator=4),
            mido.MetaMessage("time_signature", numerator=3, denominator=4, time=192),
        ],
        note(60, 96 * 8),
    )
    assert read_midi_score(path, BLANK).bar_quarters.tolist() == [0.0, 2.0, 5.0]


def test_a_key_struck_again_before_its_end_is_two_notes(tmp_path: Path) -> None:
    again = [
        mido.Message("note_on", note=60, velocity=64),
        mido.Message("note_on", note=60, velocity=64, time=96),
        mido.Message("note_off", note=60, time=96),
    ]
    score = read_midi_score(save(tmp_path / "a.mid", again), BLANK)
    assert score.onset_quarters.tolist() == [0.0, 1.0]
    assert score.duration_quarters.tolist() == [1.0, 1.0]


def test_drums_are_no_notes(tmp_path: Path) -> None:
    drum = [mido.Message("note_on", channel=9, note=40, velocity=64)]
    with pytest.raises(InputError, match="no notes"):
        read_midi_score(save(tmp_path / "a.mid", drum), BLANK)


@pytest.mark.parametrize(
    "text", [b"", b"MThd", b"MThd\0\0\0\6\0\1\0\1\0\x60MTrk\0\0\0\xff\0", b"x" * 99]
)
def test_what_is_no_midi_file_is_one_line(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "a.mid"
    path.write_bytes(text)
    with pytest.raises(InputError) as caught:
        read_midi_score(path, BLANK)
    assert "\n" not in str(caught.value)
