"""No sound is kept and none is sent: all that a program which listened left behind is searched."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edge.audio.block import STREAM_RATE_HZ
from edge.audio.file import AudioFile
from edge.client import Dashboard
from edge.resources import demo_recording

SECONDS = 12
WINDOW_SAMPLES = 8
NOISE = 0.003


def traces(samples: np.ndarray) -> set[bytes]:
    """What a bit of this sound would look like: as the usual kinds of number, plain and base64."""
    found: set[bytes] = set()
    for first in range(0, len(samples) - 4 * WINDOW_SAMPLES, 97):
        part = samples[first : first + 4 * WINDOW_SAMPLES]
        window = part[:WINDOW_SAMPLES]
        found.add(np.round(window * 32767).astype("<i2").tobytes())
        found.add(window.astype("<f4").tobytes())
        for kind in (np.round(part * 32767).astype("<i2"), part.astype("<f4")):
            for shift in range(3):
                found.add(base64.b64encode(kind.tobytes()[shift:])[:20])
    return found


def holds(haystack: bytes, needles: set[bytes]) -> bool:
    """Whether any of them, of one length each, stands anywhere in it."""
    for size in {len(needle) for needle in needles}:
        wanted = {needle for needle in needles if len(needle) == size}
        if any(haystack[at : at + size] in wanted for at in range(len(haystack) - size + 1)):
            return True
    return False


def test_the_search_finds_sound_however_it_is_kept() -> None:
    sound = np.random.default_rng(3).normal(0.0, 0.1, 4000).astype(np.float32)
    needles = traces(sound)
    as_written = np.round(sound * 32767).astype("<i2").tobytes()
    for kept in (as_written, sound.tobytes(), base64.b64encode(b"x" + as_written)):
        assert holds(b"..." + kept[100:1500], needles)
    assert not holds(os.urandom(20_000), needles)


@pytest.mark.slow
def test_no_sound_is_left_behind_or_sent_diagnostics_included(
    tmp_path: Path, mosquitto, subscribe
) -> None:
    demo, rate_hz = soundfile.read(demo_recording(), dtype="float32", frames=SECONDS * 44_100)
    noisy = demo + np.random.default_rng(1).normal(0.0, NOISE, len(demo)).astype(np.float32)
    recording = tmp_path / "played.wav"
    soundfile.write(recording, noisy, rate_hz)
    home = tmp_path / "home"
    home.mkdir()
    (home / "sostenuto.toml").write_text(f'broker = "mqtt://127.0.0.1:{mosquitto.port}"\n')
    places = ("HOME", "TMPDIR", "XDG_STATE_HOME", "XDG_CACHE_HOME", "STATE_DIRECTORY")
    everywhere = {**os.environ, **dict.fromkeys(places, str(home)), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "edge.cli", "listen", "--file", str(recording)]
    command += ["--settings", "sostenuto.toml", "--device", "parlour", "--outbox", "outbox"]
    sees_all = subscribe(mosquitto.address)
    with Dashboard(mosquitto.address, device="parlour") as house:
        listening = subprocess.Popen(command, cwd=home, env=everywhere, stderr=subprocess.DEVNULL)
        try:
            next(m for m in house.messages(timeout_s=60.0) if m.topic == "notes")
            house.ask("parlour", "self_test")
            house.ask("parlour", "diagnostics")
            assert listening.wait(60) == 0
        finally:
            listening.kill()
            listening.wait()
    sent = b"".join(message.payload for message in sees_all.messages())
    kept = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    assert home / "outbox" / "outbox.sqlite" in kept
    assert len(sent) > 10_000
    native, _ = soundfile.read(recording, dtype="float32")
    stream = np.concatenate([block.samples for block in AudioFile(recording).blocks()])
    for needles in (traces(native), traces(stream)):
        assert not holds(sent, needles)
        for path, content in kept.items():
            assert not holds(content, needles), path
    assert len(sent) + sum(map(len, kept.values())) < STREAM_RATE_HZ * SECONDS * 2
