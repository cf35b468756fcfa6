from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge.broker_setup import DASHBOARD, BrokerPlan, Ports, set_up
from edge.cli.dashboard import broker_for_dashboards, dashboard_at
from edge.dashboard import bridge
from edge.dashboard.login import Doorkeeper, TooManyGuessesError, keep_password
from edge.dashboard.server import DashboardServer, Piano, may_be_called, read_files
from edge.errors import UsageError
from edge.publish.address import BrokerAddress, Tls
from edge.settings import Settings, read_settings
from tests.certificates import Authority
from tests.conftest import free_port

PASSWORD = "wohltemperiert"
NOBODY = BrokerAddress("127.0.0.1", 9)


class Browser:
    """One that keeps its cookie, and asks one question at a time."""

    def __init__(self, server: DashboardServer) -> None:
        self.port = server.port
        self.cookie = ""
        self.headers: dict[str, str] = {}

    def ask(
        self, method: str, path: str, document: Any = None, **headers: str
    ) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        wanted = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.cookie:
            wanted["Cookie"] = self.cookie
        body = None
        if document is not None:
            body = json.dumps(document)
            wanted.setdefault("Content-Type", "application/json")
        connection.request(method, path, body, wanted)
        answer = connection.getresponse()
        self.headers = dict(answer.getheaders())
        if "Set-Cookie" in self.headers:
            self.cookie = self.headers["Set-Cookie"].partition(";")[0]
        read = answer.read()
        connection.close()
        return answer.status, read

    def login(self, password: str = PASSWORD) -> int:
        return self.ask("POST", "/api/login", {"password": password})[0]


Serve = Callable[..., Browser]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    started: list[DashboardServer] = []

    def dashboard(
        *, password: str | None = PASSWORD, piano: Piano | None = None, **more: Any
    ) -> Browser:
        path = tmp_path / "password.json"
        if password is not None:
            keep_password(password, path)
        desk = {"GET settings": lambda _: {"mic": "USB"}, "PUT settings": lambda asked: asked}
        server = DashboardServer(
            piano or Piano("parlour", NOBODY),
            more.get("doorkeeper") or Doorkeeper(path),
            desk,
            port=0,
            host="127.0.0.1",
        )
        started.append(server)
        server.__enter__()
        return Browser(server)

    yield dashboard
    for server in started:
        server.__exit__()


def test_the_page_and_every_file_that_it_names_are_served(serve: Serve) -> None:
    browser = serve()
    status, page = browser.ask("GET", "/")
    assert status == 200
    assert b"<title>Sostenuto</title>" in page
    for name in read_files():
        assert browser.ask("GET", name)[0] == 200, name
    worker = browser.ask("GET", "/sw.js")[1].decode()
    assert "@FINGERPRINT@" not in worker
    kept = set(worker.split("FILES = [")[1].split("]")[0].replace("'", "").split(","))
    kept = {f"/{name.strip().removeprefix('./')}" for name in kept if name.strip()}
    ours = set(read_files()) - {"/index.html", "/sw.js", "/icon-maskable.svg"}
    assert kept == ours


def test_an_unchanged_file_is_not_sent_again(serve: Serve) -> None:
    browser = serve()
    browser.ask("GET", "/app.js")
    tag = browser.headers["ETag"]
    assert browser.ask("GET", "/app.js", If_None_Match=tag) == (304, b"")


@pytest.mark.parametrize(
    "path",
    [
        "/../server.py",
        "/..%2fserver.py",
        "/static/../../settings.py",
        "//etc/passwd",
        "/%2e%2e/server.py",
        "/sw.js/",
        "/.git/config",
    ],
)
def test_no_path_leads_out_of_the_table_of_files(serve: Serve, path: str) -> None:
    assert serve().ask("GET", path)[0] == 404


