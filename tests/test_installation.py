"""What a device gets: the wheel and its base dependencies in an environment of their own.

The environment is laid out from what is installed here (every base dependency's own list of
files), so it needs no package index and holds exactly what ``pip install sostenuto`` brings.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.base_dependencies import ROOT, base_distributions

pytestmark = pytest.mark.slow

# What a device's environment may weigh, without pip, setuptools and byte code.
MOST_MEGABYTES = 350
BYTES_PER_MEGABYTE = 1024 * 1024


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of what a checkout holds."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("edge", "training", "converters", "device", "fleet", "models"):
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__")
            )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    command = ("pip", "wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation")
    run(sys.executable, "-m", *command, "--wheel-dir", folder, source, cwd=folder)
    (built,) = folder.glob("sostenuto-*.whl")
    return built


@pytest.fixture(scope="module")
def device_python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the wheel and the base dependencies, nothing else."""
    environment = tmp_path_factory.mktemp("device") / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", environment, cwd=environment.parent)
    (site_packages,) = environment.glob("lib/python*/site-packages")
    for found in base_distributions():
        for file in found.files or []:
            if file.suffix == ".pyc" or file.parts[0] == "..":
                continue
            target = site_packages / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(found.locate_file(file), target)
    python = environment / "bin" / "python"
    install = ("pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel)
    run(sys.executable, "-m", *install, cwd=environment)
    return python


def test_the_wheel_carries_the_models_beside_the_code(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert "edge/note.py" in names
    kinds = {Path(name).suffix for name in names if name.startswith("edge/models/")}
    assert {".tflite", ".json", ".md", ".flac"} <= kinds
    assert any(name.startswith("edge/models/catalogue/") for name in names)
    assert not any("__pycache__" in name for name in names)


def test_a_device_environment_holds_no_extra(device_python: Path) -> None:
    listing = "import importlib.metadata as m; print(*(d.name for d in m.distributions()))"
    present = set(
        run(device_python, "-c", listing, cwd=device_python.parent).stdout.lower().split()
    )
    assert {"sostenuto", "numpy", "ai-edge-litert"} <= present
    assert present.isdisjoint({"tensorflow", "tensorflow-cpu", "keras", "scipy", "amqtt", "pip"})
    assert "scipy" in packages_distributions(), "the test itself runs on more than a device has"


def test_a_device_environment_transcribes_the_demo(device_python: Path, tmp_path: Path) -> None:
    where = "from edge.resources import demo_recording as d; print(d())"
    recording = run(device_python, "-c", where, cwd=tmp_path).stdout.strip()
    assert recording.startswith(str(device_python.parent.parent)), "not the wheel's own models"
    command = device_python.parent / "sostenuto"
    midi = tmp_path / "demo.mid"
    run(command, "transcribe", recording, "--midi", midi, cwd=tmp_path)
    count = (
        "import mido, sys; notes = [m for m in mido.MidiFile(sys.argv[1]) if m.type == 'note_on'];"
        "print(sum(m.velocity > 0 for m in notes))"
    )
    notes = int(run(device_python, "-c", count, midi, cwd=tmp_path).stdout)
    assert notes > 50


def test_a_device_environment_is_small(device_python: Path) -> None:
    files = [
        path
        for path in device_python.parent.parent.rglob("*")
        if path.is_file() and not path.is_symlink() and path.suffix != ".pyc"
    ]
    megabytes = sum(path.stat().st_size for path in files) / BYTES_PER_MEGABYTE
    print(f"a device's environment: {megabytes:.0f} MB")
    assert 50 < megabytes <= MOST_MEGABYTES
