"""The options of `sostenuto-device selftest`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge.errors import UsageError

KnownAnswer = Annotated[
    bool,
    typer.Option(
        "--known-answer",
        help="Only hashes, and a known recording with every model: notes, piece, bar.",
    ),
]
ByEar = Annotated[
    bool,
    typer.Option(
        "--by-ear", help="Play middle C: says what to play, what was heard, and what to do next."
    ),
]
Seconds = Annotated[
    float, typer.Option("--seconds", min=1.0, help="With --by-ear: patience for each task.")
]
SettingsFile = Annotated[
    Path | None,
    typer.Option("--settings", metavar="FILE", help="Settings.  [default: those of the service]"),
]
Mic = Annotated[
    str | None,
    typer.Option("--mic", metavar="NAME", help="Microphone, by its name or a part of it."),
]
Broker = Annotated[
    str | None,
    typer.Option("--broker", metavar="URL", help="Broker.  [default: that of the settings]"),
]
NoMqtt = Annotated[bool, typer.Option("--no-mqtt", help="Leave the broker out, and tell nobody.")]
Models = Annotated[
    Path | None,
    typer.Option("--models", metavar="DIR", help="Note models.  [default: those in use]"),
]
Catalog = Annotated[
    Path | None,
    typer.Option("--catalog", metavar="DIR", help="Catalogue's packs.  [default: those in use]"),
]
Json = Annotated[bool, typer.Option("--json", help="Standard output is JSON and nothing else.")]


def selftest(
    known_answer: KnownAnswer = False,
    by_ear: ByEar = False,
    seconds: Seconds = 20.0,
    settings: SettingsFile = None,
    mic: Mic = None,
    broker: Broker = None,
    no_mqtt: NoMqtt = False,
    models: Models = None,
    catalog: Catalog = None,
    json: Json = False,
) -> None:
    """Look whether everything works, say what to do where it does not, and tell it over MQTT.

    Exit code 1 where something failed.
    """
    from device.selftest.command import Asked, run, run_by_ear

    if known_answer and by_ear:
        raise UsageError("--known-answer and --by-ear given; choose one")
    asked = Asked(settings, mic, broker, models, catalog, mqtt=not no_mqtt)
    if by_ear:
        raise typer.Exit(run_by_ear(asked, seconds, json=json))
    raise typer.Exit(run(asked, known_answer=known_answer, json=json))
