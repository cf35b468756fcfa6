"""What should be on a system, as values; one function that makes it so, and one that takes it away.

A step is a description: a file with this content, a link to that place, a user of this name. It
knows how to see whether it is so already, so that installing twice changes nothing the second time
and a dry run is the same walk without the changes. The system may be the one that runs, or a root
file system in a folder (of another processor even): then what has to be run is run inside it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edge.errors import SostenutoError

ROOT = "root"


class SetupError(SostenutoError):
    """A program of the system that was needed for a step failed."""


@dataclass(frozen=True, slots=True)
class Place:
    """A system, by the folder in which its root lies.

    Attributes
    ----------
    root : Path
        ``/`` for the one that runs.
    """

    root: Path = Path("/")

    @property
    def live(self) -> bool:
        """Whether it is the system that runs."""
        return self.root == Path("/")

    def at(self, path: str) -> Path:
        """Where the place's absolute ``path`` lies on this machine."""
        return self.root / path.lstrip("/")

    def run(self, *command: str) -> str:
        """Run a program of the place; what it said on standard output.

        Raises
        ------
        SetupError
            It is not there, or ended with another code than 0; with its last words.
        """
        words = list(command) if self.live else ["chroot", str(self.root), *command]
        environment = {
            **os.environ,
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "DEBIAN_FRONTEND": "noninteractive",
            "LC_ALL": "C.UTF-8",
        }
        try:
            ran = subprocess.run(
                words,
                capture_output=True,
                text=True,
                errors="replace",
                env=environment,
                check=False,
            )
        except OSError as error:
            raise SetupError(f"{words[0]}: {error.strerror}; is it installed?") from error
        if ran.returncode != 0:
            said = (ran.stderr.strip() or ran.stdout.strip() or "no reason given").splitlines()
            raise SetupError(f"{' '.join(command[:4])} … fails: {' / '.join(said[-3:])}")
        return ran.stdout

    def user_id(self, name: str) -> tuple[int, int] | None:
        """User and main group of ``name`` by the place's own passwd; None for nobody."""
        if name == ROOT:
            return 0, 0
        try:
            lines = self.at("/etc/passwd").read_text(encoding="utf-8").splitlines()
        except OSError:
            return None
        for line in lines:
            fields = line.split(":")
            if fields[0] == name:
                return int(fields[2]), int(fields[3])
        return None


class Step(Protocol):
    """Something that should be on a system."""

    def lacking(self, place: Place) -> str | None:
        """What has to be changed, in words; None when it is as it should be."""

    def make(self, place: Place) -> None:
        """Make it so."""

    def remains(self, place: Place) -> str | None:
        """What would be taken away, in words; None when nothing of it is there."""

    def remove(self, place: Place) -> None:
        """Take it away."""


