"""Shards handed out to hands that may die (`training.crew`), and the same files by any of them."""

from __future__ import annotations

import io
import os
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console

from edge.errors import InputError, UsageError
from edge.features import FeatureParameters
from tests.shard_makers import die_always, die_at_first, fail, square, tell_and_wait
from training.command import ShardFolder, render_shards
from training.crew import Content, LocalProcesses, ShardKey, make_all, make_shards, store
from training.preparation import prepare_shard, shard_path
from training.render.command import RenderPlan, render_shard
from training.render.modelled import modelled_piano
from training.render.segment import Conditions, Sources, make_sources


def quiet() -> Console:
    return Console(file=io.StringIO())


@pytest.fixture(scope="module")
def sources() -> Sources:
    return make_sources([modelled_piano(0)])


def written(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_every_shard_is_made_once_whoever_is_free() -> None:
    made: dict[ShardKey, Content] = {}
    with LocalProcesses(square, 3) as hands:
        make_all(hands, range(10), lambda shard, content: made.update({shard: content}))
    assert made == {n: square(n) for n in range(10)}


def test_any_number_of_processes_writes_the_same_files(tmp_path: Path, sources: Sources) -> None:
    for processes in (1, 2):
        plan = RenderPlan(tmp_path / str(processes), 3, 66, 0.5, Conditions())
        make_shards(partial(render_shard, plan, sources), plan.paths(), processes, None, quiet())
    one, two = written(tmp_path / "1"), written(tmp_path / "2")
    assert len(one) == 66 * 3
    assert one == two


def test_shards_for_training_come_from_the_same_hands(tmp_path: Path, sources: Sources) -> None:
    make = partial(prepare_shard, sources, FeatureParameters(), 0.5)
    shards = [(9, 0), (2, 0), (2, 1)]
    paths = {shard: shard_path(tmp_path, *shard) for shard in shards}
    make_shards(make, paths, 2, None, quiet())
    assert {name: len(content) > 0 for name, content in written(tmp_path).items()} == {
        "002-00000.npz": True,
        "002-00001.npz": True,
        "009-00000.npz": True,
    }
    assert (tmp_path / "002-00001.npz").read_bytes() == make((2, 1))


def test_a_stopped_rendering_goes_on_with_what_is_missing(tmp_path: Path) -> None:
    paths = {n: tmp_path / f"{n}.npz" for n in range(4)}
    paths[0].write_bytes(b"made before")
    (tmp_path / "2.npz.part").write_bytes(b"half")
    make_shards(square, paths, 2, None, quiet())
    assert written(tmp_path) == {
        "0.npz": b"made before",
        "1.npz": b"1",
        "2.npz": b"4",
        "3.npz": b"9",
    }


def test_where_no_shard_is_missing_the_training_folder_is_not_read(tmp_path: Path) -> None:
    folder = ShardFolder(tmp_path, seed=2, hours=0.1)
    assert [path.name for path in folder.paths().values()] == ["002-00000.npz", "002-00001.npz"]
    for path in folder.paths().values():
        path.touch()
    assert render_shards([folder], tmp_path / "no such folder", tmp_path, 1) == ()


def test_a_folder_has_its_name_only_when_all_its_files_are_there(tmp_path: Path) -> None:
    (tmp_path / "shard.part").mkdir()
    (tmp_path / "shard.part" / "left_over").write_text("")
    store(tmp_path / "shard", {"a": b"1", "b": b"2"})
    assert written(tmp_path) == {"shard/a": b"1", "shard/b": b"2"}


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write .*file/1\.npz: "):
        make_shards(square, {1: tmp_path / "file" / "1.npz"}, 1, None, quiet())


def test_the_shard_of_a_process_that_dies_is_made_by_another(tmp_path: Path) -> None:
    paths = {n: tmp_path / "out" / str(n) for n in range(6)}
    make_shards(partial(die_at_first, tmp_path), paths, 2, None, quiet())
    assert (tmp_path / "died").exists()
    assert written(tmp_path / "out") == {str(n): square(n) for n in range(6)}


def test_a_shard_that_kills_every_process_ends_the_work_and_is_named(tmp_path: Path) -> None:
    paths = {n: tmp_path / str(n) for n in range(4)}
    with pytest.raises(InputError, match=r"shard 1 was lost 3 times .* ended with code 9"):
        make_shards(die_always, paths, 1, None, quiet())
    assert written(tmp_path).get("0") == b"0"


def test_an_error_in_a_process_is_raised_here(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no piano for shard 5") as raised:
        make_shards(fail, {5: tmp_path / "5"}, 2, None, quiet())
    assert "in fail" in "".join(raised.value.__notes__)


def test_an_interruption_leaves_no_process_behind(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), LocalProcesses(partial(tell_and_wait, tmp_path), 2) as h:
        h.give(0)
        h.give(1)
        while len(list(tmp_path.iterdir())) < 2:
            time.sleep(0.01)
        raise KeyboardInterrupt
    for path in tmp_path.iterdir():
        with pytest.raises(ProcessLookupError):
            os.kill(int(path.name), 0)


def test_without_ray_the_extra_to_install_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"pip install 'sostenuto\[train,ray\]'"):
        make_shards(square, {1: tmp_path / "1"}, 1, "auto", quiet())
