"""A mosquitto for one piano or for a house: accounts, rights, certificates, persistence.

A broker as it is installed lets everybody write everything. What is written here lets a piano
write its own topics and read its own commands, a dashboard read all pianos and command them, and
nobody else anything; the network sees TLS only. The rights are taken from the contract
(`edge.messages.TOPICS`), so that a topic cannot be forgotten.

It may be run again: accounts, passwords and the authority stay, pianos are added, and the
broker's own certificate is made anew.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import os
import pwd
import re
import secrets
import shutil
import socket
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from edge.errors import UsageError
from edge.messages import ROOT, TOPICS, check_device_name, full_topic
from edge.publish.home_assistant import PREFIX, STATUS, config_topic

TLS_PORT = 8883
WSS_PORT = 8884
LOCAL_PORT = 1883
LOCAL_WS_PORT = 9001

DASHBOARD = "dashboard"
HOME_ASSISTANT = "home-assistant"

OWN_PAGE = "~page"
"""Ends the account that a piano gives to whoever looks at its own dashboard; no piano's name can
have the sign, and no address has to escape it."""

AUTHORITY_DAYS = 3650
SERVER_DAYS = 1095

MESSAGE_BYTES = 512 * 1024
"""Twice the largest answer to a command; the broker hands on nothing that is larger."""

QUEUED_MESSAGES = 10_000
"""Kept for a dashboard with a session of its own that is away: an evening of one piano."""

HASH_ROUNDS = 101
"""What mosquitto_passwd 2.0 itself uses for PBKDF2-SHA512; these passwords are 144 random bits."""

MOSQUITTO_USER = "mosquitto"


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the broker listens: TLS and websockets under TLS for all, two for this machine."""

    tls: int = TLS_PORT
    wss: int = WSS_PORT
    local: int = LOCAL_PORT
    local_ws: int = LOCAL_WS_PORT


@dataclass(frozen=True, slots=True)
class BrokerPlan:
    """What is to be set up.

    Attributes
    ----------
    folder : Path
        Where all of it is written.
    devices : tuple of str
        Names of the pianos; one that runs the broker itself, or all of a house.
    hosts : tuple of str
        Names and addresses under which the broker is reached; the first is the usual one.
    house : bool
        False: the one piano's own machine is the broker, and talks to it without the network.
    ports : Ports
    """

    folder: Path
    devices: tuple[str, ...]
    hosts: tuple[str, ...]
    house: bool = False
    ports: Ports = Ports()

    def url(self, account: str) -> str:
        """The broker as ``account`` reaches it."""
        if not self.house and account in self.devices:
            return f"mqtt://{account}@127.0.0.1:{self.ports.local}"
        return f"mqtts://{account}@{self.hosts[0]}:{self.ports.tls}"

    def page_url(self, device: str, password: str) -> str:
        """The broker as whoever looks at the dashboard of ``device`` reaches it through that."""
        scheme, _, where = self.url(device).partition(f"{device}@")
        return f"{scheme}{device}{OWN_PAGE}:{password}@{where}"


def own_names() -> tuple[str, ...]:
    """Names of this machine: for the house by mDNS, by its host name, and for itself."""
    name = socket.gethostname().partition(".")[0] or "localhost"
    return (f"{name}.local", name, "localhost", "127.0.0.1")


def set_up(plan: BrokerPlan) -> BrokerPlan:
    """Write everything into ``plan.folder``; returns the plan with the pianos of earlier runs.

    Raises
    ------
    UsageError
        A name or a folder that cannot be used, or no OpenSSL on this machine.
    """
    _check(plan)
    folder = plan.folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for part in ("tls", "data", "accounts"):
            (folder / part).mkdir(exist_ok=True)
        passwords = _passwords(plan)
        plan = replace(plan, devices=_pianos(passwords))
        _certify(plan)
        _write(folder / "passwords", password_file(passwords), secret=True)
        _write(folder / "acl", acl(plan.devices), secret=True)
        _write(folder / "mosquitto.conf", configuration(plan))
        for account, password in passwords.items():
            _write_account(plan, account, password)
        for device in plan.devices:
            _write_settings(plan, device, passwords[device + OWN_PAGE])
        _give_to_mosquitto(folder)
    except OSError as error:
        raise UsageError(
            f"{error.filename or folder}: cannot be written ({error.strerror}); "
            "choose another folder, or run this as root"
        ) from error
    return plan


