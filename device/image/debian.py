"""Debian's packages for the card: which ones, by apt's own resolver; fetched, checked, kept.

apt reads the signed lists with Debian's archive key and prints the whole set that an empty system
would need, without an emulator and without touching this system's own lists. From then on nothing
is trusted but the sha256 of each file.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from device.image.lock import Package
from device.image.programs import run
from device.image.recipe import BESIDE_THE_ROOT, COMPONENTS, IN_THE_ROOT, Board
from device.sums import sha256
from edge.errors import InputError

ARCHITECTURE = "arm64"

ARCHIVE_KEYS = (
    Path("/usr/share/keyrings/debian-archive-trixie-stable.gpg"),
    Path("/usr/share/keyrings/debian-archive-trixie-automatic.gpg"),
    Path("/usr/share/keyrings/debian-archive-trixie-security-automatic.gpg"),
)
"""The package debian-archive-keyring of the machine that builds."""

ESSENTIAL = "?and(?essential,?not(?name(^apt$)))"
"""What Debian cannot be without. apt itself is left out: the root is read-only."""

_URI = re.compile(r"^'(?P<uri>[^']+)' (?P<file>\S+) (?P<size>\d+) SHA256:(?P<sha256>[0-9a-f]{64})$")


def sources(suite: str, board: Board, mirror: str, security: str) -> str:
    """The lines of a ``sources.list``: the suite, its point updates, its security updates."""
    keys = ",".join(str(key) for key in ARCHIVE_KEYS)
    components = " ".join(COMPONENTS[board])
    return "".join(
        f"deb [signed-by={keys}] {address} {name} {components}\n"
        for address, name in (
            (mirror, suite),
            (mirror, f"{suite}-updates"),
            (security, f"{suite}-security"),
        )
    )


def parse_uris(text: str, place: str) -> list[Package]:
    """Packages from the lines of ``apt-get --print-uris``; other lines are apt talking."""
    packages = []
    for line in text.splitlines():
        match = _URI.match(line)
        if match is None:
            continue
        name, version, _ = unquote(match["file"]).removesuffix(".deb").rsplit("_", 2)
        path = unquote(urlsplit(match["uri"]).path)
        packages.append(
            Package(
                name=name,
                version=version,
                sha256=match["sha256"],
                size_bytes=int(match["size"]),
                file=match["file"],
                path=path[path.index("/pool/") + 1 :] if "/pool/" in path else path,
                place="root" if place == "root" else "beside",
            )
        )
    return packages


def resolve(
    suite: str, board: Board, more: Sequence[str], mirror: str, security: str, epoch_s: int
) -> tuple[Package, ...]:
    """The packages of an image as the mirror has them today; ``more`` are asked for besides."""
    with tempfile.TemporaryDirectory(prefix="sostenuto-apt-") as name:
        folder = Path(name)
        for part in ("lists/partial", "cache/archives/partial", "etc"):
            (folder / part).mkdir(parents=True)
        (folder / "status").touch()
        (folder / "sources.list").write_text(sources(suite, board, mirror, security))
        options = {
            "Dir::Etc::SourceList": folder / "sources.list",
            "Dir::Etc::SourceParts": "/dev/null",
            "Dir::Etc::Preferences": "/dev/null",
            "Dir::Etc::PreferencesParts": "/dev/null",
            "Dir::State": folder,
            "Dir::State::Lists": folder / "lists",
            "Dir::State::status": folder / "status",
            "Dir::Cache": folder / "cache",
            "APT::Architecture": ARCHITECTURE,
            "APT::Architectures::": ARCHITECTURE,
            "APT::Install-Recommends": "false",
            "APT::Sandbox::User": "root",
            "Acquire::ForceHash": "SHA256",
            "Acquire::Languages": "none",
        }
        apt = ["apt-get", "-qq"]
        for option, value in options.items():
            apt += ["-o", f"{option}={value}"]
        run([*apt, "update", "--error-on=any"], epoch_s=epoch_s)
        asked = [*apt, "--print-uris", "--yes", "install"]
        root = run([*asked, ESSENTIAL, *IN_THE_ROOT[board], *more], epoch_s=epoch_s)
        fetched = [*apt, "--print-uris", "download", *BESIDE_THE_ROOT[board]]
        beside = run(fetched, epoch_s=epoch_s)
    return tuple(parse_uris(root, "root") + parse_uris(beside, "beside"))


def fetch(
    packages: Iterable[Package],
    cache: Path,
    mirrors: Sequence[str],
    done: Callable[[Package], None] = lambda package: None,
) -> None:
    """Every package lies in ``cache``, and is the one that the list names."""
    cache.mkdir(parents=True, exist_ok=True)
    for package in packages:
        target = cache / package.file
        if not (target.is_file() and sha256(target) == package.sha256):
            _download(package, target, mirrors)
        done(package)


def _download(package: Package, target: Path, mirrors: Sequence[str]) -> None:
    problems = []
    for mirror in mirrors:
        address = f"{mirror.rstrip('/')}/{quote(package.path)}"
        try:
            with urllib.request.urlopen(address, timeout=60) as answer:
                content: bytes = answer.read()
        except (urllib.error.URLError, OSError) as error:
            problems.append(f"{mirror}: {error}")
            continue
        found = hashlib.sha256(content).hexdigest()
        if found != package.sha256:
            problems.append(f"{mirror}: sha256 {found[:12]}…, not {package.sha256[:12]}…")
            continue
        partial = target.with_suffix(".part")
        partial.write_bytes(content)
        partial.replace(target)
        return
    raise InputError(
        f"{package.name} {package.version} cannot be had ({'; '.join(problems)}); a mirror keeps "
        "only the present versions: name one that keeps all with "
        "--mirror http://snapshot.debian.org/archive/debian/DATE, or build without --lock"
    )


def control(package: Path) -> str:
    """The control paragraph of a ``.deb``."""
    done = subprocess.run(["dpkg-deb", "-f", str(package)], capture_output=True, check=False)
    if done.returncode != 0:
        raise InputError(f"{package}: not a Debian package")
    return done.stdout.decode()


def make_repository(packages: Sequence[Package], cache: Path, folder: Path, suite: str) -> None:
    """A repository of exactly these packages, for a bootstrap that never asks the network."""
    folder.mkdir(parents=True, exist_ok=True)
    paragraphs = []
    for package in sorted(packages, key=lambda p: p.name):
        link = folder / package.file
        link.unlink(missing_ok=True)
        link.symlink_to((cache / package.file).resolve())
        paragraphs.append(
            control(cache / package.file).rstrip("\n")
            + f"\nFilename: ./{package.file}\nSize: {package.size_bytes}"
            + f"\nSHA256: {package.sha256}\n"
        )
    listing = "\n".join(paragraphs).encode()
    zipped = gzip.compress(listing, mtime=0)
    (folder / "Packages").write_bytes(listing)
    (folder / "Packages.gz").write_bytes(zipped)
    sums = "".join(
        f" {hashlib.sha256(content).hexdigest()} {len(content)} {name}\n"
        for name, content in (("Packages", listing), ("Packages.gz", zipped))
    )
    (folder / "Release").write_text(
        f"Origin: Sostenuto\nSuite: {suite}\nCodename: {suite}\n"
        f"Architectures: {ARCHITECTURE}\nSHA256:\n{sums}"
    )
