"""Home Assistant finds the piano, finds it again after its own restart, and can forget it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import jsonschema
import paho.mqtt.client as paho
import pytest

from edge.messages import COMMANDS, TOPICS, AudioState, topic_of
from edge.publish.commands import Arrival, read_command
from edge.publish.home_assistant import HomeAssistant, config_topic, description
from edge.publish.publisher import Publisher

# The rules of Home Assistant's documentation ("MQTT", device discovery payload; "MQTT Sensor",
# "Binary sensor", "Switch", "Button"), with every key that the discovery of a platform knows
# and we use. A key that is not listed would be dropped in silence, so none is allowed here.
TOPIC = {"type": "string", "minLength": 1, "pattern": "^[^+#\\x00]+$"}
TEXT = {"type": "string", "minLength": 1}
ENTITY = {
    "platform": TEXT,
    "name": TEXT,
    "unique_id": TEXT,
    "icon": {"type": "string", "pattern": "^mdi:"},
    "entity_category": {"enum": ["config", "diagnostic"]},
    "enabled_by_default": {"type": "boolean"},
    "device_class": TEXT,
    "qos": {"enum": [0, 1, 2]},
}
STATE = {"state_topic": TOPIC, "value_template": {"type": "string", "pattern": r"\{\{.*\}\}"}}
ORDER = {"command_topic": TOPIC, "retain": {"type": "boolean"}}
PLATFORMS = {
    "sensor": {
        **ENTITY,
        **STATE,
        "unit_of_measurement": TEXT,
        "state_class": {"enum": ["measurement", "total", "total_increasing"]},
        "expire_after": {"type": "integer", "minimum": 0},
        "options": {"type": "array", "items": TEXT, "minItems": 1},
        "device_class": {"enum": ["temperature", "duration", "data_size", "enum"]},
    },
    "binary_sensor": {**ENTITY, **STATE},
    "switch": {
        **ENTITY,
        **STATE,
        **ORDER,
        **dict.fromkeys(("payload_on", "payload_off", "state_on", "state_off"), TEXT),
    },
    "button": {**ENTITY, **ORDER, "payload_press": TEXT, "device_class": {"enum": ["restart"]}},
}
REQUIRED = {
    "sensor": ["state_topic"],
    "binary_sensor": ["state_topic"],
    "switch": ["command_topic"],
    "button": ["command_topic"],
}
DEVICE_DISCOVERY = {
    "type": "object",
    "additionalProperties": False,
    "required": ["device", "origin", "components"],
    "properties": {
        "device": {
            "type": "object",
            "additionalProperties": False,
            "required": ["identifiers"],
            "properties": {
                "identifiers": {"type": "array", "items": TEXT, "minItems": 1},
                **dict.fromkeys(("name", "manufacturer", "model", "sw_version"), TEXT),
            },
        },
        "origin": {
            "type": "object",
            "additionalProperties": False,
            "required": ["name"],
            "properties": {"name": TEXT, "sw_version": TEXT},
        },
        "availability_topic": TOPIC,
        "payload_available": TEXT,
        "payload_not_available": TEXT,
        "qos": {"enum": [0, 1, 2]},
        "components": {
            "type": "object",
            "minProperties": 1,
            "propertyNames": {"pattern": "^[a-z0-9_]+$"},
            "additionalProperties": {
                "oneOf": [
                    {
                        "type": "object",
                        "additionalProperties": False,
                        "required": ["platform", "unique_id", *REQUIRED[platform]],
                        "properties": {**keys, "platform": {"const": platform}},
                    }
                    for platform, keys in PLATFORMS.items()
                ]
            },
        },
    },
}
FOUND = description("parlour.east", "1.2.3", "Raspberry Pi 5")
ENTITIES: dict[str, dict[str, Any]] = FOUND["components"]


def test_the_description_is_what_home_assistant_documents() -> None:
    jsonschema.Draft202012Validator(DEVICE_DISCOVERY).validate(FOUND)
    assert re.fullmatch(r"homeassistant/device/[A-Za-z0-9_-]+/config", config_topic("parlour.east"))
    assert len({entity["unique_id"] for entity in ENTITIES.values()}) == len(ENTITIES)


def test_the_check_of_the_description_can_fail() -> None:
    validator = jsonschema.Draft202012Validator(DEVICE_DISCOVERY)
    assert not validator.is_valid({**FOUND, "origin": {}})
    wrong = {**ENTITIES, "piece": {**ENTITIES["piece"], "stat_topic": "x"}}
    assert not validator.is_valid({**FOUND, "components": wrong})


@pytest.mark.parametrize("name", ENTITIES)
def test_every_entity_looks_at_a_field_that_is_published(name: str) -> None:
    entity = ENTITIES[name]
    if "state_topic" not in entity:
        return
    topic = topic_of(entity["state_topic"].split("/", 3)[3])
    fields = re.findall(r"value_json\.(\w+)", entity["value_template"])
    assert fields
    assert set(fields) <= set(topic.message.__struct_fields__)
    assert topic.name in TOPICS


@pytest.mark.parametrize("name", ENTITIES)
def test_every_order_is_a_command_that_is_carried_out(name: str) -> None:
    entity = ENTITIES[name]
    if "command_topic" not in entity:
        return
    command = entity["command_topic"].rsplit("/", 1)[1]
    assert command in COMMANDS
    assert entity["retain"] is False, "a retained command is refused"
    for key in ("payload_on", "payload_off", "payload_press"):
        if key in entity:
            payload = entity[key].encode()
            asked = read_command(Arrival(command, payload, False, len(payload)))
            assert asked.value is {"payload_on": True, "payload_off": False}.get(key)


def test_every_state_of_the_sound_is_among_the_options() -> None:
    assert ENTITIES["sound"]["options"] == [state.value for state in AudioState]


# ---- with a real broker


class Home:
    """What Home Assistant sees of the broker."""

    def __init__(self, port: int) -> None:
        self.messages: list[paho.MQTTMessage] = []
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        self._client.on_message = lambda _c, _u, message: self.messages.append(message)
        self._client.on_connect = lambda client, *_: client.subscribe("homeassistant/#", 1)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def say(self, word: str) -> None:
        self._client.publish("homeassistant/status", word, 1).wait_for_publish(10.0)

    def configs(self) -> list[bytes]:
        return [m.payload for m in list(self.messages) if m.topic.endswith("/config")]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def home(mosquitto) -> Iterator[Home]:
    made = Home(mosquitto.port)
    yield made
    made.close()


def piano(address: Any, *, announce: bool = True) -> Publisher:
    guest = HomeAssistant("parlour", "1.2.3", announce=announce)
    made = Publisher(address, "parlour", identity=f"ha-{time.monotonic_ns()}", guests=[guest])
    made.start(require_connection_s=20.0)
    return made


def test_home_assistant_is_told_told_again_and_told_to_forget(mosquitto, home, wait_until) -> None:
    first = piano(mosquitto.address)
    wait_until(lambda: len(home.configs()) == 1, "the description")
    assert json.loads(home.configs()[0])["device"]["name"] == "parlour"
    home.say("offline")
    home.say("online")
    wait_until(lambda: len(home.configs()) == 2, "the description again")
    late = Home(mosquitto.port)
    wait_until(lambda: late.configs() == [home.configs()[0]], "the description, retained")
    late.close()
    first.close(timeout_s=5.0)

    second = piano(mosquitto.address, announce=False)
    wait_until(lambda: len(home.configs()) == 3, "the removal")
    assert home.configs()[2] == b""
    home.say("online")
    time.sleep(0.3)
    assert len(home.configs()) == 3
    later = Home(mosquitto.port)
    time.sleep(0.3)
    assert later.configs() == []
    later.close()
    second.close(timeout_s=5.0)


def test_availability_is_right_through_restarts_of_piano_and_broker(
    mosquitto, subscribe, wait_until
) -> None:
    dashboard = subscribe(mosquitto.address)
    first = piano(mosquitto.address)
    wait_until(lambda: dashboard.words() == ["online"], "online")
    first.close(timeout_s=5.0)
    wait_until(lambda: dashboard.words() == ["online", "offline"], "offline")
    second = piano(mosquitto.address)
    wait_until(lambda: dashboard.words()[-1] == "online", "online again")
    mosquitto.stop()
    wait_until(lambda: not second.counters.connected, "the loss noticed")
    mosquitto.start()
    late = subscribe(mosquitto.address)
    wait_until(lambda: late.words()[-1:] == ["online"], "online after the broker's death")
    home = Home(mosquitto.port)
    wait_until(lambda: len(home.configs()) == 1, "the description after the broker's death")
    home.close()
    second.close(timeout_s=5.0)
