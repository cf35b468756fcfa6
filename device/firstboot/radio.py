"""Whose law the radio keeps: the country of the card, told to the kernel by generic netlink.

Without it Wi-Fi keeps to what all countries allow, and a router on channel 12, 13 or most of 5 GHz
is never seen. Said as ``iw reg set`` says it (``linux/nl80211.h``), in two datagrams and without a
package for them.
"""

from __future__ import annotations

import os
import socket
import struct
import subprocess
from contextlib import suppress

GENERIC, CONTROL = 16, 0x10
"""``NETLINK_GENERIC``, and of its families the one that knows the others by name."""

GET_FAMILY, FAMILY_ID, FAMILY_NAME = 3, 1, 2
REQUEST_COUNTRY, COUNTRY = 27, 33
"""``NL80211_CMD_REQ_SET_REG`` and ``NL80211_ATTR_REG_ALPHA2``."""

_REQUEST_AND_ANSWER = 0x1 | 0x4
_ERROR = 2
_HEAD, _GENERIC_HEAD = struct.Struct("=IHHII"), struct.Struct("=BBH")
_ATTRIBUTE = struct.Struct("=HH")
_ANSWER_BYTES = 8192
_PATIENCE_S = 5.0


def set_country(country: str) -> None:
    """Ask the kernel to use the radio as ``country``, two letters, allows.

    The radio may be found later: what was asked for before counts for it too.

    Raises
    ------
    OSError
        This kernel has no Wi-Fi (``ENOENT``), or does not take it.
    """
    with suppress(OSError, subprocess.TimeoutExpired):
        words = ["modprobe", "--quiet", "cfg80211"]
        subprocess.run(words, capture_output=True, timeout=_PATIENCE_S, check=False)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, GENERIC) as kernel:
        kernel.settimeout(_PATIENCE_S)
        kernel.bind((0, 0))
        ask_for(country, kernel)


def ask_for(country: str, kernel: socket.socket) -> None:
    """The two datagrams of `set_country`."""
    _ask(kernel, request(family(kernel, "nl80211"), REQUEST_COUNTRY, COUNTRY, country))


def family(kernel: socket.socket, name: str) -> int:
    """The number that this kernel gives the family ``name``."""
    answer = _ask(kernel, request(CONTROL, GET_FAMILY, FAMILY_NAME, name))
    at = _HEAD.size + _GENERIC_HEAD.size
    while at + _ATTRIBUTE.size <= len(answer):
        size, kind = _ATTRIBUTE.unpack_from(answer, at)
        if kind == FAMILY_ID:
            (number,) = struct.unpack_from("=H", answer, at + _ATTRIBUTE.size)
            return int(number)
        at += max(_padded(size), _ATTRIBUTE.size)
    raise OSError(f"generic netlink does not number {name}")


def request(family_id: int, command: int, attribute: int, text: str) -> bytes:
    """One datagram that carries ``text``, with a zero at its end."""
    value = text.encode() + b"\0"
    size = _ATTRIBUTE.size + len(value)
    body = _GENERIC_HEAD.pack(command, 1, 0) + _ATTRIBUTE.pack(size, attribute)
    body += value.ljust(_padded(len(value)), b"\0")
    return _HEAD.pack(_HEAD.size + len(body), family_id, _REQUEST_AND_ANSWER, 1, 0) + body


def _ask(kernel: socket.socket, datagram: bytes) -> bytes:
    """What the kernel says to it, up to its acknowledgement."""
    kernel.send(datagram)
    said = b""
    while True:
        answer = kernel.recv(_ANSWER_BYTES)
        _, kind, *_ = _HEAD.unpack_from(answer)
        if kind != _ERROR:
            said = said or answer
            continue
        (code,) = struct.unpack_from("=i", answer, _HEAD.size)
        if code:
            raise OSError(-code, os.strerror(-code))
        return said


def _padded(size: int) -> int:
    return (size + 3) & ~3
