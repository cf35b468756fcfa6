"""Practice: what went wrong is told, and what players do without doing wrong is not."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from edge.following import FollowedScore, follow
from edge.matching import Candidate, Catalogue, MatchState, Piece, PieceMatch, Score
from edge.matching.pack import pack_scores
from edge.matching.score import Hand
from edge.messages import Feedback, FeedbackKind, decode, encode
from edge.note import NoteEvent
from edge.practice import (
    BarFeedback,
    ExpectedNotes,
    Finding,
    LivePractice,
    Practice,
    Verdict,
    practised,
)
from edge.practice.alignment import same_keys, time_map
from edge.practice.summary import summed
from edge.practice.timing import timing
from edge.publish.compose import FEEDBACK_KINDS, feedback_messages
from edge.publish.session import SessionLog
from tests.tunes import made_up_score, played

SCORE = made_up_score(seed=3)
EXPECTED = ExpectedNotes.of_score(SCORE)
FOLLOWED = FollowedScore.of_score(SCORE)
END = float(SCORE.onset_quarters[-1]) + 1


def told(notes: list[NoteEvent], start_quarters: float | None = 0.0) -> list[BarFeedback]:
    return practised(EXPECTED, FOLLOWED, notes, start_quarters)


def all_of(bars: list[BarFeedback]) -> list[Finding]:
    return [finding for bar in bars for finding in bar.findings]


def faults(bars: list[BarFeedback]) -> list[tuple[Verdict, int, int | None, int | None]]:
    return [
        (each.verdict, each.bar, each.expected_pitch_midi, each.played_pitch_midi)
        for bar in bars
        for each in bar.faults
    ]


def changed(notes: list[NoteEvent], which: int, **fields: float) -> list[NoteEvent]:
    return [replace(n, **fields) if i == which else n for i, n in enumerate(notes)]  # type: ignore[arg-type]


def test_a_faultless_performance_is_all_right_and_every_note_is_told_once() -> None:
    bars = told(played(SCORE, quarters=END))
    assert Counter(each.verdict for each in all_of(bars)) == {Verdict.RIGHT: SCORE.pitch_midi.size}
    assert sorted(each.note or 0 for each in all_of(bars)) == list(range(SCORE.pitch_midi.size))
    assert [bar.bar for bar in bars] == sorted({bar.bar for bar in bars})
    assert bars[3].tempo_bpm == pytest.approx(120.0, rel=0.01)


def test_each_kind_of_mistake_is_told_as_what_it_is() -> None:
    notes = played(SCORE, quarters=60)
    bar = int(notes[30].onset_s * 2) // 4 + 1
    pitch = notes[30].pitch_midi
    missed = notes[:30] + notes[31:]
    assert faults(told(missed)) == [(Verdict.MISSED, bar, pitch, None)]
    wrong = changed(notes, 30, pitch_midi=pitch + 1)
    assert faults(told(wrong)) == [(Verdict.WRONG, bar, pitch, pitch + 1)]
    late = changed(notes, 30, onset_s=notes[30].onset_s + 0.15)
    assert faults(told(late)) == [(Verdict.LATE, bar, pitch, pitch)]
    early = changed(notes, 30, onset_s=notes[30].onset_s - 0.15)
    assert faults(told(early)) == [(Verdict.EARLY, bar, pitch, pitch)]
    strange = NoteEvent(pitch + 6, notes[30].onset_s + 0.02, None, 64, 1.0)
    assert faults(told([*notes, strange])) == [(Verdict.EXTRA, bar, None, pitch + 6)]


def test_late_is_said_in_milliseconds_against_the_players_own_tempo() -> None:
    notes = played(SCORE, quarters=60, tempo=0.7)
    late = changed(notes, 30, onset_s=notes[30].onset_s + 0.15)
    (finding,) = [each for bar in told(late) for each in bar.faults]
    assert finding.delta_s == pytest.approx(0.15, abs=0.02)


def test_rubato_and_a_hesitation_are_nobodys_fault() -> None:
    notes = played(SCORE, quarters=END)
    bent = [replace(n, onset_s=n.onset_s + 0.8 * np.sin(n.onset_s / 2.5)) for n in notes]
    assert faults(told(bent)) == []
    paused = [
        replace(n, onset_s=n.onset_s + (1.2 if i >= 40 else 0.0)) for i, n in enumerate(notes)
    ]
    assert faults(told(paused)) == []


def test_who_plays_one_hand_alone_misses_nothing_of_the_other() -> None:
    right = SCORE.hand == Hand.RIGHT
    notes = [
        NoteEvent(int(pitch), float(at_s), None, 64, 1.0)
        for pitch, at_s in zip(SCORE.pitch_midi[right], SCORE.onset_s[right], strict=True)
    ]
    bars = told(notes)
    assert {each.hand for each in all_of(bars)} == {Hand.RIGHT}
    assert faults(bars) == []


def test_a_restart_begins_another_take_and_what_lies_between_is_not_asked() -> None:
    first = played(SCORE, quarters=40)
    again = played(SCORE, from_quarter=24, quarters=40, start_s=first[-1].onset_s + 0.7)
    bars = told([*first, *again])
    assert faults(bars) == []
    assert {bar.take for bar in bars} == {0, 1}
    assert max(bar.bar for bar in bars if bar.take == 0) == 10
    assert min(bar.bar for bar in bars if bar.take == 1) == 7


def test_who_stops_in_the_middle_of_a_bar_has_missed_nothing() -> None:
    assert faults(told(played(SCORE, quarters=41.5))) == []


def test_who_begins_in_the_middle_is_found_and_judged_from_the_first_note() -> None:
    notes = played(SCORE, from_quarter=40, quarters=40)
    findings = all_of(told(notes, None))
    assert len(findings) == len(notes)
    assert {each.verdict for each in findings} == {Verdict.RIGHT}


def test_a_skipped_bar_is_not_a_row_of_missed_notes() -> None:
    first = played(SCORE, quarters=32)
    on = played(SCORE, from_quarter=36, quarters=24, start_s=first[-1].onset_s + 0.25)
    assert not [each for each in faults(told([*first, *on])) if each[0] is Verdict.MISSED]


def chords(hands: int = 2) -> Score:
    """Chords of three notes and a bass, on every beat of twelve bars."""
    steps = np.array([0, 2, 4, 5, 7, 5, 4, 2] * 6)
    pitch = np.concatenate([[48 + s, 64 + s, 67 + s, 72 + s] for s in steps])
    onset = np.repeat(np.arange(48.0), 4)
    return Score(
        piece=Piece("chords", "chords", "Chords", ""),
        pitch_midi=pitch.astype(np.uint8),
        onset_quarters=onset,
        duration_quarters=np.ones(onset.size),
        hand=np.tile([Hand.LEFT, Hand.RIGHT, Hand.RIGHT, Hand.RIGHT], 48).astype(np.uint8),
        bar_quarters=np.arange(0.0, 48.0, 4.0),
        bar_number=np.arange(1, 13, dtype=np.int32),
        bar_beat_quarters=np.ones(12),
        tempo_quarters=np.array([0.0, 60.0]),
        tempo_s=np.array([0.0, 36.0]),
    )


CHORDS = chords()


def told_of_chords(notes: list[NoteEvent]) -> list[BarFeedback]:
    return practised(ExpectedNotes.of_score(CHORDS), FollowedScore.of_score(CHORDS), notes, 0.0)


def test_a_rolled_chord_is_in_time_and_one_note_of_it_apart_is_not() -> None:
    notes = played(CHORDS, quarters=48)
    rolled = [
        replace(n, onset_s=n.onset_s + 0.06 * (i - 80)) if 80 <= i < 84 else n
        for i, n in enumerate(notes)
    ]
    assert faults(told_of_chords(rolled)) == []
    apart = changed(notes, 83, onset_s=notes[83].onset_s + 0.15)
    assert [each[0] for each in faults(told_of_chords(apart))] == [Verdict.LATE]


def test_a_trill_is_an_ornament_and_a_brushed_key_an_extra_note() -> None:
    notes = played(CHORDS, quarters=48)
    note = notes[83]
    trill = [
        replace(note, pitch_midi=note.pitch_midi + 2 * (i % 2), onset_s=note.onset_s + 0.09 * i)
        for i in range(1, 6)
    ]
    assert faults(told_of_chords([*notes, *trill])) == []
    brushed = replace(note, pitch_midi=note.pitch_midi + 1, onset_s=note.onset_s + 0.01)
    assert [each[0] for each in faults(told_of_chords([*notes, brushed]))] == [Verdict.EXTRA]


def test_a_bass_doubled_in_octaves_throughout_is_no_row_of_extra_notes() -> None:
    notes = played(CHORDS, quarters=48)
    doubles = [replace(n, pitch_midi=n.pitch_midi - 12) for n in notes if n.pitch_midi < 60]
    assert faults(told_of_chords([*notes, *doubles])) == []


def test_the_ears_doubt_is_counted_and_not_told() -> None:
    notes = played(CHORDS, quarters=48)
    lacking = [n for i, n in enumerate(notes) if i != 81]
    ghost = replace(notes[83], pitch_midi=notes[83].pitch_midi + 12)
    heard = [replace(n, confidence=0.9) for n in [*lacking, ghost]]
    bars = told_of_chords(heard)
    assert faults(bars) == []
    unsure = [each for each in all_of(bars) if each.verdict is not Verdict.RIGHT]
    assert {each.verdict for each in unsure} == {Verdict.MISSED, Verdict.EXTRA}
    assert len(faults(told_of_chords([*lacking, ghost]))) == 2, "a keyboard leaves no doubt"


def test_a_key_struck_three_times_instead_of_four_lacks_one() -> None:
    due_s, struck_s = np.array([0.0, 0.2, 0.4, 0.6]), np.array([0.01, 0.19, 0.62])
    answer = same_keys(due_s, np.full(4, 60), struck_s, np.full(3, 60))
    assert answer.tolist() == [0, 1, -1, 2]


def test_the_map_leaves_out_what_would_go_back_in_time() -> None:
    found = time_map(np.array([0.0, 1.0, 2.0, 3.0]), np.array([5.0, 6.0, 5.5, 8.0]))
    assert found.written_s.tolist() in ([0.0, 1.0, 3.0], [0.0, 2.0, 3.0])
    assert (np.diff(found.played_s) > 0).all()
    assert found.played_at(np.array([4.0]))[0] == pytest.approx(9.0)


def test_a_chord_of_two_stands_where_the_note_in_the_flow_stands() -> None:
    written_s = np.repeat(np.arange(9.0), 2) * 0.5
    played_s = written_s * 1.1
    played_s[9] += 0.15
    found = timing(written_s, played_s, np.tile([60, 64], 9), np.ones(18, dtype=np.bool_))
    assert np.flatnonzero(found.out_of_time).tolist() == [9]
    assert found.delta_s[9] == pytest.approx(0.15, abs=0.01)
    assert found.slowness[8] == pytest.approx(1.1, abs=0.01)


def spoilt() -> list[NoteEvent]:
    """A performance with slips, a restart and a stop."""
    rng = np.random.default_rng(4)
    first = played(SCORE, quarters=36)
    again = played(SCORE, from_quarter=24, quarters=36, start_s=first[-1].onset_s + 0.8)
    notes = [
        replace(n, pitch_midi=n.pitch_midi + int(rng.choice([0] * 12 + [1])))
        for n in [*first, *again]
        if rng.random() > 0.05
    ]
    late = [replace(n, onset_s=n.onset_s + float(rng.normal(0, 0.03))) for n in notes]
    return sorted(
        (replace(n, onset_s=max(n.onset_s, 0.0)) for n in late),
        key=lambda n: (n.onset_s, n.pitch_midi),
    )


NOTES = spoilt()
POSITIONS = follow(FOLLOWED, NOTES, 0.0)
WHOLE = told(NOTES)


@settings(deadline=None, max_examples=20)
@given(st.lists(st.floats(0.0, 1.0), max_size=8))
def test_however_time_passes_between_the_notes_the_verdicts_are_the_same(
    moments: list[float],
) -> None:
    practice = Practice(EXPECTED)
    told_so_far: list[BarFeedback] = []
    for i, (note, position) in enumerate(zip(NOTES, POSITIONS, strict=True)):
        told_so_far += practice.push(note, position)
        until_s = NOTES[i + 1].onset_s if i + 1 < len(NOTES) else note.onset_s
        for share in moments:
            told_so_far += practice.advance(note.onset_s + share * (until_s - note.onset_s))
    assert told_so_far + practice.flush() == WHOLE


def test_a_bar_is_told_while_the_player_plays_on() -> None:
    practice = Practice(EXPECTED)
    delays_s = []
    notes = played(SCORE, quarters=END)
    for note, position in zip(notes, follow(FOLLOWED, notes, 0.0), strict=True):
        for bar in practice.push(note, position):
            delays_s.append(note.onset_s - bar.bar * 2.0)
    assert len(delays_s) > 30
    assert max(delays_s) < 4.0


def test_noise_is_told_nothing() -> None:
    rng = np.random.default_rng(0)
    notes = [NoteEvent(int(rng.integers(30, 100)), 0.2 * i, None, 64, 1.0) for i in range(60)]
    assert told(notes, None) == []
    assert told([]) == []


def live(split: list[int]) -> list[BarFeedback]:
    """What the live practice tells of `NOTES`, pushed in such parts; the piece is named midway."""
    practice = LivePractice(Catalogue([pack_scores([SCORE])]))
    match = PieceMatch(MatchState.MATCHED, (CHOSEN,))
    told_so_far: list[BarFeedback] = []
    edges = sorted({0, *(min(each, len(NOTES)) for each in split), len(NOTES)})
    named = False
    for begin, end in pairwise(edges):
        part = NOTES[begin:end]
        now_s = part[-1].onset_s + 0.3
        news = [match] if not named and now_s > 8.0 else []
        named |= bool(news)
        told_so_far += practice.push(part, news, now_s)
    return told_so_far + practice.push([], [] if named else [match], 99.0) + practice.flush()


CHOSEN = Candidate(SCORE.piece.piece_id, "", "", "", 1.0, 0.0, 1, 1.0, 0)


@settings(deadline=None, max_examples=15)
@given(st.lists(st.integers(1, 120), max_size=40))
def test_however_the_notes_are_pushed_live_the_verdicts_are_the_same(split: list[int]) -> None:
    assert live(split) == WHOLE


def test_live_practice_tells_of_nothing_until_the_piece_is_named() -> None:
    practice = LivePractice(Catalogue([pack_scores([SCORE])]))
    assert practice.push(NOTES[:60], [], NOTES[59].onset_s + 0.3) == []
    assert practice.flush() == []


def test_a_bar_is_published_with_its_faults_and_summed_up_in_the_session() -> None:
    bar = next(bar for bar in WHOLE if bar.faults)
    *found, whole = feedback_messages(bar)
    assert [message.kind for message in found] == [FEEDBACK_KINDS[f.verdict] for f in bar.faults]
    assert (whole.kind, whole.bar) == (FeedbackKind.BAR, bar.bar)
    assert whole.asked == summed([bar]).asked
    assert all(decode("feedback", encode(stamped(each))) for each in [*found, whole])
    session = SessionLog()
    session.begin(0.0)
    session.push(WHOLE, 30.0)
    (end,) = session.close(30.0)
    of = summed(WHOLE)
    assert end.accuracy == pytest.approx(of.accuracy, abs=1e-3)
    assert end.practice is not None
    assert end.practice.asked == of.asked
    assert of.asked - of.right == of.wrong + of.missed + of.early + of.late


def stamped(message: Feedback) -> Feedback:
    return structs.replace(message, boot="b", seq=0, t="2026-11-20T18:02:11.120Z", mono_ms=1)
