"""A piano's tuning, level and noise are read from some seconds of it, and used by the ear."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

import edge
from benchmarks.detuned import at_speed
from edge.audio.file import FileSource
from edge.calibration import (
    FORMAT,
    UNCALIBRATED,
    Calibration,
    LoudestMinute,
    calibrate,
    default_calibration_file,
    in_words,
    read_calibration,
    write_calibration,
)
from edge.cli.app import run_command
from edge.cli.calibrate import doubts, of_source
from edge.cli.listen import ListenOptions, known_calibration
from edge.errors import InputError, UsageError
from edge.note import NoteEvent, pitch_to_hz
from edge.settings import Settings
from training.hearing import Recording

Float32 = NDArray[np.float32]
RATE_HZ = 16_000
TUNE = [int(p) for p in np.random.default_rng(7).integers(48, 84, 24)]
BEAT_S = 0.4


def played(cents: float = 0.0, stretch: float = 0.0, pitches: list[int] = TUNE) -> Float32:
    """Struck strings, stiff as real ones are, on a piano that stands so."""
    sound = np.zeros(round((len(pitches) * BEAT_S + 1.0) * RATE_HZ))
    t = np.arange(RATE_HZ) / RATE_HZ
    for beat, pitch in enumerate(pitches):
        f0 = pitch_to_hz(pitch + (cents + stretch * (pitch - 69) / 12) / 100)
        h = np.arange(1, 11)
        hz = f0 * h * np.sqrt((1 + 3e-4 * h**2) / (1 + 3e-4))
        tone = sum(
            0.15 / n * np.sin(2 * np.pi * f * t) for n, f in zip(h, hz, strict=True) if f < 7e3
        )
        start = round(beat * BEAT_S * RATE_HZ)
        sound[start : start + RATE_HZ] += tone * np.exp(-4 * t)
    return (sound / np.abs(sound).max() / 2).astype(np.float32)


def noise(rms: float, seconds: float = 10.0) -> Float32:
    count = round(seconds * RATE_HZ)
    return (rms * np.random.default_rng(3).standard_normal(count)).astype(np.float32)


# -- what is found out


@pytest.mark.parametrize("cents", [-45.0, -23.0, 0.0, 8.0, 37.0])
def test_the_offset_is_read_within_two_cents(cents: float) -> None:
    found = calibrate(played(cents))
    assert found.offset_cents == pytest.approx(cents, abs=2)
    assert found.a4_hz == pytest.approx(440 * 2 ** (cents / 1200), abs=0.6)


@pytest.mark.parametrize("cents", [-100.0, -60.0, 70.0])
def test_of_offsets_a_semitone_apart_the_expected_one_is_taken(cents: float) -> None:
    sound = played(cents)
    assert calibrate(sound, cents + 30).offset_cents == pytest.approx(cents, abs=2)
    assert calibrate(sound, cents - 30).offset_cents == pytest.approx(cents, abs=2)


def test_a_wider_stretch_is_read_as_wider_by_so_much() -> None:
    wider = calibrate(played(-20.0, stretch=5.0)).stretch_cents
    plain = calibrate(played(-20.0)).stretch_cents
    assert wider - plain == pytest.approx(5, abs=1)


def test_the_level_is_that_of_loud_playing() -> None:
    sound = played()
    found = calibrate(sound)
    softer = calibrate(sound / 100)
    assert -12 < found.peak_dbfs < -6
    assert found.peak_dbfs - softer.peak_dbfs == pytest.approx(40, abs=0.2)
    assert found.gain_db == 0
    assert softer.gain_db == pytest.approx(-20 - softer.peak_dbfs)


@pytest.mark.parametrize("noise_dbfs", [-50.0, -70.0])
def test_the_noise_floor_is_heard_through_the_playing(noise_dbfs: float) -> None:
    sound = np.concatenate([played(), np.zeros(RATE_HZ * 2, np.float32)])
    noisy = sound + noise(10 ** (noise_dbfs / 20), len(sound) / RATE_HZ)
    assert calibrate(noisy).noise_dbfs == pytest.approx(noise_dbfs, abs=2)


# -- what cannot be used


@pytest.mark.parametrize(
    ("sound", "reason"),
    [
        (played()[: 3 * RATE_HZ], r"3\.0 s of sound; at least 5 s of playing"),
        (np.empty(0, np.float32), r"0\.0 s of sound"),
        (np.zeros(10 * RATE_HZ, np.float32), "silent: the peak is -120 dBFS"),
        (np.clip(20 * played(), -1, 1), r"clipped: .* turn the microphone down"),
        (noise(0.1), "no piano heard"),
        (played(pitches=[69] * 24), r"only \d different keys heard, at least 5"),
    ],
)
def test_what_is_no_playing_is_refused_with_the_reason(sound: Float32, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        calibrate(sound)


def murmur(seed: int) -> Float32:
    """A voice: some harmonic sounds that glide, at a key's pitch only by chance."""
    rng = np.random.default_rng(seed)
    sound = noise(1e-3, 8.0)
    for start in rng.integers(0, 6 * RATE_HZ, 12):
        t = np.arange(RATE_HZ // 2) / RATE_HZ
        hz = rng.uniform(110, 260) * np.exp(rng.uniform(-0.4, 0.4) * t)
        phase = 2 * np.pi * np.cumsum(hz) / RATE_HZ
        tone = sum(0.1 / h * np.sin(h * phase) for h in range(1, 9))
        sound[start : start + len(t)] += tone * np.hanning(len(t))
    return sound


@pytest.mark.parametrize("seed", range(6))
def test_a_voice_is_no_piano(seed: int) -> None:
    with pytest.raises(InputError, match=r"no piano heard|different keys heard"):
        calibrate(murmur(seed))


# -- what is kept of a long session


def test_a_short_session_is_kept_whole_whatever_the_blocks() -> None:
    sound = played()
    kept = LoudestMinute()
    for start in range(0, len(sound), 320):
        kept.push(sound[start : start + 320])
    assert np.array_equal(kept.samples, sound)


def test_of_a_long_session_the_loudest_minute_is_kept_in_order() -> None:
    kept = LoudestMinute()
    for second in range(600):
        level = 0.5 + second / 10_000 if 200 <= second < 250 else 0.01
        kept.push(np.full(RATE_HZ, level, np.float32))
    assert len(kept.samples) == 60 * RATE_HZ
    loud = kept.samples[kept.samples > 0.4]
    assert len(loud) == 50 * RATE_HZ
    assert np.all(np.diff(loud) >= 0)


# -- the file


def test_a_calibration_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "new" / "calibration.json"
    found = calibrate(played(-23.0))
    write_calibration(found, path)
    assert read_calibration(path) == found
    assert [p.name for p in path.parent.iterdir()] == ["calibration.json"]


@pytest.mark.parametrize(
    ("field", "value", "uses"), [("format", 2, FORMAT), ("sample_rate_hz", 22_050, RATE_HZ)]
)
def test_a_calibration_of_another_kind_is_refused_with_both_values(
    field: str, value: int, uses: int, tmp_path: Path
) -> None:
    path = tmp_path / "calibration.json"
    document = {**msgspec.to_builtins(UNCALIBRATED), field: value, "more": 1}
    path.write_bytes(msgspec.json.encode(document))
    with pytest.raises(UsageError, match=rf"{field} is {value}, .* uses {uses}"):
        read_calibration(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "no calibration"),
        (b"[]", "no calibration"),
        (b'{"format": 1, "sample_rate_hz": 16000, "cents": 3}', "no calibration .*unknown field"),
        (b'{"format": 1, "sample_rate_hz": 16000, "offset_cents": "3"}', "no calibration"),
        (b"\xff\xfe", "no calibration"),
    ],
)
def test_what_is_no_calibration_is_refused(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=reason):
        read_calibration(path)


