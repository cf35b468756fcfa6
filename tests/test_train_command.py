"""`sostenuto-studio train`: what a run says of itself, and what it then refuses to become."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge.errors import InputError, UsageError
from tests.pianos import write_piano
from tests.shard_makers import name_of
from training import command
from training.architecture import separable3d
from training.command import TRAINING_SEED, ShardFolder, render_shards, train_command
from training.preparation import shard_path
from training.run_record import differences

pytest.importorskip("keras", reason="training needs the extra `train`")


@pytest.fixture
def train_folder(tmp_path: Path) -> Path:
    """With nothing in it to render from: what is rendered is told by `rendered`."""
    (tmp_path / "music" / "pianos").mkdir(parents=True)
    return tmp_path / "music"


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Instead of rendering and training: what was held out, a shard for each rendering."""
    asked: list[object] = []

    def render(folders, train, cache, processes, ray, held_out):  # type: ignore[no-untyped-def]
        asked.append(held_out)
        for folder in folders:
            path = shard_path(folder.folder, folder.seed, 0)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return ()

    monkeypatch.setattr(command, "render_shards", render)
    monkeypatch.setattr("training.train.train", lambda *_, **__: None)
    return asked


def test_a_run_says_what_it_was_made_from(
    tmp_path: Path, train_folder: Path, rendered: list[object]
) -> None:
    run = tmp_path / "run"
    start = tmp_path / "before.npz"
    train_command(run, train_folder, hold_out=["upright"], audio_hours=3.0, start_from=start)
    made = json.loads((run / "run.json").read_text())
    assert made["train_folder"] == "music"
    assert made["held_out"] == ["upright"]
    assert (made["audio_hours"], made["start_from"]) == (3.0, "before.npz")
    assert made["schedule"]["hours"] == 1.25
    assert {"python", "keras", "numpy"} <= made["versions"].keys()
    # It may go on for longer, on more sound.
    train_command(run, train_folder, hold_out=["upright"], audio_hours=5.0, hours=2.0)
    on = json.loads((run / "run.json").read_text())
    assert (on["audio_hours"], on["schedule"]["hours"]) == (5.0, 2.0)
    assert on["start_from"] == "before.npz"
    assert rendered == [["upright"]] * 2


def test_a_run_that_has_heard_an_instrument_does_not_go_on_without_it(
    tmp_path: Path, train_folder: Path, rendered: list[object]
) -> None:
    run = tmp_path / "run"
    train_command(run, train_folder)
    begun = (run / "run.json").read_bytes()
    with pytest.raises(
        InputError, match=r"held_out was none and is now upright\. .*train into another folder"
    ):
        train_command(run, train_folder, hold_out=["upright"])
    other = train_folder.rename(tmp_path / "other")
    with pytest.raises(InputError, match="train_folder was music and is now other"):
        train_command(run, other)
    assert len(rendered) == 1
    assert (run / "run.json").read_bytes() == begun


def test_a_run_of_which_nothing_is_rendered_may_still_change(
    tmp_path: Path, train_folder: Path, rendered: list[object]
) -> None:
    run = tmp_path / "run"
    train_command(run, train_folder, hold_out=["uprihgt"])
    for shard in run.glob("*/*.npz"):
        shard.unlink()
    train_command(run, train_folder, hold_out=["upright"])
    assert json.loads((run / "run.json").read_text())["held_out"] == ["upright"]


def test_shards_of_which_nothing_says_what_they_hold_are_not_trained_on(
    tmp_path: Path, train_folder: Path, rendered: list[object]
) -> None:
    shard = shard_path(tmp_path / "run" / "shards", TRAINING_SEED, 0)
    shard.parent.mkdir(parents=True)
    shard.touch()
    with pytest.raises(InputError, match=r"run has begun, but no run\.json says .*another folder"):
        train_command(tmp_path / "run", train_folder)
    (tmp_path / "run" / "run.json").write_text('{"pianos": []}')
    with pytest.raises(InputError, match=r"no run\.json of this version"):
        train_command(tmp_path / "run", train_folder)
    assert rendered == []


