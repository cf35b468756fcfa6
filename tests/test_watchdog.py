from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.audio.source import SourceEvent, SourceEventKind
from edge.messages import AudioState
from edge.watchdog import (
    BEHIND_BLOCKS,
    BEHIND_S,
    NOTHING_HEARD_S,
    WHOLE_BLOCKS,
    Headway,
    Pulse,
    Supervisor,
    Verdict,
    watchdog_s,
)
from tests.test_listen import Item, ListSource, OneNotePerBlock, block, listen


@pytest.mark.parametrize(
    ("audio", "unheard_s", "behind_s", "verdict"),
    [
        (AudioState.RUNNING, 0.1, 0.0, Verdict.HEARS),
        (AudioState.SILENT, 0.1, 0.0, Verdict.HEARS),
        (AudioState.CLIPPING, NOTHING_HEARD_S, BEHIND_S, Verdict.HEARS),
        (AudioState.RUNNING, NOTHING_HEARD_S + 1, 0.0, Verdict.DEAF),
        (AudioState.RECOVERING, 0.1, 0.0, Verdict.HEARS),
        (AudioState.RECOVERING, NOTHING_HEARD_S + 1, 0.0, Verdict.DEAF),
        (AudioState.RUNNING, 0.1, BEHIND_S + 1, Verdict.BEHIND),
        (AudioState.OFF, 1e6, 1e6, Verdict.EXPECTS_NOTHING),
        (AudioState.LOST, 1e6, 1e6, Verdict.EXPECTS_NOTHING),
        (AudioState.MIDI, 1e6, 1e6, Verdict.EXPECTS_NOTHING),
    ],
)
def test_an_ear_is_fed_while_it_hears_or_honestly_expects_no_sound(
    audio: AudioState, unheard_s: float, behind_s: float, verdict: Verdict
) -> None:
    assert Headway(audio, unheard_s, behind_s).verdict is verdict
    assert verdict.feeds is (verdict in (Verdict.HEARS, Verdict.EXPECTS_NOTHING))


def test_a_queue_that_only_grows_is_behind_and_one_that_drains_now_and_then_is_not() -> None:
    growing, breathing = Pulse(0.0), Pulse(0.0)
    for second in range(40):
        growing.heard(second)
        breathing.heard(second)
        full = growing.turn(second, AudioState.RUNNING, BEHIND_BLOCKS + second)
        tight = breathing.turn(second, AudioState.RUNNING, 0 if second % 10 == 0 else 249)
        assert full.verdict is (Verdict.BEHIND if second > BEHIND_S else Verdict.HEARS)
        assert tight.verdict is Verdict.HEARS


def test_an_ear_that_fails_at_every_inference_is_deaf_and_one_bad_block_a_second_is_not() -> None:
    """With our models each ninth block completes a spectrum, and fails; the others are kept."""
    failing, stumbling = Pulse(0.0), Pulse(0.0)
    for index in range(3000):  # half a minute in blocks of 10 ms
        now_s = index / 100
        for pulse, every in ((failing, 9), (stumbling, WHOLE_BLOCKS + 1)):
            pulse.failed() if index % every == 0 else pulse.heard(now_s)
        assert stumbling.turn(now_s, AudioState.RUNNING, 0).verdict is Verdict.HEARS
        fed = failing.turn(now_s, AudioState.RUNNING, 0).verdict is Verdict.HEARS
        assert fed is (now_s <= NOTHING_HEARD_S)
    assert failing.turn(30.0, AudioState.RUNNING, 0).verdict is Verdict.FAILING
    assert failing.turn(31.0, AudioState.OFF, 0).verdict is Verdict.EXPECTS_NOTHING


def test_sound_is_expected_anew_from_the_moment_that_a_microphone_is_back() -> None:
    pulse = Pulse(0.0)
    assert pulse.turn(1000.0, AudioState.LOST, 0).verdict is Verdict.EXPECTS_NOTHING
    assert pulse.turn(1010.0, AudioState.RECOVERING, 0).verdict is Verdict.HEARS
    assert pulse.turn(1016.0, AudioState.RECOVERING, 0).verdict is Verdict.DEAF


