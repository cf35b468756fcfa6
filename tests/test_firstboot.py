"""The first start of a card and all later ones: with cuts of power, full disks and wrong cards."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import struct
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from device.app import app
from device.firstboot import boot as boot_module
from device.firstboot import keeping, network, report
from device.firstboot.boot import Start, first_boot
from device.firstboot.card import card_text, host_name, read_card, without_secrets, wpa_psk
from device.firstboot.keeping import Kept, replace_on_card
from device.firstboot.network import (
    CABLE,
    Link,
    read_links,
    try_wifi_again,
    wifi_profile,
    wifi_trouble,
)
from device.firstboot.radio import CONTROL, GENERIC, ask_for, family
from device.firstboot.report import Facts, look, microphones, notices, status_text, tell
from device.firstboot.steps import firstboot_steps
from device.flash.wishes import Wishes
from device.selftest import machine
from device.service.place import Place, apply
from edge import commander
from edge.broker_setup import OWN_PAGE
from edge.dashboard.login import PASSWORD_FILE, Doorkeeper
from edge.errors import UsageError
from edge.messages import Clock
from edge.publish.address import BrokerAddress
from edge.publish.health import ATTENTION, read_board
from edge.publish.notices import take
from edge.settings import Settings, broker_address, read_settings

BOARD = "0123456789ab"
STATE = "var/lib/sostenuto"
PROFILES = "etc/NetworkManager/system-connections"
WIFI = f"{PROFILES}/sostenuto-wifi.nmconnection"
BROKER = "etc/mosquitto/sostenuto"

CARD = Wishes(
    name="parlour",
    ssid="House",
    wifi_password="long enough",
    country="DE",
    broker="mqtt://house.local",
    broker_user="parlour",
    broker_password="s3cret",
    mic="USB",
    dashboard_password="wohltemperiert",
)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    root = tmp_path / "root"
    for folder in ("boot/card", STATE, PROFILES, BROKER, "run"):
        (root / folder).mkdir(parents=True)
    return Place(root)


def put_card(place: Place, wishes: Wishes = CARD) -> Path:
    path = place.at("/boot/card/sostenuto.toml")
    path.write_text(card_text(wishes.card()))
    return path


def settings(place: Place) -> Settings:
    return read_settings(place.root / STATE / "settings.toml")


def everything(place: Place) -> dict[str, bytes]:
    """All files but those that tell of this very moment."""
    return {
        str(path.relative_to(place.root)): path.read_bytes()
        for path in sorted(place.root.rglob("*"))
        if path.is_file() and "run/" not in str(path) and path.name != "status.txt"
    }


# -- the card becomes the piano --------------------------------------------------------------


def test_what_the_card_says_is_what_the_piano_holds(place):
    put_card(place)
    start = first_boot(place, BOARD)
    assert start == Start("parlour", "House", "DE")
    kept = settings(place)
    assert (kept.device, kept.mic, kept.dashboard_port) == ("parlour", "USB", 8480)
    assert kept.broker == "mqtt://parlour@house.local"
    password = place.at(kept.broker_password_file)
    assert password.read_text() == "s3cret\n"
    local = Settings(broker_password_file=str(password))
    assert broker_address(kept.broker, local).password == "s3cret"
    assert f"psk={wpa_psk('House', 'long enough')}" in (place.root / WIFI).read_text()
    assert Doorkeeper(place.root / STATE / PASSWORD_FILE).login("wohltemperiert")
    for path in (place.root / WIFI, password, place.root / STATE / "settings.toml"):
        assert path.stat().st_mode & 0o777 == 0o600


def test_no_secret_stays_on_the_card_not_even_in_what_it_gave_free(place):
    path = put_card(place)
    with path.open("rb") as old:
        first_boot(place, BOARD)
        assert set(old.read()) == {ord("#"), ord("\n")}
    left = path.read_text()
    for secret in ("s3cret", "long enough", wpa_psk("House", "long enough"), "salt"):
        assert secret not in left
    said = tomllib.loads(left)
    assert said["broker"] == "mqtt://parlour@house.local"
    assert said["wifi"] == {"ssid": "House", "country": "DE"}


def test_a_second_start_changes_nothing(place):
    put_card(place)
    first_boot(place, BOARD)
    before = everything(place)
    times = {path: path.stat().st_mtime_ns for path in place.root.rglob("*") if path.is_file()}
    assert first_boot(place, BOARD).troubles == ()
    assert everything(place) == before
    assert all(
        path.stat().st_mtime_ns == at or "run/" in str(path) for path, at in times.items()
    ), "the card is not worn by starting"


def test_a_card_that_was_changed_later_is_taken_over_again_and_says_no_more_than_it_says(place):
    path = put_card(place)
    first_boot(place, BOARD)
    dashboard = place.root / STATE / "settings.toml"
    dashboard.write_text(dashboard.read_text() + "home_assistant = true\n")
    # As Windows' Notepad saves it: a mark at the start, its own line ends.
    said = path.read_text().replace('"USB"', '"Jabra"').replace('"House"', '"Attic"')
    said = said.replace("[wifi]\r\n", "[wifi]\r\npassword = 'another one'\r\n")
    said = said.replace("[wifi]\nssid", "[wifi]\npassword = 'another one'\nssid")
    path.write_bytes(b"\xef\xbb\xbf" + said.encode())
    assert first_boot(place, BOARD).troubles == ()
    kept = settings(place)
    assert (kept.mic, kept.home_assistant) == ("Jabra", True)
    assert kept.broker_password_file is not None, "the broker is the same, so is its password"
    assert wpa_psk("Attic", "another one") in (place.root / WIFI).read_text()


def test_what_the_dashboard_changes_is_not_undone_by_a_card_that_stays(place):
    put_card(place)
    first_boot(place, BOARD)
    path = place.root / STATE / "settings.toml"
    path.write_text(path.read_text().replace('mic = "USB"', 'mic = "Jabra"'))
    first_boot(place, BOARD)
    assert settings(place).mic == "Jabra"


def test_another_broker_does_not_get_the_old_one_s_password(place):
    path = put_card(place)
    first_boot(place, BOARD)
    path.write_text('broker = "mqtt://parlour@elsewhere.example"\n')
    start = first_boot(place, BOARD)
    assert settings(place).broker_password_file is None
    assert any("no password is known" in line for line in start.troubles)


def test_certificates_beside_the_card_s_file_come_along(place):
    place.at("/boot/card/house.crt").write_text("certificate")
    place.at("/boot/card/sostenuto.toml").write_text(
        'broker = "mqtts://house.local"\nbroker_ca = "house.crt"\n'
    )
    assert first_boot(place, BOARD).troubles == ()
    assert place.at(settings(place).broker_ca).read_text() == "certificate"


def test_a_wifi_that_was_given_up_is_tried_again_for_as_long_as_it_does_not_carry(
    place, tmp_path, monkeypatch
):
    put_card(place)
    first_boot(place, BOARD)
    said = tmp_path / "said"
    nmcli = tmp_path / "nmcli"
    nmcli.write_text(f'#!/bin/sh\necho "$@" >>{said}\n')
    nmcli.chmod(0o755)
    run = subprocess.run
    monkeypatch.setattr(
        network.subprocess, "run", lambda words, **how: run([nmcli, *words[1:]], **how)
    )
    try_wifi_again()
    assert said.read_text() == f"--wait 0 connection up {network.WIFI_NAME}\n"

    refused, carries = (Link("wlan0", "wifi", state, 7) for state in (120, 100))
    tried: list[str] = []
    monkeypatch.setattr(report, "try_wifi_again", lambda: tried.append("again"))
    monkeypatch.setattr(report, "_service", lambda: ("active", ""))
    monkeypatch.setattr(Place, "live", True)
    for links, times in (((carries,), 0), ((refused,), 1), ((refused,), 2), (None, 2), ((), 2)):
        monkeypatch.setattr(report, "links_now", lambda links=links: links)
        look(place)
        assert len(tried) == times, "told by systemd's timer, every two minutes"


def test_a_disk_is_full_for_the_status_and_for_the_self_test_at_the_same_point():
    assert report.LEAST_FREE_BYTES is commander.LEAST_FREE_BYTES is machine.LEAST_FREE_BYTES
    assert told_with(free_bytes=report.LEAST_FREE_BYTES) == ""
    assert "disk is full" in told_with(free_bytes=report.LEAST_FREE_BYTES - 1)


# -- cuts of power ---------------------------------------------------------------------------


class CutError(Exception):
    """The power is gone."""


def cut_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The power goes before the ``step``-th thing that is done to a disk."""
    left = [step]

    def counted(done: Callable[..., Any]) -> Callable[..., Any]:
        def do(*arguments: Any, **named: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise CutError
            return done(*arguments, **named)

        return do

    monkeypatch.setattr(keeping.os, "fsync", counted(os.fsync))
    monkeypatch.setattr(Path, "replace", counted(Path.replace))


def test_power_cut_anywhere_ends_as_if_it_had_not_been_cut(tmp_path, place, monkeypatch):
    put_card(place)
    before = tmp_path / "before"
    shutil.copytree(place.root, before)
    first_boot(place, BOARD)
    whole = everything(place)
    dashboard = f"{STATE}/{PASSWORD_FILE}"
    for step in range(100):
        root = tmp_path / f"cut{step}"
        shutil.copytree(before, root)
        with monkeypatch.context() as patched:
            cut_at(step, patched)
            try:
                first_boot(Place(root), BOARD)
                break
            except CutError:
                pass
        assert first_boot(Place(root), BOARD).troubles == (), step
        after = everything(Place(root))
        after = {name: held for name, held in after.items() if not name.endswith(".new")}
        card = "boot/card/sostenuto.toml"
        assert after.keys() == whole.keys(), step
        assert Doorkeeper(root / dashboard).login("wohltemperiert"), step
        assert b"s3cret" not in after[card]
        for name in whole.keys() - {card, dashboard, f"{STATE}/firstboot.json"}:
            assert after[name] == whole[name], (step, name)
        shutil.rmtree(root)
    assert step > 15


# -- wrong cards, full disks, other boards ---------------------------------------------------


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("device = parlour", "no TOML"),
        ('micropone = "USB"', "did you mean 'microphone'|unknown key 'micropone'"),
        ('device = "par/lour"', "device name"),
        ('broker = "house"', "broker"),
        ("[wifi]\npassword = 'long enough'", "without ssid"),
        ("[wifi]\nssid = 'House'\npassword = 'short'", "5 characters"),
        ("[wifi]\nssid = 'House'\npasword = 'long enough'", "unknown key 'pasword'"),
        ("wifi = 'House'", "is a table"),
        ("[dashboard]\npassword = '1234'", "4 characters"),
        ("\xff", "UTF-8"),
    ],
)
def test_a_card_that_cannot_be_understood_is_told_and_it_listens_as_before(place, said, words):
    path = put_card(place)
    first_boot(place, BOARD)
    before = settings(place)
    path.write_bytes(said.encode("latin-1"))
    start = first_boot(place, BOARD)
    assert len(start.troubles) == 1
    assert any(word in start.troubles[0] for word in words.split("|"))
    assert settings(place) == before
    assert path.read_bytes() == said.encode("latin-1"), "it is the owner's to mend"
    path.write_text('mic = "Jabra"\n')
    first_boot(place, BOARD)
    assert settings(place).mic == "Jabra"


