from __future__ import annotations

import re
from enum import StrEnum

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import UsageError
from edge.messages import (
    TOPICS,
    Availability,
    Command,
    Envelope,
    EventKind,
    EventMessage,
    NoteMessage,
    Notes,
    check_device_name,
    decode,
    encode,
    full_topic,
    message_classes,
    topic_of,
)
from edge.note import NoteState

STAMPED = {
    "boot": "b1",
    "seq": 3,
    "t": "2026-11-20T18:02:11.120Z",
    "mono_ms": 918273,
}


def middle_c(**changes: object) -> dict[str, object]:
    note: dict[str, object] = {
        "id": 1,
        "state": "confirmed",
        "pitch_midi": 60,
        "onset_s": 1.5,
        "velocity": 64,
        "confidence": 0.9,
    }
    return note | changes


def notes_json(*notes: dict[str, object], **changes: object) -> bytes:
    envelope = {"v": 1, "clock": "ntp", "historical": False, **STAMPED}
    return msgspec.json.encode({**envelope, "notes": notes, **changes})


def test_a_note_goes_out_with_every_field_and_comes_back_the_same():
    note = NoteMessage(
        id=1, state=NoteState.CONFIRMED, pitch_midi=60, onset_s=1.5, velocity=64, confidence=0.9
    )
    message = Notes(notes=(note,), **STAMPED)
    payload = encode(message)
    assert b'"offset_s":null' in payload
    assert b'"clock":"unsynced","historical":false' in payload
    assert decode("notes", payload) == message


def test_a_field_of_a_later_version_is_ignored():
    message = decode("notes", notes_json(middle_c(finger=3), key_of_life="G"))
    assert isinstance(message, Notes)
    assert message.notes[0].pitch_midi == 60


@pytest.mark.parametrize(
    ("payload", "complaint"),
    [
        (notes_json(middle_c(pitch_midi=20)), r"pitch_midi"),
        (notes_json(middle_c(velocity=0)), r"velocity"),
        (notes_json(middle_c(state="played")), r"state"),
        (notes_json(middle_c(confidence=1.5)), r"confidence"),
        (notes_json(v=2), r"\$\.v"),
        (notes_json(clock="sundial"), r"\$\.clock"),
        (notes_json(t="yesterday"), r"\$\.t"),
        (b'{"notes":[]}', r"envelope"),
    ],
)
def test_what_breaks_the_contract_is_refused_with_the_field_named(payload, complaint):
    with pytest.raises(msgspec.ValidationError, match=complaint):
        decode("notes", payload)


def test_availability_is_a_bare_word():
    assert decode("availability", b"online") is Availability.ONLINE
    with pytest.raises(msgspec.ValidationError):
        decode("availability", b"away")


@given(st.binary(max_size=200).filter(lambda noise: noise not in (b"online", b"offline")))
def test_noise_is_refused_and_never_crashes(payload):
    for name in ("notes", "cmd/listen", "availability"):
        with pytest.raises(msgspec.DecodeError):
            decode(name, payload)


def test_a_command_may_carry_anything_and_needs_its_transaction():
    command = decode("cmd/listen", b'{"value":{"on":[1,2]},"transaction":"t1"}')
    assert isinstance(command, Command)
    assert command.value == {"on": [1, 2]}
    with pytest.raises(msgspec.ValidationError, match="transaction"):
        decode("cmd/listen", b'{"value":1}')


def test_the_table_of_topics_is_that_of_the_design():
    kept = {name for name, topic in TOPICS.items() if topic.retain}
    assert kept == {"availability", "info", "health", "piece", "tags", "self_test"}
    assert {name for name, topic in TOPICS.items() if topic.qos == 0} == {"notes", "position"}
    waiting = {name for name, topic in TOPICS.items() if topic.through_outbox}
    assert waiting == {"piece", "session", "feedback", "history/notes", "tags", "event"}


@pytest.mark.parametrize("name", ["nots", "", "cmd/+", "rsp/", "cmd/Listen", "cmd/a/b", "notes/x"])
def test_a_topic_outside_the_contract_is_an_error(name):
    with pytest.raises(ValueError, match="no topic"):
        topic_of(name)


def test_a_command_has_a_topic_of_its_own():
    assert topic_of("rsp/listen") is TOPICS["rsp/+"]
    assert full_topic("parlour", "rsp/listen") == "sostenuto/v1/parlour/rsp/listen"


@pytest.mark.parametrize("name", ["parlour", "piano-3f2a91", "A.b_c-9", "x" * 64])
def test_a_device_name_may_stand_in_a_topic(name):
    assert check_device_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "a/b", "+", "#", "$SYS", "a b", "Flügel", "x" * 65, "-a", "a\n"]
)
def test_a_device_name_that_would_break_a_topic_is_refused_in_one_line(name):
    with pytest.raises(UsageError, match="letters") as error:
        check_device_name(name)
    assert "\n" not in str(error.value)


def test_every_event_known_is_a_legal_kind_and_is_documented():
    description = msgspec.json.schema(EventMessage)["$defs"]["EventMessage"]["properties"]["kind"]
    for kind in EventKind:
        event = EventMessage(kind=kind, **STAMPED)
        assert decode("event", encode(event)) == event
        assert f"`{kind}`" in description["description"]


def test_every_message_begins_with_the_envelope_and_every_field_of_it_has_a_default_but_its_own():
    envelope = Envelope.__struct_fields__
    for kind in message_classes():
        if kind is Command:
            assert not issubclass(kind, Envelope)
            continue
        assert kind.__struct_fields__[: len(envelope)] == envelope
        assert kind.__struct_config__.frozen
        assert not kind.__struct_config__.forbid_unknown_fields


def test_every_word_in_a_message_is_lower_case():
    import edge.messages as module

    for value in vars(module).values():
        if isinstance(value, type) and issubclass(value, StrEnum):
            assert all(re.fullmatch("[a-z_]+", word) for word in value)
