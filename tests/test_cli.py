from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mido
import numpy as np
import pytest
import soundfile
import typer
from numpy.typing import NDArray

from edge.cli.app import app, run_command
from edge.cli.identify import first_seconds
from edge.cli.transcribe import jobs
from edge.errors import InputError, UsageError
from edge.matching.pack import pack_scores, write_pack
from edge.matching.score import Piece, Score
from edge.midi import read_midi, write_midi
from edge.note import NoteEvent, pitch_to_hz
from edge.resources import demo_recording, models_dir

RATE_HZ = 16_000
COMMANDS = (
    *("listen", "transcribe", "identify", "practice", "calibrate", "history", "broker", "devices"),
    *("models", "dashboard", "demo"),
)
TUNE = [int(p) for p in np.random.default_rng(7).integers(48, 84, 64)]
BEAT_S = 0.4


def tune_notes(count: int = len(TUNE)) -> list[NoteEvent]:
    return [
        NoteEvent(pitch, 0.5 + i * BEAT_S, 0.5 + (i + 0.9) * BEAT_S, 70, 1.0)
        for i, pitch in enumerate(TUNE[:count])
    ]


def played(notes: list[NoteEvent]) -> NDArray[np.float32]:
    """Struck strings, roughly: six harmonics that die away."""
    seconds = max(note.offset_s or 0.0 for note in notes) + 1.0
    sound = np.zeros(round(seconds * RATE_HZ))
    for note in notes:
        t = np.arange(round(1.0 * RATE_HZ)) / RATE_HZ
        tone = sum(
            0.15 / h * np.sin(2 * np.pi * h * pitch_to_hz(note.pitch_midi) * t)
            for h in range(1, 7)
            if h * pitch_to_hz(note.pitch_midi) < RATE_HZ / 2
        )
        start = round(note.onset_s * RATE_HZ)
        part = sound[start : start + len(t)]
        part += (tone * np.exp(-4 * t))[: len(part)]
    return np.clip(sound, -1, 1).astype(np.float32)


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    """A pack with the tune and another piece."""
    folder = tmp_path / "catalogue"
    scores = [score("tune", "The Tune", TUNE), score("other", "The Other", TUNE[::-1])]
    write_pack(pack_scores(scores), folder)
    return folder


def score(piece_id: str, title: str, pitches: list[int]) -> Score:
    count = len(pitches)
    bars = count // 4
    quarters = np.arange(count, dtype=np.float64)
    return Score(
        piece=Piece(piece_id, f"work-{piece_id}", title, "Nobody", bars, count),
        pitch_midi=np.array(pitches, np.uint8),
        onset_quarters=quarters,
        duration_quarters=np.full(count, 0.9),
        hand=np.zeros(count, np.uint8),
        bar_quarters=np.arange(bars) * 4.0,
        bar_number=np.arange(1, bars + 1, dtype=np.int32),
        bar_beat_quarters=np.ones(bars),
        tempo_quarters=np.array([0.0, 1.0]),
        tempo_s=np.array([0.0, 0.5]),
    )


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "tune.wav"
    soundfile.write(path, played(tune_notes(8)), RATE_HZ)
    return path