def test_without_a_card_or_on_a_new_one_it_listens_by_its_board_s_name(place):
    start = first_boot(place, BOARD)
    assert start.device == "piano-012345"
    assert settings(place).dashboard_port == 8480
    put_card(place, Wishes())
    assert first_boot(place, BOARD).device == "piano-012345"


def test_a_full_disk_leaves_everything_as_it_was_and_is_told(place, monkeypatch):
    path = put_card(place)
    first_boot(place, BOARD)
    before = everything(place)
    path.write_text('mic = "Jabra"\nbroker = "mqtt://a:b@c"\n')

    memory = str(place.root / "run")

    def full(handle: int) -> None:
        if not str(Path(f"/proc/self/fd/{handle}").readlink()).startswith(memory):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(keeping.os, "fsync", full)
        start = first_boot(place, BOARD)
    assert any("full" in line for line in start.troubles)
    after = everything(place)
    assert after.pop("boot/card/sostenuto.toml") == path.read_bytes()
    before.pop("boot/card/sostenuto.toml")
    assert after == before
    assert "b@c" in path.read_text(), "what was not taken over stays to be taken over"
    first_boot(place, BOARD)
    assert settings(place).mic == "Jabra"


def test_its_own_broker_has_accounts_and_keys_made_here(place, monkeypatch):
    put_card(place, Wishes(name="parlour"))
    assert first_boot(place, BOARD).troubles == ()
    kept = settings(place)
    assert kept.broker == "mqtt://parlour@127.0.0.1:1883"
    password = place.at(kept.broker_password_file).read_text()
    assert password == (place.root / BROKER / "accounts/parlour/password").read_text()
    looking = BrokerAddress.parse(kept.dashboard_broker)
    assert (looking.username, looking.host) == (f"parlour{OWN_PAGE}", "127.0.0.1")
    account = place.root / BROKER / f"accounts/parlour{OWN_PAGE}/password"
    assert looking.password == account.read_text().strip()
    names = certificate_names(place)
    assert "parlour.local" in names
    before = everything(place)
    first_boot(place, BOARD)
    assert everything(place) == before, "keys are made once"

    server = place.root / BROKER / "tls/server.crt"
    first, authority = server.read_bytes(), (place.root / BROKER / "tls/ca.crt").read_bytes()
    with monkeypatch.context() as years_later:
        years_later.setattr(boot_module, "RENEWED_S", 4 * 365 * 24 * 3600)
        assert first_boot(place, BOARD).troubles == ()
    assert server.read_bytes() != first
    assert (place.root / BROKER / "tls/ca.crt").read_bytes() == authority

    path = place.at("/boot/card/sostenuto.toml")
    path.write_text('device = "hall"\n')
    assert first_boot(place, BOARD).troubles == ()
    assert settings(place).broker == "mqtt://hall@127.0.0.1:1883"
    assert "hall.local" in certificate_names(place)

    start = first_boot(place, "ba9876543210")
    assert "another board" in start.troubles[0]
    assert (place.root / BROKER / "tls/ca.crt").read_bytes() != authority
    secret = place.at(settings(place).broker_password_file).read_text()
    assert secret == (place.root / BROKER / "accounts/hall/password").read_text()
    assert first_boot(place, "ba9876543210").troubles == ()


