"""The other side of every trial: a broker that can be killed, and a dashboard that counts."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from edge.publish.address import BrokerAddress

Key = tuple[str, str, int]
"""A message's own: boot, topic, number."""

PATIENCE_S = 120.0

AUTOSAVE_S = 2
"""How often the broker saves what it has; what it lost when killed is younger than that."""


class Broker:
    """A mosquitto that keeps what it has over its deaths, as far as it saved it in time.

    It listens at ``port``, or at one that nobody has.
    """

    def __init__(self, folder: Path, port: int = 0) -> None:
        program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
        if program is None:
            raise SystemExit("mosquitto is not installed: apt-get install mosquitto")
        self.port = port or free_port()
        settings = folder / "mosquitto.conf"
        lines = (
            f"listener {self.port} 127.0.0.1",
            "allow_anonymous true",
            "user root",
            "log_type none",
            "persistence true",
            f"persistence_location {folder}/",
            f"autosave_interval {AUTOSAVE_S}",
            "max_queued_messages 0",
        )
        settings.write_text("\n".join(lines) + "\n")
        self._command = [program, "-c", str(settings)]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> BrokerAddress:
        return BrokerAddress("127.0.0.1", self.port)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def runs(self) -> bool:
        return self._process is not None

    def start(self) -> None:
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(self._command, stdout=quiet, stderr=quiet)
        until(self._listens, "mosquitto to listen")

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        """End it in form: it saves what it has."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait()
        self._process = None

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def free_port() -> int:
    """A port of this machine that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Line:
    """A line to a broker that carries only so much a second, or swallows what it is given."""

    def __init__(self, to: BrokerAddress, bytes_per_s: float = 1e9) -> None:
        self._to = to
        self._bytes_per_s = bytes_per_s
        self._open = threading.Event()
        self._open.set()
        self._dead: list[threading.Event] = []
        self._over = threading.Event()
        self._server = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self.address = BrokerAddress("127.0.0.1", self._server.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._over.set()
        for each in (*self._dead, self._open):
            each.set()
        self._server.close()
        for sock in self._sockets:
            sock.close()

    def carry(self, bytes_per_s: float = 1e9) -> None:
        """From now on so much."""
        self._bytes_per_s = bytes_per_s

    def swallow(self) -> None:
        """From now on nothing arrives anywhere; the connections of now never recover."""
        self._open.clear()

    def go_on(self) -> None:
        """New connections are carried again."""
        self._dead.append(self._open)
        self._open = threading.Event()
        self._open.set()

    def _accept(self) -> None:
        while not self._over.is_set():
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            try:
                far = socket.create_connection((self._to.host, self._to.port))
            except OSError:
                near.close()
                continue
            self._sockets += [near, far]
            is_open = self._open
            for a, b in ((near, far), (far, near)):
                threading.Thread(target=self._carry, args=(a, b, is_open), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket, is_open: threading.Event) -> None:
        with suppress(OSError):
            while received := source.recv(1024):
                is_open.wait()
                time.sleep(len(received) / self._bytes_per_s)
                sink.sendall(received)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)


def until(holds: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> None:
    """Wait for a condition; give up with its name."""
    end_s = time.monotonic() + patience_s
    while not holds():
        if time.monotonic() > end_s:
            raise SystemExit(f"not seen in {patience_s:.0f} s: {what}")
        time.sleep(0.01)


def alike(payload: bytes) -> int:
    """What two copies of one message have in common: all but their being historical, and times."""
    document = json.loads(payload)
    for name in ("historical", "t", "clock"):
        document.pop(name)
    return hash(json.dumps(document, sort_keys=True))


class _Head(msgspec.Struct):
    boot: str
    seq: int
    t: str
    mono_ms: int
    historical: bool = False
    kind: str = ""
    text: str = ""


@dataclass
class Seen:
    """What came, told apart by boot, topic and number."""

    content: dict[Key, int] = field(default_factory=dict)
    repeats: int = 0
    changed: int = 0


class Dashboard:
    """A subscriber with a lasting session: what the broker keeps for it, it gets."""

    def __init__(self, address: BrokerAddress, name: str = "dashboard") -> None:
        self.seen = Seen()
        self.latest_t = ""
        self.latest_live_note_s = 0.0
        """How late the latest live note came, from a piano on this machine."""
        self._events: list[tuple[str, str]] = []
        self._lock = threading.Lock()
        self._ready = threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id=name, clean_session=False)
        self._client.on_connect = lambda client, *_: client.subscribe("sostenuto/#", qos=1)
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_message = self._take
        if address.username is not None:
            self._client.username_pw_set(address.username, address.password)
        self._client.reconnect_delay_set(1, 1)
        self._client.connect(address.host, address.port)
        self._client.loop_start()
        until(self._ready.is_set, "the dashboard's subscription")

    def _take(self, _client: Any, _userdata: Any, message: paho.MQTTMessage) -> None:
        if message.retain or message.topic.endswith("availability"):
            return
        head = msgspec.json.decode(message.payload, type=_Head)
        name = message.topic.split("/", 3)[3]
        key = (head.boot, name, head.seq)
        content = alike(bytes(message.payload))
        with self._lock:
            if not head.historical:
                self.latest_t = head.t
            if name == "notes":
                late_s = time.monotonic() - head.mono_ms / 1e3
                self.latest_live_note_s = max(self.latest_live_note_s, late_s)
            if name == "event" and key not in self.seen.content:
                self._events.append((head.kind, head.text))
            before = self.seen.content.get(key)
            if before is None:
                self.seen.content[key] = content
                return
            self.seen.repeats += 1
            self.seen.changed += before != content

    def events(self, kind: str) -> list[str]:
        """What was told on `event` of this kind."""
        with self._lock:
            return [text for each, text in self._events if each == kind]

    def missing(self, boot: str, name: str, last_seq: int) -> list[int]:
        """Numbers up to ``last_seq`` that never came."""
        with self._lock:
            content = self.seen.content
            return [seq for seq in range(last_seq + 1) if (boot, name, seq) not in content]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def resident_bytes() -> int:
    """Memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def report(figures: Any, leaving_out: tuple[str, ...] = ()) -> None:
    """Print a trial's figures, one a line."""
    for name, value in asdict(figures).items():
        if name in leaving_out:
            continue
        shown = f"{value:,.2f}" if isinstance(value, float) else f"{value:,}"
        print(f"{name.replace('_', ' '):32} {shown:>14}")