def test_every_page_says_what_a_browser_may_do_with_it(serve: Serve) -> None:
    browser = serve()
    browser.ask("GET", "/")
    policy = browser.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert browser.headers["X-Content-Type-Options"] == "nosniff"
    assert browser.headers["Referrer-Policy"] == "no-referrer"


def test_the_page_may_reach_the_brokers_websocket_and_nothing_else(serve: Serve) -> None:
    there = BrokerAddress("localhost", 9001, path="/mqtt")
    browser = serve(piano=Piano("parlour", there))
    where = json.loads(browser.ask("GET", "/api/where", Host="piano.local:8480")[1])
    assert where["url"] == "ws://piano.local:9001/mqtt"
    browser.ask("GET", "/", Host="piano.local:8480")
    ways = browser.headers["Content-Security-Policy"].split("connect-src ")[1].split(";")[0]
    assert ways == "'self' ws://piano.local:8480 ws://piano.local:9001"


@pytest.mark.parametrize(
    ("host", "answered"),
    [
        ("127.0.0.1", True),
        ("[fe80::1]", True),
        ("piano", True),
        ("piano.local", True),
        ("PIANO.LOCAL.", True),
        ("piano.example.org", True),
        ("evil.example.com", False),
        ("127.0.0.1.example.com", False),
    ],
)
def test_only_names_that_are_surely_ours_are_answered_to(host: str, answered: bool) -> None:
    assert may_be_called(host, ("piano.example.org",)) is answered


def test_a_foreign_name_sees_nothing(serve: Serve) -> None:
    browser = serve()
    assert browser.ask("GET", "/", Host="evil.example.com")[0] == 421
    assert browser.ask("GET", "/api/where", Host="evil.example.com")[0] == 421
    assert browser.ask("GET", "/", Host="x'; script-src *")[0] == 421


def test_settings_are_behind_the_password_and_looking_is_not(serve: Serve) -> None:
    browser = serve()
    assert browser.ask("GET", "/api/where")[0] == 200
    assert browser.ask("GET", "/api/settings")[0] == 401
    assert browser.ask("PUT", "/api/settings", {"mic": "x"})[0] == 401
    assert browser.login("guessed it") == 401
    assert browser.ask("GET", "/api/settings")[0] == 401
    assert browser.login() == 200
    cookie = browser.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert json.loads(browser.ask("GET", "/api/settings")[1]) == {"mic": "USB"}
    assert browser.ask("POST", "/api/logout", {})[0] == 200
    assert browser.ask("GET", "/api/settings")[0] == 401


def test_looking_is_behind_it_too_where_the_owner_says_so(serve: Serve) -> None:
    browser = serve(piano=Piano("parlour", NOBODY, private=True))
    assert browser.ask("GET", "/api/where")[0] == 401
    upgrade = {"Upgrade": "websocket", "Sec_WebSocket_Key": "x"}
    assert browser.ask("GET", "/mqtt", **upgrade)[0] == 401
    assert browser.login() == 200
    assert browser.ask("GET", "/api/where")[0] == 200


def test_without_a_password_nobody_is_let_in(serve: Serve) -> None:
    browser = serve(password=None)
    assert browser.login("") == 403
    status, answer = browser.ask("GET", "/api/settings")
    assert status == 403
    assert json.loads(answer)["first_visit"] is True


def test_the_first_visitor_chooses_the_password_and_nobody_does_again(serve: Serve) -> None:
    first = serve(password=None)
    assert first.ask("POST", "/api/first-password", {"password": "short"})[0] == 422
    assert first.ask("POST", "/api/first-password", {})[0] == 400
    elsewhere = {"Origin": "http://evil.example.com"}
    chosen = {"password": PASSWORD}
    assert first.ask("POST", "/api/first-password", chosen, **elsewhere)[0] == 400
    assert first.ask("POST", "/api/first-password", chosen)[0] == 200
    assert first.ask("GET", "/api/settings")[0] == 200
    second = serve(password=None)
    assert second.ask("POST", "/api/first-password", {"password": "another one"})[0] == 409
    assert second.login("another one") == 401
    assert second.login() == 200


