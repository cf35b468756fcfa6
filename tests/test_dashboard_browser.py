"""The dashboard in a real browser, against a real mosquitto. Pictures lie in test-output/."""

from __future__ import annotations

import itertools
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from playwright.sync_api import expect, sync_playwright

from edge.dashboard.keeping import Keeper
from edge.dashboard.login import Doorkeeper, keep_password
from edge.dashboard.server import DashboardServer, Piano
from edge.errors import RESTART_EXIT
from edge.messages import (
    AudioState,
    Check,
    Envelope,
    EventMessage,
    Feedback,
    FeedbackKind,
    Hand,
    Health,
    NoteMessage,
    Notes,
    PedalMessage,
    Piece,
    PieceState,
    Position,
    Response,
    ResponseStatus,
    SelfTest,
    SelfTestResult,
    Verdict,
    encode,
    full_topic,
)
from edge.note import NoteState
from edge.publish.address import BrokerAddress
from edge.publish.clock import rfc3339
from edge.publish.embedded import EmbeddedBroker
from edge.resources import demo_recording
from edge.settings import read_settings
from tests.base_dependencies import ROOT
from tests.conftest import free_port

pytestmark = [pytest.mark.slow, pytest.mark.browser]

PICTURES = ROOT / "test-output" / "dashboard"
PASSWORD = "wohltemperiert"
PATIENCE_MS = 20_000
PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1280, "height": 860}
PAGES = ("now", "practice", "history", "piano", "settings")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.fail("chromium is not installed: apt-get install chromium")
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


class House:
    """A mosquitto with a websockets listener, which can be killed and started again."""

    def __init__(self, folder: Path, wait_until: Callable[..., None]) -> None:
        self.port, self.ws_port = free_port(), free_port()
        self._wait_until = wait_until
        self._settings = folder / "house.conf"
        self._settings.write_text(
            f"listener {self.port} 127.0.0.1\n"
            f"listener {self.ws_port} 127.0.0.1\nprotocol websockets\nsocket_domain ipv4\n"
            "allow_anonymous true\nlog_type none\n"
        )
        self.start()

    def start(self) -> None:
        program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        self._process = subprocess.Popen([program, "-c", str(self._settings)])
        self._wait_until(self._there, "mosquitto")

    def _there(self) -> bool:
        client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        try:
            client.connect("127.0.0.1", self.port)
        except OSError:
            return False
        client.disconnect()
        return True

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    @property
    def address(self) -> BrokerAddress:
        return BrokerAddress("127.0.0.1", self.port)

    @property
    def websocket(self) -> BrokerAddress:
        return BrokerAddress("127.0.0.1", self.ws_port, path="/mqtt")


class Player:
    """A piano that says what the test wants to see, in the contract's own types."""

    def __init__(self, broker: BrokerAddress, device: str = "parlour") -> None:
        self._device = device
        self._seq = itertools.count()
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        self._client.connect(broker.host, broker.port)
        self._client.loop_start()
        self._began_s = time.monotonic()
        self.say_word("online")
        self.say("health", Health, retain=True, audio=AudioState.RUNNING, uptime_s=1.0)

    @property
    def now_s(self) -> float:
        return time.monotonic() - self._began_s

    def say_word(self, word: str) -> None:
        topic = full_topic(self._device, "availability")
        self._client.publish(topic, word, qos=1, retain=True).wait_for_publish(10)

    def say(self, name: str, made: type[Envelope], *, retain: bool = False, **fields: Any) -> None:
        envelope = {
            "boot": "b",
            "seq": next(self._seq),
            "t": rfc3339(time.time()),
            "mono_ms": int(time.monotonic() * 1000),
        }
        message = made(**envelope | fields)
        topic = full_topic(self._device, name)
        self._client.publish(topic, encode(message), qos=1, retain=retain).wait_for_publish(10)

    def note(self, number: int, pitch: int, state: NoteState, onset_s: float = 0.0) -> None:
        note = NoteMessage(
            id=number,
            state=state,
            pitch_midi=pitch,
            onset_s=onset_s or self.now_s,
            offset_s=self.now_s if state is NoteState.ENDED else None,
            velocity=70,
            confidence=0.9,
        )
        self.say("notes", Notes, notes=(note,), heard_s=self.now_s)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def house(tmp_path: Path, wait_until: Callable[..., None]) -> Iterator[House]:
    made = House(tmp_path, wait_until)
    yield made
    made.kill()