def _check(plan: BrokerPlan) -> None:
    for device in plan.devices:
        if check_device_name(device) in (DASHBOARD, HOME_ASSISTANT):
            raise UsageError(f"device name {device!r}: an account of that name is there already")
    if not plan.house and len(plan.devices) != 1:
        raise UsageError(f"{len(plan.devices)} pianos given; for more than one, or none, --house")
    for host in plan.hosts:
        if not re.fullmatch(r"[A-Za-z0-9.:_-]{1,253}", host):
            raise UsageError(f"host {host!r}: give a name or an address without port")
    if re.search(r"\s", str(plan.folder.resolve())):
        raise UsageError(f"folder {str(plan.folder)!r}: mosquitto takes no name with a space")


def _passwords(plan: BrokerPlan) -> dict[str, str]:
    """The password of every account, those of earlier runs as they were."""
    known: dict[str, str] = {}
    for file in sorted((plan.folder / "accounts").glob("*/password")):
        known[file.parent.name] = file.read_text(encoding="ascii").strip()
    pianos = _pianos((*known, *plan.devices))
    pages = (device + OWN_PAGE for device in pianos)
    for account in (*pianos, *pages, DASHBOARD, HOME_ASSISTANT):
        known.setdefault(account, secrets.token_urlsafe(18))
    return known


def _pianos(accounts: Iterable[str]) -> tuple[str, ...]:
    """Those of ``accounts`` that are pianos."""
    others = {DASHBOARD, HOME_ASSISTANT}
    return tuple(sorted({a for a in accounts if a not in others and not a.endswith(OWN_PAGE)}))


def password_file(passwords: dict[str, str]) -> str:
    """mosquitto's password file: ``user:$7$rounds$salt$hash``, PBKDF2 with SHA-512."""
    lines = []
    for account, password in passwords.items():
        salt = secrets.token_bytes(12)
        derived = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, HASH_ROUNDS)
        salt64, derived64 = (base64.b64encode(part).decode() for part in (salt, derived))
        lines.append(f"{account}:$7${HASH_ROUNDS}${salt64}${derived64}")
    return "\n".join(lines) + "\n"


def acl(devices: tuple[str, ...]) -> str:
    """Who may write and read what; what is not named here nobody may."""
    published = [name for name in TOPICS if name != "cmd/+"]
    lines = ["# A piano writes its own topics and reads its own commands."]
    for device in devices:
        lines += ["", f"user {device}"]
        lines += [f"topic write {full_topic(device, name)}" for name in published]
        lines += [f"topic read {full_topic(device, 'cmd/+')}"]
        lines += [f"topic write {config_topic(device)}", f"topic read {STATUS}"]
    lines += ["", "# Whoever looks at a piano's own page reads that piano and commands it."]
    for device in devices:
        lines += ["", f"user {device}{OWN_PAGE}"]
        lines += [f"topic read {full_topic(device, name)}" for name in published]
        lines += [f"topic write {full_topic(device, 'cmd/+')}"]
    lines += ["", "# A dashboard reads every piano and commands it."]
    for account in (DASHBOARD, HOME_ASSISTANT):
        lines += ["", f"user {account}"]
        lines += [f"topic read {ROOT}/+/{name}" for name in published]
        lines += [f"topic write {ROOT}/+/cmd/+"]
        if account == HOME_ASSISTANT:
            lines += [f"topic read {PREFIX}/#", f"topic write {STATUS}"]
    return "\n".join(lines) + "\n"


def configuration(plan: BrokerPlan) -> str:
    """mosquitto.conf, for mosquitto 2.0."""
    folder = plan.folder.resolve()
    tls = [
        f"certfile {folder}/tls/server.crt",
        f"keyfile {folder}/tls/server.key",
        "tls_version tlsv1.2",
    ]
    lines = [
        "# Written by `sostenuto broker setup`, which may write it again.",
        "allow_anonymous false",
        f"password_file {folder}/passwords",
        f"acl_file {folder}/acl",
        "",
        "# What is retained, and what waits for a dashboard that is away, outlasts the broker.",
        "persistence true",
        f"persistence_location {folder}/data/",
        "autosave_interval 60",
        "persistent_client_expiration 14d",
        f"max_queued_messages {QUEUED_MESSAGES}",
        f"max_packet_size {MESSAGE_BYTES}",
        "",
        "log_dest stderr",
        *(f"log_type {kind}" for kind in ("error", "warning", "notice")),
        "",
        "# For all: MQTT and websockets, under TLS.",
        f"listener {plan.ports.tls}",
        *tls,
        "",
        f"listener {plan.ports.wss}",
        "protocol websockets",
        *tls,
    ]
    if not plan.house:
        lines += [
            "",
            "# For this machine alone: the piano itself, and what is served beside it.",
            f"listener {plan.ports.local} 127.0.0.1",
            "",
            f"listener {plan.ports.local_ws} 127.0.0.1",
            "protocol websockets",
            "socket_domain ipv4",
        ]
    return "\n".join(lines) + "\n"


