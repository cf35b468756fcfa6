"""Titles and composers as a person would write them.

Catalogues of scores carry what their sources had: metronome marks, an opus written twice,
underscores, surnames first, brackets of the librarian. On a screen beside a piano none of
that helps. Nothing is looked up and nothing is added: what a source does not say stays unsaid.
"""

from __future__ import annotations

import re

_METRONOME = re.compile(
    r"""\(?\s*
        (?:(?:metronome\s+de\s+|metr\.?\s*|tempo\s+di\s+)?m[aä]+l?[sz]+el+[.:]*\s*)?
        (?:m\s*[.:]\s*m\s*[.:]\s*)*
        [(\[]*\s*\[(?:whole|half|quarter|eighth|sixteenth)(?:-note)?(?:-dot)?\]\s*=\s*[\d.]+\s*[)\]]*\.?
    """,
    re.IGNORECASE | re.VERBOSE,
)
_METRONOME_NAME = re.compile(r"\(?\s*metronome\s+de\s+m[aä]lzel[.:]*\s*\)?", re.IGNORECASE)
_OPUS = re.compile(r"\bop(?:us)?\.?(?=[\s\d])", re.IGNORECASE)
_TWICE = re.compile(r"\b(op\. )(?:op\.? )+")
_CORRECTION = re.compile(r"\[?\b(?:post|ante) correcturam\b\]?", re.IGNORECASE)
_UNKNOWN = ("anonim", "anonymous", "anon", "unknown", "nieznany", "[unknown]")
_TEMPO_WORDS = (
    "adagio", "allegr", "andant", "animato", "brio", "con moto", "grave", "larg", "lento",
    "maestoso", "moderato", "mosso", "non troppo", "presto", "quasi", "risoluto", "sostenuto",
    "tempo", "tempo di", "vivac", "vivo", "scherzando", "cantabile", "doloroso", "mesto",
)  # fmt: skip


def tidy_title(title: str) -> str:
    """A readable title.

    Metronome marks, brackets of the librarian and doubled opus words go; underscores become
    spaces; a title all in capitals is written in small letters.
    """
    text = title.replace("_", " ")
    text = _METRONOME.sub(" ", text)
    text = _METRONOME_NAME.sub(" ", _CORRECTION.sub(" ", text))
    text = text.replace("|", " ").replace("[", "").replace("]", "")
    text = _OPUS.sub("op. ", text)
    text = _TWICE.sub(r"\1", " ".join(text.split()))
    parts = [_sentence(part.strip(" .:;")) for part in text.split(",")]
    return _joined([part for part in parts if part])


def _joined(parts: list[str]) -> str:
    """The parts, each once, without a closing tempo marking where there is more to say."""
    kept: list[str] = []
    for part in parts:
        if part.lower() not in (each.lower() for each in kept):
            kept.append(part)
    while len(kept) > 1 and _is_tempo(kept[-1]):
        kept.pop()
    text = ", ".join(kept)
    return text[:1].upper() + text[1:]


def _is_tempo(part: str) -> bool:
    return any(part.lower().startswith(word) for word in _TEMPO_WORDS)


def _sentence(part: str) -> str:
    letters = [letter for letter in part if letter.isalpha()]
    if len(letters) < 4 or not all(letter.isupper() for letter in letters):
        return part
    return part[:1] + part[1:].lower()


def tidy_composer(composer: str) -> str:
    """The composer as ``Surname, First names``; empty where nobody knows."""
    text = composer.replace("[", "").replace("]", "").replace("_", " ")
    text = " ".join(text.split()).strip(" .;,")
    return "" if text.lower() in _UNKNOWN else text