@dataclass
class Said:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def sostenuto(capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """The command, in this process."""

    def run(*arguments: object) -> Said:
        code = run_command([str(a) for a in arguments])
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    return run


def shell(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """The command as a user's shell starts it."""
    command = [sys.executable, "-m", "edge.cli", *(str(a) for a in arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


# -- what the command says of itself


def test_every_command_and_every_option_has_help() -> None:
    root: Any = typer.main.get_command(app)
    assert set(root.commands) == set(COMMANDS)
    for name, command in root.commands.items():
        assert command.help, name
        assert command.short_help, name
        assert "Examples:" in command.epilog, name
        for parameter in command.params:
            assert parameter.name == "help" or parameter.help, f"{name}: {parameter.name}"


def test_help_is_exit_code_0_and_no_command_is_2(sostenuto: Callable[..., Said]) -> None:
    said = sostenuto("--help")
    assert said.code == 0
    for name in COMMANDS:
        assert name in said.out
    assert sostenuto().code == 2
    assert "sostenuto" in sostenuto("--version").out


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_is_found_by_both_options(
    name: str, sostenuto: Callable[..., Said]
) -> None:
    assert sostenuto(name, "--help").code == 0
    assert sostenuto(name, "-h").out == sostenuto(name, "--help").out


def test_help_loads_neither_numpy_nor_the_models() -> None:
    script = (
        "import sys; from edge.cli.app import run_command; run_command(['listen', '--help']); "
        "sys.exit(','.join({'numpy', 'rich', 'ai_edge_litert', 'paho'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert ran.stderr == "\n" or ran.stderr == ""


# -- usage


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["dance"], "No such command 'dance'"),
        (["transcribe"], "Missing argument"),
        (["transcribe", "a.wav"], "say where the notes go"),
        (["transcribe", "a.wav", "b.wav", "--midi", "o.mid"], "takes one recording, 2 were given"),
        (["transcribe", "a.wav", "--wings"], "No such option"),
        (["identify", "a.wav", "--seconds", "soon"], "--seconds"),
        (["listen", "--mic", "a", "--file", "b"], "--mic and --file given; one source is allowed"),
        (["listen", "--no-mqtt", "--embedded-broker"], "one of them is allowed"),
        (["listen", "--fast"], "--fast given without --file"),
        (["listen", "--settings", "none.toml"], "settings cannot be read"),
        (["devices", "--mic", "a"], "go with --level"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(
    arguments: list[str], reason: str, sostenuto: Callable[..., Said]
) -> None:
    said = sostenuto(*arguments)
    assert said.code == 2
    assert reason in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""


def test_an_unknown_key_in_the_settings_is_named(
    tmp_path: Path, sostenuto: Callable[..., Said]
) -> None:
    (tmp_path / "s.toml").write_text('micropone = "USB"')
    said = sostenuto("listen", "--no-mqtt", "--settings", tmp_path / "s.toml")
    assert said.code == 2
    assert "unknown key 'micropone'" in said.err


@pytest.mark.parametrize("url", ["house", "mqtt://", "mqtts://", "mqtt://house:99999"])
def test_a_broker_address_that_is_none_is_usage(
    url: str, recording: Path, catalogue: Path, sostenuto: Callable[..., Said]
) -> None:
    said = sostenuto(
        *("listen", "--file", recording, "--broker", url),
        *("--catalog", catalogue, "--model", "templates"),
    )
    assert said.code == 2
    assert said.err.count("\n") == 1


# -- bad input


def bad_input(folder: Path, kind: str) -> Path:
    path = folder / f"{kind}.wav"
    if kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("no sound in here\n" * 99)
    elif kind == "3khz":
        soundfile.write(path, np.zeros(3000, np.float32), 3000)
    elif kind == "cut":
        soundfile.write(path, played(tune_notes(4)), RATE_HZ)
        path.write_bytes(path.read_bytes()[:-20_000])
    return path


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("missing", "no such file"),
        ("empty", "0 bytes"),
        ("text", "not audio"),
        ("3khz", "sampled at 3000 Hz; 8000 to 192000 Hz"),
        ("cut", "broken at"),
    ],
)
@pytest.mark.parametrize("command", ["transcribe", "identify", "listen"])
def test_bad_audio_is_one_line_and_exit_code_3(
    command: str,
    kind: str,
    reason: str,
    tmp_path: Path,
    catalogue: Path,
    sostenuto: Callable[..., Said],
) -> None:
    path = bad_input(tmp_path, kind)
    out = tmp_path / "out.mid"
    common = ["--model", "templates"]
    said = {
        "transcribe": lambda: sostenuto("transcribe", path, "--midi", out, "--json", *common),
        "identify": lambda: sostenuto("identify", path, "--catalog", catalogue, "--json", *common),
        "listen": lambda: sostenuto(
            *("listen", "--file", path, "--fast", "--no-mqtt", "--catalog", catalogue, "--json"),
            *common,
        ),
    }[command]()
    assert said.code == 3
    complaint = json.loads(said.err.splitlines()[-1])["error"]
    assert reason in complaint
    assert str(path) in complaint
    assert not out.exists()
    assert not list(tmp_path.glob(".*.part"))


def test_a_midi_file_without_notes_is_exit_code_3(
    tmp_path: Path, catalogue: Path, sostenuto: Callable[..., Said]
) -> None:
    write_midi(tmp_path / "none.mid", [], end_s=3.0)
    said = sostenuto("identify", tmp_path / "none.mid", "--catalog", catalogue)
    assert said.code == 3
    assert "no piano notes" in said.err


def test_a_piece_in_another_key_is_named_if_that_is_asked_for(
    tmp_path: Path, sostenuto: Callable[..., Said]
) -> None:
    played = read_midi(demo_recording().with_suffix(".mid")).notes
    higher = [replace(note, pitch_midi=note.pitch_midi + 3) for note in played]
    write_midi(tmp_path / "higher.mid", higher, [], end_s=60.0)
    said = sostenuto("identify", tmp_path / "higher.mid", "--json")
    assert json.loads(said.out)["state"] != "matched"
    said = sostenuto("identify", tmp_path / "higher.mid", "--json", "--transposed")
    best = json.loads(said.out)["candidates"][0]
    assert (best["piece_id"], best["transposition"]) == ("fur_elise", 3)
    said = sostenuto("identify", tmp_path / "higher.mid", "--transposed")
    assert "3 semitones higher" in said.out


def test_a_catalogue_or_model_that_is_not_there_is_exit_code_4(
    tmp_path: Path, recording: Path, catalogue: Path, sostenuto: Callable[..., Said]
) -> None:
    said = sostenuto("identify", recording, "--catalog", tmp_path / "none")
    assert said.code == 4
    assert said.err.count("\n") == 1
    said = sostenuto("identify", recording, "--catalog", catalogue, "--model", "ears")
    assert said.code == 4
    assert "'ears'" in said.err


@pytest.mark.skipif(
    not list(models_dir().glob("*.tflite")), reason="no note model is in the project yet"
)
def test_a_model_whose_file_was_changed_is_exit_code_4(
    tmp_path: Path, recording: Path, sostenuto: Callable[..., Said]
) -> None:
    model = min(models_dir().glob("*.tflite"))
    copy = tmp_path / model.name
    copy.write_bytes(model.read_bytes()[:-1] + b"?")
    copy.with_suffix(".json").write_bytes(model.with_suffix(".json").read_bytes())
    said = sostenuto("transcribe", recording, "--midi", tmp_path / "o.mid", "--model", copy)
    assert said.code == 4
    assert "sha256" in said.err


def test_a_broker_that_is_not_there_is_exit_code_5(
    recording: Path, catalogue: Path, sostenuto: Callable[..., Said]
) -> None:
    said = sostenuto(
        *("listen", "--file", recording, "--broker", "mqtt://127.0.0.1:1", "--json"),
        *("--catalog", catalogue, "--model", "templates"),
    )
    assert said.code == 5
    assert said.out == ""
    assert "mqtt://127.0.0.1:1" in json.loads(said.err.splitlines()[-1])["error"]


def test_a_microphone_that_is_not_there_is_exit_code_5(
    catalogue: Path, sostenuto: Callable[..., Said]
) -> None:
    said = sostenuto(
        *("listen", "--mic", "no such microphone", "--no-mqtt"),
        *("--catalog", catalogue, "--model", "templates"),
    )
    assert said.code == 5
    assert said.out == ""


def test_errors_show_no_traceback_and_c_libraries_are_mute(tmp_path: Path) -> None:
    ran = shell("transcribe", tmp_path / "none.wav", "--midi", tmp_path / "o.mid")
    assert ran.returncode == 3
    assert ran.stdout == ""
    assert ran.stderr == (
        f"sostenuto: {tmp_path}/none.wav: no such file; give a WAV, FLAC, MP3 or OGG file\n"
    )


# -- transcribe


def test_a_recording_is_written_down(
    recording: Path, tmp_path: Path, sostenuto: Callable[..., Said]
) -> None:
    out = tmp_path / "out.mid"
    said = sostenuto("transcribe", recording, "--midi", out, "--model", "templates", "--json")
    assert said.code == 0
    (written,) = said.json["written"]
    assert written["notes"] > 0
    assert written["speed"] > 0
    assert not written["silent"]
    strikes = [m for m in mido.MidiFile(out) if m.type == "note_on"]
    assert len(strikes) == written["notes"]
    assert mido.MidiFile(out).length == pytest.approx(written["music_s"], abs=0.01)


def test_silence_is_an_empty_midi_file_a_line_and_exit_code_0(
    tmp_path: Path, sostenuto: Callable[..., Said]
) -> None:
    soundfile.write(tmp_path / "quiet.wav", np.zeros(3 * RATE_HZ, np.float32), RATE_HZ)
    out = tmp_path / "out.mid"
    said = sostenuto("transcribe", tmp_path / "quiet.wav", "--midi", out, "--model", "templates")
    assert said.code == 0
    assert "no note heard" in said.out
    assert not [m for m in mido.MidiFile(out) if m.type == "note_on"]
    assert mido.MidiFile(out).length == pytest.approx(3.0, abs=0.01)


def test_a_folder_is_searched_and_one_broken_file_keeps_none_of_the_others(
    tmp_path: Path, recording: Path, sostenuto: Callable[..., Said]
) -> None:
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.wav").write_bytes(recording.read_bytes())
    (folder / "deep" / "b.wav").write_bytes(recording.read_bytes())
    (folder / "c.wav").write_text("no sound")
    (folder / "readme.txt").write_text("not looked at")
    out = tmp_path / "out"
    said = sostenuto("transcribe", folder, "--midi-dir", out, "--model", "templates", "--json")
    assert said.code == 3
    assert sorted(p.relative_to(out).as_posix() for p in out.rglob("*.mid")) == [
        "a.mid",
        "deep/b.mid",
    ]
    assert [Path(r["audio"]).name for r in said.json["refused"]] == ["c.wav"]


def test_recordings_of_one_name_get_files_of_their_own(tmp_path: Path) -> None:
    work = jobs([Path("x/a.wav"), Path("x/a.flac"), Path("y/a.wav"), Path("b.ogg")], None, tmp_path)
    names = [job.midi.name for job in work]
    assert names == ["a.wav.mid", "a.flac.mid", "a.wav-2.mid", "b.mid"]


def test_a_place_for_the_notes_must_be_said_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="say where"):
        jobs([Path("a.wav")], tmp_path / "a.mid", tmp_path)
    with pytest.raises(UsageError, match="is a folder"):
        jobs([Path("a.wav")], tmp_path, None)
    with pytest.raises(InputError, match="no recordings in this folder"):
        jobs([tmp_path], None, tmp_path / "out")


def test_a_midi_file_is_written_down_already(
    tmp_path: Path, sostenuto: Callable[..., Said]
) -> None:
    write_midi(tmp_path / "played.mid", tune_notes())
    said = sostenuto(
        *("transcribe", tmp_path / "played.mid", "--midi", tmp_path / "o.mid"),
        *("--model", "templates"),
    )
    assert said.code == 3
    assert "is a MIDI file: its notes are written down already" in said.err


# -- identify


def test_identify_prints_one_document_with_the_fields_of_the_contract(
    tmp_path: Path, catalogue: Path, sostenuto: Callable[..., Said]
) -> None:
    write_midi(tmp_path / "played.mid", tune_notes())
    said = sostenuto("identify", tmp_path / "played.mid", "--catalog", catalogue, "--json")
    assert said.code == 0
    document = said.json
    assert set(document) == {"state", "candidates"}
    assert document["state"] == "matched"
    best = document["candidates"][0]
    assert list(best) == [
        *("piece_id", "work_id", "title", "composer", "confidence", "start_s", "bar"),
        "transposition",
    ]
    assert best["piece_id"] == "tune"
    assert best["bar"] == 1


def test_identify_hears_a_recording_and_says_it_in_words(
    recording: Path, catalogue: Path, sostenuto: Callable[..., Said]
) -> None:
    said = sostenuto("identify", recording, "--catalog", catalogue, "--model", "templates")
    assert said.code == 0
    assert "The Tune" in said.out


def test_too_little_to_say_is_searching_and_exit_code_0(
    tmp_path: Path, catalogue: Path, sostenuto: Callable[..., Said]
) -> None:
    write_midi(tmp_path / "two.mid", tune_notes(2))
    said = sostenuto("identify", tmp_path / "two.mid", "--catalog", catalogue, "--json")
    assert said.code == 0
    assert said.json["state"] == "searching"
    soundfile.write(tmp_path / "quiet.wav", np.zeros(RATE_HZ, np.float32), RATE_HZ)
    said = sostenuto(
        *("identify", tmp_path / "quiet.wav", "--catalog", catalogue, "--json"),
        *("--model", "templates"),
    )
    assert said.json == {"state": "searching", "candidates": []}


def test_a_melody_picked_out_in_another_key_is_named(
    tmp_path: Path, catalogue: Path, sostenuto: Callable[..., Said]
) -> None:
    finger = [replace(n, pitch_midi=n.pitch_midi + 3) for n in tune_notes(20)[4:]]
    write_midi(tmp_path / "finger.mid", finger)
    said = sostenuto(
        *("identify", "--melody", tmp_path / "finger.mid", "--catalog", catalogue, "--json"),
    )
    assert said.code == 0
    assert said.json["state"] == "matched"
    assert said.json["candidates"][0]["piece_id"] == "tune"
    assert said.json["candidates"][0]["bar"] == 2


def test_a_melody_picked_out_beside_a_microphone_is_named(
    tmp_path: Path, catalogue: Path, sostenuto: Callable[..., Said]
) -> None:
    soundfile.write(tmp_path / "finger.wav", played(tune_notes(16)), RATE_HZ)
    said = sostenuto(
        *("identify", "--melody", tmp_path / "finger.wav", "--catalog", catalogue, "--json"),
        *("--model", "templates"),
    )
    assert said.json["candidates"][0]["piece_id"] == "tune"


def test_no_melody_is_searching(
    tmp_path: Path, catalogue: Path, sostenuto: Callable[..., Said]
) -> None:
    soundfile.write(tmp_path / "quiet.wav", np.zeros(RATE_HZ, np.float32), RATE_HZ)
    asked = ("identify", "--melody", tmp_path / "quiet.wav", "--catalog", catalogue)
    said = sostenuto(*asked, "--model", "templates", "--json")
    assert said.json == {"state": "searching", "candidates": []}


def test_seconds_count_from_the_first_note() -> None:
    notes = [NoteEvent(60, t, None, 64, 1.0) for t in (9.0, 3.0, 5.0, 8.01)]
    assert [n.onset_s for n in first_seconds(notes, 5.0)] == [3.0, 5.0]
    assert first_seconds([], 5.0) == []


# -- listen


def test_with_json_every_line_is_json_and_the_last_one_sums_up(
    recording: Path, catalogue: Path, sostenuto: Callable[..., Said]
) -> None:
    said = sostenuto(
        *("listen", "--file", recording, "--fast", "--no-mqtt", "--json"),
        *("--catalog", catalogue, "--model", "templates"),
    )
    assert said.code == 0
    *messages, last = [json.loads(line) for line in said.out.splitlines()]
    assert {m["topic"] for m in messages} >= {"info", "notes", "piece", "session", "health"}
    assert last["boot"] == messages[0]["boot"]
    assert last["dropped"] == 0
    counted = {topic: n + 1 for topic, n in last["last_seq"].items()}
    assert counted == {
        topic: sum(1 for m in messages if m["topic"] == topic)
        for topic in {m["topic"] for m in messages}
    }


def test_a_midi_file_is_listened_to_without_the_ear(
    tmp_path: Path, catalogue: Path, sostenuto: Callable[..., Said]
) -> None:
    write_midi(tmp_path / "played.mid", tune_notes())
    said = sostenuto(
        *("listen", "--file", tmp_path / "played.mid", "--fast", "--no-mqtt", "--json"),
        *("--catalog", catalogue),
    )
    assert said.code == 0
    lines = [json.loads(line) for line in said.out.splitlines()]
    assert lines[-1]["notes"] == len(TUNE)
    assert [m["models"] for m in lines if m.get("topic") == "info"] == [[]]
    named = [m["piece_id"] for m in lines if m.get("topic") == "piece"]
    assert "tune" in named
    places = [m for m in lines if m.get("topic") == "position"]
    assert len(places) > 10
    for place in places[:-1]:
        assert place["quarters"] == pytest.approx((place["t_s"] - 0.5) / BEAT_S, abs=0.1)
        assert 4 * (place["bar"] - 1) + place["beat"] - 1 == pytest.approx(place["quarters"])
    assert places[-1]["lost"] is False


def test_a_chosen_piece_is_followed_from_the_first_note(
    tmp_path: Path, catalogue: Path, sostenuto: Callable[..., Said]
) -> None:
    write_midi(tmp_path / "played.mid", tune_notes(12))
    options = ("--file", tmp_path / "played.mid", "--fast", "--no-mqtt", "--catalog", catalogue)
    said = sostenuto("listen", *options, "--piece", "tune")
    assert said.code == 0
    assert [bar for bar in ("bar 1,", "bar 2,", "bar 3,") if bar in said.out] == [
        "bar 1,",
        "bar 2,",
        "bar 3,",
    ]
    assert said.out.count("bar 2,") == 1
    refused = sostenuto("listen", *options, "--piece", "tuna")
    assert refused.code == 4
    assert "no piece 'tuna'" in refused.err
    assert "did you mean tune?" in refused.err


def test_what_is_played_arrives_at_a_subscriber(
    recording: Path,
    catalogue: Path,
    mosquitto: Any,
    subscribe: Callable[..., Any],
    sostenuto: Callable[..., Said],
) -> None:
    subscriber = subscribe(mosquitto.address)
    said = sostenuto(
        *("listen", "--file", recording, "--fast", "--broker", mosquitto.address, "--json"),
        *("--catalog", catalogue, "--model", "templates", "--device", "parlour"),
    )
    assert said.code == 0
    last = json.loads(said.out.splitlines()[-1])
    subscriber.wait_for(
        lambda: [m for m in subscriber._messages if m.payload == b"offline"], "offline"
    )
    for topic, seq in last["last_seq"].items():
        assert subscriber.seqs(topic) == list(range(seq + 1)), topic
    assert subscriber.messages("notes")[0].topic == "sostenuto/v1/parlour/notes"


def test_the_place_arrives_at_a_subscriber(
    tmp_path: Path,
    catalogue: Path,
    mosquitto: Any,
    subscribe: Callable[..., Any],
    sostenuto: Callable[..., Said],
) -> None:
    subscriber = subscribe(mosquitto.address)
    soundfile.write(tmp_path / "tune.flac", played(tune_notes()), RATE_HZ)
    said = sostenuto(
        *("listen", "--file", tmp_path / "tune.flac", "--fast", "--broker", mosquitto.address),
        *("--catalog", catalogue, "--model", "templates"),
    )
    assert said.code == 0
    subscriber.wait_for(
        lambda: [m for m in subscriber._messages if m.payload == b"offline"], "offline"
    )
    places = [json.loads(message.payload) for message in subscriber.messages("position")]
    assert len(places) > 10
    assert {place["piece_id"] for place in places} == {"tune"}
    off = [abs(place["quarters"] - (place["t_s"] - 0.5) / BEAT_S) for place in places]
    assert np.mean(np.array(off) < 0.2) > 0.9  # the templates hear a note that was not struck


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_session_properly(
    number: signal.Signals, tmp_path: Path, catalogue: Path
) -> None:
    path = tmp_path / "long.wav"
    soundfile.write(path, np.tile(played(tune_notes(8)), 20), RATE_HZ)
    command = [
        *(sys.executable, "-m", "edge.cli", "listen", "--file", str(path), "--no-mqtt", "--json"),
        *("--catalog", str(catalogue), "--model", "templates"),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as listening:
        assert listening.stdout is not None
        lines = []
        while not any('"topic":"notes"' in line for line in lines):
            lines.append(listening.stdout.readline())
            assert lines[-1], "the loop ended by itself"
        listening.send_signal(number)
        told_s = time.monotonic()
        lines += listening.stdout.read().splitlines()
        assert listening.wait(20) == 0
        assert time.monotonic() - told_s < 10.0
    sessions = [json.loads(line) for line in lines if '"topic":"session"' in line]
    assert sessions[-1]["state"] == "end"
    assert set(json.loads(lines[-1])) >= {"boot", "last_seq", "dropped"}


# -- models, devices


def test_models_lists_what_is_installed(sostenuto: Callable[..., Said]) -> None:
    said = sostenuto("models", "--json")
    assert said.code == 0
    installed = {p.stem for p in models_dir().glob("*.json")}
    assert {m["name"] for m in said.json["models"]} == installed
    assert "templates" in sostenuto("models").out
