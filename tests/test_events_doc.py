"""`docs/events.md` and the JSON Schema say what the types say: no more, no less, no other."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest
from msgspec import Struct

from edge.messages import TOPICS, Availability, Command, Envelope, decode, encode
from edge.publish.contract import command_table, documented_classes, fields_of, main, schema

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "events.md").read_text()
SECTIONS = dict(
    re.findall(r"^## `([^`]+)`\n(.*?)(?=^## |\Z)", PAGE, flags=re.MULTILINE | re.DOTALL)
)
MESSAGE_TOPICS = [topic for topic in TOPICS.values() if topic.message is not Availability]


def section(name: str) -> str:
    return SECTIONS[name.replace("+", "<name>")]


def example(name: str) -> bytes:
    examples = re.findall(r"```json\n(.*?)```", section(name), flags=re.DOTALL)
    assert len(examples) == 1, f"{name} has one example"
    return examples[0].encode()


def all_classes() -> list[type[Struct]]:
    return [kind for kind in documented_classes() if kind is not Envelope]


def test_every_command_is_documented_with_what_it_takes_and_gives():
    assert command_table() in PAGE


def test_the_committed_schema_is_what_the_types_print(capsys):
    assert main(["schema"]) == 0
    committed = (DOCS / "schema" / "sostenuto-v1.json").read_text()
    assert capsys.readouterr().out == committed, (
        "run: python -m edge.publish.contract schema > docs/schema/sostenuto-v1.json"
    )


def test_the_schema_is_a_schema():
    jsonschema.Draft202012Validator.check_schema(schema())


def test_every_topic_has_its_section_with_its_qos_and_retention():
    assert set(SECTIONS) == {name.replace("+", "<name>") for name in TOPICS}
    for name, topic in TOPICS.items():
        kept = "retained" if topic.retain else "not retained"
        assert f"QoS {topic.qos}, {kept}" in section(name)
    overview = re.findall(r"^\| \[`([^`]+)`\]\(#\w+\) \| (\d) \| (yes|no)", PAGE, re.MULTILINE)
    assert overview == [
        (name.replace("+", "<name>"), str(topic.qos), "yes" if topic.retain else "no")
        for name, topic in TOPICS.items()
    ]


@pytest.mark.parametrize("kind", [Envelope, *all_classes()], ids=lambda kind: kind.__name__)
def test_every_field_is_documented_with_its_type_unit_and_meaning(kind):
    for field in fields_of(kind):
        assert field.meaning, f"{kind.__name__}.{field.name} says nothing"
        assert field.row in PAGE, (
            f"docs/events.md lacks {kind.__name__}: {field.row} "
            "(python -m edge.publish.contract fields prints every table)"
        )


def test_no_field_is_documented_that_is_not_there():
    rows = re.findall(r"^\| `\w+` \| .*\|$", PAGE.replace(command_table(), ""), flags=re.MULTILINE)
    known = {field.row for kind in (Envelope, *all_classes()) for field in fields_of(kind)}
    assert set(rows) <= known


@pytest.mark.parametrize("kind", [Envelope, *all_classes()], ids=lambda kind: kind.__name__)
def test_a_field_whose_name_says_its_unit_has_it_in_its_description(kind):
    units = {"_s": "s", "_ms": "ms", "_hz": "Hz", "_dbfs": "dBFS", "_bytes": "bytes", "_c": "°C"}
    for field in fields_of(kind):
        for ending, unit in units.items():
            if field.name.endswith(ending):
                assert field.unit == unit, f"{kind.__name__}.{field.name}"


@pytest.mark.parametrize("topic", MESSAGE_TOPICS, ids=lambda topic: topic.name)
def test_the_example_is_a_message_and_leaves_no_field_out(topic):
    name = topic.name.replace("+", "listen")
    message = decode(name, example(topic.name))
    document = json.loads(example(topic.name))
    assert isinstance(message, topic.message)
    assert set(document) == set(topic.message.__struct_fields__)
    assert json.loads(encode(message)) == document


@pytest.mark.parametrize("topic", MESSAGE_TOPICS, ids=lambda topic: topic.name)
def test_the_example_keeps_to_the_schema(topic):
    validator = validator_of(topic.message.__name__)
    validator.validate(json.loads(example(topic.name)))


@pytest.mark.parametrize("topic", MESSAGE_TOPICS, ids=lambda topic: topic.name)
def test_the_schema_asks_for_the_envelope_and_refuses_another_version(topic):
    validator = validator_of(topic.message.__name__)
    document = json.loads(example(topic.name))
    if topic.message is Command:
        assert not validator.is_valid({})
        return
    for name in Envelope.__struct_fields__:
        assert not validator.is_valid({k: v for k, v in document.items() if k != name}), name
    assert not validator.is_valid({**document, "v": 2})
    assert validator.is_valid({**document, "a_later_field": 1})


def validator_of(name: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator({**schema(), "$ref": f"#/$defs/{name}"})


def test_the_words_of_availability_are_in_the_schema():
    assert schema()["x-topics"]["availability"]["message"] == {"enum": ["online", "offline"]}
    assert "```text\nonline\n```" in section("availability")


def test_every_link_of_the_page_leads_somewhere():
    anchors = set(re.findall(r'<a id="([^"]+)">', PAGE))
    headings = re.findall(r"^#+ (.*)$", PAGE, flags=re.MULTILINE)
    anchors |= {re.sub(r"[^\w -]", "", h).strip().lower().replace(" ", "-") for h in headings}
    for link in re.findall(r"\]\(#([^)]+)\)", PAGE):
        assert link in anchors
    for target in re.findall(r"\]\(([^#)][^)]*)\)", PAGE):
        assert (DOCS / target).exists()


def test_the_command_says_how_it_is_used(capsys):
    assert main([]) == 2
    assert "usage" in capsys.readouterr().err
    assert main(["fields"]) == 0
    assert "### Notes" in capsys.readouterr().out


def test_optional_parts_have_limits_in_the_schema_too():
    definition = schema()["$defs"]["AudioDevice"]["properties"]["sample_rate_hz"]
    assert {"type": "integer", "exclusiveMinimum": 0} in definition["anyOf"]