def certificate_names(place: Place) -> str:
    command = ["openssl", "x509", "-noout", "-ext", "subjectAltName", "-in"]
    path = place.root / BROKER / "tls/server.crt"
    return subprocess.run([*command, path], capture_output=True, text=True, check=True).stdout


def test_a_copied_card_is_another_piano(tmp_path, place):
    put_card(place, Wishes(mic="USB"))
    twin = Place(tmp_path / "twin")
    shutil.copytree(place.root, twin.root)
    one, other = first_boot(place, BOARD), first_boot(twin, "ba9876543210")
    assert one.device != other.device
    assert settings(place).broker != settings(twin).broker
    for name in ("accounts/dashboard/password", "tls/ca.key", "tls/server.key"):
        assert (place.root / BROKER / name).read_bytes() != (twin.root / BROKER / name).read_bytes()


def test_a_clock_in_1970_is_set_to_the_software_s_day(monkeypatch):
    told: list[float] = []
    monkeypatch.setattr(time, "time", lambda: 1000.0)
    monkeypatch.setattr(time, "clock_settime", lambda _, seconds: told.append(seconds))
    boot_module.raise_clock(Place(), [])
    assert told[0] >= Path(boot_module.__file__).stat().st_mtime
    monkeypatch.setattr(time, "time", lambda: 4e9)
    boot_module.raise_clock(Place(), [])
    assert len(told) == 1


