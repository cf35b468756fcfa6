"""The sum by which a file is known: of a wheel, a package, a bundle, a part of an image."""

from __future__ import annotations

import hashlib
from pathlib import Path


def sha256(path: Path) -> str:
    """Of a file, in hexadecimal digits; read a piece at a time."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
