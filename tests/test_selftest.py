"""The self-test: every judgement by a reading made up here, and the ways to a reading for real."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner, Result

from device.app import app
from device.selftest import command, machine, own_pieces, sound
from device.selftest.broker import check_broker, tell
from device.selftest.by_ear import TASKS, AtService, ByEar, answer, comfort
from device.selftest.hashes import check_catalogue, check_models
from device.selftest.known_answer import (
    KnownAnswer,
    Recognised,
    Struck,
    answer_file,
    check_known_answer,
    judge_bar,
    judge_notes,
    judge_piece,
    matched,
    read_answer,
)
from device.selftest.own_pieces import check_own_pieces
from device.selftest.verdict import failed, not_tried, passed, summed_up, verdict_of
from edge.cli import console
from edge.errors import BrokerError, UsageError
from edge.following import Position
from edge.matching import Catalogue, default_catalogue_dir
from edge.matching.pack import pack_of
from edge.messages import (
    AudioState,
    Check,
    Clock,
    Diagnostics,
    Health,
    Info,
    SelfTestResult,
    Throttling,
    Verdict,
    decode,
)
from edge.midi import read_midi
from edge.note import pitch_to_hz
from edge.resources import demo_recording, models_dir
from edge.settings import Settings
from tests.test_microphone import FakeAudio, Pulse


@pytest.fixture(autouse=True)
def open_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    """Descriptor 2 is the test runner's, and stays as it is."""
    monkeypatch.setattr(console, "mute_libraries", lambda: None)


def selftest(*options: str) -> Result:
    return CliRunner().invoke(app, ["selftest", *options])


# ---- verdicts


def test_what_was_not_tried_fails_nothing_and_what_failed_says_what_to_do() -> None:
    well, ill = passed("ear", "hears"), failed("disk", "is full", "make room")
    unknown = not_tried("clock", "there is none")
    assert summed_up([well, unknown]).passed
    assert not summed_up([well, unknown, ill]).passed
    assert (ill.remedy, verdict_of(unknown)) == ("make room", Verdict.NOT_TRIED)


def test_a_check_of_an_older_device_has_a_verdict_too() -> None:
    assert verdict_of(Check(name="disk", passed=False, text="full")) is Verdict.FAILED


# ---- the known answer

SCALE = KnownAnswer(
    "scale.flac",
    4.5,
    "scale",
    (Struck(60, 0.0), Struck(62, 1.0), Struck(62, 2.0), Struck(64, 3.0)),
    (0.0, 2.0, 4.0),
)
PLACE = Position(3.0, 3.0, 2, 2.0, 60.0, 1.0, 0.9, False, "scale", 1.0, 3.0, 2.0)
HEARD = Recognised(SCALE.notes, ("scale",), 2.5, PLACE, 4.5, 0.1)


def test_a_note_counts_once_and_within_50_ms() -> None:
    known = [Struck(60, 1.0), Struck(60, 1.08)]
    assert matched([Struck(60, 1.04)], known) == 1
    assert matched([Struck(60, 1.04), Struck(60, 1.05)], known) == 2
    assert matched([Struck(60, 0.94), Struck(61, 1.0)], known) == 0


def test_every_note_found_passes_and_each_fault_fails_its_own_check() -> None:
    assert judge_notes(HEARD, SCALE).passed
    assert judge_piece(HEARD, SCALE).passed
    assert judge_bar(HEARD, SCALE).passed
    missed = judge_notes(replace(HEARD, notes=SCALE.notes[:3]), SCALE)
    assert not missed.passed and missed.text.startswith("3 of 4 struck keys found (0.75)")
    invented = (*SCALE.notes, Struck(80, 1.0), Struck(81, 1.0))
    assert (
        "0.67 of 6 told notes are right" in judge_notes(replace(HEARD, notes=invented), SCALE).text
    )
    assert "'waltz' was named" in judge_piece(replace(HEARD, named=("scale", "waltz")), SCALE).text
    assert not judge_piece(replace(HEARD, named=(), named_after_s=None), SCALE).passed
    wrong_bar = judge_bar(replace(HEARD, last=replace(PLACE, bar=3)), SCALE)
    assert wrong_bar.text == "bar 3 told at 3.0 s; played was bar 2"
    assert not judge_bar(replace(HEARD, last=None), SCALE).passed


