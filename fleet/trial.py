"""How far one node and three nodes go on this machine, and that a killed node loses nothing.

``python -m fleet.trial`` runs both and prints their figures; nodes, pianos and the service that
counts share this machine's cores, so what is worth carrying elsewhere is the processor time and
the bytes that a message costs the nodes, not the pace that was reached.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import typer

from edge.errors import BrokerError
from edge.publish.address import BrokerAddress
from edge.resources import demo_recording
from fleet.cluster import Cluster, replicas
from fleet.load import Flow, Pianos, Said, performance
from fleet.sessions import Totals

PATIENCE_S = 60.0
SETTLE_S = 3.0
KILL_PACE = 8.0
"""So that some hundred messages at QoS 1 a second are on their way when the node dies."""
EVERYTHING = "everything"
NAME = "pianos.test"
"""One name for all nodes; nobody may register below .test (RFC 6761)."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a load cost the nodes, all of them together.

    Attributes
    ----------
    what : str
        What the pianos published: everything, or sessions alone.
    idle_ms_per_s, cpu_ms_per_s : float
        Processor time a second while nobody played, and while everybody did.
    written_bytes_per_s : float
        Handed to the disk, as the kernel counts it.
    connection_kib : float
        Resident memory that one connected piano added, on whichever node it is.
    """

    nodes: int
    what: str
    pace: float
    flow: Flow
    idle_ms_per_s: float
    cpu_ms_per_s: float
    written_bytes_per_s: float
    connection_kib: float

    @property
    def kept_up(self) -> bool:
        """Whether the acknowledgements came within a second, and the generator was in time."""
        return self.flow.delay_p95_ms < 1e3 and self.flow.late_s < 1.0

    def __str__(self) -> str:
        flow = self.flow
        return (
            f"| {self.nodes} | {self.what} × {self.pace:g} | {flow.kept_per_s:,.0f} |"
            f" {flow.live_per_s:,.0f} | {flow.delay_p50_ms:,.1f} | {flow.delay_p95_ms:,.1f} |"
            f" {self.idle_ms_per_s:,.0f} | {self.cpu_ms_per_s:,.0f} |"
            f" {self.written_bytes_per_s / 1e3:,.0f} | {self.connection_kib:,.0f} |"
            f" {'yes' if self.kept_up else 'no'} |"
        )


HEADER = (
    "| nodes | pianos play | QoS 1 a s | QoS 0 a s | ack p50 ms | p95 ms | idle CPU ms/s |"
    " CPU ms/s | kB/s to disk | KiB a piano | kept up |\n"
    "| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |"
)


@dataclass(frozen=True, slots=True)
class Kill:
    """What became of sessions when a node and the service that counts were killed.

    Attributes
    ----------
    published, acknowledged, lost : int
        Messages on `session`: all, those the cluster acknowledged, those of them not in the totals.
    counted, repeats : int
        Those in the totals, and how many more times they came.
    longest_wait_s : float
        From publishing to the acknowledgement: how long the cluster took to find itself again.
    """

    pianos: int
    published: int
    acknowledged: int
    lost: int
    counted: int
    repeats: int
    longest_wait_s: float

    @property
    def good(self) -> bool:
        """All that was published was acknowledged and counted, once."""
        return 0 < self.published == self.acknowledged == self.counted and not self.lost


@contextlib.contextmanager
def one_name(addresses: Sequence[BrokerAddress]) -> Iterator[BrokerAddress]:
    """A name that leads to all of ``addresses`` in any order, as a name server would have it."""
    hosts = [address.host for address in addresses]
    ask = socket.getaddrinfo

    def answer(host: Any, *rest: Any, **more: Any) -> Any:
        if host != NAME:
            return ask(host, *rest, **more)
        return [
            found for each in random.sample(hosts, len(hosts)) for found in ask(each, *rest, **more)
        ]

    with mock.patch.object(socket, "getaddrinfo", answer):
        yield replace(addresses[0], host=NAME)


class Service:
    """``sostenuto-fleet sessions`` as a process of its own, that can be killed."""

    def __init__(self, cluster: Cluster, totals: Path) -> None:
        self._command = [sys.executable, "-m", "fleet", "sessions", str(totals)]
        self._command += ["--copies", str(replicas(cluster.nodes))]
        self._environment = os.environ | {"SOSTENUTO_FLEET_SERVERS": " ".join(cluster.servers())}
        self._log = totals.with_suffix(".log")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Service:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, env=self._environment, stdout=log, stderr=log
            )

    def restart(self) -> None:
        """Killed, and started again."""
        self.kill()
        self.start()

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None


def until(holds: Callable[[], bool], what: str) -> None:
    """Wait for a condition.

    Raises
    ------
    BrokerError
        Not within `PATIENCE_S`.
    """
    end_s = time.monotonic() + PATIENCE_S
    while not holds():
        if time.monotonic() > end_s:
            raise BrokerError(f"not seen in {PATIENCE_S:.0f} s: {what}")
        time.sleep(0.05)


def kill_trial(
    folder: Path, scores: Sequence[tuple[Said, ...]], pianos: int, seconds: float, pace: float
) -> Kill:
    """Pianos play for ``seconds``; a third of the way the node that leads is killed, then the
    service is killed and started again; at two thirds the node comes back."""
    with (
        Cluster(folder, 3) as cluster,
        one_name([cluster.address(index) for index in range(3)]) as name,
        Service(cluster, folder / "totals.sqlite") as service,
    ):
        until(cluster.is_counted, "the consumer of sessions")
        to_do: list[tuple[float, Callable[[], None]]] = []
        with Pianos([name], scores, pianos, pace) as playing:
            leader = cluster.leader()
            to_do = [
                (seconds / 3, lambda: cluster.kill(leader)),
                (seconds / 2, service.restart),
                (2 * seconds / 3, lambda: cluster.start(leader)),
            ]

            def meanwhile(gone_s: float) -> None:
                if to_do and gone_s >= to_do[0][0]:
                    to_do.pop(0)[1]()

            flow = playing.play(seconds, meanwhile)
            played = playing.close(PATIENCE_S)
        acknowledged = sum(len(each.acknowledged_sessions) for each in played)
        with Totals(folder / "totals.sqlite") as totals:
            with contextlib.suppress(BrokerError):  # then some are lost, and that is the finding
                until(lambda: totals.read().messages >= acknowledged, "all sessions counted")
            sums = totals.read()
            lost = 0
            for each in played:
                runs = totals.received(each.device, each.report.boot)
                counted = {seq for first, last in runs for seq in range(first, last + 1)}
                lost += len(each.acknowledged_sessions - counted)
    return Kill(
        pianos=pianos,
        published=sum(each.report.last_seq.get("session", -1) + 1 for each in played),
        acknowledged=acknowledged,
        lost=lost,
        counted=sums.messages,
        repeats=sums.repeats,
        longest_wait_s=round(flow.delay_longest_ms / 1e3, 2),
    )


def cost_trial(
    folder: Path,
    scores: Sequence[tuple[Said, ...]],
    nodes: int,
    pianos: int,
    seconds: float,
    pace: float,
    what: str = EVERYTHING,
) -> Cost:
    """What so many pianos cost so many nodes; their sessions are counted beside it."""
    if what != EVERYTHING:
        scores = [tuple(said for said in score if said.name == what) for score in scores]
    with Cluster(folder, nodes) as cluster, Service(cluster, folder / "totals.sqlite"):
        until(cluster.is_counted, "the consumer of sessions")
        addresses = [cluster.address(index) for index in range(nodes)]
        with Pianos(addresses[:1], scores, 1):  # the gateway makes what it makes at the first
            memory = _resident_bytes(cluster)
        with Pianos(addresses, scores, pianos, pace) as playing:
            time.sleep(SETTLE_S)
            memory = _resident_bytes(cluster) - memory
            idle_s = _cpu_s(cluster)
            time.sleep(SETTLE_S)
            idle_s = _cpu_s(cluster) - idle_s
            cpu_s, written = _cpu_s(cluster), _written_bytes(cluster)
            flow = playing.play(seconds)
            cpu_s, written = _cpu_s(cluster) - cpu_s, _written_bytes(cluster) - written
            playing.close(20.0)
    return Cost(
        nodes=nodes,
        what=what,
        pace=pace,
        flow=flow,
        idle_ms_per_s=1e3 * idle_s / SETTLE_S,
        cpu_ms_per_s=1e3 * cpu_s / flow.seconds,
        written_bytes_per_s=written / flow.seconds,
        connection_kib=memory / 1024 / pianos,
    )


def _cpu_s(cluster: Cluster) -> float:
    ticks = 0
    for pid in cluster.pids():
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _written_bytes(cluster: Cluster) -> int:
    return sum(
        int(line.split()[1])
        for pid in cluster.pids()
        for line in Path(f"/proc/{pid}/io").read_text().splitlines()
        if line.startswith("write_bytes")
    )


def _resident_bytes(cluster: Cluster) -> int:
    pages = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in cluster.pids()]
    return sum(pages) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("midi", nargs="*", type=Path, help="recorded performances; else the demo")
    parser.add_argument("--pianos", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--paces", type=float, nargs="+", default=[1.0, 2.0, 4.0])
    parser.add_argument("--session-paces", type=float, nargs="+", default=[16.0, 64.0, 128.0])
    parser.add_argument("--kill-seconds", type=float, default=45.0)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    scores = [performance(path) for path in options.midi or [demo_recording().with_suffix(".mid")]]
    typer.echo(HEADER)
    steps = [(EVERYTHING, pace) for pace in options.paces]
    steps += [("session", pace) for pace in options.session_paces]
    for nodes in (1, 3):
        for what, pace in steps:
            with tempfile.TemporaryDirectory() as folder:
                typer.echo(
                    cost_trial(
                        Path(folder), scores, nodes, options.pianos, options.seconds, pace, what
                    )
                )
    kept = [tuple(said for said in score if said.name != "notes") for score in scores]
    with tempfile.TemporaryDirectory() as folder:
        kill = kill_trial(Path(folder), kept, options.pianos, options.kill_seconds, KILL_PACE)
    typer.echo(" ".join(f"{name}={value}" for name, value in asdict(kill).items()))
    sys.exit(0 if kill.good else 1)


if __name__ == "__main__":
    main()
