"""The computer beside the piano, by name."""

from __future__ import annotations

import platform
from pathlib import Path

_MODEL = Path("/proc/device-tree/model")


def board_name(path: Path = _MODEL) -> str | None:
    """What the board calls itself, as in "Raspberry Pi 5 Model B Rev 1.0"; else the processor."""
    try:
        return path.read_text(errors="replace").strip("\x00 \n") or None
    except OSError:
        return platform.processor() or platform.machine() or None


def system_name() -> str:
    """Operating system and architecture."""
    try:
        release = platform.freedesktop_os_release()
        name = release.get("PRETTY_NAME", platform.system())
    except OSError:
        name = platform.system()
    return f"{name}, {platform.machine()}"
