"""A pack: written, mapped, checked; and what is said of one that is damaged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge.errors import CatalogueError
from edge.matching import Catalogue
from edge.matching.pack import (
    ARRAYS,
    CATALOGUE_FILE,
    CHECKED_AT_OPENING_BYTES,
    open_pack,
    pack_scores,
    verify_pack,
    write_pack,
)
from edge.matching.score import quarters_to_s
from tests.tunes import made_up_score

REPEATS = np.array([[16.0, 0.0], [28.0, 32.0], [32.0, 16.0]])
SCORES = [
    replace(made_up_score(1, quarters_per_minute=90.0), repeat_quarters=REPEATS),
    made_up_score(2),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_pack(pack_scores(SCORES, version="7"), tmp_path / "pack")
    return tmp_path / "pack"


def test_what_was_packed_is_read_back(folder: Path) -> None:
    pack = open_pack(folder)
    assert [piece.piece_id for piece in pack.pieces] == ["piece-1", "piece-2"]
    assert pack.version == "7"
    for number, score in enumerate(SCORES):
        chords = pack.piece_chords(number)
        quarters = np.unique(score.onset_quarters)
        np.testing.assert_allclose(chords.onset_quarters, quarters, atol=1 / 480)
        np.testing.assert_allclose(
            chords.onset_s,
            quarters_to_s(quarters, score.tempo_quarters, score.tempo_s),
            atol=0.01,
        )
        assert chords.sizes.sum() == score.pitch_midi.size
        assert pack.pieces[number].notes == score.pitch_midi.size
        assert pack.pieces[number].bars == score.bar_number.size


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (3, 40), (159, 160), (12, 12), (170, 160)])
def test_the_keys_of_some_chords_are_those_among_the_keys_of_all(
    folder: Path, start: int, stop: int
) -> None:
    pack = open_pack(folder)
    for number in range(len(SCORES)):
        whole = pack.piece_chords(number)
        assert whole.count == whole.sizes.size
        some = pack.piece_chords(number).keys_of(slice(start, min(stop, whole.count)))
        np.testing.assert_array_equal(some, whole.keys[start : min(stop, whole.count)])


def test_repeats_are_read_back_in_quarters_and_seconds(folder: Path) -> None:
    pack = open_pack(folder)
    with_signs, without = pack.piece_chords(0), pack.piece_chords(1)
    np.testing.assert_array_equal(with_signs.repeat_quarters, REPEATS)
    np.testing.assert_allclose(with_signs.repeat_s, REPEATS * 60 / 90, atol=0.01)
    assert without.repeat_quarters.shape == without.repeat_s.shape == (0, 2)


def test_repeats_move_with_a_pickup_written_before_the_first_bar() -> None:
    score = made_up_score(1)
    early = replace(
        score,
        onset_quarters=score.onset_quarters - 1.0,
        bar_quarters=score.bar_quarters - 1.0,
        repeat_quarters=REPEATS - 1.0,
    )
    pack = pack_scores([early])
    np.testing.assert_array_equal(pack.piece_chords(0).repeat_quarters, REPEATS)


def test_a_moment_knows_its_bar(folder: Path) -> None:
    chords = open_pack(folder).piece_chords(0)
    assert [chords.bar_at(quarters) for quarters in (0.0, 3.9, 4.0, 9.0)] == [1, 1, 2, 3]


def test_arrays_are_mapped_not_loaded(folder: Path) -> None:
    pack = open_pack(folder)
    for name, mapped in zip(ARRAYS, pack.maps, strict=True):
        assert np.shares_memory(getattr(pack.arrays, name), np.frombuffer(mapped, np.uint8))


def test_the_same_scores_give_the_same_checksum() -> None:
    assert pack_scores(SCORES).sha256 == pack_scores(SCORES).sha256
    assert pack_scores(SCORES).sha256 != pack_scores(SCORES[:1]).sha256


def test_a_changed_note_is_noticed(folder: Path) -> None:
    keys = np.load(folder / "note_key.npy")
    keys[5] ^= 1
    np.save(folder / "note_key.npy", keys)
    with pytest.raises(CatalogueError, match="sha256"):
        open_pack(folder)


def test_a_changed_title_is_noticed(folder: Path) -> None:
    path = folder / "piece_text.npy"
    path.write_bytes(path.read_bytes().replace(b"Piece 1", b"Piece 9"))
    with pytest.raises(CatalogueError, match="sha256"):
        open_pack(folder)


def test_a_large_pack_lets_its_pages_go_and_finds_them_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.matching.pack.CHECKED_AT_OPENING_BYTES", 1)
    pack = open_pack(folder)
    before = pack.piece_chords(1).keys
    pack.let_go()
    np.testing.assert_array_equal(before, pack.piece_chords(1).keys)


def test_pieces_are_numbered_from_both_ends(folder: Path) -> None:
    pieces = Catalogue.open(folder).pieces
    assert pieces[-1] == pieces[1] == open_pack(folder).pieces[-1]
    assert [piece.title for piece in pieces[0:5]] == ["Piece 1", "Piece 2"]
    with pytest.raises(IndexError):
        pieces[2]


def test_a_large_pack_is_hashed_only_when_asked(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = np.load(folder / "note_key.npy")
    keys[5] ^= 1
    np.save(folder / "note_key.npy", keys)
    monkeypatch.setattr("edge.matching.pack.CHECKED_AT_OPENING_BYTES", 1)
    pack = open_pack(folder)
    with pytest.raises(CatalogueError, match="sha256"):
        verify_pack(pack, folder)
    assert CHECKED_AT_OPENING_BYTES > 1_000_000


@pytest.mark.parametrize("name", ARRAYS)
def test_a_file_cut_short_is_noticed(folder: Path, name: str) -> None:
    path = folder / f"{name}.npy"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CatalogueError, match=name):
        open_pack(folder)


def test_a_missing_array_is_noticed(folder: Path) -> None:
    (folder / "posting.npy").unlink()
    with pytest.raises(CatalogueError, match=r"posting\.npy"):
        open_pack(folder)


def test_another_format_is_named(folder: Path) -> None:
    path = folder / CATALOGUE_FILE
    described = json.loads(path.read_text())
    path.write_text(json.dumps({**described, "format": 2}))
    with pytest.raises(CatalogueError, match=r"format 2, .* format 3 .*: build it again"):
        open_pack(folder)


def test_an_index_made_otherwise_is_not_searched(folder: Path) -> None:
    path = folder / CATALOGUE_FILE
    described = json.loads(path.read_text())
    path.write_text(json.dumps({**described, "fingerprints": "pairs of thirds"}))
    with pytest.raises(CatalogueError, match="build it again"):
        open_pack(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": 1}', "\x00\xff"])
def test_a_description_that_is_none_is_one_line(folder: Path, text: str) -> None:
    (folder / CATALOGUE_FILE).write_text(text)
    with pytest.raises(CatalogueError) as caught:
        open_pack(folder)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 4


def test_a_folder_of_packs_opens_as_one(tmp_path: Path) -> None:
    for number, score in enumerate(SCORES):
        write_pack(pack_scores([score]), tmp_path / f"pack{number}")
    catalogue = Catalogue.open(tmp_path)
    assert [piece.piece_id for piece in catalogue.pieces] == ["piece-1", "piece-2"]
    assert len(catalogue) == 2
    second = catalogue.piece_chords(1)
    assert second.sizes.sum() == SCORES[1].pitch_midi.size


def test_a_folder_without_a_pack_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match="catalog build"):
        Catalogue.open(tmp_path)
