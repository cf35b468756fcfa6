"""The device's small web server: the dashboard's files, where its broker is, the settings.

It is Python's own ``http.server`` on threads of its own, and never the one that listens. What
makes that fit for a house's network is here: files come from a table that is read once, so no path
can lead anywhere else; requests, bodies, connections and waiting are bounded; every answer says
what a browser may do with it (CSP); a request that changes something must come as JSON from this
very page; and a name that somebody else could own is not answered to, so that no foreign page can
pass itself off as this one (DNS rebinding).
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import logging
import re
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self
from urllib.parse import urlsplit

import msgspec

from edge.dashboard import bridge
from edge.dashboard.login import Doorkeeper, TooManyGuessesError
from edge.errors import SostenutoError, UsageError
from edge.publish.address import BrokerAddress

log = logging.getLogger(__name__)

STATIC = Path(__file__).parent / "static"
FRONT_DOOR = "index.html"
COOKIE = "sostenuto"

PATIENCE_S = 10.0
"""A browser that says nothing for so long is hung up on."""

END_S = 0.1
"""How long the end of the program may wait for the server to notice."""

MOST_CONNECTIONS = 96
MOST_BRIDGES = 16
MOST_BODY_BYTES = 16 * 1024

CONTENT_TYPES = MappingProxyType(
    {
        ".html": "text/html; charset=utf-8",
        ".css": "text/css; charset=utf-8",
        ".js": "text/javascript; charset=utf-8",
        ".svg": "image/svg+xml",
        ".webmanifest": "application/manifest+json",
    }
)

HOST = re.compile(r"[A-Za-z0-9.:_\[\]-]{1,255}")

OURS_ALONE = (".local", ".localhost", ".lan", ".home", ".internal", ".home.arpa")
"""Endings of names that nobody can register on the internet (RFC 6761, 6762, 8375)."""

_SAME_FOR_ALL = (
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Permissions-Policy", "camera=(), geolocation=(), microphone=()"),
)


@dataclass(frozen=True, slots=True)
class Piano:
    """Whose dashboard it is.

    Attributes
    ----------
    device : str
        Its name in the topics.
    broker : BrokerAddress or None
        Where dashboards find it, with the account that they are given; None: nowhere. A
        websocket is opened by the browser itself, anything else is reached through `bridge`.
    private : bool
        Looking needs the password too.
    names : tuple of str
        Host names to answer to, beside addresses and names of the house's own network.
    """

    device: str
    broker: BrokerAddress | None
    private: bool = False
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What is said to one request: JSON, with a token to set or, when empty, to take away."""

    status: int
    document: Mapping[str, Any]
    token: str | None = None


Ask = Callable[[Any], Mapping[str, Any]]
"""Something behind the password: the document that was sent, the document to answer with."""


@dataclass(frozen=True, slots=True)
class _File:
    body: bytes
    content_type: str
    tag: str


def read_files(folder: Path = STATIC) -> dict[str, _File]:
    """All that is handed out, by its path in the address; the service worker with its mark."""
    paths = sorted(path for path in folder.iterdir() if path.suffix in CONTENT_TYPES)
    bodies = {path.name: path.read_bytes() for path in paths}
    everything = hashlib.sha256(b"".join(bodies.values())).hexdigest()[:16]
    bodies["sw.js"] = bodies["sw.js"].replace(b"@FINGERPRINT@", everything.encode())
    files = {
        f"/{name}": _File(
            body, CONTENT_TYPES[Path(name).suffix], f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        )
        for name, body in bodies.items()
    }
    files["/"] = files[f"/{FRONT_DOOR}"]
    return files


def may_be_called(host: str, names: tuple[str, ...]) -> bool:
    """Whether ``host`` of a request can only be this device: an address, or a name of ours."""
    name = host.lower().rstrip(".")
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(name.strip("[]"))
        return True
    return "." not in name or name.endswith(OURS_ALONE) or name in names


