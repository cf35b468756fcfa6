from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.audio import microphone as microphone_module
from edge.audio.block import STREAM_RATE_HZ, Block
from edge.audio.microphone import CaptureRing, MicrophoneSource
from edge.audio.resample import resample
from edge.audio.source import SourceEvent, SourceEventKind
from edge.errors import DeviceError

OVERFLOWED = 2


class FakeStream:
    def __init__(self, callback: Callable[..., Any]) -> None:
        self.callback = callback
        self.active = True

    def start_stream(self) -> None: ...

    def is_active(self) -> bool:
        return self.active

    def close(self) -> None:
        self.active = False

    def play(self, frames: NDArray[np.float32], flags: int = 0) -> None:
        assert self.callback(frames.astype(np.float32).tobytes(), len(frames), {}, flags) == (
            None,
            0,
        )


class FakeAudio:
    """PortAudio with microphones that a test plugs in and pulls out."""

    def __init__(self, names: list[str], rate_hz: int = STREAM_RATE_HZ, channels: int = 1) -> None:
        self.names = names
        self.rate_hz = rate_hz
        self.channels = channels
        self.streams: list[FakeStream] = []
        self.only_channels: int | None = None
        self.opened = threading.Event()

    def get_device_count(self) -> int:
        return len(self.names)

    def get_device_info_by_index(self, index: int) -> dict[str, object]:
        return {
            "index": index,
            "name": self.names[index],
            "maxInputChannels": self.channels,
            "defaultSampleRate": float(self.rate_hz),
        }

    def get_default_input_device_info(self) -> dict[str, object]:
        raise OSError("none")

    def open(self, *, channels: int, stream_callback: Callable[..., Any], **_: Any) -> FakeStream:
        if self.only_channels not in (None, channels):
            raise OSError("Invalid number of channels")
        self.streams.append(FakeStream(stream_callback))
        self.opened.set()
        return self.streams[-1]

    def terminate(self) -> None: ...


def opened(audio: FakeAudio, name: str | None = None) -> MicrophoneSource:
    source = MicrophoneSource(name, open_audio=lambda: audio)
    source.open()
    return source


def next_block(items: Iterator[Any]) -> Block:
    item = next(items)
    assert isinstance(item, Block)
    return item


def test_what_is_captured_is_streamed_sample_by_sample() -> None:
    audio = FakeAudio(["Mic"])
    source = opened(audio)
    sound = np.random.default_rng(0).uniform(-1, 1, 1600).astype(np.float32)
    items = source.items()
    heard = []
    for start in range(0, 1600, 160):
        audio.streams[0].play(sound[start : start + 160])
        block = next_block(items)
        assert block.start_sample == start
        heard.append(block.samples)
    assert np.array_equal(np.concatenate(heard), sound)


def test_channels_are_averaged_and_the_rate_is_the_streams() -> None:
    audio = FakeAudio(["Mic"], rate_hz=48_000, channels=2)
    source = opened(audio)
    assert source.channels == 2
    left = np.random.default_rng(0).uniform(-1, 1, 4800).astype(np.float32)
    items = source.items()
    heard = []
    for start in range(0, 4800, 480):
        part = left[start : start + 480]
        audio.streams[0].play(np.stack([part, np.zeros_like(part)], axis=1))
        heard.append(next_block(items).samples)
    expected = resample(left / 2, 48_000)
    got = np.concatenate(heard)
    assert got == pytest.approx(expected[: len(got)], abs=1e-6)
    assert len(got) > 1500


def test_a_device_that_gives_only_its_own_number_of_channels_is_opened_so() -> None:
    audio = FakeAudio(["Array"], channels=4)
    audio.only_channels = 4
    assert opened(audio).channels == 4


def test_a_microphone_that_is_not_there_is_an_error_that_lists_those_that_are() -> None:
    with pytest.raises(DeviceError, match="no microphone named 'Rode'; there are: 'Mic', 'Line'"):
        opened(FakeAudio(["Mic", "Line"]), "Rode")
    with pytest.raises(DeviceError, match="no microphone on this machine"):
        opened(FakeAudio([]))
    audio = FakeAudio(["Mic"])
    audio.only_channels = 99
    with pytest.raises(DeviceError, match="does another program hold it"):
        opened(audio)


TWO = ["USB Yeti: USB Audio (hw:2,0)", "sysdefault", "USB PnP: USB Audio (hw:1,0)"]


