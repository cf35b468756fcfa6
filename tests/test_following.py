"""Following: the place in the score, through what players do, and silence where nobody knows."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.following import FollowedScore, Follower, Position, follow
from edge.matching import Catalogue, Piece, Score
from edge.note import NoteEvent
from tests.tunes import made_up_score, noise, played, with_mistakes

SCORE = made_up_score(seed=3)
FOLLOWED = FollowedScore.of_score(SCORE)
AN_EIGHTH = 0.51
END = float(SCORE.onset_quarters[-1])


def places(
    notes: list[NoteEvent], start_quarters: float | None = 0.0, score: FollowedScore = FOLLOWED
) -> list[Position]:
    return follow(score, notes, start_quarters)


def after(notes: list[NoteEvent], pause_s: float, more: list[NoteEvent]) -> list[NoteEvent]:
    """More notes, begun a pause after the last of the first ones."""
    shift_s = notes[-1].onset_s + pause_s - more[0].onset_s
    return [
        *notes,
        *(
            NoteEvent(n.pitch_midi, n.onset_s + shift_s, None, n.velocity, n.confidence)
            for n in more
        ),
    ]


def written(from_quarter: float = 0.0, quarters: float = END + 1) -> np.ndarray:
    onset = SCORE.onset_quarters
    return onset[(onset >= from_quarter) & (onset < from_quarter + quarters)]


def share_right(found: list[Position], truth: np.ndarray) -> float:
    right = [
        not position.lost and abs(position.quarters - quarters) < AN_EIGHTH
        for position, quarters in zip(found, truth, strict=True)
    ]
    return float(np.mean(right))


def test_bar_and_beat_of_a_straight_performance() -> None:
    found = places(played(SCORE, quarters=END + 1))
    truth = written()
    assert np.allclose([p.quarters for p in found], truth, atol=1e-6)
    assert [p.bar for p in found] == [int(q // 4) + 1 for q in truth]
    assert np.allclose([p.beat for p in found], truth % 4 + 1)
    assert not any(p.lost for p in found)


@pytest.mark.parametrize("tempo", [0.5, 0.8, 1.25, 2.0])
def test_the_tempo_is_told_from_half_to_double(tempo: float) -> None:
    last = places(played(SCORE, quarters=40, tempo=tempo))[-1]
    assert last.tempo_ratio == pytest.approx(tempo, rel=0.05)
    assert last.tempo_bpm == pytest.approx(120 * tempo, rel=0.05)


def test_between_notes_the_position_goes_on_in_tempo_but_not_past_the_next_chord() -> None:
    follower = Follower(FOLLOWED, 0.0)
    notes = played(SCORE, quarters=24)
    for note in notes:
        here = follower.push(note)
    following = float(written(24.0)[0])
    soon = follower.position_at(here.t_s + 0.1)
    assert soon.quarters == pytest.approx(here.quarters + 0.2, abs=0.05)
    assert follower.position_at(here.t_s + 60.0).quarters == pytest.approx(following)


def test_rubato_is_followed() -> None:
    notes = played(SCORE, quarters=END + 1)
    at_s = np.array([note.onset_s for note in notes])
    bent_s = at_s + 1.2 * np.sin(at_s / 2.5)  # the tempo swings between a half and one and a half
    bent = [
        NoteEvent(n.pitch_midi, float(s), None, 64, 1.0) for n, s in zip(notes, bent_s, strict=True)
    ]
    assert share_right(places(bent), written()) > 0.98


def test_wrong_missed_and_extra_notes_do_not_throw_it_off() -> None:
    notes = with_mistakes(played(SCORE, quarters=END + 1), seed=1, share=0.1)
    notes = sorted([*notes, *noise(seed=5, notes=20)], key=lambda n: (n.onset_s, n.pitch_midi))
    found = places(notes)
    truth = np.array([note.onset_s * 2.0 for note in notes])
    assert share_right(found, truth) > 0.9


def test_a_jump_eight_bars_back_is_found_within_three_seconds() -> None:
    first, again = played(SCORE, quarters=64), played(SCORE, from_quarter=32, quarters=40)
    notes = after(first, 0.6, again)
    found = places(notes)[len(first) :]
    late = [p.t_s - found[0].t_s > 3.0 for p in found]
    truth = written(32, 40)
    assert share_right([p for p, is_late in zip(found, late, strict=True) if is_late], truth[late])
    recovered = next(
        p.t_s
        for p, q in zip(found, truth, strict=True)
        if not p.lost and abs(p.quarters - q) < AN_EIGHTH
    )
    assert recovered - found[0].t_s < 3.0
    assert share_right([p for p, x in zip(found, late, strict=True) if x], truth[late]) == 1.0


def test_a_jump_forward_is_found_within_three_seconds() -> None:
    first, further = played(SCORE, quarters=24), played(SCORE, from_quarter=80, quarters=32)
    found = places(after(first, 0.5, further))[len(first) :]
    settled = [p.t_s - found[0].t_s > 3.0 for p in found]
    truth = written(80, 32)
    assert share_right([p for p, x in zip(found, settled, strict=True) if x], truth[settled]) == 1.0


def test_a_repeat_may_be_taken_or_not() -> None:
    section = played(SCORE, quarters=32)
    taken = after(after(section, 0.5, section), 0.5, played(SCORE, from_quarter=32, quarters=32))
    truth = np.concatenate((written(0, 32), written(0, 32), written(32, 32)))
    assert share_right(places(taken), truth) > 0.9
    straight = played(SCORE, quarters=64)
    assert share_right(places(straight), written(0, 64)) == 1.0


SIGNED = FollowedScore.of_score(
    replace(SCORE, repeat_quarters=np.array([[32.0, 0.0], [60.0, 64.0], [64.0, 32.0]]))
)
"""The first eight bars repeated, then eight with a first and a second ending."""


def quarter_s(quarters: float) -> float:
    """Seconds of so many quarters at the tempo of the score."""
    return quarters * 0.5


@dataclass(frozen=True)
class Performance:
    """Notes, the place of each, and which ones begin a stretch."""

    notes: list[NoteEvent]
    truth: np.ndarray
    begins: np.ndarray


def bound(*stretches: tuple[float, float]) -> Performance:
    """Stretches (from quarter, to quarter) played on end, in time."""
    notes: list[NoteEvent] = []
    truth: list[np.ndarray] = []
    begun_s = 0.0
    for begin, end in stretches:
        truth.append(written(begin, end - begin))
        lead_s = begun_s + quarter_s(float(truth[-1][0]) - begin)
        notes += played(SCORE, begin, end - begin, start_s=lead_s)
        begun_s += quarter_s(end - begin)
    first = np.concatenate([np.arange(each.size) == 0 for each in truth])
    return Performance(notes, np.concatenate(truth), first)


TAKEN = bound((0.0, 32.0), (0.0, 32.0), (32.0, 64.0), (32.0, 60.0), (64.0, 80.0))
NOT_TAKEN = bound((0.0, 64.0), (64.0, 80.0))
SECOND_AT_ONCE = bound((0.0, 60.0), (64.0, 80.0))


@pytest.mark.parametrize("way", [TAKEN, NOT_TAKEN, SECOND_AT_ONCE])
def test_where_signs_lead_the_place_is_known_with_the_second_note(way: Performance) -> None:
    found = places(way.notes, score=SIGNED)
    assert not any(position.lost for position in found)
    off = np.abs([position.quarters for position in found] - way.truth) > AN_EIGHTH
    assert not off[~way.begins].any()


@pytest.mark.parametrize("seed", range(4))
def test_repeats_with_mistakes_are_followed(seed: int) -> None:
    found = places(with_mistakes(TAKEN.notes, seed=seed), score=SIGNED)
    again = [p for p in found if quarter_s(34) < p.t_s < quarter_s(62)]
    assert np.mean([p.bar == (p.t_s - quarter_s(32)) // 2 + 1 for p in again]) > 0.9
    assert not any(p.lost for p in again)


@pytest.mark.parametrize("hand", [1, 2])
def test_one_hand_alone_takes_the_repeat(hand: int) -> None:
    written_for = dict(
        zip(zip(SCORE.onset_quarters, SCORE.pitch_midi, strict=True), SCORE.hand, strict=True)
    )
    alone = [
        (note, quarters)
        for note, quarters in zip(TAKEN.notes, TAKEN.truth, strict=True)
        if written_for[quarters, note.pitch_midi] == hand
    ]
    found = places([note for note, _ in alone], score=SIGNED)
    assert share_right(found, np.array([quarters for _, quarters in alone])) > 0.9


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 170), st.integers(0, 170)), max_size=6))
def test_signs_that_lead_anywhere_at_all_do_no_harm(passages: list[tuple[int, int]]) -> None:
    """Beyond the end, before the first note, from a place to itself, into one another."""
    repeats = np.array(passages, dtype=float).reshape(-1, 2)
    score = FollowedScore.of_score(replace(SCORE, repeat_quarters=repeats))
    found = places(played(SCORE, quarters=30), score=score)
    assert all(np.isfinite([p.quarters, p.tempo_bpm, p.confidence]).all() for p in found)
    assert found[-1].quarters == pytest.approx(float(written(0, 30)[-1]), abs=AN_EIGHTH)


@pytest.mark.parametrize("hand", [1, 2])
def test_one_hand_alone_is_followed(hand: int) -> None:
    alone = SCORE.hand == hand
    notes = [
        NoteEvent(int(pitch), float(at), None, 64, 1.0)
        for pitch, at in zip(SCORE.pitch_midi[alone], SCORE.onset_s[alone], strict=True)
    ]
    assert share_right(places(notes)[4:], SCORE.onset_quarters[alone][4:]) > 0.95


def test_from_an_unknown_place_it_is_found() -> None:
    found = places(played(SCORE, from_quarter=60, quarters=32, start_s=5.0), None)
    assert found[0].lost
    assert share_right(found[12:], written(60, 32)[12:]) == 1.0


def rondo() -> Score:
    """A theme, another, and the first again."""
    theme, other = made_up_score(seed=21, chords=60), made_up_score(seed=22, chords=60)
    length = float(np.ceil(max(theme.onset_quarters[-1], other.onset_quarters[-1]) / 4 + 1) * 4)
    parts = (theme, other, theme)
    bars = np.arange(0.0, 3 * length, 4.0)
    return replace(
        theme,
        pitch_midi=np.concatenate([part.pitch_midi for part in parts]),
        onset_quarters=np.concatenate(
            [part.onset_quarters + k * length for k, part in enumerate(parts)]
        ),
        duration_quarters=np.concatenate([part.duration_quarters for part in parts]),
        hand=np.concatenate([part.hand for part in parts]),
        bar_quarters=bars,
        bar_number=np.arange(1, bars.size + 1, dtype=np.int32),
        bar_beat_quarters=np.ones(bars.size),
    )


def test_a_theme_that_comes_back_is_taken_for_its_first_time_and_told_from_it_as_they_part() -> (
    None
):
    score = rondo()
    known, again = FollowedScore.of_score(score), 8.0 / 3 * score.bar_quarters.size
    notes = played(score, quarters=60.0)
    for start in (0.0, again):
        found = places(notes, start, known)
        assert share_right(found, score.onset_quarters[: len(notes)]) > 0.98
    last_time = played(score, from_quarter=again - 16.0, quarters=48.0)
    found = places(last_time, again - 16.0, known)
    assert found[-1].quarters > again


def test_noise_is_lost() -> None:
    found = places(noise(seed=2, notes=120), None)
    assert np.mean([p.lost for p in found[10:]]) > 0.95


def test_another_piece_is_lost() -> None:
    found = places(played(made_up_score(seed=11), quarters=80), None)
    assert np.mean([p.lost for p in found[10:]]) > 0.9


def test_a_warm_up_before_the_piece_is_lost_and_then_the_piece_found() -> None:
    scales = noise(seed=4, notes=40)
    notes = after(scales, 1.0, played(SCORE, quarters=40))
    found = places(notes, None)
    start_s = found[len(scales)].t_s
    settled = [p.t_s > start_s + 3.0 for p in found]
    truth = np.concatenate((np.zeros(len(scales)), written(0, 40)))[settled]
    assert share_right([p for p, x in zip(found, settled, strict=True) if x], truth) == 1.0


def test_nothing_heard_is_lost() -> None:
    assert Follower(FOLLOWED).position_at(3.0).lost


def test_a_piece_of_a_catalogue_is_the_piece_itself() -> None:
    other = made_up_score(seed=8)
    catalogue = Catalogue.from_scores([other, SCORE])
    from_catalogue = FollowedScore.of_catalogue(catalogue, SCORE.piece.piece_id)
    notes = played(SCORE, quarters=20)
    assert places(notes, score=from_catalogue) == places(notes)
    for unknown in ("no such piece", "", "piece", "Piece 3", "work-3"):
        with pytest.raises(KeyError):
            FollowedScore.of_catalogue(catalogue, unknown)


def test_a_piece_is_found_by_its_id_whatever_the_id_and_the_titles_hold() -> None:
    odd = ['a"b', "ä,ö", "x[y]", '["q",']
    scores = [
        replace(SCORE, piece=Piece(each, "w", f'["{odd[0]}", {odd[k - 1]}', "["))
        for k, each in enumerate(odd)
    ]
    catalogue = Catalogue.from_scores(scores)
    assert [catalogue.find(each)[1] for each in odd] == [0, 1, 2, 3]


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_looking_between_notes_changes_nothing(data: st.DataObject) -> None:
    notes = with_mistakes(played(SCORE, quarters=30), seed=data.draw(st.integers(0, 99)))
    notes.sort(key=lambda note: (note.onset_s, note.pitch_midi))
    looked = data.draw(st.sets(st.integers(0, len(notes) - 1)))
    follower = Follower(FOLLOWED, 0.0)
    found = []
    for index, note in enumerate(notes):
        if index in looked:
            follower.position_at(note.onset_s)
        found.append(follower.push(note))
    assert found == follow(FOLLOWED, notes, 0.0)
    follower.reset()
    assert [follower.push(note) for note in notes] == found


def test_a_first_note_that_the_piece_has_not_is_lost_and_the_next_ones_are_found() -> None:
    follower = Follower(FOLLOWED)
    assert follower.push(NoteEvent(21, 0.1, None, 64, 1.0)).lost
    found = [follower.push(note) for note in played(SCORE, quarters=16, start_s=1.0)]
    assert not found[-1].lost
    assert found[-1].quarters == pytest.approx(float(written(0, 16)[-1]), abs=0.01)


def test_a_score_of_one_chord_is_followed_without_a_tempo() -> None:
    chord = FollowedScore.of_score(made_up_score(seed=1, chords=1))
    pitch = int(np.flatnonzero(chord.held[0])[0])
    follower = Follower(chord, 0.0)
    assert follower.push(NoteEvent(pitch, 1.0, None, 64, 1.0)).bar == 1
    assert np.isfinite(follower.position_at(500.0).quarters)


def test_the_same_chord_struck_for_ever_is_no_progress() -> None:
    pitch = int(SCORE.pitch_midi[0])
    notes = [NoteEvent(pitch, 0.5 * beat, None, 64, 1.0) for beat in range(60)]
    assert np.mean([position.lost for position in places(notes, None)]) > 0.8
