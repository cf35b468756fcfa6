from __future__ import annotations

from pathlib import Path

from edge.board import board_name, system_name


def test_a_board_is_called_as_it_calls_itself(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(b"Raspberry Pi 5 Model B Rev 1.0\x00")
    assert board_name(tmp_path / "model") == "Raspberry Pi 5 Model B Rev 1.0"


def test_a_board_without_a_name_is_called_after_its_processor(tmp_path: Path) -> None:
    assert board_name(tmp_path / "none")
    assert ", " in system_name()
