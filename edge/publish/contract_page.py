"""The contract as one page for a browser, which needs nothing but itself."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

from msgspec import Struct

from edge.messages import (
    COMMANDS,
    ROOT,
    TOPICS,
    VERSION,
    Envelope,
    command_classes,
    message_classes,
)
from edge.publish.contract import carried, documented_classes, fields_of

_STYLE = """
:root { color-scheme: light dark; --line: #8886; --soft: #8881 }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem }
h1, h2, h3 { line-height: 1.2 }
h2 { margin-top: 3rem } h3 { margin-top: 2rem }
.wide { overflow-x: auto }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; vertical-align: top; padding: .3rem .6rem;
  border-bottom: 1px solid var(--line) }
code { background: var(--soft); padding: 0 .2em; border-radius: .2em }
a { color: LinkText }
"""


def page() -> str:
    """The whole page."""
    said = {topic.message.__name__: topic.name for topic in TOPICS.values()}
    parts = [kind for kind in documented_classes() if kind not in _heads()]
    body = [
        f"<h1>Sostenuto over MQTT, version {VERSION}</h1>",
        f"<p>What a piano publishes below <code>{ROOT}/&lt;device&gt;/</code>, and what can be "
        "asked of it. Unknown fields are to be ignored. Printed from the program's own types; "
        '<a href="events.md">events.md</a> has rules and examples, '
        '<a href="schema/sostenuto-v1.json">JSON Schema</a> and '
        '<a href="schema/asyncapi.json">AsyncAPI 3</a> are for programs.</p>',
        "<h2 id='topics'>Topics</h2>",
        _table(
            ("topic", "QoS", "retained", "content"),
            [
                (
                    f"<code>{html.escape(t.name.replace('+', '<name>'))}</code>",
                    str(t.qos),
                    "yes" if t.retain else "no",
                    f'<a href="#{t.message.__name__.lower()}">{t.message.__name__}</a>',
                )
                for t in TOPICS.values()
            ],
        ),
        "<h2 id='commands'>Commands</h2>",
        _table(
            ("command", "value", "data of the answer", "what it does"),
            [
                (
                    f"<code>{name}</code>",
                    _marked(carried(c.value)),
                    _marked(carried(c.answer)),
                    _marked(c.meaning),
                )
                for name, c in COMMANDS.items()
            ],
        ),
        "<h2>Messages</h2>",
        '<h3 id="availability">Availability</h3>',
        "<p>The bare word <code>online</code> or <code>offline</code>, without envelope.</p>",
    ]
    for kind in _heads():
        topic = said.get(kind.__name__, "")
        where = f" on <code>{html.escape(topic.replace('+', '<name>'))}</code>" if topic else ""
        body.append(_section(kind, where))
    body.append("<h2>Parts of messages</h2>")
    body += [_section(kind, "") for kind in parts]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Sostenuto over MQTT, version {VERSION}</title>\n<style>{_STYLE}</style>\n"
        "</head>\n<body>\n" + "\n".join(body) + "\n</body>\n</html>\n"
    )


def _heads() -> tuple[type[Struct], ...]:
    return (Envelope, *message_classes(), *command_classes())


def _section(kind: type[Struct], where: str) -> str:
    meaning = " ".join((kind.__doc__ or "").split())
    rows = [
        (f"<code>{f.name}</code>", _marked(f.type), html.escape(f.unit), _marked(f.meaning))
        for f in fields_of(kind)
    ]
    title = f'<h3 id="{kind.__name__.lower()}">{kind.__name__}{where}</h3>\n'
    return title + f"<p>{_marked(meaning)}</p>\n" + _table(("field", "type", "unit", ""), rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    lines = ["".join(f"<td>{cell}</td>" for cell in row) for row in rows]
    body = "\n".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="wide"><table>\n<tr>{cells}</tr>\n{body}\n</table></div>'


def _marked(text: str) -> str:
    """Backticks as code, links within the page as links; all else as it stands."""
    marked = re.sub(r"`([^`]*)`", r"<code>\1</code>", html.escape(text, quote=False))
    return re.sub(r"\[(\w+)\]\(#(\w+)\)", r'<a href="#\2">\1</a>', marked)
