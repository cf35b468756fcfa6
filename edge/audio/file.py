"""A recording as a stream: WAV, FLAC, MP3, OGG, read a block at a time.

A recording of ten hours takes no more memory than one of ten seconds. Read *paced*, each
block comes when its last sample would have been heard in the room, by the monotonic clock,
so that a file goes the way a microphone does; read *fast*, as soon as it is asked for.

A file that breaks off or breaks down is an error that says where. It is never taken for
the end of the music: what the file promises (its frame count, its RIFF sizes, Ogg's
end-of-stream mark) is held against what came.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import soundfile
from numpy.typing import NDArray

from edge.audio.block import BLOCK_S, STREAM_RATE_HZ, Block, MidiBlock
from edge.audio.resample import HIGHEST_RATE_HZ, LOWEST_RATE_HZ, ResampleStream, to_mono
from edge.audio.source import SourceEvent, SourceEventKind
from edge.errors import InputError

AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aif", ".aiff"})
"""What a folder is searched for; a file given by name may be called anything."""

_MP3_LENGTH_SLACK_FRAMES = 4 * 1152
"""An MP3 without a length in its header is estimated; it may be off by a few MPEG frames."""

_UNKNOWN_FRAMES = 2**62
"""libsndfile gives 2^63 - 1 for a FLAC stream that does not say how long it is."""

_STREAMED_RIFF_BYTES = 0xFFFF_F000
"""A RIFF size at or above this was written by a program that could not know the length."""

_SIZE_MISMATCH = re.compile(r"^\s*(?:data|SSND)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE)
_OGG_CUT = "lacks an end-of-stream bit"

_FIRST_SKIP_S = 0.1
"""How far the live loop steps over damage at first; doubled until sound is found again."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """Mono frames at the file's own rate, and where they end."""

    samples: NDArray[np.float32]
    end_frame: int


