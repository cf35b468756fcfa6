"""Whom a listening piano deals with beside its broker: dashboards, Home Assistant, Prometheus.

Here the settings become what the live loop is given: the desk that takes commands, the file
that keeps "switched off", the log's tail for diagnostics, the guests of the connection.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from edge.board import board_name
from edge.commander import Commander, LogTail, Standing, recorded_in
from edge.full_test import FullTest
from edge.messages import COMMANDS
from edge.publish.address import BrokerAddress, shown
from edge.publish.commands import CommandDesk
from edge.publish.connection import Guest
from edge.publish.home_assistant import HomeAssistant
from edge.settings import Settings

STANDING_FILE = "listening.json"


@dataclass(frozen=True, slots=True)
class Household:
    """What a listener and its publisher are given.

    Attributes
    ----------
    guests : tuple of Guest
        For the publisher.
    commander : Commander
        For the listener.
    listening : bool
        Whether it begins switched on.
    """

    guests: tuple[Guest, ...]
    commander: Commander
    listening: bool


@contextmanager
def a_household(
    settings: Settings,
    device: str,
    software: str,
    broker: BrokerAddress | None,
    *,
    state: Path | None,
    record: Path | None,
    switch_on: bool = False,
) -> Iterator[Household]:
    """Everybody around the piano, for as long as it listens.

    Parameters
    ----------
    state : Path or None
        Folder that keeps whether it listens; None: begins switched on, whatever was said.
    record : Path or None
        Folder of the outbox whose record answers `history`.
    switch_on : bool
        Listen again, though a command switched it off.
    """
    desk = CommandDesk(device)
    guests: tuple[Guest, ...] = (desk,)
    if settings.home_assistant is not None:
        announce = settings.home_assistant
        guests += (HomeAssistant(device, software, board_name(), announce=announce),)
    standing = None if state is None else Standing(state / STANDING_FILE)
    if standing is not None and switch_on:
        standing.keep(True)
    tail = LogTail(secrets=_secrets(broker))
    full_test = FullTest(known_recording(settings))
    commander = Commander(
        desk,
        standing=standing,
        settings=scrubbed(settings),
        log_tail=tail,
        history=None if record is None else recorded_in(record),
        full_test=full_test,
        allowed=tuple(COMMANDS) if settings.commands is None else settings.commands,
    )
    ours = logging.getLogger("edge")
    level = ours.level
    ours.addHandler(tail)
    ours.setLevel(logging.INFO)  # the terminal goes on showing warnings only
    try:
        yield Household(guests, commander, standing is None or standing.listening())
    finally:
        full_test.close()
        ours.removeHandler(tail)
        ours.setLevel(level)


def known_recording(settings: Settings) -> tuple[str, ...]:
    """The program that hears it with what this piano hears with: beside the one that runs."""
    program = str(Path(sys.executable).with_name("sostenuto-device"))
    catalogue = () if settings.catalog is None else ("--catalog", settings.catalog)
    return (program, "selftest", "--known-answer", "--json", *catalogue)


def scrubbed(settings: Settings) -> dict[str, Any]:
    """The settings without any password; where the files with passwords lie may be told."""
    document: dict[str, Any] = msgspec.to_builtins(settings)
    return {key: shown(v) if isinstance(v, str) else v for key, v in document.items()}


def _secrets(broker: BrokerAddress | None) -> tuple[str, ...]:
    return (broker.password,) if broker is not None and broker.password else ()