@pytest.fixture
def player(house: House) -> Iterator[Player]:
    made = Player(house.address)
    yield made
    made.close()


@pytest.fixture
def settings_file(tmp_path: Path) -> Path:
    path = tmp_path / "sostenuto.toml"
    path.write_text("# mine\n")
    return path


@pytest.fixture
def dashboard(house: House, tmp_path: Path, settings_file: Path) -> Iterator[DashboardServer]:
    """Through the device's bridge."""
    keep_password(PASSWORD, tmp_path / "password.json")
    with DashboardServer(
        Piano("parlour", house.address),
        Doorkeeper(tmp_path / "password.json"),
        Keeper("parlour", settings_file).desk(),
        port=0,
        host="127.0.0.1",
    ) as server:
        yield server


Look = Callable[..., Any]


@pytest.fixture
def look(chromium: Any) -> Iterator[Look]:
    """Opens pages; afterwards none of them may have complained, nor asked elsewhere."""
    contexts: list[Any] = []
    complaints: list[str] = []
    asked: set[str] = set()

    def page_at(url: str, **more: Any) -> Any:
        more = {"viewport": DESKTOP, "color_scheme": "light", "locale": "en-GB"} | more
        contexts.append(chromium.new_context(**more))
        page = contexts[-1].new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "console",
            lambda said: (
                complaints.append(said.text)
                if said.type == "error" and "Content Security" in said.text
                else None
            ),
        )
        page.on("request", lambda request: asked.add(re.sub(r":\d+/.*", "", request.url)))
        page.goto(url)
        return page

    yield page_at
    for context in contexts:
        context.close()
    assert complaints == []
    assert asked <= {"http://127.0.0.1"}


def key(page: Any, pitch: int) -> Any:
    return page.locator(f'#keyboard [data-pitch="{pitch}"]')