def test_of_two_first_visitors_at_once_one_has_the_piano(tmp_path: Path) -> None:
    doorkeeper = Doorkeeper(tmp_path / "password.json")

    def visit(password: str) -> bool:
        try:
            return bool(doorkeeper.choose(password))
        except UsageError:
            return False

    with ThreadPoolExecutor(8) as visitors:
        came = list(visitors.map(visit, [f"password {i}" for i in range(8)]))
    assert came.count(True) == 1
    assert doorkeeper.login(f"password {came.index(True)}") is not None


def test_another_page_changes_nothing(serve: Serve) -> None:
    browser = serve()
    assert browser.login() == 200
    for headers in (
        {"Origin": "http://evil.example.com"},
        {"Origin": "null"},
        {"Content_Type": "text/plain"},
        {"Content_Type": "application/x-www-form-urlencoded"},
    ):
        assert browser.ask("PUT", "/api/settings", {"mic": "x"}, **headers)[0] == 400, headers
    own = f"http://127.0.0.1:{browser.port}"
    assert browser.ask("PUT", "/api/settings", {"mic": "x"}, Origin=own)[0] == 200


def test_what_is_too_large_or_no_json_is_refused_unread(serve: Serve) -> None:
    browser = serve()
    assert browser.login() == 200
    assert browser.ask("PUT", "/api/settings", {"mic": "x" * 20_000})[0] == 400
    assert browser.ask("POST", "/api/login", {"password": 7})[0] == 400
    assert browser.ask("POST", "/api/login", ["password"])[0] == 400
    assert browser.ask("PUT", "/")[0] == 405
    assert browser.ask("DELETE", "/api/settings")[0] == 501


def test_a_browser_that_says_nothing_keeps_nobody_else_waiting(serve: Serve) -> None:
    browser = serve()
    silent = [socket.create_connection(("127.0.0.1", browser.port)) for _ in range(20)]
    assert browser.ask("GET", "/")[0] == 200
    for each in silent:
        each.close()


def test_guesses_are_slowed_down_and_a_right_password_waits_as_well(tmp_path: Path) -> None:
    now_s = [0.0]
    path = tmp_path / "password.json"
    keep_password(PASSWORD, path)
    keeper = Doorkeeper(path, lambda: now_s[0])
    looked_at = 0
    for _ in range(60):
        now_s[0] += 1.0
        with contextlib.suppress(TooManyGuessesError):
            keeper.login("wrong")
            looked_at += 1
    assert looked_at < 15
    with pytest.raises(TooManyGuessesError, match="too many wrong passwords: wait"):
        keeper.login(PASSWORD)
    now_s[0] += 61.0
    assert keeper.login(PASSWORD) is not None


def test_a_guess_too_many_is_told_so(serve: Serve) -> None:
    browser = serve()
    answers = [browser.login("wrong") for _ in range(7)]
    assert answers[:5] == [401] * 5
    assert 429 in answers[5:]


def test_a_login_ends_by_itself(tmp_path: Path) -> None:
    now_s = [0.0]
    path = tmp_path / "password.json"
    keep_password(PASSWORD, path)
    keeper = Doorkeeper(path, lambda: now_s[0])
    token = keeper.login(PASSWORD)
    assert token is not None
    assert keeper.knows(token)
    assert not keeper.knows(token + "x")
    assert not keeper.knows("")
    now_s[0] = 12 * 3600 + 1
    assert not keeper.knows(token)


