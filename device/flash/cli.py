"""The options of `sostenuto-device flash`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_FOR_ONE = "Settings of the one card"


def flash(
    image: Annotated[
        Path | None, typer.Argument(metavar="IMAGE", help="What `image build` wrote: .img.xz …")
    ] = None,
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="CARD",
            help="The card, as in /dev/sdb; a file for machines that copy cards; with --batch "
            "files are named with {name}.",
        ),
    ] = None,
    show_list: Annotated[
        bool, typer.Option("--list", help="Show the cards that are plugged in.")
    ] = False,
    name: Annotated[
        str | None,
        typer.Option("--name", help="Name of the piano.", rich_help_panel=_FOR_ONE),
    ] = None,
    wifi: Annotated[
        str | None,
        typer.Option("--wifi", metavar="SSID", help="Wi-Fi's name.", rich_help_panel=_FOR_ONE),
    ] = None,
    wifi_password: Annotated[
        str | None,
        typer.Option(
            envvar="SOSTENUTO_WIFI_PASSWORD",
            help="Its password; the card holds the key that WPA2 makes of it.",
            rich_help_panel=_FOR_ONE,
        ),
    ] = None,
    wifi_security: Annotated[
        str | None,
        typer.Option(
            metavar="WORD",
            help="'wpa3' where a network knows nothing older, or 'open'.",
            rich_help_panel=_FOR_ONE,
        ),
    ] = None,
    country: Annotated[
        str | None,
        typer.Option(metavar="XX", help="Two letters, as in DE.", rich_help_panel=_FOR_ONE),
    ] = None,
    broker: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Broker, as in mqtts://user@host.  [default: the piano brings its own]",
            rich_help_panel=_FOR_ONE,
        ),
    ] = None,
    broker_password: Annotated[
        str | None,
        typer.Option(
            envvar="SOSTENUTO_BROKER_PASSWORD", help="Its password.", rich_help_panel=_FOR_ONE
        ),
    ] = None,
    broker_ca: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Certificate (PEM) of the authority that signed the broker's, where it is yours.",
            rich_help_panel=_FOR_ONE,
        ),
    ] = None,
    mic: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="A part of the microphone's name.  [default: the only one]",
            rich_help_panel=_FOR_ONE,
        ),
    ] = None,
    dashboard_password: Annotated[
        str | None,
        typer.Option(
            envvar="SOSTENUTO_DASHBOARD_PASSWORD",
            help="Password of the settings' page.  [default: the first visitor chooses it]",
            rich_help_panel=_FOR_ONE,
        ),
    ] = None,
    batch: Annotated[
        Path | None,
        typer.Option(
            "--batch",
            metavar="CSV",
            help="A card for each row; started again, it goes on. Columns, of which all but the "
            "first may be left out: name, ssid, wifi_password, country, security, broker, "
            "broker_user, broker_password, broker_ca, mic, dashboard_password.",
        ),
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option(metavar="CSV", help="Where is noted what is done.  [default: beside --batch]"),
    ] = None,
    again: Annotated[
        list[str] | None,
        typer.Option("--again", metavar="NAME", help="Write this piano's card once more."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Look at everything, write nothing.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do not ask: all on the card may be lost.")
    ] = False,
    yes_i_mean: Annotated[
        str | None,
        typer.Option(
            metavar="SERIAL", help="Serial number of a disk that is no card and shall be written."
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Write a card, give the piano its name and its networks, and read all of it back."""
    from device.flash.command import FlashOptions, run, terminal
    from device.flash.wishes import Wishes

    wishes = Wishes(
        name=name,
        ssid=wifi,
        wifi_password=wifi_password,
        country=country,
        security=wifi_security,
        broker=broker,
        broker_password=broker_password,
        broker_ca=broker_ca,
        mic=mic,
        dashboard_password=dashboard_password,
    )
    options = FlashOptions(
        image=image,
        target=target,
        wishes=wishes,
        batch=batch,
        record=record,
        again=tuple(again or ()),
        dry_run=dry_run,
        show_list=show_list,
        yes=yes,
        yes_i_mean=yes_i_mean,
        json=json,
    )
    run(options, terminal())