def test_what_is_trained_is_what_the_options_say(
    tmp_path: Path,
    train_folder: Path,
    rendered: list[object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from training.train import Schedule

    given: list[object] = []
    monkeypatch.setattr("training.train.train", lambda *values, **_: given.append(values))
    train_command(tmp_path / "plain", train_folder)
    train_command(
        tmp_path / "run", train_folder, steps=2000, peak_rate=7e-4, channels=64, reach_patterns=32
    )
    (plain, _, _, usual), (changed, _, _, shorter) = given
    assert (plain, usual) == (separable3d(), Schedule(hours=1.25))
    assert changed == separable3d(64, reach_patterns=32)
    assert [block.reach_patterns for block in changed.blocks] == [32, 0, 32, 0, 32, 0]
    assert shorter == Schedule(hours=1.25, steps=2000, peak_rate=7e-4)
    with pytest.raises(UsageError, match="--reach-patterns 32: only separable3d has them, not com"):
        train_command(tmp_path / "small", train_folder, family="compressed", reach_patterns=32)
    with pytest.raises(UsageError, match=r"--peak-rate 0\.0.* rate must be more than 0"):
        train_command(tmp_path / "still", train_folder, peak_rate=0.0)


def test_with_hours_to_keep_the_training_begins_when_these_are_rendered(
    tmp_path: Path, train_folder: Path, rendered: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[list[str]] = []
    run = tmp_path / "run"

    def train(*_: object, refill, **__: object) -> None:  # type: ignore[no-untyped-def]
        for share in (0.0, 0.5, 1.0):
            refill(share)
            heard.append(sorted(path.name for path in (run / "shards").iterdir()))

    monkeypatch.setattr("training.train.train", train)
    monkeypatch.setattr(command, "shard_maker", lambda *_: (name_of, ()))
    shards_h = 16 * 12 / 3600
    train_command(run, train_folder, audio_hours=6 * shards_h, keep_hours=2 * shards_h, processes=1)
    assert rendered == []
    assert heard == [[f"002-{n:05}.npz" for n in (first, first + 1)] for first in (0, 2, 4)]
    assert (run / "judging" / "009-00003.npz").read_bytes() == name_of((9, 3))
    with pytest.raises(UsageError, match=r"--keep-hours 0\.0"):
        train_command(tmp_path / "none", train_folder, keep_hours=0.0)


def test_soundfonts_and_pieces_that_are_not_there_are_named_with_what_holds_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_piano(tmp_path / "music" / "pianos" / "small", range(21, 109, 24), 1.0)
    monkeypatch.setattr(command, "MODELLED_PIANOS", 0)
    monkeypatch.setattr(command, "FONTS", {tmp_path / "Grand.sf2": "grand-soundfont"})
    monkeypatch.setattr(command, "make_shards", lambda *_: None)
    folder = ShardFolder(tmp_path / "shards", TRAINING_SEED, 0.1)
    skipped = render_shards([folder], tmp_path / "music", tmp_path / "cache", 1)
    said = capsys.readouterr().err.splitlines()
    assert said == [f"skipped {one}" for one in skipped]
    assert [one.name for one in skipped] == [
        "Grand.sf2",
        "pop909.tar.xz",
        "scores_cc_by_midi.tar.xz",
    ]
    assert "apt install grand-soundfont" in said[0]
    assert f"not in {tmp_path / 'music' / 'performances'}: nothing is played from it" in said[1]
    (tmp_path / "Grand.sf2").touch()
    assert command.missing_fonts() == []


def test_differences_are_told_down_to_the_field_and_not_for_ever() -> None:
    old = {"a": 1, "blocks": [{"keys": 3}, {"keys": 5}], "harmonics": [1, 2]}
    new = {"a": 1, "blocks": [{"keys": 3}, {"keys": 7}], "harmonics": []}
    assert differences(old, old) == ""
    assert differences(old, new) == (
        "blocks.1.keys was 5 and is now 7; harmonics was 1, 2 and is now none"
    )
    many = differences({str(n): 0 for n in range(9)}, {str(n): 1 for n in range(9)})
    assert many.endswith("3 was 0 and is now 1; and 5 more")
