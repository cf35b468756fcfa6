"""Rendering on a Ray cluster of two nodes on this machine: the same files, also when one dies.

The nodes are real ones, each with its own scheduler and processes; what they send each other goes
through Ray as it would between machines.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from edge.errors import InputError, UsageError
from edge.features import FeatureParameters
from tests.pianos import write_piano
from training.crew import Content, RayCluster, ShardKey, make_all, make_shards
from training.preparation import prepare_shard
from training.render.command import RenderPlan, render_command, render_shard
from training.render.modelled import modelled_piano
from training.render.segment import Conditions, load_sources, make_sources
from training.stream import ShardStream

ray = pytest.importorskip("ray", reason="rendering on several machines needs the extra `ray`")
cluster_utils = pytest.importorskip("ray.cluster_utils")

pytestmark = pytest.mark.slow

STORE_BYTES = 100_000_000
QUICK_TO_NOTICE_A_DEATH = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_failure_threshold": 4,
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("RAY_USAGE_STATS_ENABLED", "0")
        head = {
            "num_cpus": 1,
            "object_store_memory": STORE_BYTES,
            "include_dashboard": False,
            "_system_config": QUICK_TO_NOTICE_A_DEATH,
        }
        two = cluster_utils.Cluster(initialize_head=True, head_node_args=head)
        two.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
        yield two
        two.shutdown()


def written(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_cluster_writes_the_files_that_this_machine_writes(tmp_path: Path, cluster: Any) -> None:
    train, out = tmp_path / "train", tmp_path / "out"
    write_piano(train / "pianos" / "tiny", keys=range(33, 109, 24), duration_s=1.0)
    hours = 8 * 0.5 / 3600
    render_command(train, out, hours, duration_s=0.5, seed=3, ray=cluster.address)
    plan, sources = RenderPlan(out, 3, 8, 0.5, Conditions()), load_sources(train)
    here = {
        f"{path.name}/{name}": content
        for shard, path in plan.paths().items()
        for name, content in render_shard(plan, sources, shard).items()
    }
    assert len(here) == 8 * 3
    assert written(out) == here


def test_an_error_on_a_node_is_raised_here(tmp_path: Path, cluster: Any) -> None:
    def fail(shard: int) -> bytes:
        raise InputError(f"no piano for shard {shard}")

    with pytest.raises(InputError, match="no piano for shard 5"):
        make_shards(fail, {5: tmp_path / "5"}, 1, cluster.address, Console(file=io.StringIO()))


def test_a_cluster_renders_while_a_model_trains(tmp_path: Path, cluster: Any) -> None:
    paths: dict[ShardKey, Path] = {n: tmp_path / f"{n}.npz" for n in range(6)}
    with RayCluster(lambda shard: str(shard).encode(), cluster.address) as hands:
        stream = ShardStream(hands, paths, 2, Console(file=io.StringIO()))
        for share, window in ((0.0, [0, 1]), (0.5, [2, 3]), (1.0, [4, 5])):
            stream.move(share)
            assert written(tmp_path) == {f"{n}.npz": str(n).encode() for n in window}


def test_nobody_at_an_address_is_told_at_once() -> None:
    with pytest.raises(UsageError, match=r"no Ray cluster at '127\.0\.0\.1:9'.*ray start --head"):
        RayCluster(len, "127.0.0.1:9")


def test_the_shards_of_a_node_that_dies_are_made_by_the_other(cluster: Any) -> None:
    """Last of this file: the cluster has one node afterwards."""
    prepare = partial(prepare_shard, make_sources([modelled_piano(0)]), FeatureParameters(), 0.5)

    def made_where(shard: tuple[int, int]) -> dict[str, bytes]:
        return {"shard": prepare(shard), "node": ray.get_runtime_context().get_node_id().encode()}

    mortal = next(node for node in cluster.list_all_nodes() if not node.head)
    made: dict[ShardKey, bytes] = {}
    nodes: list[str] = []

    def keep(shard: ShardKey, content: Content) -> None:
        assert isinstance(content, dict)
        made[shard] = content["shard"]
        nodes.append(content["node"].decode())
        if nodes[-1] == mortal.node_id and mortal in cluster.list_all_nodes():
            cluster.remove_node(mortal, allow_graceful=False)

    shards = [(2, n) for n in range(5)]
    with RayCluster(made_where, cluster.address) as hands:
        make_all(hands, shards, keep)
    assert mortal.node_id in nodes
    assert nodes[-1] != mortal.node_id
    assert sorted(made) == shards
    assert made[2, 4] == prepare((2, 4))