class Systemd:
    """The datagram socket that systemd would listen on."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "notify"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(self.path))
        self.socket.settimeout(0.1)

    def environment(self, watchdog_usec: int = 400_000) -> dict[str, str]:
        return {"NOTIFY_SOCKET": str(self.path), "WATCHDOG_USEC": str(watchdog_usec)}

    def said(self) -> list[str]:
        lines: list[str] = []
        while True:
            try:
                lines += self.socket.recv(4096).decode().splitlines()
            except TimeoutError:
                return lines


@pytest.fixture
def systemd(tmp_path: Path) -> Systemd:
    return Systemd(tmp_path)


HEARS = Headway(AudioState.RUNNING, 0.0, 0.0)
DEAF = Headway(AudioState.RUNNING, 99.0, 0.0)


def test_readiness_is_told_once_and_life_four_times_in_the_time_given(systemd: Systemd) -> None:
    supervisor = Supervisor(systemd.environment(4_000_000))
    for tenth in range(41):
        supervisor.turn(tenth / 10, HEARS, "listening")
    said = systemd.said()
    assert said[:3] == ["READY=1", "WATCHDOG=1", "STATUS=listening"]
    assert said[3:] == ["WATCHDOG=1"] * 4


def test_the_deaf_are_ready_but_not_fed_and_say_why(systemd: Systemd) -> None:
    supervisor = Supervisor(systemd.environment())
    for second in range(30):
        supervisor.turn(second, DEAF, "USB Audio")
    assert systemd.said() == ["READY=1", f"STATUS={Verdict.DEAF.value}; USB Audio"]


def test_without_systemd_nothing_is_said_and_with_a_dead_one_nothing_is_raised() -> None:
    for environment in ({}, {"NOTIFY_SOCKET": "/nowhere/notify", "WATCHDOG_USEC": "1"}):
        supervisor = Supervisor(environment)
        supervisor.turn(0.0, HEARS, "")
        supervisor.stopping()


def test_an_abstract_socket_is_found() -> None:
    name = f"sostenuto-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours:
        ours.bind("\0" + name)
        Supervisor({"NOTIFY_SOCKET": "@" + name}).stopping()
        assert ours.recv(100).startswith(b"STOPPING=1")


def test_a_watch_that_is_kept_over_another_process_is_not_ours() -> None:
    assert watchdog_s({"WATCHDOG_USEC": "30000000"}) == 30.0
    assert watchdog_s({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}) == 30.0
    assert watchdog_s({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}) == float("inf")
    assert watchdog_s({}) == float("inf")


class Stalls(OneNotePerBlock):
    """A recogniser that never comes back from its third block, until the test is over."""

    def __init__(self) -> None:
        super().__init__()
        self.stalled, self.over = threading.Event(), threading.Event()

    def push(self, block: object) -> list[object]:  # type: ignore[override]
        if len(self.blocks) == 2:
            self.stalled.set()
            self.over.wait(10.0)
        return super().push(block)  # type: ignore[arg-type,return-value]


def test_the_live_loop_is_ready_and_fed_and_a_stalled_inference_is_fed_no_more(
    systemd: Systemd,
) -> None:
    recogniser = Stalls()
    source = ListSource([block(i) for i in range(5)])
    supervisor = Supervisor(systemd.environment())
    loop = threading.Thread(
        target=listen, args=(source, recogniser), kwargs={"supervisor": supervisor}
    )
    loop.start()
    assert recogniser.stalled.wait(5.0)
    first = systemd.said()
    assert first[:2] == ["READY=1", "WATCHDOG=1"]
    time.sleep(0.6)  # longer than systemd would wait
    assert systemd.said() == []
    recogniser.over.set()
    loop.join(10.0)
    assert systemd.said()[-2] == "STOPPING=1"


class Fails(OneNotePerBlock):
    """A recogniser that fails at every so manieth block."""

    def __init__(self, every: int) -> None:
        super().__init__()
        self.every = every

    def push(self, block: object) -> list[object]:  # type: ignore[override]
        if len(self.blocks) % self.every == 0:
            self.fails_at = len(self.blocks) + 1
        return super().push(block)  # type: ignore[arg-type,return-value]


class Goes(ListSource):
    """A microphone that gives a block every millisecond, ten times as fast as a true one."""

    def items(self) -> Iterator[Item]:
        for item in super().items():
            time.sleep(0.001)
            yield item


@pytest.mark.parametrize(("every", "fed"), [(9, False), (WHOLE_BLOCKS + 50, True)])
def test_an_ear_that_only_fails_is_fed_no_more_and_one_that_stumbles_is(
    systemd: Systemd, monkeypatch: pytest.MonkeyPatch, every: int, fed: bool
) -> None:
    monkeypatch.setattr("edge.watchdog.NOTHING_HEARD_S", 0.5)
    monkeypatch.setattr("edge.watchdog.STATUS_S", 0.1)
    monkeypatch.setattr("edge.listen.AUDIO_STATE_S", 0.02)
    source = Goes([block(i) for i in range(1200)], kind="microphone", origin_s=0.0)
    loop = threading.Thread(
        target=listen,
        args=(source, Fails(every)),
        kwargs={"supervisor": Supervisor(systemd.environment())},
    )
    loop.start()
    time.sleep(0.8)
    early = systemd.said()
    assert "WATCHDOG=1" in early
    time.sleep(0.4)
    late = systemd.said()
    assert ("WATCHDOG=1" in late) is fed
    told = any(Verdict.FAILING.value in line for line in early + late)
    assert told is not fed
    source.stop()
    loop.join(10.0)


def test_a_microphone_that_is_lost_is_told_and_the_watchdog_stays_fed(systemd: Systemd) -> None:
    away = SourceEvent(SourceEventKind.DEVICE_LOST, "pulled out")
    source = ListSource([block(0), away], kind="microphone", origin_s=0.0, stays_open=True)
    supervisor = Supervisor(systemd.environment(100_000))
    loop = threading.Thread(target=listen, args=(source,), kwargs={"supervisor": supervisor})
    loop.start()
    said: list[str] = []
    until_s = time.monotonic() + 10.0
    while said.count("WATCHDOG=1") < 3 and time.monotonic() < until_s:
        said += systemd.said()
    source.stop()
    loop.join(10.0)
    assert said.count("WATCHDOG=1") >= 3
    assert any(line.startswith("STATUS=test: lost") for line in said)


def test_listen_begins_without_a_microphone_where_it_may_wait(
    systemd: Systemd, tmp_path: Path
) -> None:
    """The command itself, on a machine whose sound has no such microphone."""
    listening = subprocess.Popen(
        [
            *(sys.executable, "-m", "edge.cli", "listen", "--no-mqtt", "--model", "templates"),
            *("--wait-for-source", "--mic", "no such microphone"),
        ],
        env={**os.environ, **systemd.environment(), "STATE_DIRECTORY": str(tmp_path / "state")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    said: list[str] = []
    try:
        until_s = time.monotonic() + 30.0
        while not any(": lost" in line for line in said) and time.monotonic() < until_s:
            said += systemd.said()
    finally:
        listening.send_signal(signal.SIGTERM)
        code = listening.wait(20.0)
    assert "READY=1" in said
    assert any(line.startswith("STATUS=no such microphone: lost") for line in said)
    assert code == 0
    assert "WATCHDOG=1" in said
