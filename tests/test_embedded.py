from __future__ import annotations

import builtins
import logging
import socket
import time

import pytest

from edge.errors import BrokerError
from edge.messages import Session, SessionState
from edge.publish.embedded import EmbeddedBroker
from edge.publish.publisher import Publisher


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_it_takes_a_free_port_of_the_loopback_and_gives_it_back():
    broker = EmbeddedBroker()
    port = broker.start()
    assert port > 0
    assert broker.address.host == "127.0.0.1"
    assert broker.address.port == port
    assert listens(port)
    broker.stop()
    assert not listens(port)
    with EmbeddedBroker(port) as again:
        assert again.address.port == port


def test_stopping_is_quick_though_clients_are_there_and_may_come_twice(subscribe):
    broker = EmbeddedBroker()
    broker.start()
    subscribe(broker.address)
    with socket.create_connection(("127.0.0.1", broker.address.port)):
        began_s = time.monotonic()
        broker.stop()
        broker.stop()
    assert time.monotonic() - began_s < 2.0


def test_stopping_what_never_started_does_nothing():
    EmbeddedBroker().stop()


def test_a_taken_port_is_said_in_one_line():
    with EmbeddedBroker() as first, pytest.raises(BrokerError, match="another port") as error:
        EmbeddedBroker(first.address.port).start()
    assert "\n" not in str(error.value)


def test_without_its_extra_it_names_the_extra(monkeypatch):
    real_import = builtins.__import__

    def no_amqtt(name: str, *rest: object, **options: object) -> object:
        if name.startswith("amqtt"):
            raise ImportError(name)
        return real_import(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", no_amqtt)
    with pytest.raises(BrokerError, match=r"sostenuto\[demo\]"):
        EmbeddedBroker().start()


def test_it_is_quiet(caplog, capfd, subscribe):
    with caplog.at_level(logging.INFO), EmbeddedBroker() as broker:
        subscribe(broker.address)
        with socket.create_connection(("127.0.0.1", broker.address.port)) as noise:
            noise.sendall(b"GET / HTTP/1.0\r\n\r\n")
    assert [r for r in caplog.records if r.name.startswith(("amqtt", "transitions"))] == []
    assert capfd.readouterr().err == ""


def test_what_a_client_said_last_is_passed_on_though_it_leaves_at_once(subscribe):
    with EmbeddedBroker() as broker:
        dashboard = subscribe(broker.address)
        piano = Publisher(broker.address, "parlour", identity="leaver")
        piano.start(require_connection_s=20.0)
        for i in range(100):
            piano.publish("session", Session(id="s", state=SessionState.UPDATE, notes=i))
        assert piano.close(timeout_s=20.0).dropped == 0
        dashboard.wait_for(lambda: "offline" in dashboard.words(), "offline")
        assert dashboard.seqs("session") == list(range(100))
        assert dashboard.words() == ["online", "offline"]
