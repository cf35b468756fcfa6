"""The software as it lies on a device: one virtual environment for each version, a link to one.

``/opt/sostenuto/software/VERSION`` is made in its place, for an environment cannot be moved, and
counts as there only when its mark is written, which is the last thing. The environment sees the
packages of Debian's own Python: PyAudio and rtmidi come from there.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from device.service.place import Link, Place, SetupError
from device.sums import sha256
from edge.errors import UsageError

SOFTWARE = "/opt/sostenuto/software"
CURRENT = f"{SOFTWARE}/current"
SETTLED = f"{SOFTWARE}/settled"
PREVIOUS = f"{SOFTWARE}/previous"
MARK = ".wheel-sha256"
PYTHON = "/usr/bin/python3"
PYTHONS = ("3.11", "3.12", "3.13")
"""What `pyproject.toml` allows."""

_WHEEL = re.compile(r"sostenuto-([A-Za-z0-9.+!]+)-py3-none-any\.whl")


@dataclass(frozen=True, slots=True)
class Environment:
    """The virtual environment of one wheel.

    Attributes
    ----------
    name : str
        Its folder below `SOFTWARE`.
    wheel : Path
        On this machine.
    wheels : Path or None
        Folder with the wheels of everything it depends on; None: pip fetches them.
    """

    name: str
    wheel: Path
    wheels: Path | None = None

    @property
    def path(self) -> str:
        """Where it is made."""
        return f"{SOFTWARE}/{self.name}"

    def lacking(self, place: Place) -> str | None:
        """Whether its mark names this very wheel."""
        fits = mark_of(place.at(self.path)) == sha256(self.wheel)
        return None if fits else f"software {self.path}"

    def make(self, place: Place) -> None:
        """Made anew where it was begun and not finished."""
        at = place.at(self.path)
        shutil.rmtree(at, ignore_errors=True)
        place.run(PYTHON, "-m", "venv", "--system-site-packages", self.path)
        with _inside(place, self.wheel, self.wheels) as (wheel, wheels):
            source = ("--no-index", "--find-links", wheels) if wheels else ()
            place.run(
                *(f"{self.path}/bin/python", "-m", "pip", "install", "--quiet", *source),
                *("--disable-pip-version-check", "--no-cache-dir", wheel),
            )
        (at / MARK).write_text(sha256(self.wheel) + "\n", encoding="ascii")

    def remains(self, place: Place) -> str | None:
        """The environment."""
        return f"software {self.path}" if place.at(self.path).is_dir() else None

    def remove(self, place: Place) -> None:
        """The environment."""
        shutil.rmtree(place.at(self.path))


@dataclass(frozen=True, slots=True)
class InUse:
    """``current`` points to ``name``; what it pointed to before can be gone back to.

    What a person installs is not on trial, so it counts as settled where an update has left a word
    on that (`device.update.software`).
    """

    name: str

    def lacking(self, place: Place) -> str | None:
        """Whether it is in use."""
        return Link(CURRENT, self.name).lacking(place)

    def make(self, place: Place) -> None:
        """First the way back, then the turn."""
        before = place.at(CURRENT)
        if before.is_symlink():
            Link(PREVIOUS, str(before.readlink())).make(place)
        if place.at(SETTLED).is_symlink():
            Link(SETTLED, self.name).make(place)
        Link(CURRENT, self.name).make(place)

    def remains(self, place: Place) -> str | None:
        """The links, with the folder they lie in."""

    def remove(self, place: Place) -> None:
        """The links go with the folder they lie in."""


@dataclass(frozen=True, slots=True)
class NothingElse:
    """Of all environments those are kept that a link points to."""

    def _others(self, place: Place) -> list[Path]:
        software = place.at(SOFTWARE)
        found = sorted(software.iterdir()) if software.is_dir() else []
        kept = {str(each.readlink()) for each in found if each.is_symlink()}
        return [
            each
            for each in found
            if each.is_dir() and not each.is_symlink() and each.name not in kept
        ]

    def lacking(self, place: Place) -> str | None:
        """Whether there are others."""
        names = ", ".join(each.name for each in self._others(place))
        return f"without {names}" if names else None

    def make(self, place: Place) -> None:
        """Take the others away."""
        for each in self._others(place):
            shutil.rmtree(each)

    def remains(self, place: Place) -> str | None:
        """Nothing of its own."""

    def remove(self, place: Place) -> None:
        """Nothing of its own."""


def environment_of(wheel: Path, wheels: Path | None, place: Place) -> Environment:
    """The environment for ``wheel``: named by its version, or, where another wheel of the same
    version is there already, by version and content.

    Raises
    ------
    UsageError
        No such file, or no wheel of Sostenuto.
    """
    named = _WHEEL.fullmatch(wheel.name)
    if named is None or not wheel.is_file():
        raise UsageError(f"wheel {str(wheel)!r}: give a file sostenuto-VERSION-py3-none-any.whl")
    if wheels is not None and not wheels.is_dir():
        raise UsageError(f"wheels {str(wheels)!r}: no such folder; give the one that pip filled")
    version, content = named[1], sha256(wheel)
    there = mark_of(place.at(f"{SOFTWARE}/{version}"))
    name = version if there in (None, content) else f"{version}-{content[:8]}"
    return Environment(name, wheel.resolve(), wheels.resolve() if wheels else None)


def check_python(place: Place) -> None:
    """Refuse a system whose own Python is none of `PYTHONS`; one without any gets its package's.

    Another Python beside it does not do: PyAudio and rtmidi come from the system's packages.

    Raises
    ------
    UsageError
        With the version that is there.
    """
    if not place.at(PYTHON).exists():
        return
    version = place.run(PYTHON, "-c", "import platform; print(platform.python_version())").strip()
    if version.rpartition(".")[0] not in PYTHONS:
        raise UsageError(
            f"{PYTHON} is Python {version}; {PYTHONS[0]} to {PYTHONS[-1]} are allowed: "
            "take Debian 12 or 13, Raspberry Pi OS made of them, or Ubuntu 24.04"
        )


def mark_of(environment: Path) -> str | None:
    """The sha256 of the wheel that a finished environment was made from."""
    try:
        return (environment / MARK).read_text(encoding="ascii").strip()
    except OSError:
        return None


def clone() -> Path | None:
    """The clone that this module lies in; None in an installed wheel."""
    root = Path(__file__).resolve().parents[2]
    return root if (root / "pyproject.toml").is_file() else None


def build_wheel(source: Path, folder: Path) -> Path:
    """The wheel of a clone, in ``folder``; the same bytes for the same clone.

    Raises
    ------
    SetupError
        pip cannot build it.
    """
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-cache-dir"]
    try:
        import hatchling  # noqa: F401  the build needs no network where it is here

        command.append("--no-build-isolation")
    except ImportError:
        pass
    command += ["--disable-pip-version-check", "--wheel-dir", str(folder), str(source)]
    ran = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    built = sorted(folder.glob("sostenuto-*.whl"))
    if ran.returncode != 0 or not built:
        said = " / ".join((ran.stderr.strip().splitlines() or ["no reason given"])[-3:])
        raise SetupError(f"no wheel could be built of {source}: {said}; or give one with --wheel")
    return built[-1]


@contextmanager
def _inside(place: Place, wheel: Path, wheels: Path | None) -> Iterator[tuple[str, str | None]]:
    """Paths of wheel and wheels as the place sees them; copied in where it is another root."""
    if place.live:
        yield str(wheel), None if wheels is None else str(wheels)
        return
    inside = "/tmp/sostenuto-wheels"
    at = place.at(inside)
    shutil.rmtree(at, ignore_errors=True)
    try:
        if wheels is None:
            at.mkdir(parents=True)
        else:
            shutil.copytree(wheels, at)
        shutil.copy(wheel, at)
        yield f"{inside}/{wheel.name}", None if wheels is None else inside
    finally:
        shutil.rmtree(at, ignore_errors=True)