@pytest.mark.parametrize("names", [TWO, TWO[::-1]])
def test_of_two_microphones_that_a_name_fits_the_first_by_name_is_heard_and_told(
    names: list[str],
) -> None:
    """Whichever woke up first: the piano listens, and to the same one at each start."""
    audio = FakeAudio(names)
    source = opened(audio, "usb")
    assert source.microphone is not None and source.microphone.name == "USB PnP: USB Audio"
    audio.streams[0].play(np.ones(160, np.float32))
    items = source.items()
    said = next(items)
    assert isinstance(said, SourceEvent) and said.kind is SourceEventKind.ATTENTION
    assert said.message == (
        "2 microphones are named like 'usb': 'USB PnP: USB Audio', 'USB Yeti: USB Audio'; it "
        'listens to the first of them by name. Choose one: mic = "USB PnP: USB Audio"'
    )
    assert next_block(items).start_sample == 0
    assert opened(audio, "Yeti").doubt is None
    assert opened(audio, "USB Yeti: USB Audio").doubt is None


def test_the_other_microphone_is_heard_when_the_first_is_pulled_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(microphone_module, "FIRST_RETRY_S", 0.01)
    audio = FakeAudio(TWO)
    source = opened(audio, "usb")
    items = source.items()
    audio.streams[0].play(np.ones(160, np.float32))
    assert isinstance(next(items), SourceEvent) and next_block(items)
    audio.names = TWO[:2]
    audio.streams[0].active = False
    lost = next(items)
    assert isinstance(lost, SourceEvent) and lost.kind is SourceEventKind.DEVICE_LOST
    playing = threading.Thread(target=_play_when_open, args=(audio, 2))
    playing.start()
    back = next(items)
    playing.join(5.0)
    assert isinstance(back, SourceEvent) and back.kind is SourceEventKind.DEVICE_RECOVERED
    assert "'USB Yeti: USB Audio' is here" in back.message


def test_samples_that_are_no_numbers_are_silence() -> None:
    audio = FakeAudio(["Mic"])
    source = opened(audio)
    audio.streams[0].play(np.array([0.5, np.nan, np.inf, -3.0], np.float32))
    assert next_block(source.items()).samples.tolist() == [0.5, 0.0, 0.0, -1.0]


def test_a_full_ring_counts_what_it_drops_and_the_stream_jumps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(microphone_module, "RING_BLOCKS", 3)
    audio = FakeAudio(["Mic"])
    source = opened(audio)
    for index in range(5):
        audio.streams[0].play(np.full(160, index / 10, np.float32))
    items = source.items()
    assert [next_block(items).start_sample for _ in range(3)] == [0, 160, 320]
    audio.streams[0].play(np.full(160, 0.9, np.float32))
    gap = next(items)
    assert isinstance(gap, SourceEvent)
    assert gap.kind is SourceEventKind.OVERRUN
    assert gap.lost_samples == 320
    assert next_block(items).start_sample == 5 * 160


def test_an_overflow_of_portaudio_is_counted_and_dated_by_the_clock() -> None:
    audio = FakeAudio(["Mic"])
    source = opened(audio)
    items = source.items()
    audio.streams[0].play(np.zeros(160, np.float32))
    next_block(items)
    time.sleep(0.1)  # the sound that PortAudio lost
    audio.streams[0].play(np.zeros(160, np.float32), OVERFLOWED)
    gap = next(items)
    assert isinstance(gap, SourceEvent)
    assert gap.kind is SourceEventKind.OVERRUN
    assert source.overflows == 1
    assert gap.lost_samples >= 0.07 * STREAM_RATE_HZ
    assert next_block(items).start_sample == 160 + gap.lost_samples


def test_a_microphone_pulled_out_is_told_looked_for_and_heard_again_in_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(microphone_module, "LOST_AFTER_S", 0.2)
    monkeypatch.setattr(microphone_module, "FIRST_RETRY_S", 0.05)
    audio = FakeAudio(["USB Mic"])
    source = opened(audio, "USB")
    items = source.items()
    audio.streams[0].play(np.zeros(160, np.float32))
    began_s = time.monotonic()
    next_block(items)
    audio.names = []  # the callbacks stop; is_active() stays true, as PortAudio's does
    lost = next(items)
    assert isinstance(lost, SourceEvent)
    assert lost.kind is SourceEventKind.DEVICE_LOST
    assert "USB Mic" in lost.message

    def plug_in() -> None:
        audio.opened.clear()
        audio.names = ["USB Mic"]
        assert audio.opened.wait(10.0)
        audio.streams[-1].play(np.zeros(160, np.float32))

    plugging = threading.Timer(0.2, plug_in)
    plugging.start()
    back = next(items)
    assert isinstance(back, SourceEvent)
    assert back.kind is SourceEventKind.DEVICE_RECOVERED
    assert back.lost_samples > 0.35 * STREAM_RATE_HZ
    block = next_block(items)
    assert block.start_sample == 160 + back.lost_samples
    plugging.join()
    away = (time.monotonic() - began_s) * STREAM_RATE_HZ
    assert 0.35 * STREAM_RATE_HZ < block.start_sample <= away


