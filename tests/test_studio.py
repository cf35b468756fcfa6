"""The command `sostenuto-studio` as somebody meets it first."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from converters.model_command import _training
from edge.errors import InputError, UsageError
from tests.base_dependencies import ROOT
from training.architecture import separable3d
from training.command import train_command

LIST_THE_COMMANDS = """
import sys
from converters.studio import app
try:
    app(["--help"])
finally:
    heavy = {"tensorflow", "keras", "scipy", "partitura"} & set(sys.modules)
    print("loaded:", *sorted(heavy))
"""


def test_listing_the_commands_loads_no_training_library() -> None:
    run = subprocess.run(
        [sys.executable, "-c", LIST_THE_COMMANDS],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    for command in ("catalog", "render", "train", "evaluate", "convert"):
        assert f" {command} " in run.stdout
    assert run.stdout.rstrip().endswith("loaded:")


def test_an_ear_that_waits_longer_than_a_device_does_is_not_trained(tmp_path: Path) -> None:
    pytest.importorskip("keras", reason="training needs the extra `train`")
    (tmp_path / "pianos").mkdir()
    with pytest.raises(UsageError, match=r"--lookahead-frames 9 .* 264 ms: a device waits 260 ms"):
        train_command(tmp_path / "run", tmp_path, lookahead_frames=9)
    assert not (tmp_path / "run").exists()


def test_a_run_without_a_log_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no steps in .*log\.jsonl"):
        _training(tmp_path, None, separable3d(), [], "noise")
