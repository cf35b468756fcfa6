"""The Python half of the card: wheels for the board, and the environment that they become.

Everything is fetched and unpacked on the machine that builds, whatever its processor: a wheel is a
zip with a known layout (PEP 427). Byte code is made by the board's own Python under qemu-user, and
marked to be taken as it is: on a root that nobody can write, no source will ever be newer.
"""

from __future__ import annotations

import configparser
import hashlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Sequence
from email.parser import HeaderParser
from pathlib import Path

from device.image.lock import Lock, Wheel
from device.image.programs import run
from device.service.install import PROGRAMS
from device.service.software import MARK, SOFTWARE
from edge.errors import InputError, UsageError

PYTHON = "3.13"
"""Debian 13's."""

PLATFORMS = (
    *(f"manylinux_2_{minor}_aarch64" for minor in range(41, 16, -1)),
    "manylinux2014_aarch64",
    "linux_aarch64",
)
"""Every tag that glibc 2.41 fits. Left to guess, pip takes an older package for want of one tag."""

_PIP = ("-m", "pip", "--disable-pip-version-check", "--quiet")


def _target() -> list[str]:
    words = ["--only-binary=:all:", "--implementation=cp", f"--python-version={PYTHON}"]
    words += [f"--abi={abi}" for abi in ("cp" + PYTHON.replace(".", ""), "abi3", "none")]
    return words + [f"--platform={platform}" for platform in PLATFORMS]


def _pip(words: Sequence[str], problem: str) -> None:
    done = subprocess.run(
        [sys.executable, *_PIP, *words], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        last = " | ".join(done.stderr.strip().splitlines()[-2:])
        raise InputError(f"{problem}: {last}")


def metadata(wheel: Path) -> dict[str, list[str]]:
    """The METADATA of a wheel: every header with all its values."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        message = HeaderParser().parsestr(archive.read(name).decode())
    found: dict[str, list[str]] = {}
    for header, value in message.items():
        found.setdefault(header, []).append(str(value))
    return found


def describe(wheel: Path) -> Wheel:
    """A wheel as the lock list has it."""
    about = metadata(wheel)
    return Wheel(
        name=re.sub(r"[-_.]+", "-", about["Name"][0]).lower(),
        version=about["Version"][0],
        sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        file=wheel.name,
    )


def resolve(own: Path, cache: Path) -> tuple[Wheel, ...]:
    """The wheels that Sostenuto's own one needs on the board, fetched into ``cache``."""
    cache.mkdir(parents=True, exist_ok=True)
    wanted = [
        line
        for line in metadata(own).get("Requires-Dist", [])
        if not re.search(r";.*extra\s*==", line)
    ]
    with tempfile.TemporaryDirectory(prefix="sostenuto-wheels-") as name:
        _pip(
            ["download", *_target(), f"--dest={name}", *wanted],
            "the wheels for the board cannot be fetched",
        )
        found = sorted(Path(name).glob("*.whl"))
        for wheel in found:
            shutil.copy(wheel, cache / wheel.name)
        return tuple(describe(wheel) for wheel in found)


def fetch(wheels: Iterable[Wheel], cache: Path) -> None:
    """Every wheel of the list lies in ``cache``, and is the one that the list names."""
    cache.mkdir(parents=True, exist_ok=True)
    for wheel in wheels:
        target = cache / wheel.file
        if not target.is_file():
            _pip(
                ["download", *_target(), "--no-deps", f"--dest={cache}",
                 f"{wheel.name}=={wheel.version}"],
                f"{wheel.name} {wheel.version} cannot be fetched",
            )  # fmt: skip
        if not target.is_file() or describe(target).sha256 != wheel.sha256:
            raise InputError(
                f"{wheel.file}: not the file of the lock list (sha256 {wheel.sha256[:12]}…); take "
                "it out of the cache, or build without --lock"
            )


def unpack(wheel: Path, site: Path) -> None:
    """The files of a wheel where Python looks for them; its scripts are not taken."""
    with zipfile.ZipFile(wheel) as archive:
        for name in sorted(archive.namelist()):
            if name.endswith("/"):
                continue
            parts = name.split("/")
            if parts[0].endswith(".data"):
                if parts[1] not in ("purelib", "platlib"):
                    continue
                parts = parts[2:]
            if ".." in parts or not parts[0]:
                raise InputError(f"{wheel.name}: {name!r} leads out of the environment")
            target = site.joinpath(*parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(archive.read(name))


def _entry_points(wheel: Path) -> dict[str, str]:
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".dist-info/entry_points.txt"))
        parser = configparser.ConfigParser()
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        parser.read_string(archive.read(name).decode())
    return dict(parser["console_scripts"])


