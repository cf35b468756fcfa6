"""Other people's programs, run with one clock, one language and one time zone.

Whatever they write must not tell when, where or in which language it was written.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from edge.errors import UsageError

PACKAGES = {
    "apt-get": "apt",
    "arch-test": "arch-test",
    "dpkg-deb": "dpkg",
    "mcopy": "mtools",
    "mkfs.vfat": "dosfstools",
    "mke2fs": "e2fsprogs",
    "mksquashfs": "squashfs-tools",
    "mmdebstrap": "mmdebstrap",
    "mmd": "mtools",
    "openssl": "openssl",
    "qemu-aarch64-static": "qemu-user-static",
    "xz": "xz-utils",
}
"""Program: the Debian package it comes with."""


def environment(epoch_s: int) -> dict[str, str]:
    """The environment of every program that makes a part of the image."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    proxies = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
    return {
        **kept,
        **proxies,
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "SOURCE_DATE_EPOCH": str(epoch_s),
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def need(*programs: str) -> None:
    """All of these are installed, or an error says which package brings the missing ones."""
    places = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    missing = [program for program in programs if shutil.which(program, path=places) is None]
    if missing:
        packages = " ".join(sorted({PACKAGES.get(program, program) for program in missing}))
        raise UsageError(
            f"not installed here: {', '.join(missing)}; on Debian run as root: "
            f"apt-get install {packages}"
        )


def run(
    command: Sequence[str | Path],
    *,
    epoch_s: int,
    cwd: Path | None = None,
    stdin: IO[bytes] | None = None,
    extra: Mapping[str, str] | None = None,
    log: Path | None = None,
) -> str:
    """What the program printed. If it fails, its last words are the error.

    With ``log``, what it says of its progress is there to be read while it works.
    """
    words = [str(word) for word in command]
    variables = environment(epoch_s) | dict(extra or {})
    variables["PATH"] = variables.get("PATH", "") + ":/usr/sbin:/sbin"
    with log.open("w+b") if log else tempfile.TemporaryFile() as said:
        done = subprocess.run(
            words,
            cwd=cwd,
            stdin=stdin or subprocess.DEVNULL,
            env=variables,
            stdout=subprocess.PIPE,
            stderr=said,
            check=False,
        )
        said.seek(0)
        last = said.read().decode(errors="replace").strip().splitlines()[-5:]
    if done.returncode != 0:
        raise UsageError(f"{words[0]} failed with code {done.returncode}: " + " | ".join(last))
    return done.stdout.decode(errors="replace")


def versions() -> dict[str, str]:
    """The versions of the programs whose output is bytes of the image."""
    asked = {
        "mke2fs": ["mke2fs", "-V"],
        "mkfs.vfat": ["mkfs.vfat", "--help"],
        "mksquashfs": ["mksquashfs", "-version"],
        "mtools": ["mtools", "--version"],
        "xz": ["xz", "--version"],
    }
    found = {}
    for name, command in asked.items():
        variables = environment(0)
        variables["PATH"] = variables.get("PATH", "") + ":/usr/sbin:/sbin"
        done = subprocess.run(command, env=variables, capture_output=True, check=False, text=True)
        lines = (done.stdout + done.stderr).strip().splitlines()
        found[name] = lines[0].strip() if lines else "unknown"
    return found
