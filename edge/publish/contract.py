"""The contract as others read it: schemas for programs, tables and a page for people.

All are printed from the types of `edge.messages`, so that none can say anything else::

    python -m edge.publish.contract schema > docs/schema/sostenuto-v1.json
    python -m edge.publish.contract asyncapi > docs/schema/asyncapi.json
    python -m edge.publish.contract html > docs/contract.html
    python -m edge.publish.contract fields     # the tables of docs/events.md
"""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Struct

from edge.messages import (
    COMMANDS,
    ROOT,
    TOPICS,
    VERSION,
    Envelope,
    command_classes,
    message_classes,
)

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Schemas:
    """JSON Schema of everything that is published or asked.

    Attributes
    ----------
    definitions : dict
        Every class by its name.
    commands : dict
        Of every command what its ``value`` and the ``data`` of its answer may be.
    """

    definitions: dict[str, Document]
    commands: dict[str, tuple[Document, Document]]


def schemas_of_all(ref_template: str) -> Schemas:
    """The JSON Schema (2020-12) of every class; ``ref_template`` says how one refers to another.

    The envelope is required although the classes have defaults for it: a program leaves it
    to the publisher, a subscriber always finds it.
    """
    classes = message_classes()
    asked = [kind for each in COMMANDS.values() for kind in (each.value, each.answer)]
    typed = [type(None) if kind is None else kind for kind in asked]
    found, definitions = msgspec.json.schema_components(
        [*typed, *classes], ref_template=ref_template
    )
    envelope = list(Envelope.__struct_fields__)
    for kind in classes:
        if issubclass(kind, Envelope):
            definition = definitions[kind.__name__]
            definition["required"] = envelope + definition.get("required", [])
            for name in envelope:
                if name != "v":
                    definition["properties"][name].pop("default", None)
    values, answers = found[: len(asked) : 2], found[1 : len(asked) : 2]
    commands = dict(zip(COMMANDS, zip(values, answers, strict=True), strict=True))
    return Schemas(dict(sorted(definitions.items())), commands)


def schema() -> Document:
    """The JSON Schema of every message: one definition each, named as its class."""
    schemas = schemas_of_all("#/$defs/{name}")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"Sostenuto, MQTT version {VERSION}",
        "description": f"Messages below {ROOT}/<device>/. Unknown fields are to be ignored.",
        "x-topics": {
            topic.name: {
                "message": (
                    {"$ref": f"#/$defs/{topic.message.__name__}"}
                    if issubclass(topic.message, Struct)
                    else {"enum": [str(word) for word in topic.message]}
                ),
                "qos": topic.qos,
                "retain": topic.retain,
            }
            for topic in TOPICS.values()
        },
        "x-commands": {
            name: {"description": COMMANDS[name].meaning, "value": value, "data": answer}
            for name, (value, answer) in schemas.commands.items()
        },
        "$defs": schemas.definitions,
    }


@dataclass(frozen=True, slots=True)
class Field:
    """One field as `docs/events.md` shows it."""

    name: str
    type: str
    unit: str
    meaning: str

    @property
    def row(self) -> str:
        return f"| `{self.name}` | {self.type} | {self.unit} | {self.meaning} |"


def fields_of(kind: type[Struct]) -> list[Field]:
    """The fields of one message class, its envelope left out unless it is the `Envelope`."""
    hints = get_type_hints(kind, include_extras=True)
    envelope = () if kind is Envelope else Envelope.__struct_fields__
    inherits = issubclass(kind, Envelope)
    return [
        _field(name, hints[name])
        for name in kind.__struct_fields__
        if not (inherits and name in envelope)
    ]


def _field(name: str, hint: Any) -> Field:
    meanings = [m.description for m in _metas(hint) if m.description]
    units = [m.extra_json_schema["x-unit"] for m in _metas(hint) if m.extra_json_schema]
    return Field(name, _type_name(hint), units[0] if units else "", meanings[0] if meanings else "")


def _metas(hint: Any) -> Iterator[Meta]:
    """The `Meta` of an annotated type, the outermost first."""
    if get_origin(hint) is Annotated:
        yield from (m for m in reversed(hint.__metadata__) if isinstance(m, Meta))
        yield from _metas(hint.__origin__)


def _type_name(hint: Any) -> str:
    """How a type is written for readers of JSON."""
    if get_origin(hint) is Annotated:
        return _type_name(hint.__origin__)
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(_type_name(part) for part in get_args(hint))
    if get_origin(hint) is dict:
        return "object"
    if get_origin(hint) is tuple:
        return f"list of {_type_name(get_args(hint)[0])}"
    if hint is Any:
        return "any"
    if issubclass(hint, StrEnum):
        return " / ".join(f"`{value}`" for value in hint)
    if issubclass(hint, Struct):
        return f"[{hint.__name__}](#{hint.__name__.lower()})"
    names = {int: "integer", float: "number", bool: "boolean", str: "string", type(None): "null"}
    return names[hint]


def parts_of(kind: type[Struct]) -> list[type[Struct]]:
    """The objects that stand inside a message of this class, in the order of its fields."""
    found: list[type[Struct]] = []
    for hint in get_type_hints(kind).values():
        for part in (hint, *get_args(hint)):
            if isinstance(part, type) and issubclass(part, Struct) and part not in found:
                found.append(part)
    return found


def documented_classes() -> list[type[Struct]]:
    """Envelope, messages, what commands carry, and the parts of each, in order."""
    classes: list[type[Struct]] = []

    def add(kind: type[Struct]) -> None:
        if kind not in classes:
            classes.append(kind)
            for part in parts_of(kind):
                add(part)

    add(Envelope)
    for kind in message_classes() + command_classes():
        add(kind)
    return classes


def tables() -> str:
    """The field tables of `docs/events.md`, and that of the commands."""
    head = "| field | type | unit | meaning |\n| --- | --- | --- | --- |\n"
    return (
        "\n".join(
            f"### {kind.__name__}\n\n{head}" + "".join(f"{f.row}\n" for f in fields_of(kind))
            for kind in documented_classes()
        )
        + command_table()
    )


def command_table() -> str:
    """What can be asked, a row each."""
    rows = [
        f"| `{c.name}` | {carried(c.value)} | {carried(c.answer)} | {c.meaning} |\n"
        for c in COMMANDS.values()
    ]
    return "| command | `value` | `data` | what it does |\n| --- | --- | --- | --- |\n" + "".join(
        rows
    )


def carried(hint: Any) -> str:
    """What a command carries, as `docs/events.md` writes it."""
    return "null" if hint is None else _type_name(hint)


def main(arguments: list[str]) -> int:
    """Print the contract in one of its forms."""
    from edge.publish.asyncapi import asyncapi
    from edge.publish.contract_page import page

    forms: dict[str, Callable[[], str]] = {
        "schema": lambda: _json(schema()),
        "asyncapi": lambda: _json(asyncapi()),
        "html": page,
        "fields": tables,
    }
    if len(arguments) != 1 or arguments[0] not in forms:
        sys.stderr.write(f"usage: python -m edge.publish.contract {' | '.join(forms)}\n")
        return 2
    sys.stdout.write(forms[arguments[0]]())
    return 0


def _json(document: Document) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
