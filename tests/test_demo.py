from __future__ import annotations

from pathlib import Path

import pytest

from edge.cli.app import run_command
from edge.ear import DEFAULT_MODEL
from edge.matching import default_catalogue_dir
from edge.resources import demo_recording, models_dir


def test_a_recording_that_is_not_there_is_told_before_anything_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["demo", "--plain", "--recording", str(tmp_path / "none.flac")]) == 3
    assert "no such file" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(
    not (
        demo_recording().exists()
        and default_catalogue_dir().exists()
        and (models_dir() / f"{DEFAULT_MODEL}.tflite").exists()
    ),
    reason="recording, catalogue or note model is not in the project yet",
)
def test_the_demo_hears_its_recording_from_end_to_end_and_names_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_command(["demo", "--plain"]) == 0
    said = capsys.readouterr().out
    assert "this was Für Elise" in said
    assert "from sound to message" in said
    assert "0 messages missing" in said
    assert "listen --mic NAME" in said
