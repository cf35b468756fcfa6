"""How the piano is, told where somebody can read it who has no way into it.

Three places. What is to be mended goes to `edge.publish.health.ATTENTION`, from where the ear tells
it in `health` and on the dashboard. All of it goes to ``status.txt`` on the card, which any PC
opens: that is for a piano that nobody reaches. The file is written when what it says has changed,
and not for the clock alone: a card wears out. And the board's light beats like a heart while all is
well, and blinks evenly where something is to be mended.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from device.firstboot.boot import CARD_FOLDER, TROUBLES, Start
from device.firstboot.card import CARD_FILE, STATUS_FILE, host_name
from device.firstboot.keeping import Kept, replace_on_card, writable
from device.firstboot.network import Link, links_now, try_wifi_again, wifi_trouble
from device.firstboot.takeover import settings_before
from device.service.install import DASHBOARD_PORT, SERVICE, STATE
from device.service.place import Place
from edge.audio.devices import with_port
from edge.errors import SostenutoError
from edge.messages import AudioState, Clock, EventKind, Severity
from edge.publish.address import default_device_name
from edge.publish.clock import clock_quality
from edge.publish.health import ATTENTION, LEAST_FREE_BYTES
from edge.publish.notices import Notice, leave

WRITTEN = "Written: "

LIGHTS = ("ACT", "led0", "mmc0::")
"""Names of the light that stands for the card on a Raspberry Pi, by kernels new and old."""

WELL, TO_BE_MENDED = "heartbeat", "timer"
"""Triggers of Linux (Documentation/leds): two beats and a rest; on and off by half seconds."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of the piano at one moment.

    Attributes
    ----------
    start : Start
        What this start found.
    links : tuple of Link or None
        Network cards; None where nobody tells.
    microphones : tuple of str
        What can be recorded from, by name, in the system's order.
    mic : str or None
        The one that the settings name.
    midi : bool
        A keyboard is listened to and no microphone.
    service : str
        systemd's word for the ear: ``active``, ``failed``, …; empty where nobody tells.
    says : str
        What the ear says of itself.
    free_bytes : int
        On the disk that keeps what was played.
    clock : Clock
    """

    start: Start
    links: tuple[Link, ...] | None = None
    microphones: tuple[str, ...] = ()
    mic: str | None = None
    midi: bool = False
    service: str = ""
    says: str = ""
    free_bytes: int = LEAST_FREE_BYTES
    clock: Clock = Clock.NTP


def notices(facts: Facts) -> tuple[str, ...]:
    """What somebody has to look after, with what to do; a line each."""
    told = list(facts.start.troubles)
    if not facts.midi:
        told += _about_microphones(facts.microphones, facts.mic)
    if _lost(facts) and facts.midi:
        told.append("the keyboard it listens to is away; plug it in, or switch it on")
    elif _lost(facts) and len(told) == len(facts.start.troubles):
        told.append(
            "no sound comes from its microphone, which it looks for; plug it out and in again, or "
            "choose another on the dashboard"
        )
    if facts.service not in ("", "active", "activating", "reloading"):
        told.append(f"it does not listen: its service is {facts.service}; switch it off and on")
    if facts.links is not None and facts.start.ssid is not None:
        trouble = wifi_trouble(facts.start.ssid, facts.links)
        told += [] if trouble is None else [trouble]
    if facts.free_bytes < LEAST_FREE_BYTES:
        told.append(
            f"the disk is full ({facts.free_bytes >> 20} MiB free): it goes on listening, and what "
            "is played may not be kept; take a larger card, or write this one anew, without what "
            "was played"
        )
    return tuple(told)


def _about_microphones(found: tuple[str, ...], mic: str | None) -> list[str]:
    if not found:
        return ["no microphone is plugged in; it listens as soon as there is one"]
    if mic is not None:
        like = sorted(name for name in found if _fits(mic, name))
        if not like:
            return [f"microphone {mic!r} is not plugged in; there is {', '.join(found)}"]
        if len(like) > 1 and mic not in found:
            return [
                f"{len(like)} microphones fit the name {mic!r}: {', '.join(like)}; it listens to "
                f'the first of them by name. Choose on the dashboard, or by mic = "{like[0]}" in '
                f"{CARD_FILE}"
            ]
    elif len(found) > 1:
        return [
            f"{len(found)} microphones: {', '.join(found)}; it listens to the system's first one. "
            f'Choose on the dashboard, or by mic = "{found[0]}" in {CARD_FILE}'
        ]
    return []


def _fits(mic: str, name: str) -> bool:
    """Whether the settings' name means a microphone: they may say less of it, or more."""
    wanted, _, port = mic.lower().partition(" [")
    there, _, at = name.lower().partition(" [")
    return (wanted in there or wanted.startswith(there)) and (not port or not at or port == at)


def _lost(facts: Facts) -> bool:
    """Whether the ear says that what it listens to is away (`edge.listen`, in its status)."""
    return f": {AudioState.LOST.value}," in facts.says


