from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import UsageError
from edge.messages import check_device_name
from edge.publish.address import (
    BrokerAddress,
    Tls,
    client_id,
    default_device_name,
    hardware_id,
    shown,
)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("mqtt://piano.local", BrokerAddress("piano.local", 1883)),
        ("mqtt://10.0.0.2:1884", BrokerAddress("10.0.0.2", 1884)),
        ("MQTT://piano.local/", BrokerAddress("piano.local", 1883)),
        ("mqtt://[::1]:1884", BrokerAddress("::1", 1884)),
        ("mqtt://clara@piano.local", BrokerAddress("piano.local", 1883, "clara")),
        ("mqtt://cl%40ra:tr%C3%A4u%3Am@host", BrokerAddress("host", 1883, "cl@ra", "träu:m")),
        ("mqtt://clara:@host", BrokerAddress("host", 1883, "clara", "")),
    ],
)
def test_a_broker_is_read(text, address):
    assert BrokerAddress.parse(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "piano.local",
        "piano.local:1883",
        "http://piano.local",
        "mqtt://",
        "mqtt://:1883",
        "mqtt://host:0",
        "mqtt://host:70000",
        "mqtt://host:port",
        "mqtt://host/topic",
        "mqtt://host?x=1",
        "mqtt://:secret@host",
        "mqtt://a host",
        "mqtts://host/topic",
        "wss://host/a b",
        "ws://host/mqtt?x=1",
        "mqtt://[::1",
    ],
)
def test_what_is_no_broker_is_refused_in_one_line_that_shows_the_form(text):
    with pytest.raises(UsageError, match=r"mqtt://\[user") as error:
        BrokerAddress.parse(text)
    assert "\n" not in str(error.value)


def test_tls_and_websockets_are_read_with_the_ports_of_each():
    assert BrokerAddress.parse("mqtts://host") == BrokerAddress("host", 8883, tls=Tls())
    assert BrokerAddress.parse("ws://host:9001") == BrokerAddress("host", 9001, path="/mqtt")
    assert BrokerAddress.parse("wss://c@host/x") == BrokerAddress(
        "host", 443, "c", tls=Tls(), path="/x"
    )


@pytest.mark.parametrize(
    "text",
    ["mqtt://host:1883", "mqtts://clara@host:8883", "ws://host:9001", "wss://[::1]:443/door"],
)
def test_an_address_is_shown_as_it_is_written(text):
    assert str(BrokerAddress.parse(text)) == text


@pytest.mark.parametrize("text", ["mqtt://clara:secret@host:x", "mqtts://clara:secret@host/x"])
def test_no_password_is_ever_shown(text):
    with pytest.raises(UsageError) as error:
        BrokerAddress.parse(text)
    assert "secret" not in str(error.value)
    address = BrokerAddress.parse("mqtt://clara:secret@host")
    assert "secret" not in f"{address} {address!r}"


@given(st.text(max_size=20), st.text(max_size=20))
def test_whatever_a_password_is_made_of_it_is_struck_out(before: str, after: str):
    text = f"mqtt://clara:{before}secret{after}@host:1883/x"
    assert "secret" not in shown(text)


@given(st.text(max_size=40))
def test_no_text_is_a_crash(text):
    complaint = ""
    try:
        BrokerAddress.parse("mqtt://" + text)
    except UsageError as error:
        complaint = str(error)
    assert "\n" not in complaint


@given(
    st.from_regex(r"[a-z][a-z0-9.-]{0,20}[a-z0-9]", fullmatch=True),
    st.integers(1, 65535),
    st.none() | st.from_regex(r"[a-z0-9]{1,8}", fullmatch=True),
)
def test_an_address_reads_back_as_it_is_shown(host, port, user):
    address = BrokerAddress(host, port, user)
    assert BrokerAddress.parse(str(address)) == address


def board(folder: Path, serial: str = "", mac: str = "", machine: str = "") -> dict[str, Path]:
    """A made-up board: its serial number, the address of its network card, its installation."""
    folder.mkdir()
    (folder / "serial").write_text(serial + "\x00")
    (folder / "machine-id").write_text(machine + "\n")
    for card, address, is_hardware in (("eth0", mac, True), ("lo", "00:00:00:00:00:00", False)):
        (folder / "net" / card).mkdir(parents=True)
        (folder / "net" / card / "address").write_text(address + "\n")
        if is_hardware:
            (folder / "net" / card / "device").mkdir()
    return {
        "device_tree": folder / "serial",
        "network": folder / "net",
        "machine_id": folder / "machine-id",
    }


def test_cloned_cards_in_two_boards_are_told_apart(tmp_path):
    one = board(tmp_path / "one", serial="10000000aa", mac="b8:27:eb:01:02:03", machine="same")
    two = board(tmp_path / "two", serial="10000000bb", mac="b8:27:eb:01:02:04", machine="same")
    assert hardware_id(**one) != hardware_id(**two)
    assert hardware_id(**one) == hardware_id(**one)


def test_without_a_serial_number_the_network_card_tells(tmp_path):
    one = board(tmp_path / "one", serial="0000", mac="b8:27:eb:01:02:03", machine="same")
    two = board(tmp_path / "two", serial="0000", mac="b8:27:eb:01:02:04", machine="same")
    assert hardware_id(**one) != hardware_id(**two)


def test_without_either_the_installation_tells(tmp_path):
    one = board(tmp_path / "one", machine="one")
    two = board(tmp_path / "two", machine="two")
    assert hardware_id(**one) != hardware_id(**two)


def test_a_board_that_says_nothing_has_an_identity_all_the_same(tmp_path):
    nothing = tmp_path / "nothing"
    assert hardware_id(nothing, nothing, nothing) == hardware_id(nothing, nothing, nothing)


def test_the_client_id_is_the_same_at_every_start_and_another_for_another_device():
    assert client_id("parlour") == client_id("parlour")
    assert client_id("parlour") != client_id("attic")
    assert client_id("parlour").isalnum()
    assert len(client_id("parlour")) <= 23


def test_a_board_without_a_name_gets_one_that_may_stand_in_a_topic():
    assert check_device_name(default_device_name()).startswith("piano-")