def test_a_name_in_the_house_is_made_of_the_piano_s():
    assert host_name("Parlour_2.Left") == "parlour-2-left"
    assert host_name("piano-012345") == "piano-012345"


# -- networks --------------------------------------------------------------------------------


def profiles() -> Iterator[Kept]:
    yield CABLE
    for ssid, security in (("House", "wpa2"), ("Häus;chen 2", "wpa3"), ("Café", "open")):
        wishes = Wishes(ssid=ssid, security=security)
        if security != "open":
            wishes = Wishes(ssid=ssid, security=security, wifi_password="  a\\b;c=#d")
        made = wishes.card().wifi
        assert made is not None
        profile = wifi_profile(made, None)
        assert profile is not None
        yield profile


@pytest.mark.skipif(
    shutil.which("nmcli") is None, reason="no nmcli: apt-get install network-manager"
)
def test_networkmanager_itself_reads_every_profile():
    for profile in profiles():
        command = ["nmcli", "--offline", "connection", "modify", "connection.autoconnect", "yes"]
        ran = subprocess.run(command, input=profile.content, capture_output=True, check=False)
        assert ran.returncode == 0, ran.stderr
        for line in profile.content.decode().splitlines():
            if line.startswith(
                ("ssid=", "psk=", "key-mgmt=", "link-local=", "autoconnect-retries")
            ):
                assert line in ran.stdout.decode()


