"""How the device is, for Prometheus: what `health` says, in its text format, on request.

Off unless a port is given, and then for this machine alone unless told otherwise: whoever can
reach it sees when somebody plays. The exposition format is version 0.0.4 of Prometheus'
documentation ("Text-based format").
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Self

from edge.errors import UsageError
from edge.messages import AudioState, Health, Percentiles

LOOPBACK = "127.0.0.1"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PATIENCE_S = 5.0
"""A scraper that asks for nothing is left after so long."""

_MILLI = 1e3


@dataclass(frozen=True, slots=True)
class _Metric:
    name: str
    kind: str
    meaning: str
    field: str


_PLAIN = (
    _Metric("uptime_seconds", "gauge", "Since the program started.", "uptime_s"),
    _Metric("overruns_total", "counter", "Times that sound was lost.", "overruns"),
    _Metric("dropped_samples_total", "counter", "Samples of sound lost.", "dropped_samples"),
    _Metric("level_dbfs", "gauge", "Level of the last second.", "level_dbfs"),
    _Metric("peak_dbfs", "gauge", "Highest sample of the last minute.", "peak_dbfs"),
    _Metric("queue_blocks", "gauge", "Blocks of sound that wait.", "queue_blocks"),
    _Metric("queue_messages", "gauge", "Messages that wait.", "queue_messages"),
    _Metric(
        "messages_dropped_total", "counter", "Messages that were not sent.", "messages_dropped"
    ),
    _Metric("reconnects_total", "counter", "Times the broker was found again.", "reconnects"),
    _Metric("commands_refused_total", "counter", "Commands not carried out.", "commands_refused"),
    _Metric("temperature_celsius", "gauge", "Of the processor.", "temperature_c"),
    _Metric("disk_free_bytes", "gauge", "Free on the disk.", "disk_free_bytes"),
    _Metric("resident_memory_bytes", "gauge", "Resident memory.", "memory_bytes"),
    _Metric("listening", "gauge", "1 while it listens, 0 when switched off.", "listening"),
)


def exposition(health: Health, cpu_s: float) -> str:
    """The device in Prometheus' text format; what is unknown is left out.

    ``cpu_s`` is the processor time of this process so far, in seconds.
    """
    return "".join(f"{line}\n" for line in _lines(health, cpu_s))


def _lines(health: Health, cpu_s: float) -> Iterator[str]:
    for metric in _PLAIN:
        value = getattr(health, metric.field)
        if value is not None:
            yield from _one(metric.name, metric.kind, metric.meaning, {"": float(value)})
    yield from _one("cpu_seconds_total", "counter", "Processor time used.", {"": cpu_s})
    states = {f'{{state="{state}"}}': float(state is health.audio) for state in AudioState}
    yield from _one("audio_state", "gauge", "1 for how the sound comes in now.", states)
    yield from _quantiles("inference_seconds", "Time to hear one block.", health.inference)
    yield from _quantiles(
        "end_to_end_seconds", "From a note's onset to its message.", health.end_to_end
    )
    if health.throttling is not None:
        held = {f'{{by="{kind}"}}': 1.0 for kind in health.throttling}
        yield from _one("throttled", "gauge", "1 for what holds the processor back now.", held)


def _quantiles(name: str, meaning: str, spread: Percentiles | None) -> Iterator[str]:
    if spread is not None:
        values = {
            '{quantile="0.5"}': spread.p50_ms / _MILLI,
            '{quantile="0.95"}': spread.p95_ms / _MILLI,
        }
        yield from _one(name, "gauge", f"{meaning} Of the last minute.", values)


def _one(name: str, kind: str, meaning: str, values: dict[str, float]) -> Iterator[str]:
    yield f"# HELP sostenuto_{name} {meaning}"
    yield f"# TYPE sostenuto_{name} {kind}"
    for labels, value in values.items():
        yield f"sostenuto_{name}{labels} {value:.10g}"


class MetricsServer:
    """Answers ``GET /metrics`` with the newest health; any thread may `show` it a newer one.

    Parameters
    ----------
    port : int
        0 takes a free one.
    host : str
        Where to listen.
    """

    def __init__(self, port: int, host: str = LOOPBACK) -> None:
        self._health: Health | None = None
        try:
            self._server = ThreadingHTTPServer((host, port), self._handler())
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UsageError(
                f"metrics port {port}: cannot be listened on ({reason}); choose another"
            ) from None
        self._server.daemon_threads = True
        self._thread = Thread(target=self._server.serve_forever, name="metrics", daemon=True)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    def show(self, health: Health) -> None:
        """This is how the device is now."""
        self._health = health

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        metrics = self

        class Handler(BaseHTTPRequestHandler):
            timeout = PATIENCE_S

            def do_GET(self) -> None:
                health = metrics._health
                if self.path.partition("?")[0] != "/metrics":
                    self._answer(404, b"/metrics is here\n")
                elif health is None:
                    self._answer(503, b"nothing was measured yet\n")
                else:
                    self._answer(200, exposition(health, time.process_time()).encode())

            def _answer(self, status: int, body: bytes) -> None:
                with contextlib.suppress(OSError):
                    self.send_response(status)
                    self.send_header("Content-Type", CONTENT_TYPE)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Who asks is no news."""

        return Handler
