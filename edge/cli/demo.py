"""`sostenuto demo`: the whole way, from a recording through the broker back to a screen.

A recording goes at the pace of real time through the same loop as a microphone would, to a
broker of its own; a subscriber of its own draws what arrives. Nothing is handed over inside
the program.
"""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from edge.audio.file import FileSource
from edge.cli import console
from edge.cli.app import software_version
from edge.cli.common import open_catalogue
from edge.cli.dashboard import dashboard_at
from edge.cli.listen import CONNECT_S, describe, ended_by_signals
from edge.display import (
    Picture,
    draw,
    figures_line,
    notes_line,
    piece_line,
    place_line,
    summary_lines,
)
from edge.errors import BrokerError
from edge.listen import Listener, ListenReport
from edge.messages import (
    Availability,
    NoteMessage,
    Notes,
    Piece,
    PieceState,
    decode,
    full_topic,
)
from edge.note import NoteState
from edge.publish.address import BrokerAddress
from edge.publish.embedded import LOOPBACK, EmbeddedBroker
from edge.publish.publisher import Publisher
from edge.recogniser import load_recogniser
from edge.resources import demo_recording
from edge.settings import Settings

DEVICE = "demo"

HEALTH_S = 2.0
"""More often than a piano in service says how it is: the demo lasts half a minute."""

FRAME_S = 1 / 12
"""The screen is drawn twelve times a second."""

LINE_S = 2.0
"""Without a terminal, a line comes so often."""

ARRIVE_S = 3.0
"""How long the last messages may be on their way when the recording is over."""

Arrived = tuple[str, msgspec.Struct | Availability, float]


def run(*, recording: Path | None, plain: bool, model: str | None, catalog: Path | None) -> None:
    """Show the demo."""
    on_screen = sys.stdout.isatty() and not plain
    source = FileSource(demo_recording() if recording is None else recording, paced=True)
    source.open()
    console.err("making the ear and the catalogue ready ...")
    catalogue = open_catalogue(catalog)
    recogniser = load_recogniser(model, catalogue, provisional=True)
    with (
        EmbeddedBroker() as broker,
        subscriber(broker.address) as arrived,
        dashboard_at(0, Settings(), None, DEVICE, broker.address, host=LOOPBACK),
    ):
        publisher = Publisher(broker.address, DEVICE)
        publisher.start(CONNECT_S)
        info = describe(software_version(), recogniser, catalogue)
        listener = Listener(source, recogniser, publisher, info, health_every_s=HEALTH_S)
        reports: list[ListenReport] = []
        hand = threading.Thread(target=lambda: reports.append(listener.run()), name="listener")
        with ended_by_signals(listener.stop):
            hand.start()
            picture = Picture()
            if on_screen:
                _show_screen(picture, arrived, hand)
            else:
                _show_lines(picture, arrived, hand)
            hand.join()
            if reports:
                _await_last(picture, arrived, reports[0])
    for line in (*summary_lines(picture), *_how_to_go_on()):
        console.out(line)
    if source.damage is not None:
        raise source.damage


@contextmanager
def subscriber(address: BrokerAddress) -> Iterator[queue.SimpleQueue[Arrived]]:
    """A client that subscribes to everything the demo's piano says.

    Raises
    ------
    BrokerError
        The broker does not take the subscription.
    """
    import paho.mqtt.client as paho
    from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

    arrived: queue.SimpleQueue[Arrived] = queue.SimpleQueue()
    subscribed = threading.Event()
    root = full_topic(DEVICE, "")

    def receive(_client: Any, _userdata: Any, message: Any) -> None:
        now_s = time.monotonic()
        name = message.topic.removeprefix(root)
        try:
            arrived.put((name, decode(name, message.payload), now_s))
        except (ValueError, msgspec.MsgspecError):
            return  # a topic or message of a later version; consumers pass over what is new

    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv311)
    client.on_message = receive
    client.on_connect = lambda c, *_: c.subscribe(full_topic(DEVICE, "#"), qos=1)
    client.on_subscribe = lambda *_: subscribed.set()
    client.connect(address.host, address.port)
    client.loop_start()
    try:
        if not subscribed.wait(CONNECT_S):
            raise BrokerError(f"broker {address}: takes no subscription; start the demo again")
        yield arrived
    finally:
        client.disconnect()
        client.loop_stop()


def _show_screen(
    picture: Picture, arrived: queue.SimpleQueue[Arrived], hand: threading.Thread
) -> None:
    from rich.console import Console
    from rich.live import Live

    screen = Console()
    ascii_only = screen.options.ascii_only

    def frame() -> Any:
        return draw(picture, _now_s(picture), screen.width, ascii_only=ascii_only)

    with Live(frame(), console=screen, auto_refresh=False) as live:
        while hand.is_alive():
            _take_all(picture, arrived, FRAME_S)
            live.update(frame(), refresh=True)


def _now_s(picture: Picture) -> float:
    """Second of the stream that it is now, by what the messages said of its beginning."""
    start_ms = picture.session.stream_start_mono_ms if picture.session else None
    return picture.heard_s if start_ms is None else time.monotonic() - start_ms / 1e3


def _take_all(
    picture: Picture, arrived: queue.SimpleQueue[Arrived], seconds: float
) -> list[Arrived]:
    """Give the picture all that arrives within ``seconds``."""
    until_s = time.monotonic() + seconds
    taken = []
    while (remaining_s := until_s - time.monotonic()) > 0:
        try:
            message = arrived.get(timeout=remaining_s)
        except queue.Empty:
            break
        picture.take(*message)
        taken.append(message)
    return taken


def _show_lines(
    picture: Picture, arrived: queue.SimpleQueue[Arrived], hand: threading.Thread
) -> None:
    while hand.is_alive():
        taken = [message for _, message, _ in _take_all(picture, arrived, LINE_S)]
        struck: list[NoteMessage] = [
            note
            for message in taken
            if isinstance(message, Notes)
            for note in message.notes
            if note.state is NoteState.CONFIRMED
        ]
        if any(isinstance(m, Piece) and m.state is not PieceState.SEARCHING for m in taken):
            console.out(f"piece: {piece_line(picture)}")
        if place := place_line(picture, _now_s(picture)):
            console.out(f"at: {place}")
        console.out(figures_line(picture))
        if struck:
            console.out(f"    {notes_line(struck)}")


def _await_last(
    picture: Picture, arrived: queue.SimpleQueue[Arrived], report: ListenReport
) -> None:
    """Take what is still on its way: the report says which message of each topic is the last."""
    until_s = time.monotonic() + ARRIVE_S
    while time.monotonic() < until_s:
        _take_all(picture, arrived, 0.05)
        if picture.last_seq == report.published.last_seq:
            return


def _how_to_go_on() -> list[str]:
    command = Path(sys.argv[0]) if Path(sys.argv[0]).name == "sostenuto" else Path("sostenuto")
    here = command
    if command.is_absolute() and command.is_relative_to(Path.cwd()):
        here = command.relative_to(Path.cwd())
    return [
        "",
        "To listen to a real piano: find the microphone, hear it, publish it:",
        f"  {here} devices",
        f"  {here} listen --mic NAME --no-mqtt",
        f"  {here} listen --mic NAME --broker mqtt://HOST",
    ]