class DashboardServer:
    """Serves one piano's dashboard while the block lasts.

    Parameters
    ----------
    piano : Piano
    doorkeeper : Doorkeeper
        Who may see the settings.
    desk : mapping
        What answers behind the password, by ``METHOD path`` as in ``GET settings``.
    port : int
        0 takes a free one.
    host : str
        Where to listen; empty for everywhere.
    tls : ssl.SSLContext or None
        Without it browsers install no web app, except on this machine itself.

    Raises
    ------
    UsageError
        The port cannot be listened on.
    """

    def __init__(
        self,
        piano: Piano,
        doorkeeper: Doorkeeper,
        desk: Mapping[str, Ask],
        *,
        port: int,
        host: str = "",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.piano = piano
        self.doorkeeper = doorkeeper
        self.desk = desk
        self.files = read_files()
        self.secure = tls is not None
        self.bridges = threading.BoundedSemaphore(MOST_BRIDGES)
        try:
            self._server = _Server((host, port), _Handler, self, tls)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UsageError(
                f"dashboard port {port}: cannot be listened on ({reason}); choose another"
            ) from None
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(END_S,), name="dashboard", daemon=True
        )

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """Where a browser in the house finds it."""
        name = self._server.server_address[0]
        name = socket.gethostname() if name in ("", "0.0.0.0", "::") else str(name)
        return f"{'https' if self.secure else 'http'}://{name}:{self.port}/"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def where(self, host: str) -> dict[str, Any]:
        """What a browser that came by ``host`` needs in order to find the broker."""
        broker = self.piano.broker
        answer: dict[str, Any] = {"device": self.piano.device, "url": None, "why": None}
        if broker is None:
            return answer | {"why": "this piano publishes nowhere"}
        answer |= {"username": broker.username, "password": broker.password}
        if broker.path is None:
            return answer | {"url": "mqtt"}
        name = host if _is_loopback(broker.host) else broker.host
        return answer | {"url": f"{broker.scheme}://{name}:{broker.port}{broker.path}"}

    def policy(self, host: str, port: int | None) -> str:
        """The Content-Security-Policy: nothing from elsewhere, but the broker's websocket.

        Older browsers do not count their own server's websocket as ``'self'``.
        """
        there = urlsplit(str(self.where(host)["url"] or "mqtt"))
        scheme = "wss" if self.secure else "ws"
        ways = f"'self' {scheme}://{host}" + ("" if port is None else f":{port}")
        if there.netloc:
            ways += f" {there.scheme}://{there.netloc}"
        return (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
            f"manifest-src 'self'; worker-src 'self'; connect-src {ways}; "
            "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
        )


def _nobody_s_yet() -> Answer:
    error = "Nobody has chosen this piano’s password yet: do so on its settings’ page."
    return Answer(HTTPStatus.FORBIDDEN, {"error": error, "first_visit": True})


def _password(document: Any) -> str | None:
    password = document.get("password") if isinstance(document, dict) else None
    return password if isinstance(password, str) else None