def take_pictures(page: Any, name: str) -> None:
    """The page as it is, on a phone and on a desk, by day and by night."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    for form, size in (("desk", DESKTOP), ("phone", PHONE)):
        page.set_viewport_size(size)
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            page.wait_for_timeout(150)
            path = PICTURES / f"{name}-{form}-{scheme}.png"
            page.screenshot(path=path, full_page=form == "desk")
    page.set_viewport_size(DESKTOP)
    page.emulate_media(color_scheme="light")


def test_a_recording_is_heard_and_seen_all_the_way(
    house: House, look: Look, tmp_path: Path, wait_until: Callable[..., None]
) -> None:
    port = free_port()
    settings = tmp_path / "piano.toml"
    settings.write_text(f'dashboard_broker = "ws://127.0.0.1:{house.ws_port}"\n')
    command = [str(Path(sys.executable).with_name("sostenuto")), "listen"]
    command += ["--file", str(demo_recording()), "--device", "parlour", "--settings", str(settings)]
    command += ["--broker", f"mqtt://127.0.0.1:{house.port}", "--dashboard", str(port)]
    command += ["--outbox", str(tmp_path / "outbox")]
    with (tmp_path / "said").open("w") as said:
        listening = subprocess.Popen(command, stdout=said, stderr=said)
    try:
        wait_until(
            lambda: f":{port}/" in (tmp_path / "said").read_text(), "the dashboard's address"
        )
        page = look(f"http://127.0.0.1:{port}/")
        expect(page.locator("#ear-word")).to_have_text("Listening")
        expect(page.locator("#keyboard [data-lit]").first).to_be_visible()
        expect(page.locator("#piece-title")).to_contain_text("Für Elise")
        expect(page.locator("#bar")).to_have_text(re.compile(r"^[4-9]|1\d$"))
        expect(page.locator("#bars")).to_have_text(re.compile(r"of \d+"))
        assert ink(page) > 500
        take_pictures(page, "now")
        page.get_by_role("link", name="Practice").click()
        expect(page.locator('#practice-bars [data-bar="2"]')).to_be_visible()
        take_pictures(page, "practice")
        page.get_by_role("link", name="History").click()
        expect(page.locator("#history-list li")).to_have_count(1)
        take_pictures(page, "history")
        page.get_by_role("link", name="Piano", exact=True).click()
        expect(page.locator("#info")).to_contain_text("demo.flac")
        take_pictures(page, "piano")
        switch = page.get_by_role("switch", name="Listen")
        for word in ("Not listening", "Listening"):
            switch.click()
            expect(page.locator("#ear-word")).to_have_text(word)
            expect(switch).to_have_attribute("aria-checked", str(word == "Listening").lower())
        listening.terminate()
        assert listening.wait(20) == 0
        expect(page.locator("#ear-word")).to_have_text("Piano is away")
    finally:
        listening.kill()
        listening.wait()


def ink(page: Any) -> int:
    """How many pixels of the roll are those of notes."""
    return int(
        page.evaluate(
            """() => {
                const roll = document.getElementById('roll');
                const { data } = roll.getContext('2d').getImageData(0, 0, roll.width, roll.height);
                let count = 0;
                for (let i = 3; i < data.length; i += 4) count += data[i] > 100 && data[i] < 252;
                return count;
            }"""
        )
    )


def test_a_key_is_guessed_then_sure_then_let_go(
    dashboard: DashboardServer, player: Player, look: Look
) -> None:
    page = look(dashboard.url)
    expect(page.locator("#ear-word")).to_have_text("Listening")
    player.note(1, 60, NoteState.PROVISIONAL)
    expect(key(page, 60)).to_have_attribute("data-lit", "guess")
    player.note(1, 60, NoteState.CONFIRMED)
    expect(key(page, 60)).to_have_attribute("data-lit", "sure")
    expect(page.locator("#sounding")).to_have_text("C4")
    player.note(2, 63, NoteState.PROVISIONAL)
    expect(key(page, 63)).to_have_attribute("data-lit", "guess")
    player.note(2, 63, NoteState.WITHDRAWN)
    expect(key(page, 63)).not_to_have_attribute("data-lit", "guess")
    player.note(1, 60, NoteState.ENDED)
    expect(page.locator("#keyboard [data-lit]")).to_have_count(0)
    player.say("notes", Notes, pedal=(PedalMessage(t_s=1.0, down=True),))
    expect(page.locator("#pedal")).to_have_class("pedal down")


def test_the_demos_own_broker_serves_as_well(look: Look, tmp_path: Path) -> None:
    with EmbeddedBroker() as embedded:
        piano = Piano("parlour", embedded.address)
        keeper = Doorkeeper(tmp_path / "none")
        with DashboardServer(piano, keeper, {}, port=0, host="127.0.0.1") as server:
            player = Player(embedded.address)
            page = look(server.url)
            expect(page.locator("#ear-word")).to_have_text("Listening")
            player.note(1, 60, NoteState.CONFIRMED)
            expect(key(page, 60)).to_have_attribute("data-lit", "sure")
            player.close()


def piece(player: Player, **fields: Any) -> None:
    known = {"piece_id": "p", "work_id": "w", "title": "Minuet", "composer": "Petzold, Christian"}
    player.say("piece", Piece, retain=True, state=PieceState.MATCHED, bars=32, **known | fields)


def at(player: Player, bar: int, beat: float, **fields: Any) -> None:
    now_s = player.now_s
    fields = {"t_s": now_s, "until_s": now_s + 30, "beats_in_bar": 3.0} | fields
    player.say("position", Position, piece_id="p", bar=bar, beat=beat, confidence=0.9, **fields)


def test_bar_and_beat_go_on_in_tempo_until_a_note_is_due(
    dashboard: DashboardServer, player: Player, look: Look
) -> None:
    page = look(dashboard.url)
    expect(page.locator("#ear-word")).to_have_text("Listening")
    piece(player)
    player.note(1, 60, NoteState.CONFIRMED)
    expect(page.locator("#piece-composer")).to_have_text("Christian Petzold")
    at(player, 7, 3.5, tempo_bpm=60.0)
    expect(page.locator("#bar")).to_have_text("7")
    expect(page.locator("#bars")).to_have_text("of 32")
    expect(page.locator("#beats i")).to_have_count(3)
    expect(page.locator("#bar")).to_have_text("8")
    assert page.locator("#progress").get_attribute("aria-valuenow") == "8"
    at(player, 7, 3.5, tempo_bpm=60.0, until_s=player.now_s)
    expect(page.locator("#bar")).to_have_text("7")
    page.wait_for_timeout(800)
    expect(page.locator("#bar")).to_have_text("7")
    at(player, 7, 3.5, lost=True)
    expect(page.locator("#place")).to_be_hidden()


def fault(player: Player, kind: FeedbackKind, bar: int, **fields: Any) -> None:
    player.say("feedback", Feedback, kind=kind, piece_id="p", bar=bar, **fields)


def test_what_went_wrong_is_told_bar_by_bar(
    dashboard: DashboardServer, player: Player, look: Look
) -> None:
    page = look(f"{dashboard.url}#practice")
    expect(page.locator("#ear-word")).to_have_text("Listening")
    piece(player, title="<img src=x onerror=alert(1)>")
    expect(page.locator("#practice-piece")).to_contain_text("<img src=x")
    fault(player, FeedbackKind.BAR, 1, asked=4, right=4, tempo_bpm=96.0)
    fault(
        player,
        FeedbackKind.WRONG_NOTE,
        2,
        beat=3.0,
        hand=Hand.RIGHT,
        expected_pitch_midi=76,
        played_pitch_midi=74,
        t_s=1.0,
    )
    fault(player, FeedbackKind.LATE, 2, beat=1.0, expected_pitch_midi=60, delta_ms=131.0, t_s=1.0)
    fault(player, FeedbackKind.BAR, 2, asked=6, right=4)
    expect(page.get_by_role("button", name="Bar 1, 4 of 4 notes as written")).to_be_visible()
    page.get_by_role("button", name="Bar 2, 4 of 6 notes as written").click()
    expect(page.locator("#practice-list")).to_contain_text("D5 in place of E5, beat 3, right hand")
    expect(page.locator("#practice-list")).to_contain_text("C4 late by 131 ms, beat 1")
    take_pictures(page, "practice-faults")
    fault(player, FeedbackKind.BAR, 2, take=1, asked=6, right=6)
    expect(page.get_by_role("button", name="Bar 2, 6 of 6 notes as written")).to_be_visible()
    expect(page.locator("#practice-list")).to_have_text("Nothing went wrong here.")


def test_a_broker_that_is_killed_is_seen_and_found_again(
    house: House, player: Player, look: Look, tmp_path: Path
) -> None:
    piano = Piano("parlour", house.websocket)
    keeper = Doorkeeper(tmp_path / "none")
    with DashboardServer(piano, keeper, {}, port=0, host="127.0.0.1") as server:
        page = look(server.url)
        expect(page.locator("#ear-word")).to_have_text("Listening")
        house.kill()
        expect(page.locator("#ear-word")).to_have_text("No connection")
        expect(page.get_by_role("switch", name="Listen")).to_be_disabled()
        house.start()
        again = Player(house.address)
        expect(page.locator("#ear-word")).to_have_text("Listening")
        again.close()


def test_whether_it_listens_is_always_in_sight(
    dashboard: DashboardServer, player: Player, look: Look
) -> None:
    for size in (DESKTOP, PHONE, {"width": 320, "height": 568}):
        page = look(dashboard.url, viewport=size)
        for name in PAGES:
            page.goto(f"{dashboard.url}#{name}")
            expect(page.locator("#ear-word")).to_be_in_viewport()
            expect(page.locator("#ear-word")).to_have_text("Listening")
            wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert wide <= 0, f"{name} is wider than {size}"
    player.say("health", Health, retain=True, audio=AudioState.OFF, uptime_s=1.0, listening=False)
    expect(page.locator("#ear-word")).to_have_text("Not listening")
    expect(page.get_by_role("switch", name="Listen")).to_have_attribute("aria-checked", "false")
    player.say("health", Health, retain=True, audio=AudioState.LOST, uptime_s=1.0)
    expect(page.locator("#ear-word")).to_have_text("Microphone lost")


def test_settings_open_with_the_password_and_the_broker_is_tried_step_by_step(
    dashboard: DashboardServer, house: House, settings_file: Path, look: Look
) -> None:
    page = look(f"{dashboard.url}#settings")
    page.get_by_label("The device’s password").fill("guessed it")
    page.get_by_role("button", name="Open the settings").click()
    expect(page.locator("#settings-note")).to_have_text("That is not the device’s password.")
    page.get_by_label("The device’s password").fill(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_label("Where the piano is heard")).to_be_focused()
    assert page.evaluate("document.cookie") == ""
    page.get_by_label("Address").fill("mqtt://127.0.0.1:1")
    page.get_by_role("button", name="Test the connection").click()
    expect(page.locator('[data-stage="TCP"]')).to_contain_text("nobody listens there")
    page.get_by_label("Address").fill(f"mqtt://127.0.0.1:{house.port}")
    page.get_by_role("button", name="Test the connection").click()
    expect(page.locator('[data-stage="publish"]')).to_contain_text("acknowledged")
    for stage in ("DNS", "TCP", "login", "publish"):
        passed = page.locator(f'[data-stage="{stage}"]').get_by_role("img")
        expect(passed).to_have_attribute("aria-label", "passed")
    take_pictures(page, "settings")
    page.get_by_role("button", name="Keep").click()
    expect(page.locator("#settings-said")).to_contain_text("Kept.")
    expect(page.locator("#settings-said")).to_be_in_viewport()
    expect(page.get_by_role("button", name="Restart the piano’s ear")).to_be_focused()
    assert read_settings(settings_file).broker == f"mqtt://127.0.0.1:{house.port}"
    assert settings_file.read_text().startswith("# mine\n")
    page.get_by_role("button", name="Close the settings").click()
    expect(page.locator("#login")).to_be_visible()


def test_what_is_kept_holds_after_the_restart_that_the_page_offers(
    house: House, look: Look, tmp_path: Path, wait_until: Callable[..., None]
) -> None:
    port = free_port()
    settings = tmp_path / "piano.toml"
    keep_password(PASSWORD, tmp_path / "password.json")
    settings.write_text(
        f'broker = "mqtt://127.0.0.1:{house.port}"\n'
        f'dashboard_password_file = "{tmp_path}/password.json"\n'
    )
    listen = [str(Path(sys.executable).with_name("sostenuto")), "listen"]
    listen += ["--file", str(demo_recording()), "--device", "parlour", "--settings", str(settings)]
    listen += ["--dashboard", str(port), "--outbox", str(tmp_path / "outbox")]
    # As systemd would: exit code 75 begins it again.
    keeper = f"while {shlex.join(listen)}; [ $? -eq {RESTART_EXIT} ]; do :; done"
    with (tmp_path / "said").open("w") as said:
        kept_up = subprocess.Popen(
            ["sh", "-c", keeper], stdout=said, stderr=said, start_new_session=True
        )
    try:
        wait_until(
            lambda: f":{port}/" in (tmp_path / "said").read_text(), "the dashboard's address"
        )
        page = look(f"http://127.0.0.1:{port}/#settings")
        page.get_by_label("The device’s password").fill(PASSWORD)
        page.keyboard.press("Enter")
        expect(page.locator("#ear-word")).to_have_text("Listening")
        page.get_by_label("Address").fill(f"mqtt://anybody@127.0.0.1:{house.port}")
        page.get_by_role("button", name="Keep").click()
        page.get_by_role("button", name="Restart the piano’s ear").click()
        expect(page.locator("#settings-said")).to_have_text("It restarts …")
        expect(page.locator("#settings-note")).to_contain_text("It is back", timeout=60_000)
        expect(page.locator("#ear-word")).to_have_text("Listening")
        assert f"mqtt://anybody@127.0.0.1:{house.port}" in (tmp_path / "said").read_text()
    finally:
        os.killpg(kept_up.pid, signal.SIGKILL)
        kept_up.wait()


def test_looking_begins_with_the_password_where_the_owner_says_so(
    house: House, player: Player, look: Look, tmp_path: Path
) -> None:
    keep_password(PASSWORD, tmp_path / "password.json")
    piano = Piano("parlour", house.address, private=True)
    keeper = Doorkeeper(tmp_path / "password.json")
    desk = Keeper("parlour", None).desk()
    with DashboardServer(piano, keeper, desk, port=0, host="127.0.0.1") as server:
        page = look(server.url)
        expect(page.locator("#ear-word")).to_have_text("Not connected")
        page.get_by_label("The device’s password").fill(PASSWORD)
        page.keyboard.press("Enter")
        expect(page.locator("#ear-word")).to_have_text("Listening")


def test_it_is_an_app_that_opens_while_the_device_is_away(
    dashboard: DashboardServer, look: Look
) -> None:
    page = look(dashboard.url)
    manifest = page.request.get(f"{dashboard.url}manifest.webmanifest").json()
    assert manifest["display"] == "standalone"
    assert {icon["purpose"] for icon in manifest["icons"]} == {"any", "maskable"}
    page.evaluate("navigator.serviceWorker.ready.then(() => true)")
    page.context.set_offline(True)
    page.reload()
    expect(page.get_by_role("link", name="Practice")).to_be_visible()
    expect(page.locator("#ear-word")).to_have_text("No connection")
    assert page.evaluate("document.styleSheets[0].cssRules.length") > 50


# -- for everybody -------------------------------------------------------------------------------

UNNAMED = """() => [...document.querySelectorAll(
    'a, button, input, select, [role=img], [role=switch], [role=progressbar], section'
)].filter((each) => {
    if (each.type === 'hidden' || (each.hidden && each.matches('input'))) return false;
    const by = each.getAttribute('aria-labelledby');
    const label = each.labels?.[0]?.textContent ?? (by && document.getElementById(by)?.textContent);
    return !(each.getAttribute('aria-label') || label || each.textContent).trim();
}).map((each) => each.outerHTML.slice(0, 120))"""

PALETTE = (
    ("ink", "paper", 7.0),
    ("ink", "raised", 7.0),
    ("quiet", "paper", 4.5),
    ("quiet", "raised", 4.5),
    ("wrong", "raised", 4.5),
    ("wrong", "paper", 4.5),
    ("good", "paper", 4.5),
    ("accent", "raised", 4.5),
    ("on-accent", "accent", 4.5),
    ("edge", "paper", 3.0),
    ("edge", "raised", 3.0),
    ("note", "raised", 3.0),
    ("lit", "white-key", 3.0),
    ("lit", "black-key", 3.0),
)
"""Ink, ground, least contrast: WCAG 2.2, 1.4.3 for text, 1.4.11 for what means something."""


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_colours_are_told_apart_by_day_and_by_night(dashboard: DashboardServer, look: Look) -> None:
    page = look(dashboard.url)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        expect(page.locator("html")).to_have_attribute("data-theme", scheme)
        for ink_name, ground, least in PALETTE:
            colours = [
                page.evaluate(
                    "name => getComputedStyle(document.body).getPropertyValue('--' + name).trim()",
                    name,
                )
                for name in (ink_name, ground)
            ]
            assert contrast(*colours) >= least, (scheme, ink_name, ground, contrast(*colours))
    shown = page.locator("html")
    expect(shown).to_have_attribute("data-theme", "dark")
    page.get_by_role("button", name="Dark colours").click()
    expect(shown).to_have_attribute("data-theme", "light")
    page.reload()
    expect(shown).to_have_attribute("data-theme", "light")


def test_everything_has_a_name_a_place_and_a_heading(
    dashboard: DashboardServer, player: Player, look: Look
) -> None:
    page = look(dashboard.url)
    expect(page.locator("#ear-word")).to_have_text("Listening")
    assert page.evaluate(UNNAMED) == []
    assert page.locator("html").get_attribute("lang") == "en"
    for landmark in ("banner", "main", "navigation"):
        expect(page.get_by_role(landmark)).to_have_count(1)
    for name in PAGES:
        page.goto(f"{dashboard.url}#{name}")
        expect(page.get_by_role("heading", level=1)).to_have_count(1)
        expect(page.locator("nav [aria-current]")).to_have_attribute("href", f"#{name}")
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((each) => each.id)")
    assert len(ids) == len(set(ids))
    assert page.locator("[aria-live]").count() <= 2


def test_the_keyboard_alone_goes_everywhere_in_the_order_that_is_seen(
    dashboard: DashboardServer, player: Player, look: Look
) -> None:
    page = look(dashboard.url)
    expect(page.locator("#ear-word")).to_have_text("Listening")
    seen = []
    for _ in range(9):
        page.keyboard.press("Tab")
        seen.append(
            page.evaluate(
                "(document.activeElement.getAttribute('aria-label')"
                " ?? document.activeElement.textContent).trim()"
            )
        )
    assert seen[0] == "Skip to the music"
    assert seen[1:] == [
        "Sostenuto",
        "Now",
        "Practice",
        "History",
        "Piano",
        "Settings",
        "Listen",
        "Dark colours",
    ]
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineWidth")
    assert float(outline.removesuffix("px")) >= 2
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Settings")
    assert page.evaluate("document.activeElement.id") == "main"


def test_an_event_is_told_to_whoever_looks(
    dashboard: DashboardServer, player: Player, look: Look
) -> None:
    page = look(f"{dashboard.url}#piano")
    expect(page.locator("#ear-word")).to_have_text("Listening")
    player.say("event", EventMessage, kind="overrun", text="sound was lost", count=3)
    expect(page.locator("#events")).to_contain_text("sound was lost (3 times)")


def test_the_newest_self_test_is_a_table_and_a_new_one_is_a_click_away(
    dashboard: DashboardServer,
    player: Player,
    house: House,
    look: Look,
    wait_until: Callable[..., None],
) -> None:
    checks = (
        Check(name="known bar", passed=True, text="bar 9 of 9", verdict=Verdict.PASSED),
        Check(name="disk", passed=False, text="12 MB free", remedy="make room"),
        Check(name="power", passed=True, text="no sensor here", verdict=Verdict.NOT_TRIED),
    )
    page = look(f"{dashboard.url}#piano")
    expect(page.locator("#test-note")).to_have_text("None was made yet.")
    player.say("self_test", SelfTestResult, retain=True, passed=False, checks=checks)
    expect(page.locator("#test-note")).to_contain_text("Something has to be mended")
    rows = page.get_by_role("table", name="Self-test").get_by_role("row")
    expect(rows).to_have_text(
        [
            re.compile("passed.*known bar.*bar 9 of 9"),
            re.compile("failed.*disk.*12 MB free.*make room"),
            re.compile("not tried.*power.*no sensor here"),
        ]
    )
    page.reload()
    expect(rows).to_have_count(3)
    take_pictures(page, "self-test")

    asked: list[dict[str, Any]] = []
    device = paho.Client(paho.CallbackAPIVersion.VERSION2)
    device.on_message = lambda _c, _u, message: asked.append(json.loads(message.payload))
    device.connect(house.address.host, house.address.port)
    device.subscribe(full_topic("parlour", "cmd/self_test"))
    device.loop_start()
    page.get_by_role("button", name="Test now").click()
    expect(page.locator("#test-note")).to_contain_text("three minutes")
    expect(page.get_by_role("button", name="Test now")).to_be_disabled()
    wait_until(lambda: asked, "the command")
    (command,) = asked
    assert command["value"] == "full"
    player.say("self_test", SelfTestResult, retain=True, passed=True, checks=checks[:1])
    found = SelfTest(passed=True, checks=checks[:1])
    answer = {"status": ResponseStatus.OK, "transaction": command["transaction"], "data": found}
    player.say("rsp/self_test", Response, **answer)
    expect(page.locator("#test-note")).to_contain_text("All is well")
    expect(rows).to_have_count(1)
    expect(page.get_by_role("button", name="Test now")).to_be_enabled()
    device.disconnect()
    device.loop_stop()


def test_a_message_that_comes_twice_counts_once(
    dashboard: DashboardServer, player: Player, look: Look
) -> None:
    page = look(f"{dashboard.url}#piano")
    expect(page.locator("#ear-word")).to_have_text("Listening")
    for seq in (7, 7, 8):
        player.say("event", EventMessage, seq=seq, kind="overrun", text=f"number {seq}")
    expect(page.locator("#events li").first).to_contain_text("number 8")
    expect(page.locator("#events li")).to_have_count(2)


CUT_ANYWHERE = """async () => {
    const { packet, PacketReader, readPublish } = await import('./mqtt.js');
    const sizes = [0, 1, 125, 127, 128, 16383, 16384, 200000];
    const sent = sizes.map((size) => packet(3, 2, [0, 1, 116, 0, 9, ...new Array(size).fill(120)]));
    const stream = new Uint8Array(sent.flatMap((bytes) => [...bytes]));
    return [1, 2, 7, 4096, stream.length].map((step) => {
        const reader = new PacketReader();
        const read = [];
        for (let at = 0; at < stream.length; at += step) {
            const piece = stream.subarray(at, at + step);
            if (step > 7 || at < 1000) read.push(...reader.push(piece));
            else { read.push(...reader.push(stream.subarray(at))); break; }
        }
        return read.map(({ type, flags, body }) => {
            const { topic, payload, qos, id } = readPublish(flags, body);
            return [type, topic, qos, id, payload.length];
        });
    });
}"""

TOO_LARGE = """async () => {
    const { PacketReader } = await import('./mqtt.js');
    return [[48, 255, 255, 255, 255, 1], [48, 255, 255, 255, 127]].map((bytes) => {
        try {
            return new PacketReader().push(new Uint8Array(bytes)).length;
        } catch (error) {
            return error.message;
        }
    });
}"""


def test_packets_are_read_however_the_network_cuts_them(
    dashboard: DashboardServer, look: Look
) -> None:
    page = look(dashboard.url)
    expected = [[3, "t", 1, 9, size] for size in (0, 1, 125, 127, 128, 16383, 16384, 200000)]
    assert page.evaluate(CUT_ANYWHERE) == [expected] * 5
    not_mqtt, too_large = page.evaluate(TOO_LARGE)
    assert "more than four bytes" in not_mqtt
    assert "too large" in too_large
