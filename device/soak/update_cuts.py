"""Updates cut off again and again: what is in force afterwards is the old or the new, and whole.

Two kinds of cut. A **kill** ends the program that applies an update, and all that it started, at a
random moment. A **loss of power** is worse, for what was written is not yet on the card: the
program is stopped at each of its steps towards the card (every fsync and rename), and then whatever
it had not asked the card to keep is taken back: files that were not asked for lose half their
bytes, names that were not asked for are as before, or, in a second round, are not.

After every cut the device is started again (what is on trial is judged) and given the update once
more, which must end with the new one in force.

The bundles are RAUC's; the self-test says yes, so that a trial takes seconds and the moments lie
close; the environments of software are made without a pip of their own, for the same reason.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from device.soak.bench import report
from device.soak.update_bench import Maker, device_at, install_software, wheels_of
from device.update.apply import apply, settle
from device.update.bundle import Bundle, Kind, check_files
from device.update.durable import pointed_at
from device.update.outcome import Result, trial_of
from device.update.place import Place
from edge.errors import InputError, SostenutoError
from edge.resources import shipped_dir, software_version

KILLS = 200
SOFTWARE_WEIGHT_BYTES = 2 << 20

CHILD = """
import sys
from pathlib import Path
from device.soak.update_cuts import apply_once
apply_once(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4], int(sys.argv[5]))
"""

ROUNDS = ("names as before", "names kept")


@dataclass(frozen=True)
class Figures:
    """What one kind of update came to."""

    kind: str
    kills: int
    power_losses: int
    seconds: float
    found_old: int
    found_new: int
    found_neither: int
    not_applied_again: int
    left_on_trial: int

    @property
    def good(self) -> bool:
        return self.found_neither == self.not_applied_again == self.left_on_trial == 0


# -- in the program that is cut off ----------------------------------------------------------


def place_at(folder: Path, keyring: Path) -> Place:
    """The device of a trial."""
    place = device_at(folder, keyring)
    python = folder / "python"
    if not python.exists():
        python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@" --without-pip\n')
        python.chmod(0o755)
    return Place(
        parcels=place.parcels,
        software=place.software,
        state=place.state,
        keyring=keyring,
        system_conf=place.system_conf,
        python=str(python),
        self_test=("true",),
        service=place.service,
    )


def apply_once(folder: Path, keyring: Path, bundle: str, cut: str, step: int) -> None:
    """Apply a bundle; at ``step`` the power goes, if it is not 0. Prints how many steps it took."""
    place = place_at(folder, keyring)
    card = Card((place.parcels, place.software), step, names_kept=cut == ROUNDS[1])
    if cut:
        card.watch()
    sys.stdout.write("begins\n")
    sys.stdout.flush()
    apply(bundle, place, allow_downgrade=True)
    sys.stdout.write(f"{card.steps}\n")


class Card:
    """A card that forgets, when the power goes, what it was not asked to keep.

    Parameters
    ----------
    folders : tuple of Path
        What is looked at.
    cut_at : int
        The step after which the power goes; 0: never.
    names_kept : bool
        Whether renames that were not asked for have happened all the same.
    """

    def __init__(self, folders: tuple[Path, ...], cut_at: int, *, names_kept: bool) -> None:
        self._folders = folders
        self._cut_at = cut_at
        self._names_kept = names_kept
        self._kept: set[tuple[int, int]] = set()
        self._undo: list[tuple[str, Callable[[], None]]] = []
        self._began_ns = time.time_ns()
        self.steps = 0

    def watch(self) -> None:
        """Count the steps of this process from now on."""
        fsync, replace, rename, sync = os.fsync, os.replace, os.rename, os.sync

        def fsync_(handle: Any) -> None:
            fsync(handle)
            status = os.fstat(handle)
            self._kept.add((status.st_dev, status.st_ino))
            folder = os.path.realpath(f"/proc/self/fd/{handle}")
            self._undo = [(where, undo) for where, undo in self._undo if where != folder]
            self._step()

        def renamed(move: Callable[..., None]) -> Callable[..., None]:
            def renamed_(source: Any, target: Any, **options: Any) -> None:
                undo = _undoing(Path(source), Path(target))
                move(source, target, **options)
                self._undo.append((os.path.realpath(Path(target).parent), undo))
                self._step()

            return renamed_

        def sync_() -> None:
            sync()
            self._undo.clear()
            for path in self._files():
                status = path.stat()
                self._kept.add((status.st_dev, status.st_ino))
            self._step()

        os.fsync, os.sync = fsync_, sync_  # type: ignore[assignment]
        os.replace, os.rename = renamed(replace), renamed(rename)

    def _step(self) -> None:
        self.steps += 1
        if self.steps == self._cut_at:
            self._forget()
            os.kill(os.getpid(), signal.SIGKILL)

    def _forget(self) -> None:
        if not self._names_kept:
            for _, undo in reversed(self._undo):
                undo()
        for path in self._files():
            status = path.stat()
            fresh = status.st_ctime_ns >= self._began_ns
            if fresh and (status.st_dev, status.st_ino) not in self._kept:
                os.truncate(path, status.st_size // 2)

    def _files(self) -> list[Path]:
        found = [path for folder in self._folders for path in folder.rglob("*")]
        return [path for path in found if path.is_file() and not path.is_symlink()]


def _undoing(source: Path, target: Path) -> Callable[[], None]:
    """What takes a rename back, with what lay at the target before."""
    if target.is_symlink():
        before: tuple[str, bytes] | None = ("link", os.fsencode(target.readlink()))
    elif target.is_file():
        before = ("file", target.read_bytes())
    else:
        before = None

    def undo() -> None:
        if not (target.is_symlink() or target.exists()):
            return
        Path(target).rename(source)
        if before is not None and before[0] == "link":
            target.symlink_to(os.fsdecode(before[1]))
        elif before is not None:
            target.write_bytes(before[1])

    return undo


# -- around it -------------------------------------------------------------------------------


@dataclass
class Trial:
    """A device and two versions that take turns; counts what is found after each cut."""

    folder: Path
    keyring: Path
    versions: tuple[Bundle, Bundle]
    seconds_of_life: float = 0.0
    old: int = 0
    new: int = 0
    neither: int = 0
    not_again: int = 0
    on_trial: int = 0
    turn: int = 0

    @property
    def place(self) -> Place:
        return place_at(self.folder, self.keyring)

    @property
    def next(self) -> Bundle:
        """The one that is not in force."""
        in_force = self.place.version_of(self.versions[0].kind)
        return self.versions[in_force == self.versions[0].version]

    def start(self, cut: str = "", step: int = 0) -> subprocess.Popen[str]:
        """The program that applies the next one, at the moment when it begins."""
        words = [str(self.folder), str(self.keyring), str(self.next.path), cut, str(step)]
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        assert child.stdout is not None
        child.stdout.readline()
        return child

    def uncut(self, cut: str = "") -> int:
        """Let it come to its end; how many steps it took, and how long."""
        child = self.start(cut)
        began_s = time.monotonic()
        said, _ = child.communicate()
        self.seconds_of_life = max(self.seconds_of_life, time.monotonic() - began_s)
        return int(said)

    def kill(self, chance: random.Random) -> bool:
        """End it at a random moment, with all that it started; False where it was done before."""
        aim = self.next
        child = self.start()
        time.sleep(chance.uniform(0.0, self.seconds_of_life))
        in_time = child.poll() is None
        if in_time:
            os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
        if in_time:
            self.judge(aim)
        return in_time

    def lose_power(self, cut: str, step: int) -> bool:
        """Cut the power after a step; False where there are no more so many."""
        aim = self.next
        child = self.start(cut, step)
        child.communicate()
        self.judge(aim)
        return child.returncode == -signal.SIGKILL

    def judge(self, aim: Bundle) -> None:
        """What is in force is whole and one of the two; started again, it takes the update."""
        found = self.whole()
        place = self.place
        settle(place)
        self.old += found is not None and found != aim.version
        self.new += found == aim.version
        self.neither += found is None or self.whole() is None
        try:
            outcome = apply(str(aim.path), place, allow_downgrade=True)
            applied = outcome.result in (Result.COMMITTED, Result.ALREADY)
        except SostenutoError:
            applied = False
        self.not_again += not (applied and self.whole() == aim.version)
        self.on_trial += trial_of(place) is not None

    def whole(self) -> str | None:
        """The version in force, if every byte of it is there."""
        place, kind = self.place, self.versions[0].kind
        if kind is Kind.SOFTWARE:
            program = place.software / "current" / "bin" / "sostenuto-device"
            ran = subprocess.run([program], capture_output=True, text=True, check=False)
            named = pointed_at(place.software / "current")
            return named if ran.returncode == 0 and ran.stdout.strip() == named else None
        version = pointed_at(place.parcels / kind / "current")
        for bundle in self.versions:
            if bundle.version == version:
                try:
                    check_files(bundle, place.parcels / kind / version)
                except InputError:
                    return None
                return version
        return None


def run(kind: Kind, kills: int, folder: Path, *, every: int = 1, seed: int = 1) -> Figures:
    """Cut off updates of one kind: so many kills, and the power lost at each ``every``-th step."""
    began_s = time.monotonic()
    chance = random.Random(seed)
    trial = _trial(kind, folder)
    trial.uncut()
    trial.uncut()
    done = 0
    while done < kills:
        done += trial.kill(chance)
    losses = 0
    for cut in ROUNDS:
        steps = trial.uncut(cut)
        for step in range(1, steps + 1, every):
            losses += trial.lose_power(cut, step)
    return Figures(
        kind=kind,
        kills=kills,
        power_losses=losses,
        seconds=time.monotonic() - began_s,
        found_old=trial.old,
        found_new=trial.new,
        found_neither=trial.neither,
        not_applied_again=trial.not_again,
        left_on_trial=trial.on_trial,
    )


def _trial(kind: Kind, folder: Path) -> Trial:
    maker = Maker(folder / "maker")
    place = place_at(folder / "device", maker.keyring)
    if kind is Kind.SOFTWARE:
        install_software(place, "1.0")
        names = ("1.1", "1.2")
        bundles = [
            maker.pack(
                kind,
                name,
                wheels_of(folder / name, name, size_bytes=SOFTWARE_WEIGHT_BYTES),
                board=place.boards[-1],
            )
            for name in names
        ]
    else:
        source = shipped_dir() if kind is Kind.MODELS else shipped_dir() / "catalogue"
        ours = software_version()
        bundles = [maker.pack(kind, f"{ours}.{number}", source) for number in (1, 2)]
    for bundle in bundles:
        apply(str(bundle.path), place)
    return Trial(folder / "device", maker.keyring, (bundles[0], bundles[1]))


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=KILLS, help="of each kind")
    parser.add_argument("--every", type=int, default=1, help="lose power at each such step")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kind", choices=["models", "catalog", "software"], action="append")
    options = parser.parse_args()
    good = True
    for name in options.kind or ["models", "software"]:
        folder = Path(tempfile.mkdtemp(prefix="sostenuto-cuts-"))
        try:
            figures = run(Kind(name), options.kills, folder, every=options.every, seed=options.seed)
        finally:
            shutil.rmtree(folder)
        report(figures, leaving_out=("kind",))
        print(f"{name}: {'good' if figures.good else 'NOT GOOD'}\n", flush=True)
        good &= figures.good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