def test_a_password_that_the_card_no_longer_holds_is_known_from_the_profile():
    for security, password in (("wpa2", "long enough"), ("wpa3", " a\\b c=# d")):
        card = Wishes(ssid="Häus 1", wifi_password=password, security=security).card()
        profile = wifi_profile(card.wifi, None)
        bare = without_secrets(card).wifi
        assert (bare.psk, bare.password) == (None, None)
        assert wifi_profile(bare, profile.content.decode()) == profile
        other = replace(bare, ssid="Other")
        assert wifi_profile(other, profile.content.decode()) is None


NMCLI = """\
GENERAL.DEVICE:eth0
GENERAL.TYPE:ethernet
GENERAL.STATE:100 (connected)
GENERAL.REASON:0 (No reason given)
IP4.ADDRESS[1]:192.168.1.7/24
IP4.ADDRESS[2]:169.254.3.9/16
IP6.ADDRESS[1]:fe80\\:\\:a00\\:27ff\\:fe1b\\:1/64

GENERAL.DEVICE:wlan0
GENERAL.TYPE:wifi
GENERAL.STATE:30 (disconnected)
GENERAL.REASON:7 (Secrets were required, but not provided)

GENERAL.DEVICE:lo
GENERAL.TYPE:loopback
GENERAL.STATE:100 (connected (externally))
GENERAL.REASON:42 (The device's existing connection was assumed)
IP4.ADDRESS[1]:127.0.0.1/8
"""


def test_what_networkmanager_says_is_understood():
    cable, radio = read_links(NMCLI)
    assert cable == Link(
        *("eth0", "ethernet", 100, 0), ("192.168.1.7", "169.254.3.9", "fe80::a00:27ff:fe1b:1")
    )
    assert (radio.device, radio.state, radio.reason) == ("wlan0", 30, 7)


def test_a_wrong_wifi_password_is_called_by_its_name():
    told = wifi_trouble("House", read_links(NMCLI))
    assert told is not None
    assert "'House'" in told and "password is wrong" in told and "goes on trying" in told
    assert "no Wi-Fi" in str(wifi_trouble("House", ()))
    assert "not found" in str(wifi_trouble("House", (Link("wlan0", "wifi", 30, 53),)))
    assert wifi_trouble("House", (Link("wlan0", "wifi", 100, 0),)) is None


# -- what is told ----------------------------------------------------------------------------

CARDS = """\
 0 [Loopback       ]: Loopback - Loopback
                      Loopback 1
 1 [Device         ]: USB-Audio - USB PnP Sound Device
                      C-Media Electronics Inc. USB PnP Sound Device at usb-0000:01:00.0-1.3
 3 [vc4hdmi0       ]: vc4-hdmi - vc4-hdmi-0
                      vc4-hdmi-0
"""
STREAMS = """\
00-00: Loopback PCM : Loopback PCM : playback 8 : capture 8
00-01: Loopback PCM : Loopback PCM : playback 8 : capture 8
01-00: USB Audio : USB Audio : playback 1 : capture 1
03-00: MAI PCM i2s-hifi-0 : MAI PCM i2s-hifi-0 : playback 1
"""


def test_microphones_are_told_by_the_names_they_are_chosen_by(tmp_path):
    there = tmp_path / "sys"
    assert microphones(tmp_path, there) == ()
    (tmp_path / "cards").write_text(CARDS)
    (tmp_path / "pcm").write_text(STREAMS)
    assert microphones(tmp_path, there) == ("Loopback", "USB PnP Sound Device")


def test_two_microphones_of_one_make_are_told_with_the_ports_they_are_plugged_into(tmp_path):
    there = tmp_path / "sys"
    there.mkdir()
    lines = []
    for card, port in ((1, "1-1.4"), (2, "1-1.2")):
        lines.append(f" {card} [Device_{card}]: USB-Audio - USB Audio Device\n    of usb\n")
        device = tmp_path / f"devices/usb1/1-1/{port}/{port}:1.0/sound/card{card}"
        device.mkdir(parents=True)
        (there / f"card{card}").symlink_to(device)
    (tmp_path / "cards").write_text("".join(lines))
    (tmp_path / "pcm").write_text("".join(f"0{c}-00: A : A : capture 1\n" for c in (1, 2)))
    assert microphones(tmp_path, there) == ("USB Audio Device [1-1.4]", "USB Audio Device [1-1.2]")


