"""The contract as an AsyncAPI 3 document, for whatever reads such: generators, catalogues, editors.

It is written from the device's side: it sends what it publishes and receives commands. Each
command is a channel of its own, with its own types, and names where its answer comes.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from edge.messages import COMMANDS, DEVICE_NAME, ROOT, TOPICS, VERSION, Topic
from edge.publish.contract import Document, schemas_of_all

ASYNCAPI = "3.0.0"
MQTT_BINDING = "0.2.0"
"""Version of the MQTT binding of AsyncAPI that knows ``qos`` and ``retain`` of an operation."""

COMMAND, RESPONSE = "cmd/+", "rsp/+"


def asyncapi() -> Document:
    """The whole contract."""
    schemas = schemas_of_all("#/components/schemas/{name}")
    definitions = dict(schemas.definitions)
    channels: Document = {}
    operations: Document = {}
    messages: Document = {}
    for topic in TOPICS.values():
        if topic.name not in (COMMAND, RESPONSE):
            key = _key(topic.name)
            messages[key] = _message(topic)
            channels[key] = _channel(topic.name, key)
            operations[f"send_{key}"] = {
                "action": "send",
                "channel": {"$ref": f"#/channels/{key}"},
                "messages": [{"$ref": f"#/channels/{key}/messages/{key}"}],
                **_binding(topic),
            }
    for name, (value, answer) in schemas.commands.items():
        _add_command(name, value, answer, definitions, messages, channels, operations)
    return {
        "asyncapi": ASYNCAPI,
        "info": {
            "title": "Sostenuto",
            "version": f"{VERSION}",
            "description": (
                f"What a piano with Sostenuto publishes below {ROOT}/<device>/, and what can be "
                "asked of it. Unknown fields are to be ignored; within a version fields are only "
                "added. Times in seconds count from the first sample of the stream."
            ),
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "mqtt": {
                "host": "piano.local:1883",
                "protocol": "mqtt",
                "description": "MQTT 5 or 3.1.1; your own broker.",
            },
            "mqtts": {
                "host": "piano.local:8883",
                "protocol": "secure-mqtt",
                "description": "The same under TLS.",
            },
        },
        "channels": channels,
        "operations": operations,
        "components": {
            "schemas": dict(sorted(definitions.items())),
            "messages": messages,
            "parameters": {
                "device": {"description": f"Name of the device, as in {DEVICE_NAME.pattern}."}
            },
        },
    }


def _add_command(
    name: str,
    value: Document,
    answer: Document,
    definitions: Document,
    messages: Document,
    channels: Document,
    operations: Document,
) -> None:
    """One command: its two types, its two channels, and the operation that joins them."""
    stem = "".join(part.capitalize() for part in name.split("_"))
    asked, answered = f"{stem}Command", f"{stem}Response"
    definitions[asked] = _narrowed("Command", "value", value)
    definitions[answered] = _narrowed("Response", "data", {"anyOf": [answer, {"type": "null"}]})
    meaning = COMMANDS[name].meaning
    for key, title, kind in ((f"cmd_{name}", asked, "cmd"), (f"rsp_{name}", answered, "rsp")):
        messages[key] = {
            "name": title,
            "summary": meaning if kind == "cmd" else f"The answer to {name}.",
            "payload": {"$ref": f"#/components/schemas/{title}"},
            "correlationId": {"location": "$message.payload#/transaction"},
        }
        channels[key] = _channel(f"{kind}/{name}", key)
    operations[f"receive_{name}"] = {
        "action": "receive",
        "summary": meaning,
        "channel": {"$ref": f"#/channels/cmd_{name}"},
        "messages": [{"$ref": f"#/channels/cmd_{name}/messages/cmd_{name}"}],
        **_binding(TOPICS[COMMAND]),
        "reply": {
            "channel": {"$ref": f"#/channels/rsp_{name}"},
            "messages": [{"$ref": f"#/channels/rsp_{name}/messages/rsp_{name}"}],
        },
    }


def _key(topic: str) -> str:
    return topic.replace("/", "_")


def _channel(topic: str, key: str) -> Document:
    return {
        "address": f"{ROOT}/{{device}}/{topic}",
        "messages": {key: {"$ref": f"#/components/messages/{key}"}},
        "parameters": {"device": {"$ref": "#/components/parameters/device"}},
    }


def _message(topic: Topic) -> Document:
    kind: Any = topic.message
    summary = (kind.__doc__ or "").strip().split("\n")[0]
    if not issubclass(kind, Struct):
        words = {"type": "string", "enum": [str(word) for word in kind]}
        return {
            "name": kind.__name__,
            "summary": summary,
            "contentType": "text/plain",
            "payload": words,
        }
    return {
        "name": kind.__name__,
        "summary": summary,
        "payload": {"$ref": f"#/components/schemas/{kind.__name__}"},
    }


def _binding(topic: Topic) -> Document:
    mqtt = {"qos": topic.qos, "retain": topic.retain, "bindingVersion": MQTT_BINDING}
    return {"bindings": {"mqtt": mqtt}}


def _narrowed(base: str, field: str, schema: Document) -> Document:
    """The class ``base`` with one of its fields said more closely."""
    return {
        "allOf": [
            {"$ref": f"#/components/schemas/{base}"},
            {"type": "object", "properties": {field: schema}},
        ]
    }
