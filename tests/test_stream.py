"""Sound rendered while a model trains on it (`training.stream`): a window of shards that moves."""

from __future__ import annotations

import io
import json
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console

from edge.features import FeatureParameters
from tests.pianos import write_piano
from tests.shard_makers import die_at_first, square
from training.crew import Content, LocalProcesses, Lost, ShardKey
from training.preparation import prepare_shard, shard_path
from training.render.segment import load_sources
from training.stream import MOST_AHEAD, ShardStream


class OnePair:
    """Hands in this process: one shard at a time, done as soon as somebody asks."""

    def __init__(self) -> None:
        self.given: list[ShardKey] = []
        self._made = 0

    def has_free(self) -> bool:
        return len(self.given) == self._made

    def give(self, shard: ShardKey) -> None:
        self.given.append(shard)

    def has_done(self) -> bool:
        return not self.has_free()

    def next_done(self) -> tuple[ShardKey, Content | Lost]:
        self._made += 1
        return self.given[-1], square(self.given[-1])  # type: ignore[arg-type]


def paths(folder: Path, shards: int) -> dict[ShardKey, Path]:
    return {n: folder / f"{n:02}.npz" for n in range(shards)}


def there(folder: Path) -> list[int]:
    return sorted(int(path.stem) for path in folder.glob("*.npz"))


def quiet() -> Console:
    return Console(file=io.StringIO())


def test_the_window_moves_from_the_first_shards_to_the_last(tmp_path: Path) -> None:
    hands = OnePair()
    stream = ShardStream(hands, paths(tmp_path, 10), 4, quiet())
    for share, first in ((0.0, 0), (0.05, 0), (0.5, 3), (0.6, 4), (1.0, 6), (1.2, 6)):
        stream.move(share)
        assert there(tmp_path) == list(range(first, first + 4))
        assert all((tmp_path / f"{n:02}.npz").read_bytes() == square(n) for n in there(tmp_path))
    assert hands.given == list(range(10))


def test_no_more_is_rendered_ahead_than_memory_is_meant_for(tmp_path: Path) -> None:
    hands = OnePair()
    stream = ShardStream(hands, paths(tmp_path, 50), 4, quiet())
    for _ in range(3):
        stream.move(0.0)
    assert len(hands.given) == 4 + MOST_AHEAD + 1
    assert there(tmp_path) == [0, 1, 2, 3]


def test_a_run_that_goes_on_renders_what_its_window_lacks_and_deletes_what_lies_beside(
    tmp_path: Path,
) -> None:
    ShardStream(OnePair(), paths(tmp_path, 10), 10, quiet()).move(0.0)
    (tmp_path / "05.npz").unlink()
    hands = OnePair()
    stream = ShardStream(hands, paths(tmp_path, 10), 3, quiet())
    stream.move(0.5)
    assert there(tmp_path) == [4, 5, 6]
    assert hands.given[0] == 5
    stream.move(1.0)
    assert there(tmp_path) == [7, 8, 9]
    assert hands.given == [5, 7, 8, 9]


def test_a_process_that_dies_leaves_no_gap_in_the_window(tmp_path: Path) -> None:
    with LocalProcesses(partial(die_at_first, tmp_path), 2) as hands:
        stream = ShardStream(hands, paths(tmp_path / "out", 6), 2, quiet())
        for share in (0.0, 0.5, 1.0):
            stream.move(share)
    assert (tmp_path / "died").exists()
    assert there(tmp_path / "out") == [4, 5]
    assert (tmp_path / "out" / "04.npz").read_bytes() == square(4)


@pytest.mark.slow
def test_a_model_trains_on_a_piano_that_is_rendered_meanwhile_and_does_so_again(
    tmp_path: Path,
) -> None:
    pytest.importorskip("keras", reason="training needs the extra `train`")
    import keras

    from training.architecture import Architecture, BlockShape
    from training.train import Schedule, train

    write_piano(tmp_path / "music" / "pianos" / "small", range(21, 109, 24), 1.0)
    make = partial(prepare_shard, load_sources(tmp_path / "music"), FeatureParameters(), 1.5)
    narrow = Architecture("small", FeatureParameters(), 4, 1, 1, 8, (BlockShape(2, 1, 3),))
    schedule = Schedule(hours=0, steps=6, batch=1, frames=64, steps_per_epoch=2)

    def losses(shards: Path) -> list[float]:
        seen: list[int] = []
        keras.utils.set_random_seed(3)
        with LocalProcesses(make, 1) as hands:
            numbered: dict[ShardKey, Path] = {(2, n): shard_path(shards, 2, n) for n in range(4)}
            stream = ShardStream(hands, numbered, 1, quiet())

            def refill(share: float) -> None:
                stream.move(share)
                seen.append(len(list(shards.iterdir())))

            train(narrow, shards, shards.parent, schedule, refill=refill)
        assert set(seen) == {1}
        assert [path.name for path in shards.iterdir()] == ["002-00003.npz"]
        log = (shards.parent / "log.jsonl").read_text().splitlines()
        return [json.loads(line)["loss"] for line in log]

    assert losses(tmp_path / "run" / "shards") == losses(tmp_path / "again" / "shards")
