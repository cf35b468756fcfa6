"""The packs that a device has out of the box."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from converters.catalogue import build_catalogue
from edge.matching import Catalogue, MatchState, default_catalogue_dir, identify
from edge.midi import read_midi
from edge.resources import demo_recording
from tests.base_dependencies import ROOT

PACKS = default_catalogue_dir()


@pytest.fixture(scope="module")
def cc_by() -> Catalogue:
    return Catalogue.open(PACKS / "cc_by")


def test_a_device_knows_more_than_a_thousand_works() -> None:
    catalogue = Catalogue.open(PACKS)
    assert len({piece.work_id for piece in catalogue.pieces}) > 1000


def test_the_starter_pack_is_what_its_scores_give(tmp_path: Path) -> None:
    built = build_catalogue([ROOT / "scores" / "starter"], tmp_path / "starter", processes=1)
    committed = Catalogue.open(PACKS / "starter")
    assert built.left_out == ()
    assert built.pieces >= 24
    assert committed.sha256 == built.sha256, (
        "build it again: PYTHONPATH=. python scripts/catalogue_packs.py starter"
    )


def test_starter_pieces_have_a_title_and_sixteen_bars() -> None:
    starter = Catalogue.open(PACKS / "starter")
    assert all(piece.bars >= 16 for piece in starter.pieces)
    assert all(piece.title for piece in starter.pieces)


def test_each_cc_by_piece_is_attributed(cc_by: Catalogue) -> None:
    with (PACKS / "cc_by" / "ATTRIBUTION.csv").open(encoding="utf-8", newline="") as lines:
        attributed = {row["id"]: row for row in csv.DictReader(lines)}
    assert set(attributed) == {piece.piece_id for piece in cc_by.pieces}
    assert {piece.licence for piece in cc_by.pieces} == {"CC BY 4.0"}
    assert all(row["source"] and row["path"] for row in attributed.values())
    page = (PACKS / "cc_by" / "ATTRIBUTION.md").read_text(encoding="utf-8")
    assert "creativecommons.org/licenses/by/4.0" in page
    assert "Changes:" in page


def test_titles_are_readable(cc_by: Catalogue) -> None:
    for piece in cc_by.pieces:
        assert piece.title
        assert not set(piece.title) & set("_[]|"), piece.title
        assert piece.title == " ".join(piece.title.split())
        assert len(piece.title) < 160


def test_the_demo_s_piece_is_named_from_its_beginning() -> None:
    notes = read_midi(demo_recording().with_suffix(".mid")).notes
    match = identify(list(notes), Catalogue.open(PACKS))
    assert match.state is MatchState.MATCHED
    assert match.candidates[0].bar <= 1