@dataclass(frozen=True, slots=True)
class Account:
    """A user of the system that nobody logs in as, who may hear; with a group of its name."""

    name: str
    home: str

    def lacking(self, place: Place) -> str | None:
        """Whether passwd knows it."""
        return None if place.user_id(self.name) else f"user {self.name}"

    def make(self, place: Place) -> None:
        """By systemd-sysusers of this machine, which needs no chroot."""
        user = f'u {self.name} - "Sostenuto, an ear for pianos" {self.home}'
        member = f"m {self.name} audio"
        Place().run("systemd-sysusers", f"--root={place.root}", "--inline", user, member)

    def remains(self, place: Place) -> str | None:
        """The user."""
        return f"user {self.name}" if place.user_id(self.name) else None

    def remove(self, place: Place) -> None:
        """With its group."""
        place.run("userdel", self.name)


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder.

    Attributes
    ----------
    path : str
    owner : str
        User whose main group is the folder's group.
    mode : int
    shared : bool
        Others may keep things in it: taken away only when it is empty.
    """

    path: str
    owner: str = ROOT
    mode: int = 0o755
    shared: bool = False

    def lacking(self, place: Place) -> str | None:
        """Whether it is there, and whose it is; of a shared one only the first."""
        at = place.at(self.path)
        fits = at.is_dir() and (self.shared or _is_owned(at, place, self.owner, self.mode))
        return None if fits else f"folder {self.path}"

    def make(self, place: Place) -> None:
        """Create it where it is not."""
        at = place.at(self.path)
        if self.shared and at.is_dir():
            return
        at.mkdir(parents=True, exist_ok=True)
        _own(at, place, self.owner, self.mode)

    def remains(self, place: Place) -> str | None:
        """The folder; a shared one only if nothing is in it."""
        at = place.at(self.path)
        if not at.is_dir() or at.is_symlink() or (self.shared and any(at.iterdir())):
            return None
        return f"folder {self.path}"

    def remove(self, place: Place) -> None:
        """With all that is in it."""
        shutil.rmtree(place.at(self.path))


@dataclass(frozen=True, slots=True)
class File:
    """A file.

    Attributes
    ----------
    path : str
    text : str
    owner, mode
        As of a folder.
    yours : bool
        Written once; what a person, or the dashboard, made of it afterwards stays.
    """

    path: str
    text: str
    owner: str = ROOT
    mode: int = 0o644
    yours: bool = False

    def lacking(self, place: Place) -> str | None:
        """Whether it is there, with this content."""
        at = place.at(self.path)
        if self.yours and at.is_file():
            return None
        if not at.is_file() or at.is_symlink() or at.read_bytes() != self.text.encode():
            return f"file {self.path}"
        return None if _is_owned(at, place, self.owner, self.mode) else f"owner of {self.path}"

    def make(self, place: Place) -> None:
        """Whole or not at all."""
        at = place.at(self.path)
        at.parent.mkdir(parents=True, exist_ok=True)
        fresh = at.with_name(f".{at.name}.new")
        fresh.unlink(missing_ok=True)
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(self.text)
        _own(fresh, place, self.owner, self.mode)
        fresh.replace(at)

    def remains(self, place: Place) -> str | None:
        """The file."""
        return f"file {self.path}" if place.at(self.path).is_file() else None

    def remove(self, place: Place) -> None:
        """Whatever is in it."""
        place.at(self.path).unlink()


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link; turned by a rename, so that at every moment it points somewhere."""

    path: str
    target: str

    def lacking(self, place: Place) -> str | None:
        """Whether it points there."""
        at = place.at(self.path)
        points = at.is_symlink() and str(at.readlink()) == self.target
        return None if points else f"link {self.path} -> {self.target}"

    def make(self, place: Place) -> None:
        """A file or folder that is in the way is not ours to take away."""
        at = place.at(self.path)
        if at.exists() and not at.is_symlink():
            raise SetupError(f"{self.path} is there and no link; move it away")
        at.parent.mkdir(parents=True, exist_ok=True)
        fresh = at.with_name(f".{at.name}.new")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(self.target)
        fresh.replace(at)

    def remains(self, place: Place) -> str | None:
        """The link, whatever it points to."""
        return f"link {self.path}" if place.at(self.path).is_symlink() else None

    def remove(self, place: Place) -> None:
        """The link alone."""
        place.at(self.path).unlink()


Tell = Callable[[str], None]


def apply(
    steps: Sequence[Step], place: Place, *, dry_run: bool = False, tell: Tell | None = None
) -> list[str]:
    """Make everything as ``steps`` say; what was changed, or in a dry run would be, in words.

    Parameters
    ----------
    tell : callable, optional
        Told each change before it is made.
    """
    changed = []
    for step in steps:
        lacking = step.lacking(place)
        if lacking is None:
            continue
        if tell is not None:
            tell(lacking)
        if not dry_run:
            step.make(place)
        changed.append(lacking)
    return changed


def take_away(
    steps: Sequence[Step], place: Place, *, dry_run: bool = False, tell: Tell | None = None
) -> list[str]:
    """Undo ``steps``, the last first; what was taken away, or would be, in words."""
    gone = []
    for step in reversed(steps):
        there = step.remains(place)
        if there is None:
            continue
        if tell is not None:
            tell(there)
        if not dry_run:
            step.remove(place)
        gone.append(there)
    return gone


def _is_owned(at: Path, place: Place, owner: str, mode: int) -> bool:
    """Whoever is not root can give nothing away, so only the mode counts then."""
    status = at.stat()
    theirs = os.geteuid() != 0 or (status.st_uid, status.st_gid) == place.user_id(owner)
    return theirs and status.st_mode & 0o7777 == mode


def _own(at: Path, place: Place, owner: str, mode: int) -> None:
    ids = place.user_id(owner)
    if ids is None:
        raise SetupError(f"{at}: no user {owner!r} to give it to")
    if os.geteuid() == 0:
        os.chown(at, *ids)
    at.chmod(mode)
