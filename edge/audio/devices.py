"""The microphones of this machine, by names that stay.

ALSA numbers its cards in the order in which they wake up, so "hw:1,0" is another microphone
tomorrow. The name without the number stays; a device is chosen by it or by a part of it. Two of
one make have one name: they are told apart by the port of USB that each is plugged into, and the
name with the port means the same microphone also while the other is away. A name that fits several
means the first of them by name and port: a piano has to listen, and to the same one at each start.
"""

from __future__ import annotations

import ctypes
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.errors import DeviceError

PORTAUDIO = "libportaudio.so.2"
"""Debian's, which PyAudio is linked to."""

_CARD_NUMBER = re.compile(r"\s*\(hw:(\d+),\d+\)$")
_USB_PORT = re.compile(r"\d+-\d+(\.\d+)*")
_CARDS = Path("/sys/class/sound")


@dataclass(frozen=True, slots=True)
class Microphone:
    """One input of sound.

    Attributes
    ----------
    name : str
        Stable, and different from every other's.
    index : int
        PortAudio's number, good until it is started anew.
    channels : int
        The most that it gives.
    sample_rate_hz : int
        Its own rate.
    default : bool
        Whether it is the one the system would take.
    full_name : str
        The name, with the port of USB where it has one: means the same whoever else is there.
    """

    name: str
    index: int
    channels: int
    sample_rate_hz: int
    default: bool
    full_name: str


def load_pyaudio() -> Any:
    """The module pyaudio.

    Raises
    ------
    DeviceError
        It is not installed.
    """
    try:
        import pyaudio
    except ImportError as error:
        raise DeviceError(
            "microphones need PyAudio, which is not installed: pip install 'sostenuto[mic]' "
            "(Debian: apt-get install portaudio19-dev first)"
        ) from error
    return pyaudio


class _DeviceInfo(ctypes.Structure):
    """The beginning of PortAudio's PaDeviceInfo."""

    _fields_ = (
        ("version", ctypes.c_int),
        ("name", ctypes.c_char_p),
        ("host_api", ctypes.c_int),
        ("max_input_channels", ctypes.c_int),
        ("max_output_channels", ctypes.c_int),
        ("low_input_s", ctypes.c_double),
        ("low_output_s", ctypes.c_double),
        ("high_input_s", ctypes.c_double),
    )


def make_room(index: int, library: str = PORTAUDIO) -> None:
    """Let the card of an input keep as much as PortAudio advises to who must not lose sound.

    PyAudio asks for the lowest latency and has no word for another. Under ALSA the card's buffer
    then holds 9 ms besides the block that is being brought, and whatever keeps Python busy for so
    long costs sound. More room costs nothing: a block is brought as soon as it is there.
    """
    try:
        get_info = ctypes.CDLL(library).Pa_GetDeviceInfo
    except (OSError, AttributeError):
        return  # another system's PortAudio; it has its own ways
    get_info.restype = ctypes.POINTER(_DeviceInfo)
    info = get_info(index)
    if info:
        found = info.contents
        found.low_input_s = max(found.low_input_s, found.high_input_s)


def list_microphones(audio: Any, cards: Path = _CARDS) -> list[Microphone]:
    """The inputs that an opened ``pyaudio.PyAudio`` knows."""
    default = _default_index(audio)
    infos = [audio.get_device_info_by_index(i) for i in range(audio.get_device_count())]
    inputs = [info for info in infos if info["maxInputChannels"] > 0]
    plain = [_CARD_NUMBER.sub("", str(info["name"])).strip() for info in inputs]
    full = [
        _with_port(name, str(info["name"]), cards) for name, info in zip(plain, inputs, strict=True)
    ]
    alone = Counter(plain)
    names = _unique([p if alone[p] == 1 else f for p, f in zip(plain, full, strict=True)])
    return [
        Microphone(
            name=name,
            index=int(info["index"]),
            channels=int(info["maxInputChannels"]),
            sample_rate_hz=round(info["defaultSampleRate"]),
            default=int(info["index"]) == default,
            full_name=with_port if with_port != unported else name,
        )
        for name, unported, with_port, info in zip(names, plain, full, inputs, strict=True)
    ]


def named_like(wanted: str, found: Sequence[Microphone]) -> list[Microphone]:
    """Those whose name is ``wanted``, or else contains it, letter case aside; ordered by name.

    Raises
    ------
    DeviceError
        None does; the line lists what there is.
    """
    names = [(each.name, each.full_name) for each in found]
    same = [each for each, both in zip(found, names, strict=True) if wanted in both]
    like = [each for each in found if wanted.lower() in each.full_name.lower()]
    if not same and not like:
        there = ", ".join(repr(full) for _, full in names) or "none"
        raise DeviceError(f"no microphone named {wanted!r}; there are: {there}")
    return sorted(same or like, key=lambda each: each.name)


def doubt(wanted: str, like: Sequence[Microphone]) -> str | None:
    """What is to be said where a name fits several, of which the first is taken."""
    if len(like) < 2:
        return None
    names = ", ".join(repr(each.name) for each in like)
    return (
        f"{len(like)} microphones are named like {wanted!r}: {names}; it listens to the first of "
        f'them by name. Choose one: mic = "{like[0].name}"'
    )


def _with_port(name: str, known_as: str, cards: Path) -> str:
    card = _CARD_NUMBER.search(known_as)
    return name if card is None else with_port(name, cards / f"card{card[1]}")


def with_port(name: str, card: Path) -> str:
    """``NAME [1-1.2]``: the port is the innermost folder that bears one in the card's own path."""
    folders = card.resolve().parts
    ports = [folder for folder in folders if _USB_PORT.fullmatch(folder)]
    return f"{name} [{ports[-1]}]" if ports else name


def _default_index(audio: Any) -> int | None:
    try:
        return int(audio.get_default_input_device_info()["index"])
    except OSError:
        return None


def _unique(names: list[str]) -> list[str]:
    """Two devices of one name become NAME and NAME #2."""
    seen: Counter[str] = Counter()
    unique = []
    for name in names:
        seen[name] += 1
        unique.append(name if seen[name] == 1 else f"{name} #{seen[name]}")
    return unique
