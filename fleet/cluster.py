"""A cluster of NATS servers that pianos take for an MQTT broker.

A piano speaks MQTT 3.1.1 to any one node. NATS turns the slashes of a topic into dots
(``sostenuto/v1/parlour/session`` is the subject ``sostenuto.v1.parlour.session``), and lays what
is published at QoS 1 into the stream ``$MQTT_msgs``, below ``$MQTT.msgs.``, before it
acknowledges. That stream lies on as many nodes as `replicas` says, and most of them have to have
a message before it is in: of three nodes one may die at any moment.

`configuration` is the file of one node, `write_configurations` lays out those of all, to be
carried to their machines; `Cluster` runs them on this one, for trials.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import re
import secrets
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from edge.errors import BrokerError, UsageError
from edge.messages import ROOT, check_device_name
from edge.publish.address import BrokerAddress

ACCOUNT = "PIANOS"
PIANO, DASHBOARD, SESSIONS = "piano", "dashboard", "sessions"
"""Who comes in: every piano, whoever looks at them, the service that counts their sessions."""

_ROUTE = "route"

MQTT_STREAM = "$MQTT_msgs"
MQTT_SUBJECTS = "$MQTT.msgs."
"""What the gateway calls the stream of messages at QoS 1, and what it puts before a subject."""

MOST_REPLICAS = 3
"""Of three copies one may be lost, of five two; five cost every message two more disks."""

SUBJECT_ROOT = ROOT.replace("/", ".")
LARGEST_MESSAGE_BYTES = 512 * 1024
"""As in `edge.broker_setup`."""

_RIGHTS = {
    DASHBOARD: ([f"{SUBJECT_ROOT}.*.cmd.>"], [f"{SUBJECT_ROOT}.>", "$MQTT.sub.>"]),
    SESSIONS: (["$JS.API.>", f"$JS.ACK.{MQTT_STREAM}.>"], ["_INBOX.>"]),
}
"""Subjects that each may write and read, beside the pianos. ``$MQTT.sub.`` is where the gateway
hands on to a subscriber what was published at QoS 1."""

AUTHORITY, CERTIFICATE, KEY = "ca.crt", "node.crt", "node.key"
"""What each node finds in its folder of certificates."""

START_S = 60.0
PASSWORDS = "passwords.json"
HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True)
class Node:
    """One server: where it listens.

    Attributes
    ----------
    host : str
        Under which pianos and the other nodes reach it.
    mqtt_port, client_port, route_port, monitor_port : int
        For pianos, for services, for the other nodes, and for looking at it (this machine alone).
    """

    name: str
    host: str
    mqtt_port: int = 1883
    client_port: int = 4222
    route_port: int = 6222
    monitor_port: int = 8222


def nodes_of(hosts: Sequence[str]) -> tuple[Node, ...]:
    """One node on each host, at the usual ports.

    Raises
    ------
    UsageError
        Two nodes or an even number, which outlive no more than one fewer would; a host twice, or
        what is none.
    """
    if len(hosts) not in (1, 3, 5, 7):
        raise UsageError(
            f"{len(hosts)} hosts given: allowed are 1, 3, 5 or 7, because more than half of the "
            "nodes must live; give another --host, or one fewer"
        )
    if len(set(hosts)) != len(hosts):
        raise UsageError(f"hosts {', '.join(hosts)}: one is given twice; one node a machine")
    for host in hosts:
        if not HOST.fullmatch(host):
            raise UsageError(f"host {host!r}: give a name or an IPv4 address")
    return tuple(Node(f"node{number}", host) for number, host in enumerate(hosts, 1))


def replicas(nodes: Sequence[Node]) -> int:
    """How many nodes a message lies on."""
    return min(len(nodes), MOST_REPLICAS)


def passwords_in(folder: Path, devices: Sequence[str] = ()) -> dict[str, str]:
    """One for each of those who come in, and one that the nodes have among themselves.

    Those that an earlier `write_configurations` left in ``folder`` stay, those of its pianos too.
    Where no device ever was named, all pianos have one account.

    Raises
    ------
    UsageError
        A device's name that an account here has, or in which there is a dot.
    """
    for device in devices:
        if check_device_name(device) in (PIANO, DASHBOARD, SESSIONS, _ROUTE) or "." in device:
            raise UsageError(
                f"device {device!r}: allowed are names without a dot, beside those of the accounts "
                f"{PIANO}, {DASHBOARD}, {SESSIONS} and {_ROUTE}; give it another"
            )
    everybody = (*devices, PIANO, DASHBOARD, SESSIONS, _ROUTE)
    fresh = {who: secrets.token_urlsafe(24) for who in everybody}
    try:
        return fresh | msgspec.json.decode((folder / PASSWORDS).read_text(), type=dict[str, str])
    except FileNotFoundError:
        return fresh
    except (ValueError, msgspec.MsgspecError) as error:
        raise UsageError(
            f"{folder / PASSWORDS}: {error}; delete it for new passwords, or put it right"
        ) from None


def rights(passwords: Mapping[str, str]) -> dict[str, tuple[list[str], list[str]]]:
    """What each account may write and read: each piano its own, or one account all of them."""

    def of_pianos(name: str) -> tuple[list[str], list[str]]:
        return [f"{SUBJECT_ROOT}.{name}.>"], [f"{SUBJECT_ROOT}.{name}.cmd.>", "$MQTT.sub.>"]

    devices = passwords.keys() - {PIANO, DASHBOARD, SESSIONS, _ROUTE}
    everyone = {PIANO: ([f"{SUBJECT_ROOT}.>"], of_pianos("*")[1])}
    return ({device: of_pianos(device) for device in sorted(devices)} or everyone) | _RIGHTS


def configuration(
    node: Node,
    nodes: Sequence[Node],
    passwords: Mapping[str, str],
    store: Path,
    certificates: Path | None = None,
) -> str:
    """What ``nats-server --config`` reads for ``node``.

    Messages lie below ``store``. With ``certificates``, a folder of that node with ``ca.crt``,
    ``node.crt`` and ``node.key``, everybody comes in by TLS, the other nodes by such a certificate.
    """
    tls = [] if certificates is None else _tls(certificates)
    here = node.host if _is_address(node.host) else "0.0.0.0"
    lines = [
        f"server_name: {node.name}",
        f'listen: "{here}:{node.client_port}"',
        f'http: "127.0.0.1:{node.monitor_port}"',
        f"max_payload: {LARGEST_MESSAGE_BYTES}",
        f"jetstream {{ store_dir: {json.dumps(str(store))} }}",
        *tls,
        "mqtt {",
        *tls,
        f'  listen: "{here}:{node.mqtt_port}"',
        f"  stream_replicas: {replicas(nodes)}",
        f"  consumer_replicas: {replicas(nodes)}",
        "}",
        "accounts {",
        f"  {ACCOUNT} {{",
        "    jetstream: enabled",
        "    users: [",
        *(
            f"      {{ user: {json.dumps(who)}, password: {json.dumps(passwords[who])},"
            f" permissions: {{ publish: {json.dumps(may_write)},"
            f" subscribe: {json.dumps(may_read)} }} }}"
            for who, (may_write, may_read) in rights(passwords).items()
        ),
        "    ]",
        "  }",
        "}",
    ]
    if len(nodes) > 1:
        routes = ", ".join(
            f'"nats-route://node:{passwords[_ROUTE]}@{other.host}:{other.route_port}"'
            for other in nodes
            if other is not node
        )
        lines += [
            "cluster {",
            *(line.replace("}", "verify: true }") for line in tls),
            "  name: pianos",
            f'  listen: "{here}:{node.route_port}"',
            f"  authorization {{ user: node, password: {json.dumps(passwords['route'])} }}",
            f"  routes: [{routes}]",
            "}",
        ]
    return "\n".join(lines) + "\n"


def _tls(folder: Path) -> list[str]:
    files = {"cert_file": CERTIFICATE, "key_file": KEY, "ca_file": AUTHORITY}
    named = ", ".join(f"{key}: {json.dumps(str(folder / name))}" for key, name in files.items())
    return [f"tls {{ {named}, }}"]


def _is_address(host: str) -> bool:
    try:
        return bool(ipaddress.ip_address(host))
    except ValueError:
        return False


def write_configurations(
    folder: Path,
    nodes: Sequence[Node],
    passwords: Mapping[str, str],
    store: Path | None = None,
    certificates: Path | None = None,
) -> list[Path]:
    """``folder/NODE.conf`` for each node and ``folder/passwords.json``, for their owner alone.

    Without ``store`` each node keeps its messages in a folder of its own below ``folder``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for node in nodes:
        messages = store or folder.resolve() / node.name
        text = configuration(node, nodes, passwords, messages, certificates)
        written.append(_write_private(folder / f"{node.name}.conf", text))
    _write_private(folder / PASSWORDS, json.dumps(dict(passwords), indent=2) + "\n")
    return written