class AudioFile:
    """An opened recording whose header has been checked.

    Raises
    ------
    InputError
        Missing, empty, not audio, or at a rate outside 8 to 192 kHz.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._sound = _open_sound(self.path)
        self.sample_rate_hz: int = self._sound.samplerate
        self.channels: int = self._sound.channels
        self.frames: int = self._sound.frames
        self.not_numbers = 0
        """Samples so far that were NaN or infinite and are read as silence."""
        try:
            self._check_header()
        except InputError:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the file back."""
        self._sound.close()

    @property
    def duration_s(self) -> float:
        """Seconds of sound, as the header promises."""
        return self.frames / self.sample_rate_hz

    def blocks(self, block_s: float = BLOCK_S) -> Iterator[Block]:
        """The recording at the stream's rate, mono.

        Raises
        ------
        InputError
            Where the file is broken, after all that came before it.
        """
        for _, block in self.timed_blocks(block_s):
            yield block

    def timed_blocks(
        self, block_s: float = BLOCK_S, from_frame: int = 0
    ) -> Iterator[tuple[float, Block]]:
        """The same from ``from_frame`` on, each with the second of the file it was made at."""
        resampler = ResampleStream(self.sample_rate_hz)
        position = round(from_frame * STREAM_RATE_HZ / self.sample_rate_hz)
        end_s = from_frame / self.sample_rate_hz
        damage: InputError | None = None
        pieces = self._pieces(max(1, round(block_s * self.sample_rate_hz)), from_frame)
        while True:
            try:
                piece = next(pieces, None)
            except InputError as error:
                damage, piece = error, None
            if piece is None:
                samples = resampler.flush()
            else:
                samples = resampler.push(piece.samples)
                end_s = piece.end_frame / self.sample_rate_hz
            if len(samples) > 0:
                yield end_s, Block(position, samples)
                position += len(samples)
            if damage is not None:
                raise damage
            if piece is None:
                return

    def _pieces(self, piece_frames: int, from_frame: int) -> Iterator[_Piece]:
        """Mono pieces at the file's rate; an error where the file is broken."""
        position = from_frame
        try:
            if from_frame > 0:
                self._sound.seek(from_frame)
            while True:
                frames = self._sound.read(piece_frames, dtype="float32", always_2d=True)
                if len(frames) == 0:
                    break
                position += len(frames)
                yield _Piece(self._without_nan(to_mono(frames)), position)
        except soundfile.LibsndfileError as error:
            raise DamagedFileError(self.path, position, self.sample_rate_hz) from error
        self._check_end(position)

    def _without_nan(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        good = np.isfinite(samples)
        if good.all():
            return np.clip(samples, -1.0, 1.0)
        self.not_numbers += int(np.count_nonzero(~good))
        return np.clip(np.where(good, samples, np.float32(0.0)), -1.0, 1.0)

    def _check_header(self) -> None:
        rate_hz = self.sample_rate_hz
        if not LOWEST_RATE_HZ <= rate_hz <= HIGHEST_RATE_HZ:
            raise InputError(
                f"{self.path}: sampled at {rate_hz} Hz; {LOWEST_RATE_HZ} to {HIGHEST_RATE_HZ} Hz "
                "can be heard: record it again, or convert it, at 16000 Hz or more"
            )
        if self.frames >= _UNKNOWN_FRAMES:
            raise InputError(
                f"{self.path}: the file does not say how long it is (it was written to a pipe): "
                "write it again, for example with ffmpeg -i IN OUT.flac"
            )
        if self.frames == 0:
            raise InputError(f"{self.path}: no sound in it (0 samples): give a recording")

    def _check_end(self, position: int) -> None:
        """Hold what came against what the file promised."""
        slack = _MP3_LENGTH_SLACK_FRAMES if self._sound.format == "MPEG" else 0
        cut = position + slack < self.frames or _breaks_off(self._sound.extra_info)
        if cut:
            # An MP3 decoder gives up in the middle; the others had all there was to have.
            goes_on = self._sound.format == "MPEG"
            raise DamagedFileError(self.path, position, self.sample_rate_hz, goes_on=goes_on)


class DamagedFileError(InputError):
    """A recording that cannot be read on from ``frame``; ``goes_on``: there may be more behind."""

    def __init__(self, path: Path, frame: int, rate_hz: int, *, goes_on: bool = True) -> None:
        self.frame = frame
        self.goes_on = goes_on
        super().__init__(
            f"{path}: broken at {frame / rate_hz:.2f} s (sample {frame}): the file is damaged or "
            "was cut short; copy it again from where it came"
        )


def _open_sound(path: Path) -> soundfile.SoundFile:
    if path.is_dir():
        raise InputError(f"{path}: is a folder; an audio file is needed here")
    if not path.exists():
        raise InputError(f"{path}: no such file; give a WAV, FLAC, MP3 or OGG file")
    try:
        if path.stat().st_size == 0:
            raise InputError(f"{path}: the file is empty (0 bytes); give a recording")
        with path.open("rb"):
            pass
        return soundfile.SoundFile(str(path))
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{path}: cannot be opened ({reason}); check its permissions") from error
    except (RuntimeError, TypeError) as error:
        raise InputError(
            f"{path}: broken, or not audio that can be read; WAV, FLAC, MP3 and OGG are"
        ) from error


def _breaks_off(header_log: str) -> bool:
    """Whether libsndfile's log of the headers says that the end of the file is missing."""
    if _OGG_CUT in header_log:
        return True
    for match in _SIZE_MISMATCH.finditer(header_log):
        promised, there = int(match[1]), int(match[2])
        # One byte is the padding that RIFF asks for and many programs forget.
        if there + 1 < promised < _STREAMED_RIFF_BYTES:
            return True
    return False


class FileSource:
    """A recording that goes the way a microphone goes.

    Parameters
    ----------
    path : str or Path
    paced : bool
        Deliver each block when its last sample would have been heard.

    Damage in the middle is reported and stepped over; ``damage`` then holds the first.
    """

    kind = "file"

    def __init__(self, path: str | Path, *, paced: bool = True) -> None:
        self.path = Path(path)
        self.paced = paced
        self.damage: InputError | None = None
        self._file: AudioFile | None = None
        self._origin_s: float | None = None
        self._stopped = threading.Event()

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.name

    @property
    def sample_rate_hz(self) -> int | None:
        """The file's own rate, once it is open."""
        return None if self._file is None else self._file.sample_rate_hz

    @property
    def channels(self) -> int | None:
        """The file's own channels, once it is open."""
        return None if self._file is None else self._file.channels

    @property
    def origin_s(self) -> float | None:
        """When sample 0 sounded; None unless paced."""
        return self._origin_s

    def open(self) -> None:
        """Open the file and check its header."""
        self._file = AudioFile(self.path)

    def stop(self) -> None:
        """End ``items`` before its next block."""
        self._stopped.set()

    def close(self) -> None:
        """Give the file back."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def items(self) -> Iterator[Block | MidiBlock | SourceEvent]:
        """Blocks in order; damage and samples that are no numbers in their place."""
        if self._file is None:
            self.open()
        if self.paced:
            self._origin_s = time.monotonic()
        from_frame: int | None = 0
        while from_frame is not None:
            try:
                yield from self._paced_blocks(from_frame)
                return
            except DamagedFileError as error:
                if self.damage is None:
                    self.damage = error
                from_frame = self._sound_after(error.frame) if error.goes_on else None
                lost = 0 if from_frame is None else from_frame - error.frame
                rate_hz = self._opened.sample_rate_hz
                lost_samples = round(lost * STREAM_RATE_HZ / rate_hz)
                yield SourceEvent(SourceEventKind.INPUT_ERROR, str(error), lost_samples)

    @property
    def _opened(self) -> AudioFile:
        assert self._file is not None
        return self._file

    def _paced_blocks(self, from_frame: int) -> Iterator[Block | SourceEvent]:
        told = self._opened.not_numbers
        for end_s, block in self._opened.timed_blocks(from_frame=from_frame):
            if self._origin_s is not None:
                self._stopped.wait(max(0.0, self._origin_s + end_s - time.monotonic()))
            if self._stopped.is_set():
                return
            if told == 0 and self._opened.not_numbers > 0:
                told = self._opened.not_numbers
                yield SourceEvent(
                    SourceEventKind.INPUT_ERROR,
                    f"{self.path}: samples near {end_s:.2f} s are not numbers (NaN or infinite); "
                    "read as silence",
                )
            yield block

    def _sound_after(self, broken_frame: int) -> int | None:
        """Frame from which the file can be read again, by trying ever further; None: nowhere."""
        rate_hz = self._opened.sample_rate_hz
        skip_s = _FIRST_SKIP_S
        while True:
            frame = broken_frame + round(skip_s * rate_hz)
            if frame >= self._opened.frames:
                return None
            self.close()
            try:
                self.open()
                next(self._opened.timed_blocks(from_frame=frame))
                self.close()
                self.open()
                return frame
            except (InputError, StopIteration):
                skip_s *= 2
