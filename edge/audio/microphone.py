"""A microphone as a stream, however badly it behaves.

PortAudio calls back with a buffer of sound from a thread that must never wait: there the
buffer is copied into a ring that was allocated beforehand, and nothing else happens. The
source reads the ring, averages the channels, and resamples to the stream's rate.

A microphone that is pulled out often says nothing: the callbacks just stop, while PortAudio
still calls the stream active. So the time of the last callback is watched. A lost microphone
is looked for by name, again and again with growing patience, and the stream goes on at the
sample that the clock says, so that nothing after the gap is dated wrongly.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.audio.block import BLOCK_S, STREAM_RATE_HZ, Block, MidiBlock
from edge.audio.devices import (
    Microphone,
    doubt,
    list_microphones,
    load_pyaudio,
    make_room,
    named_like,
)
from edge.audio.resample import HIGHEST_RATE_HZ, LOWEST_RATE_HZ, ResampleStream, to_mono
from edge.audio.source import SourceEvent, SourceEventKind
from edge.errors import DeviceError

RING_BLOCKS = 200
"""Room between the callback and the reader: two seconds."""

CLOCK_SLACK_S = 0.02
"""A callback may come so much late though no sound was lost."""

FIRST_CALLBACK_S = 5.0
LOST_AFTER_S = 1.0
"""A stream whose callbacks stay away for so long is lost: fifty blocks. The first may take
longer, for sound servers start their sources lazily."""

FIRST_RETRY_S = 0.5
LONGEST_RETRY_S = 10.0
"""Patience between two attempts to open a lost microphone: doubled each time."""

CLOSE_S = 2.0
"""A stream whose device is gone may hang when it is closed; after so long it is left behind."""

CLOCK_DRIFT = 200e-6
"""The clocks of a sound card and of the board go apart by up to 100 ppm each."""

PREFERRED_CHANNELS = 2

_OVERFLOWED = 2  # paInputOverflow
_CONTINUE = 0  # paContinue
_FLOAT32 = 1  # paFloat32


@dataclass(frozen=True, slots=True)
class Captured:
    """One buffer of the ring.

    Attributes
    ----------
    frames : NDArray[np.float32], shape (n, channels)
    start_frame : int
        Frames since the stream was opened, those counted in that found no room.
    arrived_s : float
        ``time.monotonic()`` at the callback.
    overflowed : bool
        PortAudio had lost sound before this buffer.
    """

    frames: NDArray[np.float32]
    start_frame: int
    arrived_s: float
    overflowed: bool


class CaptureRing:
    """A bounded ring between one writer, the callback, and one reader."""

    def __init__(self, blocks: int, block_frames: int, channels: int) -> None:
        self._block_frames = block_frames
        self._channels = channels
        self._frames = np.zeros((blocks, block_frames * channels), np.float32)
        self._lengths = [0] * blocks
        self._starts = [0] * blocks
        self._arrivals = [0.0] * blocks
        self._overflows = [False] * blocks
        self._written = 0
        self._read = 0
        self._position = 0
        self._unmarked_overflow = False
        self._news = threading.Event()
        self.last_callback_s: float | None = None
        self.full_blocks = 0

    def write(self, raw: bytes, frame_count: int, overflowed: bool) -> None:
        """Copy one buffer in; for the callback alone."""
        now_s = time.monotonic()
        start = self._position
        self._position += frame_count
        self.last_callback_s = now_s
        overflowed = overflowed or self._unmarked_overflow
        if self._written - self._read >= len(self._lengths) or frame_count > self._block_frames:
            self.full_blocks += 1
            self._unmarked_overflow = overflowed
            return
        slot = self._written % len(self._lengths)
        count = frame_count * self._channels
        self._frames[slot, :count] = np.frombuffer(raw, np.float32, count)
        self._lengths[slot] = count
        self._starts[slot] = start
        self._arrivals[slot] = now_s
        self._overflows[slot] = overflowed
        self._unmarked_overflow = False
        self._written += 1
        self._news.set()

    def read(self, timeout_s: float) -> Captured | None:
        """The oldest buffer, waiting for one; None when none comes in time."""
        if self._read == self._written:
            self._news.clear()
            # The callback may have written between the look and the clearing.
            if self._read == self._written and not self._news.wait(timeout_s):
                return None
        slot = self._read % len(self._lengths)
        frames = self._frames[slot, : self._lengths[slot]].reshape(-1, self._channels)
        captured = Captured(
            frames.copy(), self._starts[slot], self._arrivals[slot], self._overflows[slot]
        )
        self._read += 1
        return captured


class MicrophoneSource:
    """A microphone by name.

    Parameters
    ----------
    name : str or None
        Its stable name or a part of it, of several that it fits the first by name; None for the
        system's input.
    open_audio : callable, optional
        Makes a ``pyaudio.PyAudio``; a test puts its own in.
    """

    kind = "microphone"

    def __init__(
        self, name: str | None = None, *, open_audio: Callable[[], Any] | None = None
    ) -> None:
        self.wanted = name
        self.microphone: Microphone | None = None
        self.channels: int | None = None
        self.overflows = 0
        """Times that PortAudio lost sound before we saw it."""
        self.doubt: str | None = None
        """Which others the name fits as well, and what to do."""
        self._told_doubt: str | None = None
        self._open_audio = open_audio or _open_pyaudio
        self._audio: Any = None
        self._stream: Any = None
        self._ring: CaptureRing | None = None
        self._resampler = ResampleStream(STREAM_RATE_HZ)
        self._origin_s: float | None = None
        self._origin_seen_s = 0.0
        self._end_sample = 0
        self._away = False
        self._stopped = threading.Event()

    @property
    def name(self) -> str:
        """The stable name of the microphone in use, or the wanted one."""
        return self.microphone.name if self.microphone else self.wanted or "microphone"

    @property
    def sample_rate_hz(self) -> int | None:
        """The microphone's own rate, once it is open."""
        return None if self._ring is None else self._resampler.rate_hz

    @property
    def origin_s(self) -> float | None:
        """When sample 0 sounded, by the earliest arrival that is in keeping with all others."""
        return self._origin_s

    def open(self) -> None:
        """Find and open the microphone.

        Raises
        ------
        DeviceError
            PyAudio is missing, or the microphone is not there, or taken.
        """
        self._audio = self._open_audio()
        try:
            self.microphone = self._find()
            self._start(self.microphone)
        except DeviceError:
            self.close()
            raise

    def stop(self) -> None:
        """End ``items`` soon."""
        self._stopped.set()

    def close(self) -> None:
        """Give the microphone back; one that is gone may not be given back, and is left."""
        stream, audio = self._stream, self._audio
        self._stream = self._audio = None
        if audio is None:
            return
        closing = threading.Thread(target=_close, args=(stream, audio), daemon=True)
        closing.start()
        closing.join(CLOSE_S)

    def items(self) -> Iterator[Block | MidiBlock | SourceEvent]:
        """Blocks as they come; loss, recovery, overflow and doubt in their places."""
        while not self._stopped.is_set():
            lost = f"microphone {self.name!r} gives no sound any more; looking for it"
            try:
                if self._stream is None:
                    self.open()
            except DeviceError as error:
                lost = str(error)
            else:
                if self.doubt not in (None, self._told_doubt):
                    self._told_doubt = self.doubt
                    yield SourceEvent(SourceEventKind.ATTENTION, str(self.doubt))
                yield from self._listen_until_lost()
            if self._stopped.is_set():
                return
            if not self._away:
                self._away = True
                yield SourceEvent(SourceEventKind.DEVICE_LOST, lost)
            self._reopen()

    def _find(self) -> Microphone:
        found = list_microphones(self._audio)
        if not found:
            raise DeviceError(
                "no microphone on this machine; plug one in, or take a recording: "
                "`sostenuto listen --file`"
            )
        if self.wanted is None:
            return next((each for each in found if each.default), found[0])
        like = named_like(self.wanted, found)
        self.doubt = doubt(self.wanted, like)
        return like[0]

    def _start(self, microphone: Microphone) -> None:
        rate_hz = min(max(microphone.sample_rate_hz, LOWEST_RATE_HZ), HIGHEST_RATE_HZ)
        block_frames = round(rate_hz * BLOCK_S)
        few = min(PREFERRED_CHANNELS, microphone.channels)
        trouble: OSError | None = None
        make_room(microphone.index)
        for channels in dict.fromkeys((few, 1, microphone.channels)):
            ring = CaptureRing(RING_BLOCKS, block_frames, channels)
            try:
                self._stream = self._audio.open(
                    rate=rate_hz,
                    channels=channels,
                    format=_FLOAT32,
                    input=True,
                    input_device_index=microphone.index,
                    frames_per_buffer=block_frames,
                    stream_callback=_copier(ring),
                    start=False,
                )
            except OSError as error:
                trouble = error
                continue
            self._ring = ring
            self.channels = channels
            self._resampler = ResampleStream(rate_hz)
            return
        raise DeviceError(
            f"microphone {microphone.name!r} cannot be opened ({trouble}); "
            "does another program hold it?"
        )

    def _listen_until_lost(self) -> Iterator[Block | SourceEvent]:
        assert self._ring is not None
        ring, rate_hz = self._ring, self._resampler.rate_hz
        opened_s = time.monotonic()
        try:
            self._stream.start_stream()
        except OSError:
            return  # gone between opening and starting: as good as lost
        base_sample: int | None = None
        skipped_frames = 0
        expected_frame = 0
        while not self._stopped.is_set():
            captured = ring.read(BLOCK_S * 10)
            if captured is None:
                if self._is_lost(ring, opened_s):
                    break
                continue
            length_s = len(captured.frames) / rate_hz
            if base_sample is None:
                before = self._end_sample
                base_sample = self._base_sample(captured.arrived_s - length_s)
                if self._away:
                    self._away = False
                    yield self._recovered(base_sample - before)
            if captured.overflowed:
                skipped_frames += self._lost_by_clock(captured, base_sample, skipped_frames)
            start_frame = captured.start_frame + skipped_frames
            if start_frame > expected_frame:
                yield from self._flushed()
                position = base_sample + round(start_frame * STREAM_RATE_HZ / rate_hz)
                yield self._gap(position, captured.overflowed)
            expected_frame = start_frame + len(captured.frames)
            self._keep_time(captured.arrived_s, base_sample, expected_frame)
            yield from self._block(self._resampler.push(_clean(captured.frames)))
        yield from self._flushed()

    def _base_sample(self, began_s: float) -> int:
        """Where in the stream a newly opened microphone begins: at 0, or where the clock says."""
        if self._origin_s is None:
            self._origin_s = self._origin_seen_s = began_s
            return 0
        by_clock = round((began_s - self._origin_s) * STREAM_RATE_HZ)
        self._end_sample = max(by_clock, self._end_sample)
        return self._end_sample

    def _lost_by_clock(self, captured: Captured, base_sample: int, skipped_frames: int) -> int:
        """Frames that PortAudio lost before this buffer, as far as the clock can tell."""
        self.overflows += 1
        assert self._origin_s is not None
        rate_hz = self._resampler.rate_hz
        counted = captured.start_frame + skipped_frames + len(captured.frames)
        counted_s = base_sample / STREAM_RATE_HZ + counted / rate_hz
        late_s = captured.arrived_s - self._origin_s - counted_s
        return round(late_s * rate_hz) if late_s > CLOCK_SLACK_S else 0

    def _keep_time(self, arrived_s: float, base_sample: int, end_frame: int) -> None:
        """Sound never arrives early, so the earliest arrival tells best when the stream began."""
        assert self._origin_s is not None
        end_s = base_sample / STREAM_RATE_HZ + end_frame / self._resampler.rate_hz
        leaked_s = self._origin_s + CLOCK_DRIFT * (arrived_s - self._origin_seen_s)
        self._origin_s = min(leaked_s, arrived_s - end_s)
        self._origin_seen_s = arrived_s

    def _gap(self, position: int, overflowed: bool) -> SourceEvent:
        lost = max(0, position - self._end_sample)
        self._end_sample = max(position, self._end_sample)
        why = "PortAudio overflowed" if overflowed else "the ring was full"
        return SourceEvent(
            SourceEventKind.OVERRUN,
            f"{lost / STREAM_RATE_HZ:.2f} s of sound lost before they were read: {why}",
            lost,
        )

    def _block(self, samples: NDArray[np.float32]) -> Iterator[Block]:
        if len(samples) > 0:
            yield Block(self._end_sample, samples)
            self._end_sample += len(samples)

    def _flushed(self) -> Iterator[Block]:
        yield from self._block(self._resampler.flush())

    def _is_lost(self, ring: CaptureRing, opened_s: float) -> bool:
        now_s = time.monotonic()
        if ring.last_callback_s is None:
            return now_s - opened_s > FIRST_CALLBACK_S
        if now_s - ring.last_callback_s > LOST_AFTER_S:
            return True
        try:
            return not self._stream.is_active()
        except OSError:
            return True

    def _recovered(self, lost_samples: int) -> SourceEvent:
        return SourceEvent(
            SourceEventKind.DEVICE_RECOVERED,
            f"microphone {self.name!r} is here after {lost_samples / STREAM_RATE_HZ:.1f} s",
            lost_samples,
        )

    def _reopen(self) -> None:
        """Look for the microphone until it is back, or until stopped."""
        self.close()
        delay_s = FIRST_RETRY_S
        while not self._stopped.wait(delay_s):
            try:
                self.open()
            except DeviceError:
                delay_s = min(LONGEST_RETRY_S, 2 * delay_s)
                continue
            return


def _copier(ring: CaptureRing) -> Callable[[bytes, int, Any, int], tuple[None, int]]:
    """The callback: copies, and nothing else."""

    def copy(raw: bytes, frame_count: int, _times: Any, flags: int) -> tuple[None, int]:
        ring.write(raw, frame_count, bool(flags & _OVERFLOWED))
        return None, _CONTINUE

    return copy


def _clean(frames: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mono, between -1 and 1; what is no number (a driver's fault) is silence."""
    return np.clip(np.nan_to_num(to_mono(frames), nan=0.0, posinf=0.0, neginf=0.0), -1.0, 1.0)


def _open_pyaudio() -> Any:
    pyaudio = load_pyaudio()
    try:
        return pyaudio.PyAudio()
    except OSError as error:
        raise DeviceError(f"no sound system on this machine ({error}); is ALSA there?") from error


def _close(stream: Any, audio: Any) -> None:
    try:
        if stream is not None:
            stream.close()
    except OSError:
        pass  # the device is gone, and its stream with it
    finally:
        audio.terminate()