def status_text(facts: Facts, at_s: float) -> str:
    """The file for people, at ``at_s`` seconds since 1970."""
    told = notices(facts)
    name = host_name(facts.start.device)
    clock = "" if facts.clock is not Clock.UNSYNCED else " (the clock is not set)"
    written = datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M UTC")
    lines = [
        f"Sostenuto, piano {facts.start.device}",
        f"{WRITTEN}{written}{clock}",
        "",
        "All is well." if not told else "To be mended:",
        *(f"  * {line}" for line in told),
        "",
        f"Listens: {_listens(facts)}",
        f"Microphones: {', '.join(facts.microphones) or 'none'}",
        f"Dashboard: http://{name}.local:{DASHBOARD_PORT}/",
    ]
    for link in facts.links or ():
        where = ", ".join(link.addresses) or "not connected"
        lines.append(f"Network: {link.kind} {link.device}: {where}")
    lines += ["", f"What it is to be stands in {CARD_FILE} beside this file."]
    return "\n".join(lines) + "\n"


def _listens(facts: Facts) -> str:
    word = "yes" if facts.service in ("", "active") else facts.service
    if _lost(facts):
        word = "no"
    return f"{word}, {facts.says}" if facts.says else word


def report(facts: Facts, place: Place, at_s: float) -> bool:
    """Tell ``facts`` in both places; whether the card's file had to be written.

    Raises
    ------
    OSError, SostenutoError
        The card cannot be written; what the ear tells is told all the same.
    """
    told = place.at(str(ATTENTION))
    before = told.read_text(encoding="utf-8").splitlines() if told.is_file() else []
    for line in notices(facts):
        if line not in before:
            leave(Notice(EventKind.ATTENTION, Severity.WARNING, line), place.at(STATE))
    lines = "".join(f"{line}\n" for line in notices(facts))
    Kept(str(ATTENTION), lines.encode(), mode=0o644).keep(place)
    folder = place.at(CARD_FOLDER)
    if not folder.is_dir():
        return False
    text = status_text(facts, at_s)
    path = folder / STATUS_FILE
    there = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    if _without_time(there) == _without_time(text):
        return False
    with writable(folder, place):
        replace_on_card(path, text.replace("\n", "\r\n").encode())
    return True


def light(well: bool, place: Place) -> None:
    """Let the board's light tell it too, if it has one that can."""
    for name in LIGHTS:
        trigger = place.at(f"/sys/class/leds/{name}/trigger")
        if trigger.is_file():
            with contextlib.suppress(OSError, SostenutoError):
                if place.live:
                    place.run("modprobe", "-a", f"ledtrig-{WELL}", f"ledtrig-{TO_BE_MENDED}")
                trigger.write_text(WELL if well else TO_BE_MENDED)


def _without_time(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith(WRITTEN)]


def look(place: Place) -> Facts:
    """The facts of this moment; a Wi-Fi that was given up is tried again."""
    try:
        start = msgspec.json.decode(place.at(TROUBLES).read_bytes(), type=Start)
    except (OSError, msgspec.MsgspecError):
        start = Start(default_device_name())
    settings = settings_before(place)
    links = links_now() if place.live else None
    if start.ssid and links and wifi_trouble(start.ssid, links):
        try_wifi_again()
    service, says = _service() if place.live else ("", "")
    return Facts(
        start=start,
        links=links,
        microphones=microphones(place.at("/proc/asound"), place.at("/sys/class/sound")),
        mic=settings.get("mic"),
        midi=settings.get("midi_in") is not None,
        service=service,
        says=says,
        free_bytes=shutil.disk_usage(place.at(STATE)).free,
        clock=clock_quality(),
    )


def tell(place: Place) -> tuple[str, ...]:
    """Look, and tell; what is to be mended."""
    facts = look(place)
    light(not notices(facts), place)
    try:
        report(facts, place, time.time())
    except (OSError, SostenutoError) as error:
        return (*notices(facts), f"{STATUS_FILE} cannot be written on the card: {error}")
    return notices(facts)


def microphones(asound: Path, cards_folder: Path) -> tuple[str, ...]:
    """What ALSA can record from, by the names of the cards, in their order; of two of one name,
    each with its port of USB.

    Read from ``/proc/asound`` and ``/sys``: opening sound devices to look at them would disturb
    the ear.
    """
    try:
        cards = (asound / "cards").read_text(errors="replace")
        streams = (asound / "pcm").read_text(errors="replace")
    except OSError:
        return ()
    names = dict(re.findall(r"^ *(\d+) \[[^]]*\]: .*? - (.+)$", cards, flags=re.MULTILINE))
    heard = re.findall(r"^(\d+)-\d+:.*: capture \d+", streams, flags=re.MULTILINE)
    numbers = dict.fromkeys(str(int(number)) for number in heard)
    plain = {number: names[number].strip() for number in numbers if number in names}
    alone = Counter(plain.values())
    return tuple(
        name if alone[name] == 1 else with_port(name, cards_folder / f"card{number}")
        for number, name in plain.items()
    )


def _service() -> tuple[str, str]:
    command = ["systemctl", "show", SERVICE, "--property=ActiveState,StatusText"]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "", ""
    told = dict(line.partition("=")[::2] for line in ran.stdout.splitlines())
    return told.get("ActiveState", ""), told.get("StatusText", "")