START = Start("parlour", "House")
WELL = Facts(START, links=(Link("wlan0", "wifi", 100, 0, ("192.168.1.7",)),), microphones=("USB",))


def told_with(**changed: Any) -> str:
    return "\n".join(notices(replace(WELL, **changed)))


def test_each_trouble_is_told_with_what_to_do():
    assert told_with() == ""
    assert "no microphone" in told_with(microphones=())
    assert told_with(microphones=(), midi=True) == ""
    both = told_with(microphones=("USB", "Jabra"))
    assert "USB, Jabra" in both and "system's first one" in both and 'mic = "USB"' in both
    assert told_with(microphones=("USB", "Jabra"), mic="jabra") == ""
    assert "'Rode' is not plugged in" in told_with(mic="Rode")
    # PortAudio says more of it than the card's name
    assert told_with(microphones=("USB", "Jabra"), mic="Jabra: USB Audio [1-1.2]") == ""
    fits_two = told_with(microphones=("USB Yeti", "USB Audio", "Jabra"), mic="usb")
    assert "2 microphones fit the name 'usb': USB Audio, USB Yeti" in fits_two
    assert "listens to the first" in fits_two and 'mic = "USB Audio"' in fits_two
    of_one_make = ("USB [1-1.4]", "USB [1-1.2]")
    assert "2 microphones fit" in told_with(microphones=of_one_make, mic="USB")
    assert told_with(microphones=of_one_make, mic="USB: Audio [1-1.2]") == ""
    assert "does not listen" in told_with(service="failed")
    assert "disk is full" in told_with(free_bytes=1 << 20)
    assert told_with(links=None) == ""
    assert "password is wrong" in told_with(links=(Link("wlan0", "wifi", 120, 8),))


def test_the_card_s_status_is_for_people():
    text = status_text(WELL, 1.8e9)
    assert "All is well." in text
    assert "http://parlour.local:8480/" in text
    assert "192.168.1.7" in text
    lost = Facts(START, microphones=(), clock=Clock.UNSYNCED)
    assert "To be mended:\n  * no microphone" in status_text(lost, 1000.0)
    assert "clock is not set" in status_text(lost, 1000.0)


def test_an_ear_that_has_lost_its_microphone_is_not_told_as_well(place):
    lost = replace(WELL, mic="USB", service="active", says="USB: lost, 0 notes")
    (told,) = notices(lost)
    assert "no sound comes from its microphone" in told and "choose another" in told
    text = status_text(lost, 1.8e9)
    assert "All is well" not in text and "Listens: no, USB: lost" in text
    assert notices(replace(lost, says="USB: running, 0 notes")) == ()
    assert len(notices(replace(lost, microphones=()))) == 1, "what is the matter is told once"
    (keyboard,) = notices(replace(lost, midi=True, says="Roland: lost, 12 notes"))
    assert "keyboard it listens to is away" in keyboard


def test_status_is_written_when_it_changed_and_what_is_wrong_is_told_by_the_ear(place, monkeypatch):
    put_card(place, Wishes(broker="mqtt://house.local"))
    first_boot(place, BOARD)
    assert tell(place) == ("no microphone is plugged in; it listens as soon as there is one",)
    status = place.at("/boot/card/status.txt")
    assert "no microphone" in status.read_text()
    assert [event.kind for event in take(place.root / STATE)] == ["attention"]
    health = read_board(place.root, attention=place.at(str(ATTENTION)))
    assert health.attention[0].startswith("no microphone")

    written = status.stat().st_mtime_ns
    monkeypatch.setattr(report.time, "time", lambda: 2e9)
    tell(place)
    assert status.stat().st_mtime_ns == written, "the card is not worn by the clock"
    assert not list(take(place.root / STATE)), "an event is told once"

    place.at("/proc/asound").mkdir(parents=True)
    place.at("/proc/asound/cards").write_text(CARDS)
    place.at("/proc/asound/pcm").write_text(STREAMS)
    assert "2 microphones" in tell(place)[0]
    place.at("/proc/asound/pcm").write_text(STREAMS.splitlines()[2])
    assert tell(place) == ()
    assert "All is well." in status.read_text()
    assert look(place).microphones == ("USB PnP Sound Device",)


