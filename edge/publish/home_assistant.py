"""The piano as Home Assistant finds it: one retained message that describes the whole device.

Home Assistant's MQTT integration (device discovery, since 2024.11) reads
``homeassistant/device/<id>/config``: who the device is, where it says whether it is there, and
its entities with the topic and field that each one shows. All of them look at the messages that
the piano publishes anyway; a switch and two buttons send its commands. An empty message in the
same place takes the device away again.

Whenever Home Assistant starts it says ``online`` on ``homeassistant/status``, and is told again.
"""

from __future__ import annotations

import json
import re
from typing import Any

from edge.messages import Availability, full_topic

PREFIX = "homeassistant"
"""Where Home Assistant looks unless it was told otherwise."""

STATUS = f"{PREFIX}/status"
BACK = b"online"

TRANSACTION = "home-assistant"


def object_id(device: str) -> str:
    """The device's name in letters that Home Assistant takes in a topic: no dots."""
    return "sostenuto_" + re.sub(r"[^A-Za-z0-9_-]", "_", device)


def config_topic(device: str) -> str:
    """Where the device is described."""
    return f"{PREFIX}/device/{object_id(device)}/config"


def _order(value: Any) -> str:
    return json.dumps({"value": value, "transaction": TRANSACTION})


def _entities(device: str) -> dict[str, dict[str, Any]]:
    """The entities by a short name of ours: platform, and what differs from a plain sensor."""
    session, health = full_topic(device, "session"), full_topic(device, "health")
    piece, place = full_topic(device, "piece"), full_topic(device, "position")
    diagnostic = {"entity_category": "diagnostic"}
    matched = "{% if value_json.state == 'matched' %}{{ value_json.FIELD }}{% endif %}"
    return {
        "piece": {
            "platform": "sensor",
            "name": "Piece",
            "icon": "mdi:music",
            "state_topic": piece,
            "value_template": matched.replace("FIELD", "title"),
        },
        "composer": {
            "platform": "sensor",
            "name": "Composer",
            "icon": "mdi:account-music",
            "state_topic": piece,
            "value_template": matched.replace("FIELD", "composer"),
        },
        "bar": {
            "platform": "sensor",
            "name": "Bar",
            "icon": "mdi:music-clef-treble",
            "state_topic": place,
            "value_template": "{{ value_json.bar }}",
            "expire_after": 60,
        },
        "tempo": {
            "platform": "sensor",
            "name": "Tempo",
            "icon": "mdi:metronome",
            "state_topic": place,
            "value_template": "{{ (value_json.tempo_bpm or 0) | round(0) }}",
            "unit_of_measurement": "bpm",
            "state_class": "measurement",
            "expire_after": 60,
        },
        "playing": {
            "platform": "binary_sensor",
            "name": "Playing",
            "icon": "mdi:piano",
            "state_topic": session,
            "value_template": "{{ 'ON' if value_json.notes > 0 and value_json.state != 'end' "
            "and not value_json.historical else 'OFF' }}",
        },
        "session_notes": {
            "platform": "sensor",
            "name": "Notes in this session",
            "icon": "mdi:music-note-eighth",
            "state_topic": session,
            "value_template": "{{ value_json.notes }}",
            "unit_of_measurement": "notes",
        },
        "session_minutes": {
            "platform": "sensor",
            "name": "Time in this session",
            "state_topic": session,
            "value_template": "{{ value_json.minutes | round(1) }}",
            "device_class": "duration",
            "unit_of_measurement": "min",
        },
        "sound": {
            "platform": "sensor",
            "name": "Sound",
            "icon": "mdi:microphone",
            "state_topic": health,
            "value_template": "{{ value_json.audio }}",
            "device_class": "enum",
            "options": ["running", "silent", "clipping", "lost", "recovering", "off", "midi"],
            **diagnostic,
        },
        "temperature": {
            "platform": "sensor",
            "name": "Processor temperature",
            "state_topic": health,
            "value_template": "{{ value_json.temperature_c }}",
            "device_class": "temperature",
            "unit_of_measurement": "°C",
            "state_class": "measurement",
            **diagnostic,
        },
        "disk_free": {
            "platform": "sensor",
            "name": "Free on the disk",
            "state_topic": health,
            "value_template": "{{ value_json.disk_free_bytes }}",
            "device_class": "data_size",
            "unit_of_measurement": "B",
            "state_class": "measurement",
            "enabled_by_default": False,
            **diagnostic,
        },
        "listening": {
            "platform": "switch",
            "name": "Listening",
            "icon": "mdi:ear-hearing",
            "state_topic": health,
            "value_template": "{{ 'ON' if value_json.listening else 'OFF' }}",
            "command_topic": full_topic(device, "cmd/listen"),
            "payload_on": _order(True),
            "payload_off": _order(False),
            "state_on": "ON",
            "state_off": "OFF",
            "qos": 1,
            "retain": False,
        },
        "self_test": {
            "platform": "button",
            "name": "Self-test",
            "command_topic": full_topic(device, "cmd/self_test"),
            "payload_press": _order(None),
            "qos": 1,
            "retain": False,
            **diagnostic,
        },
        "restart": {
            "platform": "button",
            "name": "Restart",
            "device_class": "restart",
            "command_topic": full_topic(device, "cmd/restart"),
            "payload_press": _order(None),
            "qos": 1,
            "retain": False,
            "entity_category": "config",
        },
    }


def description(device: str, software: str, board: str | None = None) -> dict[str, Any]:
    """What Home Assistant reads to know the device and all its entities."""
    identity = object_id(device)
    about = {
        "identifiers": [identity],
        "name": device,
        "manufacturer": "Sostenuto",
        "sw_version": software,
    }
    return {
        "device": about | ({"model": board} if board else {}),
        "origin": {"name": "sostenuto", "sw_version": software},
        "availability_topic": full_topic(device, "availability"),
        "payload_available": str(Availability.ONLINE),
        "payload_not_available": str(Availability.OFFLINE),
        "qos": 1,
        "components": {
            name: {**entity, "unique_id": f"{identity}_{name}"}
            for name, entity in _entities(device).items()
        },
    }


class HomeAssistant:
    """Announces the piano to Home Assistant, or takes it back; a `Guest` of the connection.

    Parameters
    ----------
    device : str
        The device's name in the topics.
    software : str
        Its version.
    board : str, optional
        The computer, as it names itself.
    announce : bool
        False removes what an earlier start announced.
    """

    def __init__(
        self, device: str, software: str, board: str | None = None, *, announce: bool = True
    ) -> None:
        self._topic = config_topic(device)
        self._payload = b""
        if announce:
            self._payload = json.dumps(description(device, software, board)).encode()

    @property
    def topics(self) -> tuple[str, ...]:
        """Where Home Assistant says that it is back; nothing when there is nothing to tell it."""
        return (STATUS,) if self._payload else ()

    def greeting(self) -> list[tuple[str, bytes]]:
        """The description, or the empty message that removes it."""
        return [(self._topic, self._payload)]

    def received(self, topic: str, payload: bytes, retain: bool) -> list[tuple[str, bytes]]:
        """Home Assistant is back: tell it again."""
        return self.greeting() if topic == STATUS and payload == BACK and self._payload else []
