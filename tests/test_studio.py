"""The command `sostenuto-studio` as somebody meets it first."""

from __future__ import annotations

import subprocess
import sys

from tests.base_dependencies import ROOT

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