def site_of(version: str) -> str:
    """Where the packages of that version's environment lie on the card."""
    return f"{SOFTWARE}/{version}/lib/python{PYTHON}/site-packages"


def make_environment(own: Path, root: Path) -> str:
    """The environment of Sostenuto below ``root``, as `device.service.software` would make it,
    but for the packages that it needs (`unpack` them into `site_of` its version).

    Returns
    -------
    str
        Its name, which is the version.
    """
    about = describe(own)
    at = f"{SOFTWARE}/{about.version}"
    folder = root / at.lstrip("/")
    unpack(own, root / site_of(about.version).lstrip("/"))
    (folder / "bin").mkdir()
    for name in ("python", "python3"):
        (folder / "bin" / name).symlink_to("/usr/bin/python3")
    (folder / "pyvenv.cfg").write_text(
        f"home = /usr/bin\ninclude-system-site-packages = true\nversion = {PYTHON}\n"
    )
    points = _entry_points(own)
    for program in PROGRAMS:
        module, function = points[program].split(":")
        script = folder / "bin" / program
        script.write_text(
            f"#!{at}/bin/python\nimport sys\n\nfrom {module} import {function}\n\n"
            f"sys.exit({function}())\n"
        )
        script.chmod(0o755)
    (folder / MARK).write_text(about.sha256 + "\n", encoding="ascii")
    (folder.parent / "current").symlink_to(about.version)
    return about.version


def compile_all(base: Path, root: Path, epoch_s: int) -> None:
    """Byte code for all of ``/opt/sostenuto`` below ``root``, by the Python in the tar ``base``."""
    wanted = re.compile(
        rf"^\./(lib|usr/bin/python3.*|usr/lib/(ld-linux-.*|aarch64-linux-gnu/[^/]+"
        rf"|python{re.escape(PYTHON)}/.*))$"
    )
    with tempfile.TemporaryDirectory(prefix="sostenuto-python-") as name:
        system = Path(name)
        with tarfile.open(base) as archive:
            members = [m for m in archive if wanted.match(m.name) and not m.isdev()]
            archive.extractall(system, members, filter="fully_trusted")
        python = next((system / "usr/bin").glob(f"python{PYTHON}"), None)
        if python is None:
            raise UsageError(f"{base}: no Python {PYTHON} in it; the suite has another one")
        run(
            ["qemu-aarch64-static", "-L", system, python, "-I", "-X", "utf8", "-m", "compileall",
             "-q", "-j", "1", "--invalidation-mode", "unchecked-hash",
             "-s", root, "-p", "/", root / SOFTWARE.lstrip("/")],
            epoch_s=epoch_s,
            extra={"PYTHONHOME": str(system / "usr")},
        )  # fmt: skip


def _kept(cache: Path, told: str, lock: Lock, base: Path, make: Callable[[Path], None]) -> Path:
    """A folder that ``make`` fills and `compile_all` completes, now or at an earlier build."""
    python = sorted(p.sha256 for p in lock.packages if p.name.startswith(("python3", "libpython3")))
    about = f"{Path(__file__).read_text()} {python} {lock.epoch_s} {told}"
    target = cache / "software" / hashlib.sha256(about.encode()).hexdigest()[:16]
    if not target.exists():
        partial = target.with_name(target.name + ".part")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        make(partial)
        compile_all(base, partial, lock.epoch_s)
        partial.replace(target)
    return target


def build(own: Path, lock: Lock, base: Path, cache: Path) -> tuple[Path, Path]:
    """Two folders that lie over one another on the card: what Sostenuto needs, and itself.

    Byte code takes minutes under emulation, and what is needed changes seldom.
    """
    about = describe(own)

    def needed(folder: Path) -> None:
        for wheel in lock.wheels:
            unpack(cache / "wheels" / wheel.file, folder / site_of(about.version).lstrip("/"))

    def itself(folder: Path) -> None:
        make_environment(own, folder)

    names = " ".join(sorted(wheel.sha256 for wheel in lock.wheels))
    return (
        _kept(cache, f"{about.version} {names}", lock, base, needed),
        _kept(cache, about.sha256, lock, base, itself),
    )