def _write_private(path: Path, text: str) -> Path:
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(text)
    return path


def trial_nodes(count: int) -> tuple[Node, ...]:
    """Nodes on 127.0.0.1, 127.0.0.2 and so on, at free ports, the same on each."""
    with contextlib.ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(3 + count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        mqtt, client, route, *monitors = (int(probe.getsockname()[1]) for probe in probes)
    return tuple(
        Node(f"node{number}", f"127.0.0.{number}", mqtt, client, route, monitor)
        for number, monitor in enumerate(monitors, 1)
    )


class Cluster:
    """Nodes on this machine, that can be killed and started again."""

    def __init__(self, folder: Path, count: int) -> None:
        program = shutil.which("nats-server") or shutil.which("nats-server", path="/usr/sbin")
        if program is None:
            raise BrokerError("nats-server is not installed: apt-get install nats-server")
        self._program = program
        self._folder = folder
        self.nodes = trial_nodes(count)
        self.passwords = passwords_in(folder)
        self._files = write_configurations(folder, self.nodes, self.passwords)
        self._running: dict[int, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Cluster:
        try:
            for index in range(len(self.nodes)):
                self.start(index)
            self.wait_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for index in list(self._running):
            self.kill(index)

    def start(self, index: int) -> None:
        with (self._folder / f"node{index + 1}.log").open("ab") as log:
            command = [self._program, "--config", str(self._files[index])]
            self._running[index] = subprocess.Popen(command, stdout=log, stderr=log)

    def kill(self, index: int) -> None:
        """``kill -9``. The kernel lives on, and what was written with it: this is no power cut."""
        process = self._running.pop(index)
        process.kill()
        process.wait()

    def wait_ready(self) -> None:
        """Until the living nodes have a leader and its streams up to date.

        Raises
        ------
        BrokerError
            Not within `START_S`; with the last lines of the first node's log.
        """
        end_s = time.monotonic() + START_S
        while not all(self._is_healthy(index) for index in self._running):
            if time.monotonic() > end_s:
                said = (self._folder / "node1.log").read_text().splitlines()[-3:]
                raise BrokerError(f"no cluster after {START_S:.0f} s: {' | '.join(said)}")
            time.sleep(0.1)

    def _is_healthy(self, index: int) -> bool:
        try:
            return bool(self._ask(index, "healthz")["status"] == "ok")
        except OSError:
            return False

    def _ask(self, index: int, what: str) -> Any:
        url = f"http://127.0.0.1:{self.nodes[index].monitor_port}/{what}"
        with urllib.request.urlopen(url, timeout=1.0) as answer:
            return json.load(answer)

    def pids(self) -> tuple[int, ...]:
        """Of the living nodes."""
        return tuple(process.pid for process in self._running.values())

    def address(self, index: int, who: str = PIANO) -> BrokerAddress:
        """Where a piano comes in at one node, or who else speaks MQTT."""
        node = self.nodes[index]
        return BrokerAddress(
            node.host, node.mqtt_port, who, self.passwords[who], speaks_mqtt5=False
        )

    def leader(self) -> int:
        """Which node leads the stream of messages: the one whose death disturbs most."""
        names = [node.name for node in self.nodes]
        for index in self._running:
            for stream in self._streams(index):
                if leader := stream["cluster"].get("leader"):
                    return names.index(leader)
        raise BrokerError(f"no node leads {MQTT_STREAM}; wait until the cluster rests")

    def is_counted(self) -> bool:
        """Whether somebody waits for sessions: what nobody waits for is forgotten at once."""
        return any(
            stream.get("consumer_detail") for i in self._running for stream in self._streams(i)
        )

    def _streams(self, index: int) -> list[Any]:
        """The stream of messages as one node sees it, if it does."""
        accounts = self._ask(index, "jsz?consumers=1").get("account_details", [])
        streams = [stream for account in accounts for stream in account.get("stream_detail", [])]
        return [stream for stream in streams if stream["name"] == MQTT_STREAM]

    def servers(self) -> list[str]:
        """Where the service that counts comes in: every node."""
        login = f"{SESSIONS}:{self.passwords[SESSIONS]}"
        return [f"nats://{login}@{node.host}:{node.client_port}" for node in self.nodes]