def test_a_microphone_that_was_given_back_is_opened_again_where_the_clock_says() -> None:
    audio = FakeAudio(["Mic"])
    source = opened(audio)
    audio.streams[0].play(np.full(160, 0.1, np.float32))
    first = next_block(source.items())
    source.close()
    assert not audio.streams[0].active
    time.sleep(0.3)
    again = source.items()
    playing = threading.Thread(target=_play_when_open, args=(audio, 2))
    playing.start()
    second = next_block(again)
    playing.join(5.0)
    away_samples = second.start_sample - first.end_sample
    assert 0.2 * STREAM_RATE_HZ < away_samples < 5 * STREAM_RATE_HZ
    source.close()
    assert not audio.streams[1].active


def _play_when_open(audio: FakeAudio, streams: int) -> None:
    until_s = time.monotonic() + 5.0
    while len(audio.streams) < streams and time.monotonic() < until_s:
        time.sleep(0.005)
    time.sleep(0.05)
    audio.streams[-1].play(np.full(160, 0.1, np.float32))


def test_a_stopped_source_ends_while_its_microphone_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(microphone_module, "LOST_AFTER_S", 0.05)
    audio = FakeAudio(["Mic"])
    source = opened(audio)
    items = source.items()
    audio.streams[0].play(np.zeros(160, np.float32))
    next_block(items)
    audio.names = []
    assert isinstance(next(items), SourceEvent)
    source.stop()
    assert list(items) == []


def test_the_ring_gives_back_what_was_written_in_order() -> None:
    ring = CaptureRing(4, 8, 1)
    for index in range(4):
        ring.write(np.full(8, index, np.float32).tobytes(), 8, overflowed=False)
    read = [ring.read(0.0) for _ in range(5)]
    assert [int(c.frames[0, 0]) for c in read if c is not None] == [0, 1, 2, 3]
    assert [c.start_frame for c in read if c is not None] == [0, 8, 16, 24]
    assert read[-1] is None


PULSE_LISTENER = textwrap.dedent(
    """
    import sys, numpy as np
    from edge.audio.block import Block
    from edge.audio.microphone import MicrophoneSource
    source = MicrophoneSource("piano")
    source.open()
    print("opened", flush=True)
    heard, count = [], 0
    for item in source.items():
        if isinstance(item, Block):
            heard.append(item.samples)
            count += len(item.samples)
        else:
            print(item.kind.value, flush=True)
            if item.kind.value == "device_recovered":
                break
        if len(sys.argv) > 2 and count > 16000 * float(sys.argv[2]):
            break
    np.save(sys.argv[1], np.concatenate(heard))
    source.close()
    """
)