def _is_loopback(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


class _Server(ThreadingHTTPServer):
    """Threads as `ThreadingHTTPServer` makes them, so many and no more."""

    daemon_threads = True
    request_queue_size = 16

    def __init__(
        self,
        address: tuple[str, int],
        handler: type[BaseHTTPRequestHandler],
        dashboard: DashboardServer,
        tls: ssl.SSLContext | None,
    ) -> None:
        self.dashboard = dashboard
        self._free = threading.BoundedSemaphore(MOST_CONNECTIONS)
        self._tls = tls
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            request.settimeout(PATIENCE_S)
            if self._tls is not None:  # here, so that a slow greeting keeps nobody else waiting
                request = self._tls.wrap_socket(request, server_side=True)
            super().process_request_thread(request, client_address)
        except OSError:
            self.shutdown_request(request)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("dashboard: a request of %s failed", client_address, exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "sostenuto"
    sys_version = ""
    timeout = PATIENCE_S
    server: _Server

    @property
    def _dashboard(self) -> DashboardServer:
        return self.server.dashboard

    @property
    def _called(self) -> tuple[str, int | None]:
        """The name by which the browser came, and the port if it said one.

        Raises
        ------
        ValueError
            No name at all.
        """
        called = self.headers.get("Host", "")
        if not HOST.fullmatch(called):
            raise ValueError(f"no host: {called!r}")
        parts = urlsplit(f"//{called}")
        host = parts.hostname or ""
        return (f"[{host}]" if ":" in host else host), parts.port

    def do_GET(self) -> None:
        self._serve("GET")

    def do_HEAD(self) -> None:
        self._serve("HEAD")

    def do_POST(self) -> None:
        self._serve("POST")

    def do_PUT(self) -> None:
        self._serve("PUT")

    def _serve(self, method: str) -> None:
        path = self.path.partition("?")[0]
        if method in ("GET", "HEAD") and self.headers.get("Content-Length", "0") != "0":
            self.close_connection = True  # a body that nobody reads must not pass for a request
        try:
            known = may_be_called(self._called[0], self._dashboard.piano.names)
        except ValueError:
            known = False
        if not known:
            self._refuse(HTTPStatus.MISDIRECTED_REQUEST, "call this device by its address")
        elif path.startswith("/api/"):
            self._answer(self._api(method, path.removeprefix("/api/")))
        elif method not in ("GET", "HEAD"):
            self._refuse(HTTPStatus.METHOD_NOT_ALLOWED, "only to be read")
        elif path == "/mqtt" and method == "GET":
            self._bridge()
        elif (file := self._dashboard.files.get(path)) is None:
            self._refuse(HTTPStatus.NOT_FOUND, "no such page")
        else:
            self._give(file, with_body=method == "GET")

    # -- files ------------------------------------------------------------------------------

    def _give(self, file: _File, *, with_body: bool) -> None:
        fresh = self.headers.get("If-None-Match") == file.tag
        self.send_response(HTTPStatus.NOT_MODIFIED if fresh else HTTPStatus.OK)
        self.send_header("ETag", file.tag)
        self.send_header("Cache-Control", "no-cache")
        self.send_header("Content-Security-Policy", self._dashboard.policy(*self._called))
        if not fresh:
            self.send_header("Content-Type", file.content_type)
            self.send_header("Content-Length", str(len(file.body)))
        self.end_headers()
        if with_body and not fresh:
            self.wfile.write(file.body)

    def end_headers(self) -> None:
        for name, value in _SAME_FOR_ALL:
            self.send_header(name, value)
        super().end_headers()

    # -- questions --------------------------------------------------------------------------

    def _api(self, method: str, name: str) -> Answer:
        question = f"{'GET' if method == 'HEAD' else method} {name}"
        try:
            document = self._document() if method in ("POST", "PUT") else None
        except UsageError as error:
            self.close_connection = True
            return Answer(HTTPStatus.BAD_REQUEST, {"error": str(error)})
        if question == "POST login":
            return self._login(document)
        if question == "POST first-password":
            return self._first_password(document)
        if question == "GET where" and not self._dashboard.piano.private:
            return Answer(HTTPStatus.OK, self._dashboard.where(self._called[0]))
        if not self._dashboard.doorkeeper.has_password:
            return _nobody_s_yet()
        if not self._let_in():
            return Answer(
                HTTPStatus.UNAUTHORIZED, {"error": "The settings are behind the device’s password."}
            )
        if question == "GET where":
            return Answer(HTTPStatus.OK, self._dashboard.where(self._called[0]))
        if question == "POST logout":
            self._dashboard.doorkeeper.logout(self._token())
            return Answer(HTTPStatus.OK, {}, token="")
        ask = self._dashboard.desk.get(question)
        if ask is None:
            return Answer(HTTPStatus.NOT_FOUND, {"error": f"no question {question}"})
        try:
            return Answer(HTTPStatus.OK, ask(document))
        except (SostenutoError, msgspec.ValidationError) as error:
            return Answer(HTTPStatus.UNPROCESSABLE_ENTITY, {"error": str(error)})

    def _document(self) -> Any:
        """The JSON that came, from this very page.

        Raises
        ------
        UsageError
            From elsewhere, too large, or no JSON.
        """
        if not self._from_this_page():
            raise UsageError("this comes from another page; open the dashboard itself")
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > MOST_BODY_BYTES:
            raise UsageError(f"a body of {length or 'no'} bytes; allowed are {MOST_BODY_BYTES}")
        if self.headers.get_content_type() != "application/json":
            raise UsageError("only application/json is taken")
        try:
            return msgspec.json.decode(self.rfile.read(int(length)))
        except msgspec.DecodeError as error:
            raise UsageError(f"no JSON: {error}") from None

    def _from_this_page(self) -> bool:
        """Whether the browser says that the page that asks is of this server.

        Every browser names the origin of whatever changes something; programs need not.
        """
        origin = self.headers.get("Origin")
        return origin is None or urlsplit(origin).netloc == self.headers.get("Host")

    def _first_password(self, document: Any) -> Answer:
        """A piano that nobody has is the first visitor's, who chooses its password."""
        password = _password(document)
        if password is None:
            return Answer(HTTPStatus.BAD_REQUEST, {"error": "a password is missing"})
        try:
            return Answer(HTTPStatus.OK, {}, token=self._dashboard.doorkeeper.choose(password))
        except UsageError as error:
            taken = self._dashboard.doorkeeper.has_password
            status = HTTPStatus.CONFLICT if taken else HTTPStatus.UNPROCESSABLE_ENTITY
            return Answer(status, {"error": str(error)})

    def _login(self, document: Any) -> Answer:
        password = _password(document)
        if password is None:
            return Answer(HTTPStatus.BAD_REQUEST, {"error": "a password is missing"})
        if not self._dashboard.doorkeeper.has_password:
            return _nobody_s_yet()
        try:
            token = self._dashboard.doorkeeper.login(password)
        except TooManyGuessesError as error:
            return Answer(HTTPStatus.TOO_MANY_REQUESTS, {"error": str(error)})
        if token is None:
            return Answer(HTTPStatus.UNAUTHORIZED, {"error": "That is not the device’s password."})
        return Answer(HTTPStatus.OK, {}, token=token)

    def _token(self) -> str:
        try:
            morsel = SimpleCookie(self.headers.get("Cookie", "")).get(COOKIE)
        except CookieError:
            return ""
        return "" if morsel is None else morsel.value

    def _let_in(self) -> bool:
        return self._dashboard.doorkeeper.knows(self._token())

    def _answer(self, answer: Answer) -> None:
        body = msgspec.json.encode(answer.document)
        self.send_response(answer.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Length", str(len(body)))
        if answer.token is not None:
            ends = "" if answer.token else "; Max-Age=0"
            secure = "; Secure" if self._dashboard.secure else ""
            cookie = f"{COOKIE}={answer.token}; Path=/; HttpOnly; SameSite=Strict{secure}{ends}"
            self.send_header("Set-Cookie", cookie)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _refuse(self, status: HTTPStatus, why: str) -> None:
        self.close_connection = True
        self._answer(Answer(status, {"error": why}))

    # -- the way to the broker ----------------------------------------------------------------

    def _bridge(self) -> None:
        broker = self._dashboard.piano.broker
        key = self.headers.get("Sec-WebSocket-Key", "")
        if broker is None or broker.path is not None:
            return self._refuse(HTTPStatus.NOT_FOUND, "no bridge here")
        if "websocket" not in self.headers.get("Upgrade", "").lower() or not key:
            return self._refuse(HTTPStatus.UPGRADE_REQUIRED, "this is a websocket")
        if not self._from_this_page():
            return self._refuse(HTTPStatus.FORBIDDEN, "this comes from another page")
        if self._dashboard.piano.private and not self._let_in():
            return self._refuse(HTTPStatus.UNAUTHORIZED, "looking needs the password")
        if not self._dashboard.bridges.acquire(blocking=False):
            return self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "too many look on already")
        try:
            try:
                there = bridge.reach(broker)
            except (OSError, SostenutoError) as error:
                return self._refuse(HTTPStatus.BAD_GATEWAY, f"broker {broker}: {error}")
            self.send_response(HTTPStatus.SWITCHING_PROTOCOLS)
            self.send_header("Upgrade", "websocket")
            self.send_header("Connection", "Upgrade")
            self.send_header("Sec-WebSocket-Accept", bridge.accept_key(key))
            self.send_header("Sec-WebSocket-Protocol", "mqtt")
            self.end_headers()
            self.wfile.flush()
            self.close_connection = True
            bridge.carry(self.connection, there)
        finally:
            self._dashboard.bridges.release()

    def log_message(self, *_: object) -> None:
        """Who looks is no news."""
