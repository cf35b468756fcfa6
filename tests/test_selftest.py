"""The self-test: every judgement by a reading made up here, and the ways to a reading for real."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from device.app import app
from device.selftest.hashes import check_catalogue, check_models
from device.selftest.known_answer import (
    KnownAnswer,
    Recognised,
    Struck,
    answer_file,
    check_known_answer,
    judge_bar,
    judge_notes,
    judge_piece,
    matched,
    read_answer,
)
from device.selftest.verdict import failed, not_tried, passed, summed_up, verdict_of
from edge.cli import console
from edge.following import Position
from edge.matching import Catalogue, default_catalogue_dir
from edge.messages import Check, Verdict
from edge.midi import read_midi
from edge.resources import demo_recording, models_dir


@pytest.fixture(autouse=True)
def open_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    """Descriptor 2 is the test runner's, and stays as it is."""
    monkeypatch.setattr(console, "mute_libraries", lambda: None)


def selftest(*options: str) -> Result:
    return CliRunner().invoke(app, ["selftest", *options])


# ---- verdicts


def test_what_was_not_tried_fails_nothing_and_what_failed_says_what_to_do() -> None:
    well, ill = passed("ear", "hears"), failed("disk", "is full", "make room")
    unknown = not_tried("clock", "there is none")
    assert summed_up([well, unknown]).passed
    assert not summed_up([well, unknown, ill]).passed
    assert (ill.remedy, verdict_of(unknown)) == ("make room", Verdict.NOT_TRIED)


def test_a_check_of_an_older_device_has_a_verdict_too() -> None:
    assert verdict_of(Check(name="disk", passed=False, text="full")) is Verdict.FAILED


# ---- the known answer

SCALE = KnownAnswer(
    "scale.flac",
    4.5,
    "scale",
    (Struck(60, 0.0), Struck(62, 1.0), Struck(62, 2.0), Struck(64, 3.0)),
    (0.0, 2.0, 4.0),
)
PLACE = Position(3.0, 3.0, 2, 2.0, 60.0, 1.0, 0.9, False, "scale", 1.0, 3.0, 2.0)
HEARD = Recognised(SCALE.notes, ("scale",), 2.5, PLACE, 4.5, 0.1)


def test_a_note_counts_once_and_within_50_ms() -> None:
    known = [Struck(60, 1.0), Struck(60, 1.08)]
    assert matched([Struck(60, 1.04)], known) == 1
    assert matched([Struck(60, 1.04), Struck(60, 1.05)], known) == 2
    assert matched([Struck(60, 0.94), Struck(61, 1.0)], known) == 0


def test_every_note_found_passes_and_each_fault_fails_its_own_check() -> None:
    assert judge_notes(HEARD, SCALE).passed
    assert judge_piece(HEARD, SCALE).passed
    assert judge_bar(HEARD, SCALE).passed
    missed = judge_notes(replace(HEARD, notes=SCALE.notes[:3]), SCALE)
    assert not missed.passed and missed.text.startswith("3 of 4 struck keys found (0.75)")
    invented = (*SCALE.notes, Struck(80, 1.0), Struck(81, 1.0))
    assert (
        "0.67 of 6 told notes are right" in judge_notes(replace(HEARD, notes=invented), SCALE).text
    )
    assert "'waltz' was named" in judge_piece(replace(HEARD, named=("scale", "waltz")), SCALE).text
    assert not judge_piece(replace(HEARD, named=(), named_after_s=None), SCALE).passed
    wrong_bar = judge_bar(replace(HEARD, last=replace(PLACE, bar=3)), SCALE)
    assert wrong_bar.text == "bar 3 told at 3.0 s; played was bar 2"
    assert not judge_bar(replace(HEARD, last=None), SCALE).passed


def test_near_a_bar_line_either_bar_is_right_and_before_the_first_it_is_the_upbeat() -> None:
    assert list(SCALE.bars_near(1.9)) == [1, 2]
    assert list(SCALE.bars_near(3.0)) == [2]
    assert list(SCALE.bars_near(-1.0)) == [0]


