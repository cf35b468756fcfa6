"""The same notes on ARM: installed and heard by an emulated board's own Python, beside this one's.

Debian for arm64 (the archive that ``image build`` keeps) is unpacked, pip in it installs Sostenuto
from wheels for the board, and ``sostenuto transcribe`` writes recordings down there and here. An
8-bit model may answer a step or two differently on another kind of processor, so notes that only
just pass a threshold may differ: onsets count as the same within 10 ms, 98 notes in 100 must be
there on both sides, and of those velocity differs by 6 at most, 95 times in 100: one step of the
model's answer is as much. Emulation says nothing about speed. As root::

    python -m device.soak.same_notes_on_arm [RECORDING ...]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from device.image.base import BINFMT
from device.image.wheels import PYTHON, resolve
from device.soak.bench import report
from edge.errors import UsageError
from edge.midi import read_midi
from edge.note import NoteEvent
from edge.resources import demo_recording

SAME_ONSET_S = 0.010
SAME_VELOCITY = 6
LEAST_SAME_NOTES = 0.98
LEAST_SAME_VELOCITIES = 0.95

WHERE = "/opt/hears"


@dataclass(frozen=True, slots=True)
class Likeness:
    """Two ears' notes of one recording."""

    recording: str
    notes_here: int
    notes_on_arm: int
    same_notes: float
    same_velocities: float
    farthest_onset_ms: float

    @property
    def holds(self) -> bool:
        """Whether they differ no more than is allowed."""
        return self.same_notes >= LEAST_SAME_NOTES and self.same_velocities >= LEAST_SAME_VELOCITIES


def likeness(recording: str, here: Sequence[NoteEvent], there: Sequence[NoteEvent]) -> Likeness:
    """Pair the notes of each key in their order; the share that has a partner, of the longer list.

    Two notes of one key lie much farther apart than `SAME_ONSET_S`, so the nearest is the one.
    """
    waiting: dict[int, list[NoteEvent]] = defaultdict(list)
    for note in there:
        waiting[note.pitch_midi].append(note)
    pairs = []
    for note in here:
        near = min(
            waiting[note.pitch_midi],
            key=lambda other: abs(other.onset_s - note.onset_s),
            default=None,
        )
        if near is not None and abs(near.onset_s - note.onset_s) <= SAME_ONSET_S:
            waiting[note.pitch_midi].remove(near)
            pairs.append((note, near))
    alike = sum(abs(a.velocity - b.velocity) <= SAME_VELOCITY for a, b in pairs)
    return Likeness(
        recording=recording,
        notes_here=len(here),
        notes_on_arm=len(there),
        same_notes=len(pairs) / max(len(here), len(there), 1),
        same_velocities=alike / max(len(pairs), 1),
        farthest_onset_ms=1000 * max((abs(a.onset_s - b.onset_s) for a, b in pairs), default=0.0),
    )


def installed(base: Path, own: Path, wheels: Path, root: Path) -> None:
    """Debian in ``root``, and Sostenuto in it, by pip under its own Python."""
    with tarfile.open(base) as archive:
        archive.extractall(
            root, [each for each in archive if not each.isdev()], filter="fully_trusted"
        )
    resolve(own, wheels)
    carried = root / "tmp/wheels"
    carried.mkdir(parents=True)
    for wheel in (own, *wheels.glob("*.whl")):
        (carried / wheel.name).write_bytes(wheel.read_bytes())
    pip = Path(sysconfig.get_paths()["purelib"]) / "pip"
    subprocess.run(["cp", "-r", pip, root / "tmp/pip"], check=True)
    _inside(
        root,
        f"PYTHONPATH=/tmp python{PYTHON} -m pip install --quiet --no-index --no-compile "
        f"--root-user-action=ignore --find-links /tmp/wheels --target {WHERE} sostenuto",
    )


def heard_there(root: Path, recording: Path) -> list[NoteEvent]:
    """The notes that the emulated ear writes down."""
    (root / "tmp" / recording.name).write_bytes(recording.read_bytes())
    _inside(
        root,
        f"PYTHONPATH={WHERE} python{PYTHON} -m edge.cli transcribe /tmp/{recording.name} "
        "--midi /tmp/heard.mid",
    )
    return list(read_midi(root / "tmp/heard.mid").notes)


def heard_here(recording: Path) -> list[NoteEvent]:
    """The notes that this machine's ear writes down, by the same command."""
    with tempfile.TemporaryDirectory(prefix="sostenuto-here-") as name:
        midi = Path(name) / "heard.mid"
        words = [sys.executable, "-m", "edge.cli", "transcribe", str(recording)]
        subprocess.run([*words, "--midi", str(midi)], check=True, capture_output=True)
        return list(read_midi(midi).notes)


def _inside(root: Path, line: str) -> None:
    done = subprocess.run(
        ["chroot", root, "/bin/sh", "-c", f"OMP_NUM_THREADS=1 HOME=/tmp {line}"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise UsageError(f"on ARM: {' | '.join(done.stderr.strip().splitlines()[-4:])}")


def main() -> int:
    """Print how alike the two ears' notes are; 1 if they differ more than is allowed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("recording", type=Path, nargs="*", default=[demo_recording()])
    parser.add_argument("--base", type=Path, help="Debian for arm64 with Python, a tar archive.")
    parser.add_argument("--cache", type=Path, default=Path(".cache/image"))
    given = parser.parse_args()
    base = given.base or next(iter(sorted((given.cache / "base").glob("*[0-9a-f].tar"))), None)
    if base is None or not BINFMT.exists():
        raise UsageError("an arm64 root is needed, and qemu-user: sostenuto-device image build")
    with tempfile.TemporaryDirectory(prefix="sostenuto-arm-") as name:
        folder = Path(name)
        build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
        subprocess.run([*build, "--wheel-dir", name, "."], check=True)
        root = folder / "root"
        installed(base, next(folder.glob("sostenuto-*.whl")), folder / "wheels", root)
        found = [
            likeness(each.stem, heard_here(each), heard_there(root, each))
            for each in given.recording
        ]
    for one in found:
        print(one.recording)
        report(one, leaving_out=("recording",))
    return 0 if all(one.holds for one in found) else 1


if __name__ == "__main__":
    sys.exit(main())