# -- the ear


def heard_right(heard: list[NoteEvent]) -> float:
    """The share of the tune's notes that were heard."""
    found = 0
    for beat, pitch in enumerate(TUNE):
        found += any(
            note.pitch_midi == pitch and abs(note.onset_s - beat * BEAT_S) < 0.06 for note in heard
        )
    return found / len(TUNE)


def test_a_flat_piano_is_heard_at_its_own_keys_once_it_is_calibrated() -> None:
    sound = played(-60.0)
    calibration = calibrate(sound, expected_cents=-50)
    heard = heard_right(edge.transcribe(sound, RATE_HZ, calibration=calibration))
    assert heard > 0.8
    assert heard_right(edge.transcribe(sound, RATE_HZ)) < heard - 0.3
    templates = edge.transcribe(sound, RATE_HZ, "templates", calibration)
    assert heard_right(templates) > 0.6


def test_a_far_microphone_is_heard_as_a_near_one_once_it_is_calibrated() -> None:
    near = played() / 8
    far = near / 2**9
    found = msgspec.structs.replace(UNCALIBRATED, peak_dbfs=-20 - 20 * float(np.log10(2**9)))
    heard = edge.transcribe(far, RATE_HZ, calibration=found)
    assert heard_right(heard) > 0.8
    assert heard_right(heard) == heard_right(edge.transcribe(near, RATE_HZ))


def test_a_recording_played_faster_is_sharper_and_its_labels_move_along(tmp_path: Path) -> None:
    path = tmp_path / "fast.wav"
    soundfile.write(path, played(), RATE_HZ)
    notes = tuple(
        NoteEvent(pitch, beat * BEAT_S, (beat + 1) * BEAT_S, 64, 1.0)
        for beat, pitch in enumerate(TUNE)
    )
    speed = 2 ** (40 / 1200)
    found = at_speed(Recording("fast", path, notes), speed)
    before = calibrate(played()[: len(found.first)])
    assert calibrate(found.first).offset_cents - before.offset_cents == pytest.approx(40, abs=2)
    half_s = len(found.first) / RATE_HZ
    expected_s = [n.onset_s / speed - half_s for n in notes if n.onset_s / speed >= half_s]
    assert [note.onset_s for note in found.played] == pytest.approx(expected_s)


