"""What other programs leave for the ear to tell: in order, once, and never as root by a link."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.messages import EventKind, Severity
from edge.publish.notices import FOLDER, MOST_NOTICES, Notice, leave, take


def note(text: str) -> Notice:
    return Notice(EventKind.UPDATE_COMMITTED, Severity.INFO, text)


def test_notices_are_told_in_their_order_and_once(tmp_path: Path) -> None:
    assert not list(take(tmp_path))
    for text in ("one", "two", "three"):
        leave(note(text), tmp_path)
    assert [message.text for message in take(tmp_path)] == ["one", "two", "three"]
    assert not list(take(tmp_path))


def test_a_notice_is_there_until_the_next_is_asked_for(tmp_path: Path) -> None:
    leave(note("one"), tmp_path)
    assert next(take(tmp_path)).text == "one"  # and then the power is cut
    assert next(take(tmp_path)).text == "one"


def test_what_cannot_be_read_is_passed_over_and_gone(tmp_path: Path) -> None:
    leave(note("one"), tmp_path)
    for name, content in (("0.json", b"{"), ("1.json", b"x" * 100_000), ("2.json", b'{"kind":1}')):
        (tmp_path / FOLDER / name).write_bytes(content)
    assert [message.text for message in take(tmp_path)] == ["one"]
    assert not list((tmp_path / FOLDER).iterdir())


def test_only_the_newest_are_kept_where_nobody_listens(tmp_path: Path) -> None:
    for number in range(MOST_NOTICES + 5):
        leave(note(str(number)), tmp_path)
    told = [int(message.text) for message in take(tmp_path)]
    assert told == list(range(5, MOST_NOTICES + 5))


@pytest.fixture
def everybodys() -> Iterator[Path]:
    """A folder that others may walk into, which those above a test's own do not allow."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_root_writes_as_the_one_whose_folder_it_is(everybodys: Path) -> None:
    state, foreign = everybodys / "state", everybodys / "foreign"
    state.mkdir()
    foreign.mkdir(mode=0o755)
    os.chown(state, 65534, 65534)
    leave(note("one"), state)
    (written,) = (state / FOLDER).glob("*.json")
    assert written.stat().st_uid == 65534
    assert os.geteuid() == 0
    written.unlink()
    (state / FOLDER).rmdir()
    (state / FOLDER).symlink_to(foreign)
    with pytest.raises(PermissionError):
        leave(note("two"), state)
    assert not list(foreign.iterdir())
