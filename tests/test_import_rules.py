"""What importing ``edge`` may load, shown in fresh processes."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import packages_distributions

from packaging.utils import canonicalize_name

from tests.base_dependencies import ROOT, base_distributions

# Imports every module of edge; argv[1] lists the top-level names that must not be found.
IMPORT_ALL_OF_EDGE = """
import importlib, json, pkgutil, sys

class NotOnADevice:
    absent = set(json.loads(sys.argv[1]))
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.absent:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, NotOnADevice())
import edge
names = ["edge", *(m.name for m in pkgutil.walk_packages(edge.__path__, "edge."))]
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
print(json.dumps({"imported": names, "loaded": sorted(sys.modules)}))
"""


def import_all_of_edge(absent: list[str]) -> dict[str, list[str]]:
    run = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL_OF_EDGE, json.dumps(absent)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    answer: dict[str, list[str]] = json.loads(run.stdout)
    return answer


def test_importing_all_of_edge_loads_no_training_library_and_no_scipy() -> None:
    answer = import_all_of_edge(absent=[])
    assert "edge.note" in answer["imported"]
    loaded = {name.partition(".")[0] for name in answer["loaded"]}
    heavy = {"tensorflow", "keras", "jax", "torch", "scipy", "matplotlib", "mir_eval"}
    optional = {"pyaudio", "rtmidi", "amqtt", "partitura"}
    ours = {"training", "converters", "device", "fleet"}
    assert loaded.isdisjoint(heavy | optional | ours)


def test_all_of_edge_imports_with_the_base_dependencies_alone() -> None:
    on_a_device = {canonicalize_name(found.metadata["Name"]) for found in base_distributions()}
    on_a_device.add("sostenuto")
    absent = [
        name
        for name, providers in packages_distributions().items()
        if not {canonicalize_name(provider) for provider in providers} & on_a_device
    ]
    assert "pytest" in absent, "the test itself runs on more than a device has"
    assert "numpy" not in absent
    import_all_of_edge(absent)
