from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import mido
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converters.score_alignment import Kind, ScoreNote, align
from converters.starter_catalogue import page, proof_read
from edge.errors import InputError

# Two bars of 4/4 over held octaves: C D E F | G A B c.
SCALE = tuple(
    ScoreNote(float(beat), 1.0, pitch, bar=1 + beat // 4, beat=beat % 4 + 1.0)
    for beat, pitch in enumerate((60, 62, 64, 65, 67, 69, 71, 72))
)
PIECE = (
    *SCALE,
    ScoreNote(0.0, 4.0, 48, bar=1),
    ScoreNote(4.0, 4.0, 43, bar=2),
)


def moved(notes, quarters=0.0, times=1.0):
    return tuple(
        replace(
            note,
            onset_quarters=note.onset_quarters * times + quarters,
            duration_quarters=note.duration_quarters * times,
        )
        for note in notes
    )


def told(alignment):
    return [(each.kind, each.bar, each.beat) for each in alignment.differences]


def test_a_score_agrees_with_itself():
    alignment = align(PIECE, PIECE)
    assert (alignment.notes, alignment.same, alignment.differences) == (10, 10, ())
    assert alignment.agreement == 1.0
    assert alignment.covered_bars == {1, 2}


def test_a_wrong_pitch_is_told_with_its_bar_and_beat():
    version = [replace(note, pitch_midi=66) if note.pitch_midi == 65 else note for note in PIECE]
    alignment = align(PIECE, version)
    (difference,) = alignment.differences
    assert (difference.kind, difference.bar, difference.beat) == (Kind.PITCH, 1, 4.0)
    assert (difference.ours.pitch_midi, difference.version.pitch_midi) == (65, 66)
    assert alignment.same == 9


def test_a_note_in_another_octave_is_a_wrong_note():
    version = [replace(note, pitch_midi=36) if note.pitch_midi == 48 else note for note in PIECE]
    assert told(align(PIECE, version)) == [(Kind.PITCH, 1, 1.0)]


def test_a_note_that_the_version_lacks_is_missing_and_one_more_is_extra():
    version = [note for note in PIECE if note.pitch_midi != 69]
    assert told(align(PIECE, version)) == [(Kind.MISSING, 2, 2.0)]
    assert told(align(version, PIECE)) == [(Kind.EXTRA, 2, 2.0)]


def test_a_wrong_last_note_is_told_too():
    version = [replace(note, pitch_midi=73) if note.pitch_midi == 72 else note for note in PIECE]
    assert told(align(PIECE, version)) == [(Kind.PITCH, 2, 4.0)]


def test_the_same_note_half_a_beat_late_has_another_onset():
    version = [
        replace(note, onset_quarters=2.5) if note.pitch_midi == 64 else note for note in PIECE
    ]
    assert told(align(PIECE, version)) == [(Kind.ONSET, 1, 3.0)]


def test_a_duration_is_told_only_when_it_differs_by_more_than_a_factor_of_two():
    def version(quarters):
        return [
            replace(note, duration_quarters=quarters) if note.pitch_midi == 64 else note
            for note in PIECE
        ]

    assert told(align(PIECE, version(0.5))) == []
    assert told(align(PIECE, version(0.25))) == [(Kind.DURATION, 1, 3.0)]


def test_a_version_may_begin_later_and_count_in_half_the_length():
    assert align(PIECE, moved(PIECE, quarters=3.0, times=0.5)).differences == ()


def test_a_repeat_that_the_version_writes_out_is_skipped_and_counted():
    again = moved(PIECE, quarters=8.0)
    after = moved((ScoreNote(0.0, 4.0, 55, bar=3), ScoreNote(0.0, 4.0, 76, bar=3)), 8.0)
    alignment = align((*PIECE, *after), (*PIECE, *again, *moved(after, 8.0)))
    assert alignment.differences == ()
    assert alignment.same == 12
    assert alignment.skipped_version_notes == 10


def test_what_the_version_has_before_and_after_our_excerpt_is_no_difference():
    before = [ScoreNote(float(beat), 1.0, 90 + beat) for beat in range(4)]
    after = [ScoreNote(12.0 + beat, 1.0, 100 - beat) for beat in range(4)]
    alignment = align(PIECE, (*before, *moved(PIECE, quarters=4.0), *after))
    assert alignment.differences == ()
    assert alignment.skipped_version_notes == 8


def test_a_bar_that_only_we_have_is_missing_and_costs_nothing_else():
    version = [note for note in PIECE if note.bar == 1]
    alignment = align(PIECE, version)
    assert {kind for kind, _, _ in told(alignment)} == {Kind.MISSING}
    assert {each.bar for each in alignment.differences} == {2}
    assert alignment.same == 5


def test_a_pause_written_out_as_time_shifts_what_follows_and_is_no_difference():
    version = [
        replace(note, onset_quarters=note.onset_quarters + 1.0) if note.bar == 2 else note
        for note in PIECE
    ]
    assert align(PIECE, version).differences == ()


def test_a_grace_note_may_be_written_out_or_left_out():
    grace = ScoreNote(4.0, 0.0, 66, bar=2)
    played = ScoreNote(3.75, 0.25, 66)
    for version in (PIECE, (*PIECE, played)):
        alignment = align((*PIECE, grace), version)
        assert alignment.differences == ()
        assert alignment.notes == 10


def test_a_key_that_both_hands_write_at_once_is_one_note():
    doubled = (*PIECE, ScoreNote(0.0, 0.5, 60, bar=1))
    assert align(doubled, PIECE).notes == 10
    assert align(doubled, PIECE).differences == ()


def test_nothing_in_common_is_all_missing():
    alignment = align(PIECE, [ScoreNote(0.0, 1.0, 100)])
    assert alignment.same == 0
    assert [each.kind for each in alignment.differences].count(Kind.MISSING) == 10
    assert align(PIECE, []).same == 0


PITCHES = st.integers(min_value=40, max_value=80)
MELODIES = st.lists(PITCHES, min_size=12, max_size=40, unique=True)


@settings(max_examples=40, deadline=None)
@given(
    melody=MELODIES,
    quarters=st.floats(min_value=0.0, max_value=40.0),
    times=st.sampled_from((0.25, 0.5, 1.0, 2.0, 3.0)),
)
def test_any_start_and_any_unit_of_counting_agree(melody, quarters, times):
    ours = [ScoreNote(beat / 2, 0.5, pitch) for beat, pitch in enumerate(melody)]
    alignment = align(ours, moved(ours, quarters, times))
    assert alignment.same == len(melody)
    assert {each.kind for each in alignment.differences} <= {Kind.DURATION}


@settings(max_examples=40, deadline=None)
@given(melody=MELODIES, where=st.integers(min_value=0, max_value=11))
def test_any_one_wrong_note_is_the_only_difference(melody, where):
    ours = [ScoreNote(float(beat), 1.0, pitch, bar=beat) for beat, pitch in enumerate(melody)]
    wrong = [*ours[:where], replace(ours[where], pitch_midi=100), *ours[where + 1 :]]
    assert told(align(ours, wrong)) == [(Kind.PITCH, where, 1.0)]


# --- the page -------------------------------------------------------------------------------

KERN = "\n".join(
    [
        "!!!OTL: A scale",
        "**kern\t**kern",
        "*staff2\t*staff1",
        "*k[]\t*k[]",
        "*M4/4\t*M4/4",
        "*MM100\t*MM100",
        "=1-\t=1-",
        "1C\t4c",
        ".\t4d",
        ".\t4e",
        ".\t4f",
        "=2\t=2",
        "1GG\t4g",
        ".\t4a",
        ".\t4b",
        ".\t4cc",
        "==\t==",
        "*-\t*-",
    ]
)


def write_table(path: Path, columns: str, *rows: tuple[str, ...]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns.split(","))
        writer.writerows(rows)


@pytest.fixture
def starter(tmp_path):
    """A catalogue of one piece, compared with a version whose sixth note is wrong."""
    folder = tmp_path / "starter"
    folder.mkdir()
    (folder / "scale.krn").write_text(KERN + "\n", encoding="utf-8")
    write_table(
        folder / "catalogue.csv",
        "piece_id,work_id,title,composer,opus,bars,source,arrangement",
        ("scale", "scale", "A scale", "Nobody", "", "2", "none", "our own"),
    )
    write_table(
        folder / "versions.csv",
        "piece_id,version_path,note",
        ("scale", "versions/other.mid", "sequenced"),
    )
    write_table(folder / "differences.csv", "piece_id,version,bars,kind,explanation")
    track = mido.MidiTrack()
    for pitch in (60, 62, 64, 65, 67, 70, 71, 72):
        track.append(mido.Message("note_on", note=pitch, velocity=64, time=0))
        track.append(mido.Message("note_off", note=pitch, velocity=0, time=480))
    bass = mido.MidiTrack()
    for pitch in (48, 43):
        bass.append(mido.Message("note_on", note=pitch, velocity=64, time=0))
        bass.append(mido.Message("note_off", note=pitch, velocity=0, time=1920))
    (tmp_path / "versions").mkdir()
    file = mido.MidiFile(ticks_per_beat=480, tracks=[track, bass])
    file.save(tmp_path / "versions" / "other.mid")
    return folder


def test_the_page_names_the_wrong_note_and_that_nobody_explained_it(starter, tmp_path):
    (result,) = proof_read(starter, tmp_path)
    assert (result.bars, result.notes, result.unexplained) == (2, 10, 1)
    text = page([result])
    assert "| `scale` | A scale | Nobody | 2 | 10 | our own; none |" in text
    assert "| 10 | 9 (90.0%) | 1 | 0 |" in text
    assert "| 2 | 2 | other pitch (not explained) | A4 for 1, right | B♭4 for 1, right |" in text


def test_an_explanation_of_that_bar_and_kind_explains_it(starter, tmp_path):
    write_table(
        starter / "differences.csv",
        "piece_id,version,bars,kind,explanation",
        ("scale", "other", "2", "other pitch", "a slip of the sequencer"),
        ("scale", "other", "1", "*", "another bar"),
    )
    (result,) = proof_read(starter, tmp_path)
    assert result.unexplained == 0
    assert "- Bar 2, other pitch: a slip of the sequencer" in page([result])


def test_a_piece_without_a_version_is_listed_with_how_it_was_proof_read(starter, tmp_path):
    write_table(
        starter / "versions.csv",
        "piece_id,version_path,note",
        ("scale", "", "by ear, twice"),
    )
    (result,) = proof_read(starter, tmp_path)
    assert result.alignment is None
    assert "- `scale`: by ear, twice" in page([result])


def test_a_version_that_is_not_there_is_named(starter, tmp_path):
    write_table(
        starter / "versions.csv", "piece_id,version_path,note", ("scale", "nowhere.mid", "")
    )
    with pytest.raises(InputError, match=r"nowhere\.mid.*mend versions\.csv"):
        proof_read(starter, tmp_path)


def test_an_archive_that_is_not_there_is_named(starter, tmp_path):
    write_table(
        starter / "versions.csv", "piece_id,version_path,note", ("scale", "no.tar.xz:a.mid", "")
    )
    with pytest.raises(InputError, match=r"no\.tar\.xz cannot be unpacked"):
        proof_read(starter, tmp_path)