def _write_account(plan: BrokerPlan, account: str, password: str) -> None:
    """What whoever has this account needs, in a folder that can be copied to it."""
    folder = plan.folder / "accounts" / account
    folder.mkdir(exist_ok=True)
    _write(folder / "password", password + "\n", secret=True)
    shutil.copyfile(plan.folder / "tls" / "ca.crt", folder / "ca.crt")


def _write_settings(plan: BrokerPlan, device: str, page_password: str) -> None:
    """The settings of one piano; the password in them is told to whoever may look at its page."""
    folder = plan.folder.resolve() / "accounts" / device
    lines = _settings(plan, device, folder, plan.page_url(device, page_password))
    _write(folder / "sostenuto.toml", "".join(lines), secret=True)


def _settings(plan: BrokerPlan, account: str, folder: Path, page_url: str) -> Iterator[str]:
    """Their lines."""

    def line(key: str, value: str) -> str:
        return f"{key} = {msgspec.json.encode(value).decode()}\n"

    url = plan.url(account)
    yield "# For `sostenuto listen --settings`; change the paths where you copy this folder to.\n"
    yield line("device", account)
    yield line("broker", url)
    yield line("broker_password_file", str(folder / "password"))
    if url.startswith("mqtts"):
        yield line("broker_ca", str(folder / "ca.crt"))
    yield line("dashboard_broker", page_url)
    yield "wait_for_broker = true\n"


def _write(path: Path, text: str, *, secret: bool = False) -> None:
    """Write ``path`` whole or not at all; what is secret is never readable by others."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if secret else 0o644)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    fresh.replace(path)


def _give_to_mosquitto(folder: Path) -> None:
    """As root, let mosquitto's own user read what it must, and write what it keeps."""
    if os.geteuid() != 0:
        return
    try:
        group = pwd.getpwnam(MOSQUITTO_USER).pw_gid
        user = pwd.getpwnam(MOSQUITTO_USER).pw_uid
    except KeyError:
        return
    for name in ("passwords", "acl", "tls/server.key"):
        os.chown(folder / name, 0, group)
        (folder / name).chmod(0o640)
    for path in (folder / "data", *(folder / "data").iterdir()):
        os.chown(path, user, group)


def _certify(plan: BrokerPlan) -> None:
    """The authority, once; the broker's certificate, at every run."""
    tls = plan.folder.resolve() / "tls"
    authority, authority_key = tls / "ca.crt", tls / "ca.key"
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    if not authority_key.exists() or not authority.exists():
        _openssl(
            *("req", "-x509", *curve, "-sha256", "-days", str(AUTHORITY_DAYS)),
            *("-subj", "/CN=Sostenuto broker authority"),
            *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),
            *("-keyout", str(authority_key), "-out", str(authority)),
        )
    request, extensions = tls / ".server.csr", tls / ".server.ext"
    names = ",".join(_alternative_name(host) for host in dict.fromkeys(plan.hosts))
    extensions.write_text(
        f"subjectAltName={names}\nextendedKeyUsage=serverAuth\nbasicConstraints=CA:FALSE\n"
    )
    _openssl(
        *("req", *curve, "-sha256", "-subj", f"/CN={plan.hosts[0][:64]}"),
        *("-keyout", str(tls / "server.key"), "-out", str(request)),
    )
    _openssl(
        *("x509", "-req", "-sha256", "-days", str(SERVER_DAYS), "-in", str(request)),
        *("-CA", str(authority), "-CAkey", str(authority_key)),
        *("-set_serial", str(secrets.randbits(127) | 1), "-extfile", str(extensions)),
        *("-out", str(tls / "server.crt")),
    )
    request.unlink()
    extensions.unlink()


def _alternative_name(host: str) -> str:
    try:
        return f"IP:{ipaddress.ip_address(host)}"
    except ValueError:
        return f"DNS:{host}"


def _openssl(*arguments: str) -> None:
    """Run OpenSSL's program; keys that it writes are for their owner alone."""
    program = shutil.which("openssl")
    if program is None:
        raise UsageError("certificates need OpenSSL's program: apt-get install openssl")
    before = os.umask(0o077)
    try:
        ran = subprocess.run(
            [program, *arguments], capture_output=True, text=True, errors="replace", check=False
        )
    finally:
        os.umask(before)
    if ran.returncode != 0:
        last = (ran.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UsageError(f"openssl {arguments[0]} fails: {last}")
    for name in ("ca.crt", "server.crt"):
        for argument in arguments:
            if argument.endswith(f"/{name}") and Path(argument).exists():
                Path(argument).chmod(0o644)
