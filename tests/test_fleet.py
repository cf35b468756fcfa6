"""Many pianos: real NATS servers, the device's own publisher, and the service that counts."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from edge.client import Dashboard
from edge.errors import InputError, UsageError
from edge.messages import Availability, Clock, Session, SessionState, encode
from edge.midi import write_midi
from edge.note import NoteEvent
from edge.publish.address import BrokerAddress, Tls
from edge.publish.publisher import Publisher
from fleet import trial
from fleet.app import app
from fleet.cluster import (
    DASHBOARD,
    PIANO,
    Cluster,
    configuration,
    nodes_of,
    passwords_in,
    trial_nodes,
    write_configurations,
)
from fleet.load import performance
from fleet.sessions import Totals
from tests.certificates import Authority


def said(seq: int, notes: int = 0, *, boot: str = "b", state: str = "update") -> bytes:
    return encode(
        Session(
            id=f"sitting of {boot}",
            state=SessionState(state),
            notes=notes,
            minutes=notes / 60,
            boot=boot,
            seq=seq,
            t="2026-11-20T18:02:11.120Z",
            clock=Clock.NTP,
        )
    )


@pytest.fixture
def midi(tmp_path: Path) -> Path:
    """25 seconds, four notes a second."""
    notes = [NoteEvent(60 + n % 12, n / 4, n / 4 + 0.2, 64, 1.0) for n in range(100)]
    path = tmp_path / "performance.mid"
    write_midi(path, notes)
    return path


def test_the_newest_message_of_a_sitting_is_its_total(tmp_path):
    with Totals(tmp_path / "t") as totals:
        totals.add([("parlour", said(0)), ("parlour", said(1, 60)), ("parlour", said(2, 120))])
        totals.add([("hall", said(0, 30, boot="c", state="end"))])
        sums = totals.read()
    assert (sums.devices, sums.sessions, sums.ended) == (2, 2, 1)
    assert (sums.notes, sums.minutes, sums.messages) == (150, 2.5, 4)


def test_what_comes_again_or_late_changes_nothing(tmp_path):
    with Totals(tmp_path / "t") as totals:
        totals.add(("parlour", said(seq, 10 * seq)) for seq in (4, 0, 1, 4, 1))
        sums = totals.read()
        assert (sums.notes, sums.messages, sums.repeats, sums.missing) == (40, 3, 2, 2)
        totals.add(("parlour", said(seq, 10 * seq)) for seq in (3, 2, 3))
        assert totals.received("parlour", "b") == [(0, 4)]
    with Totals(tmp_path / "t") as totals:  # a file lasts longer than the service
        sums = totals.read()
    assert (sums.notes, sums.messages, sums.repeats, sums.missing) == (40, 5, 3, 0)


def test_what_is_no_session_is_counted_and_holds_up_nothing(tmp_path):
    with Totals(tmp_path / "t") as totals:
        totals.add([("parlour", b"{"), ("parlour", b'{"id": 1}'), ("parlour", said(0, 60))])
        sums = totals.read()
    assert (sums.refused, sums.messages) == (2, 1)


def test_a_batch_is_counted_whole_or_not_at_all(tmp_path):
    def breaks_off():
        yield "parlour", said(0, 60)
        raise RuntimeError

    with Totals(tmp_path / "t") as totals:
        with pytest.raises(RuntimeError):
            totals.add(breaks_off())
        assert totals.read().messages == 0


def test_another_file_is_not_taken_for_totals(tmp_path):
    (tmp_path / "t").write_bytes(b"a letter" * 1000)
    with pytest.raises(InputError, match="give another file"):
        Totals(tmp_path / "t")


@pytest.mark.parametrize("hosts", [["a", "b"], ["a", "a", "b"], ["a b"], []])
def test_hosts_that_make_no_cluster_are_refused(hosts):
    with pytest.raises(UsageError, match=r"give|one node a machine"):
        nodes_of(hosts)


def test_a_message_lies_on_three_nodes_of_five_and_on_the_one_of_one(tmp_path):
    passwords = passwords_in(tmp_path)
    for count, copies in ((1, 1), (3, 3), (5, 3)):
        nodes = nodes_of([f"host{n}" for n in range(count)])
        text = configuration(nodes[0], nodes, passwords, tmp_path)
        assert f"stream_replicas: {copies}\n" in text
        assert ("routes" in text) == (count > 1)
        assert "@host0:6222" not in text


def test_configurations_are_their_owners_alone_and_keep_their_passwords(tmp_path):
    command = ["cluster", str(tmp_path / "c"), "--host", "a", "--host", "b", "--host", "c"]
    kept = []
    for _ in range(2):
        assert CliRunner().invoke(app, command).exit_code == 0
        files = sorted((tmp_path / "c").iterdir())
        assert [f.name for f in files] == [
            "node1.conf",
            "node2.conf",
            "node3.conf",
            "passwords.json",
        ]
        assert {f.stat().st_mode & 0o777 for f in files} == {0o600}
        passwords = json.loads(files[3].read_text())
        assert all(passwords["piano"] in f.read_text() for f in files)
        kept.append(passwords)
    assert kept[0] == kept[1]


def test_each_piano_may_have_an_account_that_speaks_for_no_other(tmp_path):
    (node,) = nodes_of(["a"])
    everyone = configuration(node, (node,), passwords_in(tmp_path), tmp_path)
    assert '"sostenuto.v1.>"' in everyone
    folder = tmp_path / "c"
    assert CliRunner().invoke(app, ["cluster", str(folder), "--host", "a"]).exit_code == 0
    for name in ("parlour", "hall"):
        command = ["cluster", str(folder), "--host", "a", "--piano", name]
        assert CliRunner().invoke(app, command).exit_code == 0
    text = (folder / "node1.conf").read_text()
    assert 'user: "parlour"' in text
    assert 'user: "hall"' in text
    assert f'user: "{PIANO}"' not in text
    for name in ("hall.way", "sessions"):
        with pytest.raises(UsageError, match="names without a dot"):
            passwords_in(tmp_path, [name])


@pytest.mark.slow
def test_under_tls_a_piano_with_its_own_account_is_heard_and_another_in_its_name_is_not(
    tmp_path, wait_until
):
    house = Authority(tmp_path)
    signed = house.sign("node", host="127.0.0.1")
    (tmp_path / "ca.crt").write_bytes(house.certificate.read_bytes())
    assert signed.certificate == tmp_path / "node.crt"
    nodes = trial_nodes(1)
    passwords = passwords_in(tmp_path, ["parlour", "hall"])
    (file,) = write_configurations(tmp_path, nodes, passwords, certificates=tmp_path)
    program = shutil.which("nats-server") or "/usr/sbin/nats-server"
    node = subprocess.Popen([program, "-c", str(file)], stderr=subprocess.DEVNULL)

    def address(who: str) -> BrokerAddress:
        tls = Tls(tmp_path / "ca.crt")
        return BrokerAddress("127.0.0.1", nodes[0].mqtt_port, who, passwords[who], tls=tls)

    pianos = [Publisher(address(who), "parlour", identity=who) for who in ("parlour", "hall")]
    try:
        for piano in pianos:
            piano.start()
            wait_until(lambda piano=piano: piano.counters.connected, "the connection")
        with Dashboard(address(DASHBOARD), topics=("session",)) as looking:
            for piano in pianos:
                piano.publish("session", msgspec.json.decode(said(0), type=Session))
            heard = [message.body.boot for message in looking.messages(timeout_s=2.0)]
        assert heard == [pianos[0].boot]
    finally:
        for piano in pianos:
            piano.close(timeout_s=0.5)
        node.kill()
        node.wait()


def test_a_performance_is_told_as_a_device_tells_it(midi):
    score = performance(midi)
    sessions = [each.message for each in score if each.name == "session"]
    assert [s.state.value for s in sessions] == ["new", "update", "update", "end"]
    assert sessions[-1].notes == 100
    ended = [n for each in score if each.name == "history/notes" for n in each.message.notes]
    assert len(ended) == 100
    assert [each.at_s for each in score] == sorted(each.at_s for each in score)


@pytest.mark.slow
def test_pianos_and_dashboards_that_greet_with_mqtt_5_are_let_in(tmp_path, wait_until):
    with Cluster(tmp_path, 1) as cluster:
        looking = replace(cluster.address(0, DASHBOARD), speaks_mqtt5=True)
        piano = Publisher(replace(cluster.address(0), speaks_mqtt5=True), "parlour", identity="p")
        piano.start()
        with Dashboard(looking, device="parlour", topics=("session",)) as house:
            piano.publish("session", msgspec.json.decode(said(0), type=Session))
            assert [message.topic for message in house.messages(timeout_s=2.0)] == ["session"]
        wait_until(lambda: not piano.counters.queued, "the acknowledgement")
        assert piano.close().undelivered == 0


@pytest.mark.slow
def test_a_node_keeps_what_is_retained_and_says_the_last_word_of_a_killed_piano(tmp_path, midi):
    with Cluster(tmp_path, 1) as cluster:
        piano = cluster.address(0)
        broker = f"mqtt://{piano.username}:{piano.password}@{piano.host}:{piano.port}"
        command = [sys.executable, "-m", "fleet", "load", str(midi), "--pianos", "1"]
        playing = subprocess.Popen(command, env=os.environ | {"SOSTENUTO_FLEET_BROKERS": broker})
        try:
            first, later = (
                Dashboard(cluster.address(0, DASHBOARD), topics=topics)
                for topics in (("notes", "availability"), ("availability",))
            )
            with first:
                next(m for m in first.messages(20.0) if m.topic == "notes")
                with later:
                    known = next(later.messages(20.0))
                    assert (known.body, known.retained) == (Availability.ONLINE, True)
                    playing.kill()
                    said_last = next(later.messages(20.0))
                    assert (said_last.body, said_last.retained) == (Availability.OFFLINE, False)
        finally:
            playing.kill()
            playing.wait()


@pytest.mark.slow
def test_a_killed_node_and_a_killed_service_lose_no_session_and_count_none_twice(tmp_path, midi):
    found = trial.kill_trial(tmp_path, [performance(midi)], pianos=12, seconds=12.0, pace=20.0)
    assert found.good, found
    assert found.acknowledged > 100


@pytest.mark.slow
def test_the_trial_says_what_a_load_costs_a_node(tmp_path, midi):
    scores = [performance(midi)]
    cost = trial.cost_trial(tmp_path, scores, nodes=1, pianos=4, seconds=2.0, pace=10.0)
    assert cost.flow.kept_per_s > 10, cost
    assert cost.flow.live_per_s > cost.flow.kept_per_s
    assert cost.cpu_ms_per_s > cost.idle_ms_per_s, cost
