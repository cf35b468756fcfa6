"""The microphones of this machine, by names that stay.

ALSA numbers its cards in the order in which they wake up, so "hw:1,0" is another microphone
tomorrow. The name without the number stays; a device is chosen by it or by a part of it.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

from edge.errors import DeviceError

_CARD_NUMBER = re.compile(r"\s*\(hw:\d+,\d+\)$")


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
    """

    name: str
    index: int
    channels: int
    sample_rate_hz: int
    default: bool


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


def list_microphones(audio: Any) -> list[Microphone]:
    """The inputs that an opened ``pyaudio.PyAudio`` knows."""
    default = _default_index(audio)
    infos = [audio.get_device_info_by_index(i) for i in range(audio.get_device_count())]
    inputs = [info for info in infos if info["maxInputChannels"] > 0]
    names = _unique([_CARD_NUMBER.sub("", str(info["name"])).strip() for info in inputs])
    return [
        Microphone(
            name=name,
            index=int(info["index"]),
            channels=int(info["maxInputChannels"]),
            sample_rate_hz=round(info["defaultSampleRate"]),
            default=int(info["index"]) == default,
        )
        for name, info in zip(names, inputs, strict=True)
    ]


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