# -- the command


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "piano.wav"
    soundfile.write(path, played(-23.0), RATE_HZ)
    return path


@pytest.fixture(autouse=True)
def _own_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def test_calibrate_tells_writes_and_shows(
    recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["calibrate", str(recording)]) == 0
    told = capsys.readouterr().out
    assert "your piano stands 23 cents flat: A4 at 434.2 Hz" in told
    assert str(default_calibration_file()) in told
    assert read_calibration(default_calibration_file()).made_on is not None
    assert run_command(["calibrate", "--show"]) == 0
    assert capsys.readouterr().out == told


def test_calibrate_in_json_is_one_document(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "c.json"
    assert run_command(["calibrate", str(recording), "--out", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["offset_cents"] == pytest.approx(-23, abs=2)
    assert told["file"] == str(out)
    assert {"stretch_cents", "noise_dbfs", "peak_dbfs", "gain_db", "a4_hz"} <= set(told)


def test_a_stream_is_heard_for_as_long_as_was_asked(
    recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = of_source(FileSource(recording, paced=False), 6.01, 0.0)
    assert found.offset_cents == pytest.approx(-23, abs=2)
    assert found.heard_s == 6.0
    assert "listening to piano.wav for 6 s" in capsys.readouterr().err


def test_what_does_not_go_together_is_refused(
    recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["calibrate", str(recording), "--mic", "USB"]) == 2
    assert "one source is allowed" in capsys.readouterr().err
    assert run_command(["calibrate", str(recording), "--show"]) == 2
    assert "leave out AUDIO" in capsys.readouterr().err
    assert run_command(["listen", "--midi-in", "Roland", "--calibrate"]) == 2
    assert "--midi-in needs no ear to calibrate" in capsys.readouterr().err


def test_nothing_is_written_of_a_recording_without_a_piano(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "noise.wav"
    soundfile.write(path, noise(0.1), RATE_HZ)
    assert run_command(["calibrate", str(path)]) == 3
    assert "noise.wav: no piano heard" in capsys.readouterr().err
    assert not default_calibration_file().exists()


def test_nothing_to_show_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["calibrate", "--show"]) == 2
    assert "make it with `sostenuto calibrate`" in capsys.readouterr().err


def test_near_half_a_semitone_the_other_reading_is_named() -> None:
    (line,) = doubts(Calibration(offset_cents=44.0), 0.0)
    assert "-56 cents" in line
    assert "--a4 426" in line
    assert not list(doubts(Calibration(offset_cents=-23.0), 0.0))


def test_transcribe_hears_by_a_calibration(recording: Path, tmp_path: Path) -> None:
    written = tmp_path / "flat.json"
    write_calibration(calibrate(played(-60.0), -50.0), written)
    soundfile.write(recording, played(-60.0), RATE_HZ)
    command = ["transcribe", str(recording), "--midi"]
    assert run_command([*command, str(tmp_path / "a.mid"), "--calibration", str(written)]) == 0
    from edge.midi import read_midi

    assert heard_right(list(read_midi(tmp_path / "a.mid").notes)) > 0.8


def test_listening_calibrates_by_what_is_played(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "c.json"
    command = ["listen", "--file", str(recording), "--fast", "--no-mqtt"]
    assert run_command([*command, "--calibrate", "--calibration", str(path)]) == 0
    assert read_calibration(path).offset_cents == pytest.approx(-23, abs=2)
    assert run_command([*command, "--calibration", str(path)]) == 0
    assert "calibrated: your piano stands 23 cents flat" in capsys.readouterr().err


def test_the_default_calibration_is_of_the_microphone_only() -> None:
    found = calibrate(played(-23.0))
    assert known_calibration(ListenOptions(), Settings(), "microphone") == UNCALIBRATED
    write_calibration(found, default_calibration_file())
    assert known_calibration(ListenOptions(), Settings(), "microphone") == found
    assert known_calibration(ListenOptions(), Settings(), "file") == UNCALIBRATED
    off = ListenOptions(no_calibration=True)
    assert known_calibration(off, Settings(), "microphone") == UNCALIBRATED


def test_a_calibration_that_the_settings_name_must_be_there(tmp_path: Path) -> None:
    settings = Settings(calibration=str(tmp_path / "none.json"))
    with pytest.raises(UsageError, match=r"none\.json: calibration cannot be read"):
        known_calibration(ListenOptions(), settings, "microphone")
    first = ListenOptions(calibrate=True)
    assert known_calibration(first, settings, "microphone") == UNCALIBRATED


def test_a_piano_in_tune_is_told_so() -> None:
    lines = in_words(Calibration(offset_cents=0.3, stretch_cents=1.2))
    assert lines[0] == "your piano stands at A 440: A4 at 440.1 Hz"