def test_near_a_bar_line_either_bar_is_right_and_before_the_first_it_is_the_upbeat() -> None:
    assert list(SCALE.bars_near(1.9)) == [1, 2]
    assert list(SCALE.bars_near(3.0)) == [2]
    assert list(SCALE.bars_near(-1.0)) == [0]


def test_the_known_answer_is_what_the_recording_was_made_of() -> None:
    answer = read_answer(answer_file())
    played = read_midi(demo_recording().with_suffix(".mid")).notes
    struck = [(n.pitch_midi, n.onset_s) for n in played if n.onset_s < answer.stretch_s]
    assert [n.pitch_midi for n in answer.notes] == [pitch for pitch, _ in struck]
    assert [n.onset_s for n in answer.notes] == pytest.approx([t for _, t in struck], abs=1e-3)


def test_the_templates_too_give_the_known_answer() -> None:
    checks = check_known_answer("templates", Catalogue.open(default_catalogue_dir()))
    assert [check.text for check in checks if not check.passed] == []
    assert len(checks) == 3


def test_a_catalogue_without_the_piece_leaves_piece_and_bar_untried() -> None:
    notes, piece, bar = check_known_answer("templates", None)
    assert verdict_of(notes) is Verdict.PASSED
    assert {verdict_of(piece), verdict_of(bar)} == {Verdict.NOT_TRIED}