def test_the_password_lies_nowhere_and_only_its_owner_reads_the_file(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "password.json"
    keep_password(PASSWORD, path)
    assert path.stat().st_mode & 0o077 == 0
    assert PASSWORD not in path.read_text()
    with pytest.raises(UsageError, match="allowed are 8 to 256"):
        keep_password("short", path)


def test_dashboards_are_never_given_the_devices_own_account() -> None:
    own = BrokerAddress("house", 8883, "parlour", "secret", tls=Tls(ca=None, certificate=Path("c")))
    theirs = broker_for_dashboards(Settings(), own)
    assert theirs == replace(own, username=None, password=None, tls=Tls())
    named = Settings(dashboard_broker="ws://look:s@house:9001")
    assert broker_for_dashboards(named, own) == BrokerAddress(
        "house", 9001, "look", "s", path="/mqtt"
    )


def test_under_tls_the_cookie_keeps_to_it(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    own = authority.sign("dashboard", host="127.0.0.1")
    settings = tmp_path / "piano.toml"
    settings.write_text(
        f'dashboard_certificate = "{own.certificate}"\ndashboard_key = "{own.key}"\n'
        f'dashboard_password_file = "{tmp_path / "password.json"}"\n'
    )
    keep_password(PASSWORD, tmp_path / "password.json")
    with dashboard_at(
        0, read_settings(settings), settings, "parlour", NOBODY, host="127.0.0.1"
    ) as server:
        assert server is not None
        assert server.url.startswith("https://")
        trust = ssl.create_default_context(cafile=str(authority.certificate))
        connection = http.client.HTTPSConnection(
            "127.0.0.1", server.port, timeout=10, context=trust
        )
        body = json.dumps({"password": PASSWORD})
        connection.request("POST", "/api/login", body, {"Content-Type": "application/json"})
        assert "; Secure" in (connection.getresponse().getheader("Set-Cookie") or "")
        connection.close()


def test_the_command_keeps_a_password_and_serves_until_it_is_told_to_end(
    tmp_path: Path, wait_until: Any
) -> None:
    program = str(Path(sys.executable).with_name("sostenuto"))
    kept = subprocess.run(
        [program, "dashboard", "--set-password"], input=b"short\n", capture_output=True, check=False
    )
    assert kept.returncode == 2
    assert b"allowed are 8 to 256" in kept.stderr
    port = free_port()
    command = [program, "dashboard", "--device", "parlour", "--port", str(port)]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as serving:

        def answers() -> bool:
            with contextlib.suppress(OSError):
                return urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).status == 200
            return False

        wait_until(answers, "the dashboard")
        serving.terminate()
        assert serving.wait(10) == 0


# -- the bridge ---------------------------------------------------------------------------------


def masked(opcode: int, payload: bytes, mask: bytes = b"\x01\x02\x03\x04") -> bytes:
    body = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
    length = (
        bytes([0x80 | len(payload)])
        if len(payload) < 126
        else b"\xfe" + len(payload).to_bytes(2, "big")
    )
    return bytes([0x80 | opcode]) + length + mask + body


def test_the_handshakes_answer_is_that_of_the_rfc() -> None:
    assert bridge.accept_key("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@pytest.mark.parametrize("step", [1, 3, 10_000])
def test_frames_are_read_however_the_network_cuts_them(step: int) -> None:
    payloads = [bytes(i % 251 for i in range(size)) for size in (0, 1, 125, 126, 5000)]
    stream = b"".join(masked(2, payload) for payload in payloads)
    reader = bridge.FrameReader()
    read = [f for at in range(0, len(stream), step) for f in reader.push(stream[at : at + step])]
    assert read == [(2, payload) for payload in payloads]


@pytest.mark.parametrize(("size", "head"), [(5, 2), (125, 2), (126, 4), (65535, 4), (65536, 10)])
def test_a_frame_to_the_browser_says_its_length(size: int, head: int) -> None:
    made = bridge.frame(2, b"x" * size)
    assert len(made) == head + size
    assert made[0] == 0x82


@pytest.mark.parametrize(
    "broken", [bridge.frame(2, b"unmasked"), b"\xf2\x80", b"\x82\xff" + b"\xff" * 8]
)
def test_what_breaks_the_rules_is_not_read(broken: bytes) -> None:
    with pytest.raises(bridge.WebsocketError):
        bridge.FrameReader().push(broken)


CONNECT = bytes.fromhex("100d00044d5154540402003c000161")


def websocket(browser: Browser, **headers: str) -> tuple[socket.socket, bytes]:
    sock = socket.create_connection(("127.0.0.1", browser.port), timeout=10)
    lines = {
        "Host": f"127.0.0.1:{browser.port}",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
        **headers,
    }
    asked = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    sock.sendall(f"GET /mqtt HTTP/1.1\r\n{asked}\r\n".encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += sock.recv(1024)
    return sock, answer


def test_mqtt_goes_through_the_device_to_a_broker_without_websockets(
    serve: Serve, mosquitto: Any
) -> None:
    browser = serve(piano=Piano("parlour", mosquitto.address))
    assert json.loads(browser.ask("GET", "/api/where")[1])["url"] == "mqtt"
    sock, answer = websocket(browser)
    assert answer.startswith(b"HTTP/1.1 101")
    assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in answer
    sock.sendall(masked(2, CONNECT[:5]) + masked(2, CONNECT[5:]))
    assert sock.recv(64) == bridge.frame(2, bytes.fromhex("20020000"))
    sock.sendall(masked(9, b"there?"))
    assert sock.recv(64) == bridge.frame(10, b"there?")
    mosquitto.stop()
    assert sock.recv(64)[:1] == b"\x88"
    sock.close()


def test_another_page_gets_no_bridge_and_a_broker_that_is_away_is_told(serve: Serve) -> None:
    browser = serve()
    sock, answer = websocket(browser, Origin="http://evil.example.com")
    assert answer.startswith(b"HTTP/1.1 403")
    sock.close()
    sock, answer = websocket(browser)
    assert answer.startswith(b"HTTP/1.1 502")
    sock.close()


def connect_packet(user: str, password: str) -> bytes:
    fields = [b"MQTT", b"\x04\xc2\x00\x3c", b"a", user.encode(), password.encode()]
    body = b"".join(
        each if i == 1 else len(each).to_bytes(2, "big") + each for i, each in enumerate(fields)
    )
    return bytes([0x10, len(body)]) + body


def test_the_account_for_dashboards_comes_in_by_the_device_under_tls(
    serve: Serve, wait_until: Any
) -> None:
    with tempfile.TemporaryDirectory() as made:  # mosquitto's own user may not look into pytest's
        Path(made).chmod(0o755)
        ports = Ports(free_port(), free_port(), free_port(), free_port())
        plan = set_up(BrokerPlan(Path(made) / "broker", ("parlour",), ("127.0.0.1",), True, ports))
        program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        process = subprocess.Popen([program, "-c", str(plan.folder / "mosquitto.conf")])
        try:
            account = plan.folder / "accounts" / DASHBOARD
            password = (account / "password").read_text().strip()
            settings = Settings(
                dashboard_broker=f"mqtts://{DASHBOARD}:{password}@127.0.0.1:{ports.tls}",
                broker_ca=str(account / "ca.crt"),
            )
            browser = serve(piano=Piano("parlour", broker_for_dashboards(settings, None)))
            wait_until(lambda: websocket(browser)[1].startswith(b"HTTP/1.1 101"), "the broker")
            where = json.loads(browser.ask("GET", "/api/where")[1])
            assert (where["url"], where["username"]) == ("mqtt", DASHBOARD)
            sock, _ = websocket(browser)
            sock.sendall(masked(2, connect_packet(where["username"], where["password"])))
            assert sock.recv(64) == bridge.frame(2, bytes.fromhex("20020000"))
            sock.close()
            sock, _ = websocket(browser)
            sock.sendall(masked(2, connect_packet(where["username"], "guessed")))
            told = sock.recv(64)  # the broker may have hung up by then
            assert told.startswith(bridge.frame(2, bytes.fromhex("20020005")))
            sock.close()
        finally:
            process.terminate()
            process.wait()