class Pulse:
    """A PulseAudio of its own whose only source is a pipe."""

    RATE_HZ = 44_100

    def __init__(self, folder: Path) -> None:
        self.fifo = folder / "fifo"
        self.env = {**os.environ, "XDG_RUNTIME_DIR": str(folder), "HOME": str(folder)}
        self.env.pop("PULSE_SERVER", None)
        folder.chmod(0o700)
        (folder / ".asoundrc").write_text("pcm.piano { type pulse device piano }\n")
        self._pipe = (
            f"module-pipe-source source_name=piano file={self.fifo} "
            f"rate={self.RATE_HZ} channels=1 format=s16le"
        )
        self.server = subprocess.Popen(
            [
                *("pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1"),
                "--load=module-native-protocol-unix auth-anonymous=1",
                f"--load={self._pipe}",
            ],
            env=self.env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until_s = time.monotonic() + 20
        while not self.fifo.exists() and time.monotonic() < until_s:
            time.sleep(0.05)
        assert self.fifo.exists(), "PulseAudio did not start"

    def control(self, *words: str) -> None:
        subprocess.run(["pactl", *words], env=self.env, check=True, stdout=subprocess.DEVNULL)

    def unplug(self) -> None:
        self.control("unload-module", "module-pipe-source")

    def plug_in(self) -> None:
        name, *options = self._pipe.split()
        self.control("load-module", name, *options)

    def play(self, samples: NDArray[np.int16], until: threading.Event) -> None:
        """Write ``samples`` over and over at the pace of the clock."""
        descriptor = os.open(self.fifo, os.O_RDWR | os.O_NONBLOCK)
        began_s, written = time.monotonic(), 0
        whole = samples.tobytes()
        try:
            while not until.wait(0.01):
                due = int((time.monotonic() - began_s) * self.RATE_HZ)
                while written < due:
                    start = written % len(samples) * 2
                    part = whole[start : start + 2 * min(due - written, 1024)]
                    try:
                        written += os.write(descriptor, part) // 2
                    except BlockingIOError:
                        break
        finally:
            os.close(descriptor)

    def stop(self) -> None:
        self.server.terminate()
        self.server.wait(10)


@pytest.fixture
def pulse(tmp_path: Path) -> Iterator[Pulse]:
    pytest.importorskip("pyaudio", reason="the extra `mic` is not installed")
    if shutil.which("pulseaudio") is None:
        pytest.skip("pulseaudio is not installed")
    server = Pulse(tmp_path)
    yield server
    server.stop()


@pytest.mark.slow
def test_a_real_stream_is_exact_to_the_sample(pulse: Pulse, tmp_path: Path) -> None:
    loop = np.random.default_rng(0).integers(-20_000, 20_000, pulse.RATE_HZ // 2).astype(np.int16)
    over = threading.Event()
    player = threading.Thread(target=pulse.play, args=(loop, over))
    player.start()
    saved = tmp_path / "heard.npy"
    try:
        subprocess.run(
            [sys.executable, "-c", PULSE_LISTENER, str(saved), "2"],
            env=pulse.env,
            check=True,
            timeout=60,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    finally:
        over.set()
        player.join()
    heard = np.load(saved)
    # The loop lasts exactly 0.5 s, 8000 samples of the stream: the whole loop must be there,
    # turned by some number of samples of the microphone.
    cycle = resample((np.tile(loop, 4) / 32768).astype(np.float32), pulse.RATE_HZ)[8000:24000]
    part = heard[8000:12000]
    spread = [
        float(np.abs(part - resample_at(loop, shift, pulse.RATE_HZ)[: len(part)]).max())
        for shift in likely_shifts(part, cycle, pulse.RATE_HZ)
    ]
    assert min(spread) < 1e-3


def likely_shifts(part: NDArray[Any], cycle: NDArray[Any], rate_hz: int) -> range:
    """Shifts in the microphone's samples near the one that correlates best."""
    scores = [float(np.dot(part[:800], cycle[k : k + 800])) for k in range(8000)]
    best = int(np.argmax(scores)) * rate_hz / STREAM_RATE_HZ
    return range(int(best) - 6, int(best) + 7)


def resample_at(loop: NDArray[np.int16], shift: int, rate_hz: int) -> NDArray[np.float32]:
    """What the stream hears half a second into a loop that is entered at ``shift``."""
    turned = np.tile(np.roll(loop, -shift), 3) / 32768
    return resample(turned.astype(np.float32), rate_hz)[8000:16000]


ROOM = """
import pyaudio
from edge.audio.devices import make_room
audio = pyaudio.PyAudio()
for index in range(audio.get_device_count()):
    before = audio.get_device_info_by_index(index)
    make_room(index)
    after = audio.get_device_info_by_index(index)
    print(before.pop("defaultLowInputLatency") < before["defaultHighInputLatency"],
          after.pop("defaultLowInputLatency") == after["defaultHighInputLatency"], after == before)
make_room(999)
make_room(0, "libnothing.so")
"""


def test_a_card_is_asked_for_room(pulse: Pulse) -> None:
    said = subprocess.run(
        [sys.executable, "-c", ROOM],
        env=pulse.env,
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert "True True True" in said.stdout.splitlines()
    assert not [line for line in said.stdout.splitlines() if not line.endswith("True True")]


@pytest.mark.slow
def test_a_real_microphone_that_vanishes_comes_back(pulse: Pulse, tmp_path: Path) -> None:
    loop = np.random.default_rng(0).integers(-20_000, 20_000, 22_050).astype(np.int16)
    over = threading.Event()
    player = threading.Thread(target=pulse.play, args=(loop, over))
    player.start()
    with subprocess.Popen(
        [sys.executable, "-c", PULSE_LISTENER, str(tmp_path / "heard.npy")],
        env=pulse.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as listener:
        assert listener.stdout is not None
        assert listener.stdout.readline() == "opened\n"
        time.sleep(1.0)  # some sound first
        over.set()
        player.join()
        pulse.unplug()
        assert listener.stdout.readline() == "device_lost\n"
        pulse.plug_in()
        over.clear()
        player = threading.Thread(target=pulse.play, args=(loop, over))
        player.start()
        assert listener.stdout.readline() == "device_recovered\n"
        assert listener.wait(30) == 0
        over.set()
        player.join()
