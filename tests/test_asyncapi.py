"""The AsyncAPI document and the page: committed as printed, valid, whole, and without network."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from edge.messages import COMMANDS, TOPICS
from edge.publish.asyncapi import asyncapi
from edge.publish.contract import documented_classes, fields_of, main
from edge.publish.contract_page import page

ROOT = Path(__file__).parents[1]
DOCUMENT = asyncapi()
RULES = json.loads((ROOT / "tests" / "asyncapi" / "3.0.0.json").read_text())


@pytest.mark.parametrize(
    ("form", "path"), [("asyncapi", "docs/schema/asyncapi.json"), ("html", "docs/contract.html")]
)
def test_what_is_committed_is_what_the_types_print(form: str, path: str, capsys) -> None:
    assert main([form]) == 0
    committed = (ROOT / path).read_text(encoding="utf-8")
    assert capsys.readouterr().out == committed, "run: make contract"


def test_the_document_is_asyncapi_3() -> None:
    validator = jsonschema.Draft7Validator(RULES)
    errors = [
        f"{error.json_path}: {error.message[:200]}" for error in validator.iter_errors(DOCUMENT)
    ]
    assert errors == []


@pytest.mark.parametrize(
    "change",
    [
        {"asyncapi": "2.6.0"},
        {"info": {"title": "Sostenuto"}},
        {"topics": {}},
        {"operations": {"send": {"action": "publish", "channel": {"$ref": "#/channels/notes"}}}},
        {"channels": {"notes": {"adress": "notes"}}},
    ],
)
def test_the_check_can_fail(change: dict[str, Any]) -> None:
    assert not jsonschema.Draft7Validator(RULES).is_valid({**DOCUMENT, **change})


def references(document: Any) -> Iterator[str]:
    if isinstance(document, dict):
        for key, value in document.items():
            if key == "$ref":
                yield value
            else:
                yield from references(value)
    elif isinstance(document, list):
        for value in document:
            yield from references(value)


def resolve(reference: str) -> Any:
    found: Any = DOCUMENT
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return resolve(found["$ref"]) if set(found) == {"$ref"} else found


def test_every_reference_leads_somewhere() -> None:
    found = set(references(DOCUMENT))
    assert len(found) > 50
    for reference in found:
        assert reference.startswith("#/")
        assert resolve(reference)


def test_every_topic_is_a_channel_with_its_qos_and_retention() -> None:
    sent = [each for each in DOCUMENT["operations"].values() if each["action"] == "send"]
    found = {}
    for operation in sent:
        channel = resolve(operation["channel"]["$ref"])
        mqtt = operation["bindings"]["mqtt"]
        found[channel["address"]] = (mqtt["qos"], mqtt["retain"])
    assert found == {
        f"sostenuto/v1/{{device}}/{topic.name}": (topic.qos, topic.retain)
        for topic in TOPICS.values()
        if "+" not in topic.name
    }


def test_every_command_is_received_and_answered_with_its_own_types() -> None:
    received = [each for each in DOCUMENT["operations"].values() if each["action"] == "receive"]
    assert len(received) == len(COMMANDS)
    for name, operation in zip(COMMANDS, received, strict=True):
        assert resolve(operation["channel"]["$ref"])["address"].endswith(f"/cmd/{name}")
        assert resolve(operation["reply"]["channel"]["$ref"])["address"].endswith(f"/rsp/{name}")
    bundle = {**DOCUMENT["components"]["schemas"]}
    text = json.dumps(bundle).replace("#/components/schemas/", "#/$defs/")
    listen = jsonschema.Draft202012Validator(
        {"$defs": json.loads(text), "$ref": "#/$defs/ListenCommand"}
    )
    assert listen.is_valid({"value": True, "transaction": "a"})
    assert not listen.is_valid({"value": "on", "transaction": "a"})
    assert not listen.is_valid({"value": True})


def test_the_page_says_every_field_and_every_link_of_it_leads_somewhere() -> None:
    text = page()
    ids = set(re.findall(r"""id=["']([^"']+)["']""", text))
    for link in re.findall(r'href="#([^"]+)"', text):
        assert link in ids, link
    for target in re.findall(r'href="([^#"]+)"', text):
        assert (ROOT / "docs" / target).exists()
    for kind in documented_classes():
        assert f'id="{kind.__name__.lower()}"' in text
        for field in fields_of(kind):
            assert f"<code>{field.name}</code>" in text
    assert "`" not in re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL)


def test_the_page_loads_nothing_from_anywhere() -> None:
    assert not re.search(r"<script|<link|<img|@import|url\(|https?:", page())
