"""The yardstick itself: what the benchmark calls right, and how it writes it down."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from benchmarks import feedback, missed, note_accuracy, places, provisional, readme, table
from benchmarks.__main__ import compare_speed
from benchmarks.delay import Confirmed, delays_s
from benchmarks.identification import FEWEST_ONSETS, Share, windows
from benchmarks.works import Music
from edge.audio.block import STREAM_RATE_HZ
from edge.midi import read_midi
from edge.note import NoteEvent
from edge.practice import ExpectedNotes
from tests.pianos import write_piano
from tests.tunes import made_up_score
from training.evaluation import NoteScores, score_notes
from training.hearing import Hearing, Recording
from training.peers import BASIC_PITCH


def a_note(pitch_midi: int, onset_s: float, offset_s: float) -> NoteEvent:
    return NoteEvent(pitch_midi, onset_s, offset_s, 64, 1.0)


def test_two_of_three_notes_and_one_too_many_give_two_thirds() -> None:
    played = [a_note(60, 1.0, 2.0), a_note(64, 1.0, 2.0), a_note(67, 1.0, 2.0)]
    heard = [a_note(60, 1.04, 2.1), a_note(64, 0.96, 1.5), a_note(65, 1.0, 2.0)]
    found = score_notes(played, heard)
    assert found.precision == pytest.approx(2 / 3)
    assert found.recall == pytest.approx(2 / 3)
    assert found.f1 == pytest.approx(2 / 3)
    # Only c' ends within a fifth of its length.
    assert found.f1_with_offsets == pytest.approx(1 / 3)


def test_a_note_51_ms_late_is_wrong() -> None:
    found = score_notes([a_note(60, 1.0, 2.0)], [a_note(60, 1.051, 2.0)])
    assert found.f1 == 0.0


def test_hearing_nothing_scores_nothing() -> None:
    assert score_notes([a_note(60, 1.0, 2.0)], []) == NoteScores(0.0, 0.0, 0.0, 0.0)


def test_the_mean_is_over_tracks_and_told_by_microphone() -> None:
    played = [a_note(60, 1.0, 2.0)]
    hearings = [
        Hearing.judged(Recording(name, Path(name), tuple(played), (microphone,)), heard, 0.01)
        for name, microphone, heard in (
            ("waltz", "close", played),
            ("march", "ambient", [*played, a_note(61, 1.0, 2.0), a_note(62, 1.0, 2.0)]),
        )
    ]
    found = note_accuracy.figures(hearings)
    assert found["f1"] == 0.75
    assert found["microphones"]["ambient"]["f1"] == 0.5
    assert found["tracks"]["waltz"]["f1"] == 1.0


def test_the_cost_is_told_as_a_share_of_basic_pitchs() -> None:
    figures = {
        "separable3d": {"transcribing": {"cpu_s_per_s": 0.02, "hearing_s_per_s": 0.01}},
        BASIC_PITCH: {"transcribing": {"cpu_s_per_s": 0.04}},
    }
    compare_speed(figures)
    assert figures["separable3d"]["transcribing"]["of_basic_pitch"] == 0.25
    assert "of_basic_pitch" not in figures[BASIC_PITCH]["transcribing"]


def test_delay_counts_from_the_true_onset_not_from_the_one_heard() -> None:
    played = [a_note(60, 1.0, 2.0), a_note(62, 2.0, 3.0)]
    heard = [Confirmed(NoteEvent(60, 1.03, None, 64, 1.0), 1.25)]
    assert delays_s(played, heard) == [pytest.approx(0.25)]


def test_a_figure_that_was_not_measured_is_a_dash() -> None:
    report = {"ears": {"templates": {"accuracy": {"f1": 0.5}, "model_bytes": None}}}
    ((title, (columns, lines)),) = table.tables(report).items()
    cells = {label: found for label, found, _ in lines}
    assert (title, columns) == ("Notes, by ear", ["templates"])
    assert cells["onset F1, real recordings"] == ["0.500"]
    assert cells["model, bytes"] == [table.NOTHING]
    assert cells["delay: median, ms"] == [table.NOTHING]


A_SHARE = {"share": 0.97, "low": 0.951, "high": 0.982, "of": 300}


def test_a_share_knows_how_far_it_may_be_trusted() -> None:
    assert Share(8, 10).interval == pytest.approx((0.490, 0.943), abs=0.001)
    assert Share(0, 50).interval == pytest.approx((0.0, 0.071), abs=0.001)
    assert Share.of_all([True, False]).value == 0.5


def test_a_window_begins_after_the_first_note_and_holds_eight_onsets() -> None:
    slow = tuple(a_note(60, 4.0 * beat, 4.0 * beat + 1.0) for beat in range(40))
    fast = tuple(a_note(60, 3.0 + 0.25 * beat, 3.2 + 0.25 * beat) for beat in range(80))
    played = [Music("made up", name, "a work", notes) for name, notes in (("s", slow), ("f", fast))]
    found = windows(played, 5.0, 20, np.random.default_rng(1))
    assert {each.name for each in found} == {"f"}
    assert len(found) == 20
    for each in found:
        assert len(each.notes) >= FEWEST_ONSETS
        assert each.notes[0].onset_s >= 3.0
        assert each.notes[-1].onset_s - each.notes[0].onset_s < 5.0


def test_the_tables_fit_a_terminal_of_eighty_columns() -> None:
    live = {"median_ms": 1234.0, "confirmed_rightly": 123, "played": 456}
    report = {
        "ears": {
            **{
                ear: {"model_bytes": 1_234_567, "live": live}
                for ear in ("separable3d", "compressed")
            },
            **{ear: {"live": live} for ear in ("templates", BASIC_PITCH)},
        },
        "identification": {
            "windows": {
                kind: {length: {"right": A_SHARE} for length in ("5", "10", "20")}
                for kind in ("performances", "transcriptions", "recordings")
            },
            "live": {
                kind: {"right_within": {"10": A_SHARE}, "unknown_matched": A_SHARE}
                for kind in ("performances", "transcriptions", "recordings")
            }
            | {"pop909_matched": A_SHARE},
        },
        "scale": [{"pieces": pieces, "memory_mb": 123.4} for pieces in (1_000, 100_000)],
        "feedback": {
            kind: {"put_in": 4_190, "recall": 0.944, "false_alarms": 0.0156}
            for kind in table.FEEDBACK_COLUMNS
        },
    }
    console = Console(width=80, record=True, file=StringIO())
    for made in table.rich_tables(report):
        console.print(made)
    assert "…" not in console.export_text()


def test_the_readme_keeps_everything_around_the_table() -> None:
    text = f"before\n{readme.BEGIN}\nold\n{readme.END}\nafter"
    assert readme.with_figures(text, "new") == f"before\n{readme.BEGIN}\nnew\n{readme.END}\nafter"


def test_the_readmes_figures_name_their_machine() -> None:
    machine = {"processor": "Pi", "cores": 4, "python": "3.11", "runtime": "ai-edge-litert 2.3.0"}
    report = {"ears": {"templates": {}}, "machine": machine, "made": "2026-11-21T08:00:00"}
    figures = readme.markdown(report)
    assert "| Notes, by ear | templates | goal |" in figures
    assert "`make bench` on Pi, 4 cores, Python 3.11, ai-edge-litert 2.3.0, 2026-11-21." in figures


def test_a_recording_is_heard_at_the_streams_rate_with_what_was_played(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    audio, midi = places.demo()
    demo = Recording("demo", audio, read_midi(midi).notes)
    monkeypatch.setattr(places, "recordings", lambda: [demo])
    (heard,) = provisional.real()
    assert heard.played == demo.played
    assert len(heard.samples) / STREAM_RATE_HZ > demo.played[-1].onset_s


def test_a_pedal_that_was_rendered_is_read_back_from_its_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_piano(tmp_path / "pianos" / "sines")
    monkeypatch.setattr(provisional, "SEGMENTS", 8)
    segments = provisional.rendered(tmp_path, None)
    assert sum(len(segment.pedal) for segment in segments) > 3
    found = provisional.pedal_figures(segments)["drawn"]
    assert found["said"] > 0
    assert found["made_up"] == 0
    assert found["time_precision"] > 0.95


def test_following_is_a_column_for_each_way_to_listen_and_a_peer_only_where_it_is() -> None:
    shares = {"within_100_ms": 0.95, "within_300_ms": 0.98, "lost": 0.01}
    measured = {"beats": 10, "us_a_note": 270.0, "as played": shares, "on_notes": shares}
    report = {"ears": {}, "following": {"asap_dev": measured, "vienna4x22": measured}}
    ((title, (columns, lines)),) = table.tables(report).items()
    assert title == "Which bar: human performances"
    assert columns == ["as played"]
    assert {label: cells for label, cells, _ in lines}["followed within 100 ms"] == ["0.950"]


def test_mistakes_that_are_put_in_are_found_again_and_nothing_else_is() -> None:
    score = made_up_score(seed=3)
    expected = ExpectedNotes.of_score(score)
    rows = zip(expected.onset_s, expected.pitch_midi, strict=True)
    notes = tuple(feedback.Played(float(s), int(p), i) for i, (s, p) in enumerate(rows))
    faultless = feedback.Performance("made up", score, expected, notes)
    told = feedback.told(faultless, feedback.as_played(faultless))
    untouched = feedback.judged(faultless, told)
    spoilt = feedback.with_mistakes(faultless, np.random.default_rng(2))
    counts = feedback.judged(spoilt, feedback.told(spoilt, feedback.as_played(spoilt)))
    found = feedback.summed(counts, untouched)
    assert found["all"]["put_in"] == 20
    assert found["all"]["told_at_all"] > 0.9
    assert found["all"]["false_alarms"] < 0.02
    assert found["all"]["false_alarms_otherwise"] == 0


def struck(pitch_midi: int, onset_s: float, velocity: int = 64) -> NoteEvent:
    return NoteEvent(pitch_midi, onset_s, onset_s + 0.1, velocity, 1.0)


def test_what_is_missed_is_told_by_its_kind() -> None:
    plain, octave_below, octave, late_and_soft = (
        struck(60, 1.0), struck(48, 2.0), struck(60, 2.01), struck(60, 3.5, velocity=20)
    )  # fmt: skip
    again = struck(60, 3.6)
    played = (plain, octave_below, octave, late_and_soft, again)
    heard = [struck(60, 1.01), struck(48, 2.0), struck(60, 3.62), struck(72, 1.0), struck(90, 3.0)]
    hearing = Hearing.judged(Recording("waltz", Path("waltz"), played), heard, 0.01)
    told = {
        count.kind: (count.notes, *count.missed) for count in missed.count_kinds([hearing], False)
    }
    assert told["all"] == (5, 2, 2)
    assert told["plain"] == (2, 0, 0)
    assert told["overtone of a key struck with it"] == (1, 1, 1)
    assert told["velocity below 30"] == (1, 1, 1)
    assert told["struck again within 0.15 s"] == (1, 0, 0)
    assert missed.onset_f1([hearing], 0.05) == pytest.approx(6 / 10)
    false = missed.count_false([hearing])
    assert (false["overtone above a key struck"], false["other"]) == (1, 1)