def test_the_known_answer_is_what_the_recording_was_made_of() -> None:
    answer = read_answer(answer_file())
    played = read_midi(demo_recording().with_suffix(".mid")).notes
    struck = [(n.pitch_midi, n.onset_s) for n in played if n.onset_s < answer.stretch_s]
    assert [n.pitch_midi for n in answer.notes] == [pitch for pitch, _ in struck]
    assert [n.onset_s for n in answer.notes] == pytest.approx([t for _, t in struck], abs=1e-3)


def test_the_templates_too_give_the_known_answer() -> None:
    checks = check_known_answer("templates", Catalogue.open(default_catalogue_dir()))
    assert [check.text for check in checks if not check.passed] == []
    assert len(checks) == 3


def test_a_catalogue_without_the_piece_leaves_piece_and_bar_untried() -> None:
    notes, piece, bar = check_known_answer("templates", None)
    assert verdict_of(notes) is Verdict.PASSED
    assert {verdict_of(piece), verdict_of(bar)} == {Verdict.NOT_TRIED}


# ---- hashes, and the whole of --known-answer


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A folder with one model, as an update would bring it."""
    folder = tmp_path / "models"
    folder.mkdir()
    for suffix in (".json", ".tflite"):
        shutil.copy(models_dir() / f"compressed{suffix}", folder)
    return folder


@pytest.fixture
def starter(tmp_path: Path) -> Path:
    """A folder with one pack, which holds the known piece."""
    folder = tmp_path / "catalogue"
    shutil.copytree(default_catalogue_dir() / "starter", folder / "starter")
    return folder


def test_a_model_and_a_catalogue_that_hear_rightly_pass_as_a_program_reads_it(
    models: Path, starter: Path
) -> None:
    told = selftest("--known-answer", "--models", str(models), "--catalog", str(starter), "--json")
    assert told.exit_code == 0
    found = json.loads(told.stdout)
    assert found["passed"] is True
    assert [check["name"] for check in found["checks"]] == [
        "models",
        "catalogue",
        "known notes, compressed",
        "known piece, compressed",
        "known bar, compressed",
    ]
    assert {check["verdict"] for check in found["checks"]} == {"passed"}


def test_a_model_whose_bytes_were_changed_fails_by_its_hash(models: Path) -> None:
    file = models / "compressed.tflite"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    check = check_models(models)
    assert not check.passed
    assert "sha256" in check.text and check.remedy


def test_a_model_that_was_sealed_damaged_fails_by_what_it_hears(models: Path) -> None:
    """The hash is right, as that of a model that was trained or converted wrongly is."""
    file = models / "compressed.tflite"
    content = bytearray(file.read_bytes())
    weights = slice(len(content) // 2, len(content) // 2 + len(content) // 10)
    content[weights] = np.random.default_rng(0).bytes(weights.stop - weights.start)
    file.write_bytes(content)
    manifest = models / "compressed.json"
    before = json.loads(manifest.read_bytes())
    manifest.write_text(json.dumps({**before, "sha256": hashlib.sha256(content).hexdigest()}))
    assert check_models(models).passed
    notes = check_known_answer(manifest, None)[0]
    assert not notes.passed, notes.text


def test_a_model_without_a_manifest_or_a_folder_without_models_fails(models: Path) -> None:
    (models / "more.tflite").write_bytes(b"")
    assert "more.tflite" in check_models(models).text
    assert "no note model" in check_models(models.parent / "none").text


def test_a_catalogue_that_was_changed_fails(starter: Path) -> None:
    assert check_catalogue(starter).passed
    array = starter / "starter" / "note_key.npy"
    content = bytearray(array.read_bytes())
    content[-1] ^= 1
    array.write_bytes(content)
    assert "damaged" in check_catalogue(starter).text


def test_nothing_there_is_a_verdict_and_no_traceback(tmp_path: Path) -> None:
    nowhere = str(tmp_path / "none")
    told = selftest("--known-answer", "--models", nowhere, "--catalog", nowhere)
    assert told.exit_code == 1
    assert "self-test FAILED: 2 failed" in told.stdout
