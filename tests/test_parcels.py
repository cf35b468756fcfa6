"""Which models and packs are in force: those that came with the software, or a parcel's."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.matching import default_catalogue_dir
from edge.resources import (
    NEEDS_FILE,
    PARCELS_VARIABLE,
    demo_recording,
    models_dir,
    parcel_dir,
    shipped_dir,
    version_numbers,
)


@pytest.fixture
def parcels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(PARCELS_VARIABLE, str(tmp_path))
    return tmp_path


def lay(parcels: Path, kind: str, version: str, needs: str = "0.1.0") -> Path:
    folder = parcels / kind / version
    folder.mkdir(parents=True)
    (folder / NEEDS_FILE).write_text(f"{needs}\n")
    current = parcels / kind / "current"
    current.unlink(missing_ok=True)
    current.symlink_to(version)
    return folder


def test_without_a_parcel_what_came_with_the_software_is_in_force(parcels: Path) -> None:
    assert models_dir() == shipped_dir()
    assert default_catalogue_dir() == shipped_dir() / "catalogue"


def test_a_newer_parcel_is_in_force_for_its_kind_alone(parcels: Path) -> None:
    folder = lay(parcels, "models", "99.0")
    assert models_dir() == folder
    assert default_catalogue_dir() == shipped_dir() / "catalogue"
    assert demo_recording().exists()
    pack = lay(parcels, "catalog", "99.1")
    assert default_catalogue_dir() == pack


@pytest.mark.parametrize(
    ("version", "needs", "software", "in_force"),
    [
        ("0.2.0.1", "0.2.0", "0.2.0", True),
        ("0.2.0.1", "0.2", "0.2.0", True),
        ("0.2.0", "0.1.0", "0.2.0", False),  # as old as the software's own
        ("0.2.0.1", "0.1.0", "0.2.1", False),  # the software brought newer ones
        ("0.2.0.1", "0.2.0", "0.1.9", False),  # the software went back and cannot read it
        ("0.10.0", "0.1", "0.9.0", True),  # numbers, not letters
        ("newest", "0.1", "0.1", False),
        ("0.3", "soon", "0.1", False),
    ],
)
def test_which_of_two_versions_is_in_force(
    parcels: Path, version: str, needs: str, software: str, in_force: bool
) -> None:
    folder = lay(parcels, "models", version, needs)
    assert parcel_dir("models", software) == (folder if in_force else None)


def test_a_parcel_that_lost_its_files_is_passed_over(parcels: Path) -> None:
    folder = lay(parcels, "models", "99.0")
    (folder / NEEDS_FILE).unlink()
    assert models_dir() == shipped_dir()
    folder.rmdir()
    assert models_dir() == shipped_dir()


def test_a_version_is_one_to_four_numbers() -> None:
    assert version_numbers("0.2") == version_numbers("0.2.0") == (0, 2)
    assert version_numbers("0") == version_numbers("0.0") == (0,)
    for text in ("", "v1", "1.2.3.4.5", "1..2", "1.2-rc1", "../1", "1\n", "²"):
        assert version_numbers(text) is None