def test_the_board_s_light_tells_it_too(place):
    trigger = place.at("/sys/class/leds/ACT/trigger")
    trigger.parent.mkdir(parents=True)
    for well, word in ((True, "heartbeat"), (False, "timer")):
        trigger.write_text("none [mmc0] heartbeat timer\n")
        report.light(well, place)
        assert trigger.read_text() == word


def test_a_card_s_file_is_never_half_a_secret(tmp_path):
    path = tmp_path / "sostenuto.toml"
    path.write_text('broker = "mqtt://a:secret@b"\n')
    replace_on_card(path, b'broker = "mqtt://a@b"\n')
    assert read_card(path).settings == {"broker": "mqtt://a@b"}
    assert list(tmp_path.iterdir()) == [path]


# -- its units -------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_finds_no_fault_in_the_units(tmp_path):
    place = Place(tmp_path)
    apply(firstboot_steps(), place)
    units = sorted((tmp_path / "etc/systemd/system").glob("sostenuto-*"))
    assert len(units) == 3
    program = tmp_path / "opt/sostenuto/software/current/bin/sostenuto-device"
    program.parent.mkdir(parents=True)
    program.write_bytes(b"")
    program.chmod(0o755)
    command = ["systemd-analyze", "verify", "--man=no", f"--root={tmp_path}"]
    ran = subprocess.run([*command, *units], capture_output=True, text=True, check=False)
    ours = [line for line in ran.stderr.splitlines() if "sostenuto-" in line]
    assert not [line for line in ours if "not found" not in line], ran.stderr


def test_the_command_does_it_all_on_a_root_in_a_folder(place):
    put_card(place, Wishes(name="parlour", broker="mqtt://house.local"))
    command = [sys.executable, "-m", "device", "firstboot", "--root", str(place.root)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "no microphone" in ran.stderr
    assert settings(place).device == "parlour"
    assert "piano parlour" in place.at("/boot/card/status.txt").read_text()
    subprocess.run([*command, "--report"], check=True, capture_output=True)


@pytest.mark.skipif(not hasattr(socket, "AF_NETLINK"), reason="Linux's netlink")
def test_this_kernel_tells_the_number_of_a_family_and_of_none_it_does_not_know() -> None:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, GENERIC) as kernel:
        kernel.bind((0, 0))
        assert family(kernel, "nlctrl") == CONTROL
        with pytest.raises(FileNotFoundError):
            family(kernel, "sostenuto")


def acknowledged(code: int) -> bytes:
    """``NLMSG_ERROR``: a code, and the head of what it answers."""
    return struct.pack("=IHHIIi", 36, 2, 0, 1, 0, code) + bytes(16)


def test_the_country_is_asked_for_as_iw_does_and_a_refusal_is_told() -> None:
    numbered = struct.pack("=IHHII", 40, 16, 0, 1, 0) + struct.pack("=BBH", 1, 2, 0)
    numbered += struct.pack("=HH8s", 12, 2, b"nl80211") + struct.pack("=HHHH", 6, 1, 29, 0)
    for code in (0, -errno.EINVAL):
        ours, kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, kernel:
            for answer in (numbered, acknowledged(0), acknowledged(code)):
                kernel.send(answer)
            if code:
                with pytest.raises(OSError, match="Invalid argument"):
                    ask_for("DE", ours)
            else:
                ask_for("DE", ours)
            assert b"nl80211\0" in kernel.recv(4096)
            # family 29, command 27 (REQ_SET_REG), attribute 33 (REG_ALPHA2): "DE"
            head = struct.pack("=IHHII", 28, 29, 5, 1, 0) + bytes([27, 1, 0, 0])
            assert kernel.recv(4096) == head + struct.pack("=HH4s", 7, 33, b"DE")


def test_where_no_piano_is_the_command_says_so(tmp_path: Path) -> None:
    ran = CliRunner().invoke(app, ["firstboot", "--report", "--root", str(tmp_path)])
    assert isinstance(ran.exception, UsageError)
    assert "/var/lib/sostenuto is missing" in str(ran.exception)
