from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from edge.audio.block import STREAM_RATE_HZ, Block
from edge.audio.file import AudioFile, FileSource
from edge.audio.resample import resample
from edge.audio.source import SourceEvent, SourceEventKind
from edge.errors import InputError

RATE_HZ = 44_100


def tone(seconds: float, rate_hz: int = RATE_HZ) -> NDArray[np.float32]:
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    noise = np.random.default_rng(0).standard_normal(len(t)) * 0.01
    return (0.3 * np.sin(2 * np.pi * 440 * t) + noise).astype(np.float32)


def write(path: Path, samples: NDArray[np.float32], rate_hz: int = RATE_HZ) -> Path:
    soundfile.write(path, samples, rate_hz)
    return path


def cut_short(path: Path, keep: float = 0.6) -> Path:
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep)])
    return path


def all_samples(blocks: list[Block]) -> NDArray[np.float32]:
    return np.concatenate([block.samples for block in blocks])


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_blocks_join_to_the_whole_recording(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"a.{suffix}", tone(1.5))
    whole, rate_hz = soundfile.read(path, dtype="float32")
    with AudioFile(path) as recording:
        blocks = list(recording.blocks(0.02))
    expected = resample(np.clip(whole, -1, 1), rate_hz)
    assert all_samples(blocks) == pytest.approx(expected, abs=1e-6)
    for before, after in pairwise(blocks):
        assert after.start_sample == before.end_sample


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 22_050, 48_000, 192_000])
def test_a_click_in_the_file_is_at_the_same_time_in_the_stream(
    tmp_path: Path, rate_hz: int
) -> None:
    click = np.zeros((rate_hz, 3), np.float32)
    click[rate_hz // 2] = 0.9
    with AudioFile(write(tmp_path / "click.wav", click, rate_hz)) as recording:
        heard = all_samples(list(recording.blocks()))
    assert np.abs(heard).argmax() / STREAM_RATE_HZ == pytest.approx(0.5, abs=0.001)
    assert len(heard) == STREAM_RATE_HZ


def test_the_block_length_changes_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "a.flac", tone(1.0))
    with AudioFile(path) as recording:
        short = all_samples(list(recording.blocks(0.003)))
    with AudioFile(path) as recording:
        long = all_samples(list(recording.blocks(10.0)))
    assert np.array_equal(short, long)


def test_missing_empty_and_broken_files_are_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("not a sound\n" * 50)
    soundfile.write(tmp_path / "header_only.wav", np.zeros(0, np.float32), RATE_HZ)
    refusals = {
        "missing.wav": "no such file",
        "empty.wav": "0 bytes",
        "text.wav": "not audio",
        "header_only.wav": "0 samples",
        "": "folder",
    }
    for name, reason in refusals.items():
        with pytest.raises(InputError, match=reason) as caught:
            AudioFile(tmp_path / name)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("rate_hz", [3_000, 7_999, 192_001, 384_000])
def test_a_rate_outside_what_can_be_heard_is_refused(tmp_path: Path, rate_hz: int) -> None:
    path = write(tmp_path / "odd.wav", np.zeros(100, np.float32), rate_hz)
    with pytest.raises(InputError, match=f"{rate_hz} Hz; 8000 to 192000 Hz"):
        AudioFile(path)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "aiff", "mp3"])
def test_a_file_cut_short_is_an_error_with_its_place_and_never_the_end(
    tmp_path: Path, suffix: str
) -> None:
    path = cut_short(write(tmp_path / f"a.{suffix}", tone(4.0)))
    heard = 0
    with (
        AudioFile(path) as recording,
        pytest.raises(InputError, match=r"broken at \d\.\d\d s"),
    ):
        for block in recording.blocks():
            heard += len(block.samples)
    assert 0.3 * 4 < heard / STREAM_RATE_HZ < 0.9 * 4


def test_damage_in_the_middle_is_an_error_when_read_and_a_gap_when_heard_live(
    tmp_path: Path,
) -> None:
    path = write(tmp_path / "a.flac", tone(6.0))
    whole = bytearray(path.read_bytes())
    middle = len(whole) // 2
    whole[middle : middle + 3000] = bytes(3000)
    path.write_bytes(whole)
    with AudioFile(path) as recording, pytest.raises(InputError, match="broken at"):
        list(recording.blocks())

    source = FileSource(path, paced=False)
    items = list(source.items())
    events = [item for item in items if isinstance(item, SourceEvent)]
    blocks = [item for item in items if isinstance(item, Block)]
    assert [event.kind for event in events] == [SourceEventKind.INPUT_ERROR]
    assert source.damage is not None
    assert blocks[-1].end_sample == pytest.approx(6 * STREAM_RATE_HZ, abs=2)
    heard = sum(len(block.samples) for block in blocks)
    assert heard + events[0].lost_samples == pytest.approx(6 * STREAM_RATE_HZ, abs=4)


def test_a_file_cut_short_is_heard_once_and_its_end_is_told_when_live(tmp_path: Path) -> None:
    path = cut_short(write(tmp_path / "a.ogg", tone(4.0)))
    items = list(FileSource(path, paced=False).items())
    assert isinstance(items[-1], SourceEvent)
    assert items[-1].kind is SourceEventKind.INPUT_ERROR
    blocks = [item for item in items if isinstance(item, Block)]
    assert len(blocks) == len(items) - 1
    for before, after in pairwise(blocks):
        assert after.start_sample == before.end_sample


def test_a_wav_that_was_written_to_a_pipe_is_whole(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", tone(1.0))
    raw = bytearray(path.read_bytes())
    raw[4:8] = b"\xff\xff\xff\xff"
    start = raw.index(b"data")
    raw[start + 4 : start + 8] = b"\xff\xff\xff\xff"
    path.write_bytes(raw)
    with AudioFile(path) as recording:
        heard = sum(len(block.samples) for block in recording.blocks())
    assert heard == pytest.approx(STREAM_RATE_HZ, abs=2)


def test_samples_that_are_not_numbers_become_silence_and_are_told(tmp_path: Path) -> None:
    samples = tone(1.0)
    samples[20_000:20_100] = np.nan
    samples[30_000] = np.inf
    path = tmp_path / "nan.wav"
    soundfile.write(path, samples, RATE_HZ, subtype="FLOAT")
    items = list(FileSource(path, paced=False).items())
    heard = all_samples([item for item in items if isinstance(item, Block)])
    assert np.isfinite(heard).all()
    events = [item for item in items if isinstance(item, SourceEvent)]
    assert [event.kind for event in events] == [SourceEventKind.INPUT_ERROR]


def test_a_paced_block_comes_when_its_last_sample_would_have_been_heard(tmp_path: Path) -> None:
    source = FileSource(write(tmp_path / "a.wav", tone(0.5)), paced=True)
    source.open()
    arrivals = [
        (time.monotonic(), item.end_sample) for item in source.items() if isinstance(item, Block)
    ]
    assert source.origin_s is not None
    for arrived_s, end_sample in arrivals:
        # Up to 3 ms of sound wait in the resampler; nothing may come before it has sounded.
        assert arrived_s - source.origin_s >= end_sample / STREAM_RATE_HZ - 1e-4
    assert len(arrivals) >= 25


def test_a_stopped_source_ends_at_once(tmp_path: Path) -> None:
    source = FileSource(write(tmp_path / "a.wav", tone(30.0)), paced=True)
    source.open()
    began_s = time.monotonic()
    items = source.items()
    next(items)
    source.stop()
    assert list(items) == []
    assert time.monotonic() - began_s < 5.0
