"""``sostenuto-fleet``: many pianos on one cluster, and what was played on all of them."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from edge.errors import SostenutoError
from edge.publish.address import BrokerAddress
from fleet.cluster import nodes_of, passwords_in, write_configurations
from fleet.load import Pianos, performance
from fleet.sessions import Totals, serve

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Many pianos on one cluster of NATS, and what was played on all of them.",
)

AsJson = Annotated[bool, typer.Option("--json", help="As JSON, for programs.")]
TotalsFile = Annotated[Path, typer.Argument(help="The file of totals (SQLite).")]


@app.command("cluster")
def cluster_command(
    folder: Annotated[Path, typer.Argument(help="Where the files go; made if it is not there.")],
    host: Annotated[
        list[str], typer.Option(help="A machine of the cluster, as the others reach it; 1, 3, 5.")
    ],
    store: Annotated[
        Path, typer.Option(help="Where a node keeps its messages, on its own disk.")
    ] = Path("/var/lib/nats"),
    piano: Annotated[
        list[str] | None,
        typer.Option(help="A piano with an account of its own.  [default: one account for all]"),
    ] = None,
    certificates: Annotated[
        Path | None,
        typer.Option(
            help="Folder on each node with ca.crt, node.crt and node.key: all come in by TLS."
        ),
    ] = None,
) -> None:
    """Write the configuration of each node, and the passwords; run again, these stay."""
    nodes, passwords = nodes_of(host), passwords_in(folder, piano or ())
    for path in write_configurations(folder, nodes, passwords, store, certificates):
        typer.echo(path)
    typer.echo(f"Passwords are in {folder / 'passwords.json'}; each node runs: nats-server -c FILE")


@app.command("sessions")
def sessions_command(
    file: TotalsFile,
    server: Annotated[
        list[str],
        typer.Option(
            envvar="SOSTENUTO_FLEET_SERVERS",
            help="A node, as nats://sessions:PASSWORD@HOST:4222; name them all.",
        ),
    ],
    copies: Annotated[
        int, typer.Option(help="On how many nodes a message lies.", min=1, max=5)
    ] = 3,
) -> None:
    """Count every session of every piano once, until stopped. Start it before the pianos."""
    with Totals(file) as totals:
        asyncio.run(_serve(server, totals, copies))


async def _serve(servers: list[str], totals: Totals, copies: int) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await serve(servers, totals, copies, stop, lambda line: typer.echo(line, err=True))


@app.command("totals")
def totals_command(file: TotalsFile, as_json: AsJson = False) -> None:
    """What was played on all pianos so far."""
    with Totals(file) as totals:
        _show(asdict(totals.read()), as_json)


@app.command("load")
def load_command(
    midi: Annotated[list[Path], typer.Argument(help="Recorded performances, MIDI files.")],
    broker: Annotated[
        list[str],
        typer.Option(
            envvar="SOSTENUTO_FLEET_BROKERS",
            help="Where pianos come in, as mqtt://piano:PASSWORD@HOST; in turn if several.",
        ),
    ],
    pianos: Annotated[int, typer.Option(help="How many.", min=1, max=5000)] = 12,
    seconds: Annotated[float, typer.Option(help="For how long.", min=1.0)] = 60.0,
    pace: Annotated[float, typer.Option(help="How many times too fast.", min=0.1)] = 1.0,
    as_json: AsJson = False,
) -> None:
    """Let simulated pianos play recorded performances, and say what went through."""
    scores = [performance(path) for path in midi]
    with Pianos([BrokerAddress.parse(text) for text in broker], scores, pianos, pace) as playing:
        flow = playing.play(seconds)
        played = playing.close(timeout_s=20.0)
    left = sum(each.report.undelivered for each in played)
    _show(asdict(flow) | {"undelivered": left}, as_json)


def _show(figures: dict[str, int | float], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(figures))
        return
    for name, value in figures.items():
        shown = f"{value:,.1f}" if isinstance(value, float) else f"{value:,}"
        typer.echo(f"{name.replace('_', ' '):20} {shown:>12}")


def main() -> None:
    """Run the command; an error that a person can mend is one line and an exit code."""
    try:
        app()
    except SostenutoError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)
