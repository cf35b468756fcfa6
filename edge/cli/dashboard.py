"""`sostenuto dashboard`: the page on which a piano is watched, beside `listen` or by itself."""

from __future__ import annotations

import getpass
import signal
import ssl
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from edge.cli import console
from edge.dashboard.keeping import Keeper
from edge.dashboard.login import PASSWORD_FILE, Doorkeeper, keep_password
from edge.dashboard.server import DashboardServer, Piano
from edge.errors import UsageError
from edge.messages import check_device_name
from edge.publish.address import BrokerAddress, Tls, default_device_name
from edge.publish.store import state_folder
from edge.settings import Settings, broker_address, read_settings

DEFAULT_PORT = 8480
DEFAULT_BROKER = "mqtt://localhost"


@dataclass(frozen=True, slots=True)
class DashboardOptions:
    """The command line of `dashboard`, as given."""

    port: int | None = None
    broker: str | None = None
    device: str | None = None
    settings: Path | None = None
    set_password: bool = False


def run(options: DashboardOptions) -> None:
    """Serve the dashboard until a signal comes, or keep its password."""
    settings = read_settings(options.settings) if options.settings else Settings()
    if options.set_password:
        path = password_file(settings)
        keep_password(_asked(), path)
        console.out(f"kept in {path}")
        return
    device = check_device_name(options.device or settings.device or default_device_name())
    broker = broker_address(options.broker or settings.broker or DEFAULT_BROKER, settings)
    port = options.port if options.port is not None else settings.dashboard_port or DEFAULT_PORT
    ended = threading.Event()
    with dashboard_at(port, settings, options.settings, device, broker):
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: ended.set())
        ended.wait()


@contextmanager
def dashboard_at(
    port: int | None,
    settings: Settings,
    settings_file: Path | None,
    device: str,
    broker: BrokerAddress | None,
    *,
    host: str = "",
) -> Iterator[DashboardServer | None]:
    """A dashboard on ``port`` while the block lasts; None for none.

    Parameters
    ----------
    settings_file : Path or None
        What the settings' page changes.
    broker : BrokerAddress or None
        The device's own; dashboards go there without its account unless the settings name
        another way.
    host : str
        Where to listen; empty for everywhere.
    """
    if port is None:
        yield None
        return
    piano = Piano(
        device,
        broker_for_dashboards(settings, broker),
        private=settings.dashboard_private,
        names=tuple(name.lower() for name in settings.dashboard_names),
    )
    doorkeeper = Doorkeeper(password_file(settings))
    desk = Keeper(device, settings_file).desk()
    with DashboardServer(
        piano, doorkeeper, desk, port=port, host=host, tls=_certificate(settings)
    ) as server:
        console.err(f"dashboard: {server.url}")
        yield server


def broker_for_dashboards(settings: Settings, broker: BrokerAddress | None) -> BrokerAddress | None:
    """The way that browsers are told: never with the device's own account or certificate."""
    if settings.dashboard_broker is None:
        if broker is None:
            return None
        tls = None if broker.tls is None else Tls(ca=broker.tls.ca)
        return replace(broker, username=None, password=None, tls=tls)
    address = BrokerAddress.parse(settings.dashboard_broker)
    if address.tls is None or settings.broker_ca is None:
        return address
    return broker_address(settings.dashboard_broker, Settings(broker_ca=settings.broker_ca))


def password_file(settings: Settings) -> Path:
    """Where the device's password is kept."""
    named = settings.dashboard_password_file
    return state_folder() / PASSWORD_FILE if named is None else Path(named)


def _certificate(settings: Settings) -> ssl.SSLContext | None:
    if settings.dashboard_certificate is None:
        if settings.dashboard_key is not None:
            raise UsageError("dashboard_key is given without dashboard_certificate; give both")
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.dashboard_certificate, settings.dashboard_key)
    except OSError as error:
        reason = error.strerror or "not what OpenSSL can read"
        raise UsageError(
            f"dashboard_certificate {settings.dashboard_certificate!r}: {reason}; give a "
            "certificate and its key, PEM, without a passphrase"
        ) from None
    return context


def _asked() -> str:
    """The password as it was typed twice, or the first line of what was piped in."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    password = getpass.getpass("password for the dashboard's settings: ")
    if getpass.getpass("the same again: ") != password:
        raise UsageError("the two are not the same; start again")
    return password
