"""A bundle brought into a folder that only we write: from the network, from a stick, from anywhere.

What is verified is then what is used: nobody can change it between the one and the other. Over the
network it may come in the clear, since its signature is what is believed. A server's certificate is
checked for its name and authority but not for its time, for a piano may think that it is 1970.
"""

from __future__ import annotations

import shutil
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from urllib.parse import unquote, urlsplit

from device.update.durable import FULL
from device.update.place import SPARE_BYTES
from edge.errors import InputError

BLOCK_BYTES = 1 << 20
TIMEOUT_S = 60.0

_NO_CHECK_TIME = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME of OpenSSL's x509_vfy.h; Python has no name for it."""

Told = Callable[[int, int | None], None]
"""Is told how many bytes have come, and how many will."""


def is_url(source: str) -> bool:
    """Whether it is to be fetched over the network."""
    return urlsplit(source).scheme in ("http", "https")


@contextmanager
def fetched(url: str, folder: Path, told: Told) -> Iterator[Path]:
    """The file of a URL, in ``folder`` for as long as it is needed.

    Raises
    ------
    InputError
        It cannot be reached, is larger than the room there is, or ends too soon.
    OSError
        The disk is full.
    """
    name = Path(unquote(urlsplit(url).path)).name.lstrip(".") or "bundle"
    with _private(folder) as private:
        target = private / name
        context = ssl.create_default_context()
        context.verify_flags |= _NO_CHECK_TIME
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT_S, context=context) as answer:
                said = answer.headers.get("Content-Length")
                size = int(said) if said and said.isdecimal() else None
                _download(url, answer.read, size, target, told)
        except (urllib.error.URLError, HTTPException, OSError, ValueError) as error:
            if getattr(error, "errno", None) in FULL:
                raise
            http = isinstance(error, urllib.error.HTTPError)
            reason = error if http else getattr(error, "reason", error)
            raise InputError(
                f"{url}: cannot be fetched ({reason}); try again, or use a stick"
            ) from None
        yield target


@contextmanager
def copied(path: Path, folder: Path) -> Iterator[Path]:
    """A copy of a file in ``folder``, for as long as it is needed."""
    with _private(folder) as private:
        target = private / path.name
        try:
            shutil.copyfile(path, target)
        except OSError as error:
            if error.errno in FULL:  # of the two files the copy is what has no room
                raise OSError(error.errno, error.strerror, str(target)) from None
            raise InputError(f"{path}: cannot be read to its end ({error.strerror})") from None
        yield target


def _download(
    url: str, read: Callable[[int], bytes], size: int | None, target: Path, told: Told
) -> None:
    free = shutil.disk_usage(target.parent).free - SPARE_BYTES
    came = 0
    with target.open("wb") as file:
        while block := read(BLOCK_BYTES):
            came += len(block)
            if max(came, size or 0) > free:
                raise InputError(
                    f"{url}: has {max(came, size or 0):,} bytes or more; {max(0, free):,} can be "
                    "kept: make room, or use a larger card"
                )
            file.write(block)
            told(came, size)
    if size is not None and came < size:
        raise InputError(f"{url}: cut short, {came:,} of {size:,} bytes came; try again")


@contextmanager
def _private(folder: Path) -> Iterator[Path]:
    private = folder / ".fetched"
    shutil.rmtree(private, ignore_errors=True)
    private.mkdir(mode=0o700)
    try:
        yield private
    finally:
        shutil.rmtree(private, ignore_errors=True)