# ---- hashes, and the whole of --known-answer


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A folder with one model, as an update would bring it."""
    folder = tmp_path / "models"
    folder.mkdir()
    for suffix in (".json", ".tflite"):
        shutil.copy(models_dir() / f"compressed{suffix}", folder)
    return folder


@pytest.fixture
def starter(tmp_path: Path) -> Path:
    """A folder with one pack, which holds the known piece."""
    folder = tmp_path / "catalogue"
    shutil.copytree(default_catalogue_dir() / "starter", folder / "starter")
    return folder


def test_a_model_and_a_catalogue_that_hear_rightly_pass_as_a_program_reads_it(
    models: Path, starter: Path
) -> None:
    told = selftest("--known-answer", "--models", str(models), "--catalog", str(starter), "--json")
    assert told.exit_code == 0
    found = json.loads(told.stdout)
    assert found["passed"] is True
    assert [check["name"] for check in found["checks"]] == [
        "models",
        "catalogue",
        "own pieces",
        "known notes, compressed",
        "known piece, compressed",
        "known bar, compressed",
    ]
    assert {check["verdict"] for check in found["checks"]} == {"passed"}


def test_a_model_whose_bytes_were_changed_fails_by_its_hash(models: Path) -> None:
    file = models / "compressed.tflite"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    check = check_models(models)
    assert not check.passed
    assert "sha256" in check.text and check.remedy


def weights_of(model: bytes) -> list[slice]:
    """Where the int8 weights lie in the bytes of a ``.tflite``."""
    runtime = pytest.importorskip("ai_edge_litert.interpreter")
    interpreter = runtime.Interpreter(model_content=model, experimental_preserve_all_tensors=True)
    interpreter.allocate_tensors()
    found = []
    for tensor in interpreter.get_tensor_details():
        with contextlib.suppress(ValueError):  # a tensor that is computed has no bytes yet
            raw = interpreter.get_tensor(tensor["index"]).tobytes()
            if tensor["dtype"] is np.int8 and len(set(raw)) > 8 and raw in model:
                found.append(slice(model.index(raw), model.index(raw) + len(raw)))
    return found


def test_a_model_that_was_sealed_with_wrong_weights_fails_by_what_it_hears(models: Path) -> None:
    """The hash is right, as that of a model that was trained or converted wrongly is."""
    file = models / "compressed.tflite"
    content = file.read_bytes()
    damaged = np.frombuffer(content, np.uint8).copy()
    rng = np.random.default_rng(0)
    for weights in weights_of(content):
        wrong = rng.random(weights.stop - weights.start) < 0.03
        damaged[weights][wrong] = rng.integers(0, 256, int(wrong.sum()), dtype=np.uint8)
    assert 1_000 < np.count_nonzero(damaged != np.frombuffer(content, np.uint8)) < 10_000
    file.write_bytes(damaged.tobytes())
    manifest = models / "compressed.json"
    before = json.loads(manifest.read_bytes())
    sha256 = hashlib.sha256(damaged.tobytes()).hexdigest()
    manifest.write_text(json.dumps({**before, "sha256": sha256}))
    assert check_models(models).passed
    notes = check_known_answer(manifest, None)[0]
    assert not notes.passed
    assert "struck keys found" in notes.text, "it runs, and does not hear"


def test_a_model_without_a_manifest_or_a_folder_without_models_fails(models: Path) -> None:
    (models / "more.tflite").write_bytes(b"")
    assert "more.tflite" in check_models(models).text
    assert "no note model" in check_models(models.parent / "none").text


def test_a_catalogue_that_was_changed_fails(starter: Path) -> None:
    assert check_catalogue(starter).passed
    array = starter / "starter" / "note_key.npy"
    content = bytearray(array.read_bytes())
    content[-1] ^= 1
    array.write_bytes(content)
    assert "damaged" in check_catalogue(starter).text


def test_a_catalogue_whose_index_is_of_other_scores_does_not_know_its_own_pieces(
    starter: Path,
) -> None:
    """Every array is as sealed; but the index has the fingerprints of other music."""
    known = Catalogue.open(starter)
    assert check_own_pieces(known).passed
    arrays = known.packs[0].arrays
    codes = np.random.default_rng(0).integers(0, 2**32, arrays.code.size, dtype=np.uint32)
    strange = Catalogue((pack_of(replace(arrays, code=np.sort(codes)), "1"),))
    check = check_own_pieces(strange)
    assert check.text == "0 of 9 named from the beginnings of their scores"
    assert check.remedy is not None and "build it again" in check.remedy


def test_a_catalogue_of_short_tunes_cannot_be_asked(
    starter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_pieces, "ASKED_CHORDS", 10**6)
    assert check_own_pieces(Catalogue.open(starter)).verdict is Verdict.NOT_TRIED


def test_nothing_there_is_a_verdict_and_no_traceback(tmp_path: Path) -> None:
    nowhere = str(tmp_path / "none")
    told = selftest("--known-answer", "--models", nowhere, "--catalog", nowhere)
    assert told.exit_code == 1
    assert "self-test FAILED: 2 failed" in told.stdout


# ---- the machine


def test_a_clock_in_1970_fails_and_says_that_the_piano_listens_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine.time, "time", lambda: 60.0)
    check = machine.judge_clock(machine.read_clock())
    assert not check.passed
    assert check.text.startswith("it says 1970-01-01 00:01 UTC")
    assert "heard and kept all the same" in check.text
    assert check.remedy is not None and "NTP" in check.remedy


def test_a_time_that_can_be_is_right_only_where_somebody_compared_it() -> None:
    now = datetime(2027, 3, 1, 12, tzinfo=UTC)
    assert machine.judge_clock(machine.ClockReading(now, Clock.NTP)).verdict is Verdict.PASSED
    for nobody in (Clock.RTC, Clock.UNSYNCED):
        check = machine.judge_clock(machine.ClockReading(now, nobody))
        assert check.verdict is Verdict.NOT_TRIED


def test_a_disk_is_judged_by_room_and_by_what_stays_on_it(tmp_path: Path) -> None:
    well = machine.DiskReading(tmp_path, 2**33, None)
    assert machine.judge_disk(well).passed
    for trouble, free, word in [
        (None, 2**20, "is full: 1 MB free"),
        (errno.ENOSPC, 0, "is full"),
        (errno.EROFS, 2**33, "read-only"),
        (errno.EIO, 2**33, "Input/output error"),
        (None, None, "cannot be read"),
    ]:
        check = machine.judge_disk(machine.DiskReading(tmp_path, free, trouble))
        assert not check.passed and word in check.text and check.remedy
    stranger = machine.judge_disk(machine.DiskReading(tmp_path, 2**33, errno.EACCES))
    assert stranger.verdict is Verdict.NOT_TRIED


def test_a_folder_that_is_not_there_yet_is_tried_where_it_will_be(tmp_path: Path) -> None:
    reading = machine.read_disk(tmp_path / "sostenuto" / "outbox")
    assert reading.trouble is None
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 kB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("only root may mount a disk to fill")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_really_full_or_really_read_only_is_found_so(small_disk: Path) -> None:
    with contextlib.suppress(OSError), (small_disk / "fill").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    assert machine.read_disk(small_disk).trouble == errno.ENOSPC
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert machine.read_disk(small_disk).trouble == errno.EROFS


@pytest.mark.parametrize(
    ("table", "verdict", "word"),
    [
        (None, Verdict.NOT_TRIED, "no systemd"),
        ({"LoadState": "not-found", "ActiveState": "inactive"}, Verdict.NOT_TRIED, "not installed"),
        ({"ActiveState": "failed", "NRestarts": "7"}, Verdict.FAILED, "failed, started anew 7"),
        ({"ActiveState": "active", "WatchdogUSec": "0"}, Verdict.FAILED, "not armed"),
        ({"ActiveState": "active", "WatchdogUSec": "infinity"}, Verdict.FAILED, "not armed"),
        ({"ActiveState": "active", "WatchdogUSec": "1min 30s"}, Verdict.PASSED, "armed at 90 s"),
        ({"ActiveState": "active", "WatchdogUSec": "30s"}, Verdict.PASSED, "armed at 30 s"),
    ],
)
def test_a_service_must_run_and_be_watched(
    table: dict[str, str] | None, verdict: Verdict, word: str
) -> None:
    check = machine.judge_service(machine.read_service(table))
    assert check.verdict is verdict
    assert word in check.text


def test_a_hardware_watchdog_must_count_where_there_is_one(tmp_path: Path) -> None:
    assert machine.judge_watchdog(machine.read_watchdog(tmp_path)).verdict is Verdict.NOT_TRIED
    dog = tmp_path / "watchdog0"
    dog.mkdir()
    (dog / "identity").write_text("Broadcom BCM2835 Watchdog timer\n")
    (dog / "timeout").write_text("15\n")
    for state, passes in (("inactive", False), ("active", True)):
        (dog / "state").write_text(f"{state}\n")
        assert machine.judge_watchdog(machine.read_watchdog(tmp_path)).passed is passes


def test_the_firmware_s_word_tells_now_and_since_the_start() -> None:
    assert machine.throttled_by(0x50005) == (
        (Throttling.UNDER_VOLTAGE, Throttling.THROTTLED),
        (Throttling.UNDER_VOLTAGE, Throttling.THROTTLED),
    )
    assert machine.throttled_by(0x20000) == ((), (Throttling.FREQUENCY_CAPPED,))


def test_the_firmware_is_asked_by_its_own_program_where_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.firmware_word() is None
    program = tmp_path / "vcgencmd"
    for said, word in (("throttled=0x50005", 0x50005), ("VCHI initialization failed", None)):
        program.write_text(f'#!/bin/sh\n[ "$1" = get_throttled ] && echo "{said}"\n')
        program.chmod(0o755)
        assert machine.firmware_word() == word


def test_without_it_mainline_s_driver_tells_of_under_voltage(tmp_path: Path) -> None:
    assert machine.under_voltage_alarm(tmp_path) is None
    sensor = tmp_path / "hwmon1"
    sensor.mkdir()
    (sensor / "name").write_text("rpi_volt\n")
    for alarm in (False, True):
        (sensor / "in0_lcrit_alarm").write_text(f"{int(alarm)}\n")
        assert machine.under_voltage_alarm(tmp_path) is alarm


@pytest.mark.parametrize(
    ("reading", "verdict", "word"),
    [
        (machine.PowerReading(50.0, (), ()), Verdict.PASSED, "nothing holds it back"),
        (machine.PowerReading(50.0, None, None), Verdict.PASSED, "it does not tell"),
        (machine.PowerReading(None, None, None), Verdict.NOT_TRIED, "neither"),
        (machine.PowerReading(85.0, (), ()), Verdict.FAILED, "80 °C is the limit"),
        (
            machine.PowerReading(50.0, (), (Throttling.UNDER_VOLTAGE,)),
            Verdict.FAILED,
            "under voltage before",
        ),
        (
            machine.PowerReading(82.0, (Throttling.THROTTLED,), None),
            Verdict.FAILED,
            "throttled now",
        ),
    ],
)
def test_power_is_enough_only_where_nothing_holds_the_processor_back(
    reading: machine.PowerReading, verdict: Verdict, word: str
) -> None:
    check = machine.judge_power(reading)
    assert check.verdict is verdict
    assert word in check.text


# ---- the microphone

ROOM = sound.SoundReading("USB Audio", 10.0, 0, 0.0, -50.0, -30.0, clipping=False)


def test_ten_seconds_without_a_fault_pass_and_each_fault_says_what_to_do() -> None:
    assert sound.judge_sound(ROOM).passed
    for reading, word in [
        (replace(ROOM, seconds=0.0), "gives no sound"),
        (replace(ROOM, losses=2, lost_s=0.31), "sound was lost 2 times, 0.31 s"),
        (replace(ROOM, peak_dbfs=-90.3), "is silent: highest sample -90 dBFS"),
        (replace(ROOM, peak_dbfs=None), "is silent: highest sample nothing but zeros"),
        (replace(ROOM, peak_dbfs=0.0, clipping=True), "clips"),
    ]:
        check = sound.judge_sound(reading)
        assert not check.passed and word in check.text and check.remedy


def test_no_microphone_is_a_verdict() -> None:
    check = sound.check_microphone(None, open_audio=lambda: FakeAudio([]))
    assert check.verdict is Verdict.FAILED
    assert "no microphone on this machine" in check.text


def test_of_two_microphones_both_are_named_and_how_to_choose_is_said() -> None:
    names = ["Webcam: USB Audio (hw:1,0)", "Yeti: USB Audio (hw:2,0)", "sysdefault", "pulse"]
    check = sound.check_microphone(None, open_audio=lambda: FakeAudio(names))
    assert check.text == (
        "there are 2 microphones and none is chosen: 'Webcam: USB Audio', 'Yeti: USB Audio'"
    )
    assert check.remedy is not None and 'mic = "NAME"' in check.remedy and "--mic" in check.remedy
    assert sound.check_choice(names[:2], "Yeti") is None
    assert sound.check_choice(names[:2], names[0]) is None
    check = sound.check_microphone("usb", open_audio=lambda: FakeAudio(names))
    assert check.text == "2 are named like 'usb': 'Webcam: USB Audio', 'Yeti: USB Audio'"
    assert check.remedy == sound.SETTLES
    assert sound.check_choice(names[:1], None) is None


def test_a_microphone_that_another_program_holds_says_how_to_free_it() -> None:
    audio = FakeAudio(["Mic (hw:1,0)"])
    audio.only_channels = 99
    check = sound.check_microphone(None, open_audio=lambda: audio)
    assert "cannot be opened" in check.text
    assert check.remedy is not None and "systemctl stop sostenuto" in check.remedy


def test_what_comes_is_measured_and_what_is_lost_is_counted() -> None:
    audio = FakeAudio(["Mic"])
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, 160).astype(np.float32)

    def play() -> None:
        while not audio.opened.wait(0.01) or not audio.streams:
            pass
        stream = audio.streams[0]
        for number in range(200):
            if stream.active:
                stream.play(noise, 2 if number == 20 else 0)
            time.sleep(0.005)

    playing = threading.Thread(target=play)
    playing.start()
    reading = sound.listen(None, 0.5, open_audio=lambda: audio)
    playing.join()
    assert (reading.name, reading.losses) == ("Mic", 1)
    assert reading.seconds >= 0.5
    assert reading.peak_dbfs == pytest.approx(-20.0, abs=0.5)
    assert not sound.judge_sound(reading).passed


def test_what_a_service_counted_between_two_looks_is_a_reading() -> None:
    before = Health(audio=AudioState.RUNNING, uptime_s=100.0, overruns=3, dropped_samples=16_000)
    after = Health(
        audio=AudioState.RUNNING,
        uptime_s=110.0,
        overruns=4,
        dropped_samples=24_000,
        peak_dbfs=-30.0,
    )
    reading = sound.between(before, after, "USB Audio")
    assert reading is not None
    assert (reading.seconds, reading.losses, reading.lost_s) == (10.0, 1, 0.5)
    assert sound.between(before, msgspec.structs.replace(after, audio=AudioState.OFF), "") is None


# ---- the broker


def test_a_broker_that_takes_a_message_passes_and_keeps_the_result(mosquitto, subscribe) -> None:
    house = subscribe(mosquitto.address)
    check = check_broker(mosquitto.address, "parlour")
    assert check.passed, check.text
    assert "acknowledged" in check.text
    tell(mosquitto.address, "parlour", summed_up([check, failed("disk", "is full", "make room")]))
    late = subscribe(mosquitto.address)
    late.wait_for(lambda: late.messages("self_test"), "the retained result")
    told = decode("self_test", late.messages("self_test")[0].payload)
    assert isinstance(told, SelfTestResult)
    assert (told.passed, told.checks[1].remedy) == (False, "make room")
    assert house.messages("availability") == [], "the device is no less there than before"


def test_the_step_that_fails_is_named_with_what_to_do(locked_mosquitto) -> None:
    check = check_broker(locked_mosquitto.address, "parlour")
    assert "login fails" in check.text
    assert check.remedy is not None and "password" in check.remedy
    locked_mosquitto.stop()
    assert "TCP fails" in check_broker(locked_mosquitto.address, "parlour").text
    with pytest.raises(BrokerError):
        tell(locked_mosquitto.address, "parlour", summed_up([check]))


# ---- a service that holds the microphone


@pytest.fixture
def service(mosquitto) -> Iterator[Any]:
    """A piano that listens (to a recording), and the broker at which it is asked."""
    command = [sys.executable, "-m", "edge.cli", "listen", "--model", "templates"]
    command += ["--file", str(demo_recording()), "--device", "parlour"]
    command += ["--broker", f"mqtt://127.0.0.1:{mosquitto.port}"]
    listening = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    yield mosquitto.address
    listening.terminate()
    listening.wait(20)


def test_a_service_that_listens_is_asked_and_gives_the_keys_it_hears(service) -> None:
    until_s = time.monotonic() + 20
    while True:
        with sound.the_service(service, "parlour") as house:
            if house is not None:
                check = sound.ask(house, "parlour", 1.0, lambda _share: None)
                keys = (key for heard in AtService(house, "parlour").struck() for key in heard)
                first = next(keys)
                break
        assert time.monotonic() < until_s, "the service answers nothing"
    assert check.passed, check.text
    assert "asked of the service" in check.text
    assert 40 <= first <= 88


class LostIt:
    """A service whose microphone was pulled out."""

    def ask(self, device: str, name: str) -> Any:
        lost = Health(audio=AudioState.LOST, uptime_s=9.0)
        return (
            lost
            if name == "health"
            else Diagnostics(info=Info(software="1"), health=lost, settings={}, faults={})
        )


def test_a_service_that_has_lost_its_microphone_says_so() -> None:
    check = sound.ask(LostIt(), "parlour", 0.0, lambda _share: None)  # type: ignore[arg-type]
    assert not check.passed
    assert "the service has lost it" in check.text


def test_nobody_who_answers_is_no_service(mosquitto, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sound, "SERVICE_ANSWERS_S", 0.2)
    with sound.the_service(mosquitto.address, "parlour") as house:
        assert house is None


# ---- by ear


@pytest.mark.parametrize(
    ("heard", "sentence"),
    [
        ([60], None),
        ([60, 72], None),
        ([72], "I heard a C, but one octave too high. Go 7 white keys to the left."),
        ([36, 84], "I heard a C, but 2 octaves too high. Go 14 white keys to the left."),
        ([48], "I heard a C, but one octave too low. Go 7 white keys to the right."),
        (
            [62],
            "I heard D, to the right of middle C: 2 keys off, counting the black ones. "
            "Go to the left and try again.",
        ),
        (
            [59, 90],
            "I heard B, to the left of middle C: the very next key. Go to the right and try again.",
        ),
    ],
)
def test_another_key_is_told_with_the_way_to_middle_c(
    heard: list[int], sentence: str | None
) -> None:
    assert answer(TASKS[0], heard) == sentence


def test_a_chord_says_what_is_missing() -> None:
    assert answer(TASKS[1], [60, 64, 67]) is None
    assert answer(TASKS[1], [60, 67]) == (
        "I heard middle C and G; E was missing. Once more, a little louder."
    )
    assert answer(TASKS[1], [50]) == (
        "I heard D, and none of the three. Once more, please: C, E and G."
    )


def test_the_talk_goes_from_instruction_to_answer_to_the_end() -> None:
    talk = ByEar(patience_s=20.0)
    assert talk.push((), 0.0) == [TASKS[0].instruction]
    assert talk.push((62,), 3.0) == []
    assert talk.push((), 3.7)[0].startswith("I heard D")
    talk.push((60,), 6.0)
    assert talk.push((), 6.7) == [TASKS[0].done, TASKS[1].instruction]
    talk.push((60,), 10.0)
    talk.push((67,), 10.1)
    assert not talk.over
    talk.push((64,), 10.3)
    assert talk.push((), 10.7) == [TASKS[1].done]
    assert talk.over and not talk.given_up
    assert [check.passed for check in talk.checks()] == [True, True]


def test_patience_ends_and_what_was_wrong_is_said() -> None:
    talk = ByEar(patience_s=20.0)
    talk.push((), 0.0)
    assert talk.push((), 19.0) == [] and not talk.over
    talk.push((), 20.0)
    assert talk.given_up
    nothing = talk.checks()
    assert [check.text for check in nothing] == ["nothing was heard for 20 s"]
    silent = sound.judge_sound(replace(ROOM, peak_dbfs=None))
    assert comfort(talk, silent, 20.0)[0].startswith("The trouble is the microphone")
    assert "no piano" in comfort(talk, passed("microphone", ""), 20.0)[0]


def test_each_wrong_key_gives_new_patience_but_not_for_ever() -> None:
    talk = ByEar(patience_s=20.0)
    talk.push((), 0.0)
    now_s = 0.0
    while not talk.over:
        now_s += 19.0
        talk.push((62,), now_s)
        talk.push((), now_s + 0.7)
    assert talk.given_up
    assert [check.text for check in talk.checks()] == ["other keys were heard, 6 times"]
    assert comfort(talk, passed("microphone", ""), 20.0)[0].startswith("I heard keys")


def test_whoever_has_no_microphone_is_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = failed("microphone", "no microphone on this machine", "plug it in")
    monkeypatch.setattr(sound, "check_there", lambda _mic: missing)
    told = selftest("--by-ear", "--no-mqtt")
    assert told.exit_code == 1
    assert told.stdout.splitlines()[-2:] == [
        "The trouble is the microphone: no microphone on this machine.",
        "What to do: plug it in.",
    ]


def test_a_stranger_to_the_service_is_told_to_be_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "STATE", str(tmp_path))
    monkeypatch.setattr(command.os, "access", lambda _path, _mode: False)
    with pytest.raises(UsageError, match="run it as root"):
        command.settings_asked(command.Asked())


def tone(*keys_midi: int, rate_hz: int = Pulse.RATE_HZ) -> NDArray[np.int16]:
    """Three seconds: strings that are struck and let ring, then the hiss of a room."""
    time_s = np.arange(3 * rate_hz) / rate_hz
    string = np.zeros(len(time_s))
    for key in keys_midi:
        for partial in range(1, 10):
            hz = partial * pitch_to_hz(key)
            decay = np.exp(-time_s * (1.5 + 0.5 * partial)) / partial**1.2
            string += np.sin(2 * np.pi * hz * time_s) * decay
    attack = np.minimum(1.0, time_s / 0.005)
    hiss = np.random.default_rng(0).normal(0.0, 1e-3, len(time_s))
    return np.asarray((0.15 * string * attack + hiss) * 32767, np.int16)


@pytest.fixture
def pulse(tmp_path: Path) -> Iterator[Pulse]:
    """A microphone that a test plays into."""
    pytest.importorskip("pyaudio", reason="the extra `mic` is not installed")
    if shutil.which("pulseaudio") is None:
        pytest.skip("pulseaudio is not installed")
    server = Pulse(tmp_path)
    yield server
    server.stop()


class Player:
    """Plays one sound after the other into a microphone."""

    def __init__(self, pulse: Pulse) -> None:
        self._pulse = pulse
        self._over = threading.Event()
        self._hand: threading.Thread | None = None

    def play(self, samples: NDArray[np.int16]) -> None:
        self.stop()
        self._over = threading.Event()
        self._hand = threading.Thread(target=self._pulse.play, args=(samples, self._over))
        self._hand.start()

    def stop(self) -> None:
        self._over.set()
        if self._hand is not None:
            self._hand.join()


def device_command(pulse: Pulse, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "device", "selftest", "--no-mqtt", "--mic", "piano", *options]
    return subprocess.Popen(command, env=pulse.env, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_a_person_finds_middle_c_and_the_chord_through_a_real_microphone(pulse: Pulse) -> None:
    player = Player(pulse)
    player.play(tone())
    said: list[str] = []
    answers: dict[str, tuple[int, ...]] = {
        "Play middle C": (62,),
        "I heard D": (60,),
        "Now play three keys": (60, 64, 67),
    }
    with device_command(pulse, "--by-ear") as talking:
        assert talking.stdout is not None
        for line in talking.stdout:
            said.append(line.strip())
            for opening, keys in answers.items():
                if line.startswith(opening):
                    player.play(tone(*keys))
    player.stop()
    assert talking.returncode == 0, said
    assert said[-1] == "This piano is heard. You are done."
    assert any(line.startswith("I heard D, to the right of middle C") for line in said)
    assert [task.done for task in TASKS] == [
        line for line in said if line in {t.done for t in TASKS}
    ]


@pytest.mark.slow
def test_a_dead_microphone_is_told_to_whoever_plays(pulse: Pulse) -> None:
    player = Player(pulse)
    player.play(np.zeros(44_100, np.int16))
    with device_command(pulse, "--by-ear", "--seconds", "2", "--json") as talking:
        told, _ = talking.communicate(timeout=60)
    player.stop()
    assert talking.returncode == 1
    checks = {check["name"]: check for check in json.loads(told)["checks"]}
    assert "is silent" in checks["microphone"]["text"]


@pytest.mark.slow
def test_the_full_test_hears_a_real_microphone_for_ten_seconds(pulse: Pulse) -> None:
    player = Player(pulse)
    player.play(tone(60))
    with device_command(pulse, "--json") as testing:
        told, _ = testing.communicate(timeout=120)
    player.stop()
    checks = {check["name"]: check for check in json.loads(told)["checks"]}
    if "sound was lost" in checks["microphone"]["text"] and os.getloadavg()[0] > os.cpu_count():
        pytest.skip("more programs run than there are cores: sound is really lost")
    assert checks["microphone"]["verdict"] == "passed", checks["microphone"]
    assert "10 s, none lost" in checks["microphone"]["text"]
    assert checks["known notes, separable3d"]["verdict"] == "passed"
    assert checks["broker"]["verdict"] == "not_tried"
    assert list(checks) == [
        "settings",
        "models",
        "catalogue",
        "own pieces",
        "known notes, separable3d",
        "known piece, separable3d",
        "known bar, separable3d",
        "speed",
        "service",
        "hardware watchdog",
        "clock",
        "disk",
        "power",
        "broker",
        "microphone",
    ]


def test_what_the_command_found_is_told_to_the_house_and_kept_there(
    tmp_path: Path, mosquitto, subscribe
) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text(
        f'device = "parlour"\nmidi_in = "Roland"\nmodel = "templates"\n'
        f'broker = "mqtt://127.0.0.1:{mosquitto.port}"\noutbox = "{tmp_path}"\n'
    )
    told = json.loads(selftest("--settings", str(settings), "--json").stdout)
    late = subscribe(mosquitto.address)
    late.wait_for(lambda: late.messages("self_test"), "the retained result")
    kept = late.messages("self_test")[0].json
    assert (kept["passed"], kept["checks"]) == (told["passed"], told["checks"])
    broker = next(check for check in kept["checks"] if check["name"] == "broker")
    assert broker["verdict"] == "passed"


def test_a_piano_heard_by_midi_has_no_microphone_to_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from device.selftest import command

    settings = tmp_path / "settings.toml"
    settings.write_text('midi_in = "Roland"\nmodel = "templates"\n')
    told = selftest("--settings", str(settings), "--no-mqtt", "--json")
    checks = {check["name"]: check for check in json.loads(told.stdout)["checks"]}
    assert checks["microphone"]["text"] == "this piano is heard by MIDI: Roland"
    assert checks["known notes, templates"]["verdict"] == "passed"
    settings.write_text('devise = "parlour"\n')
    monkeypatch.setattr(command, "SETTINGS_FILE", settings)
    read, check = command.settings_asked(command.Asked())
    assert read == Settings()
    assert "did you mean" in check.text and not check.passed


def test_the_ear_that_is_tested_is_calibrated_as_the_service_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "CALIBRATION", tmp_path / "service.json")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    asked = command.Asked(mqtt=False)
    subject = command.subject_of(asked, Settings())
    assert subject.calibration == tmp_path / "sostenuto" / "calibration.json"
    command.CALIBRATION.touch()
    assert subject.calibration == command.CALIBRATION
    named = command.subject_of(asked, Settings(calibration="/c.json"))
    assert named.calibration == Path("/c.json")
