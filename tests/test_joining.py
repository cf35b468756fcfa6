"""Packs joined: the same bytes as the same pieces packed at once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from converters.joining import join_packs
from edge.errors import CatalogueError
from edge.matching.pack import ARRAYS, Pack, pack_scores
from tests.tunes import made_up_score

SCORES = [
    replace(
        made_up_score(seed),
        repeat_quarters=np.array([[4.0, 0.0], [8.0, 4.0]][: seed % 3]).reshape(-1, 2),
    )
    for seed in range(12)
]
SCORES.sort(key=lambda score: score.piece.piece_id)
WHOLE = pack_scores(SCORES, "3")


def assert_same(one: Pack, other: Pack) -> None:
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(one.arrays, name), getattr(other.arrays, name))
        assert getattr(one.arrays, name).dtype == getattr(other.arrays, name).dtype
    assert one.sha256 == other.sha256


@pytest.mark.parametrize("cuts", [(6, 12), (1, 3, 12), (12,)])
def test_parts_joined_are_the_whole(cuts: tuple[int, ...]) -> None:
    parts = [pack_scores(SCORES[a:b]) for a, b in zip((0, *cuts), cuts, strict=False)]
    assert_same(join_packs(parts[::-1], "3"), WHOLE)


def test_a_piece_taken_out_leaves_what_the_others_give() -> None:
    left = [score for score in SCORES if score.piece.piece_id not in {"piece-0", "piece-7"}]
    assert_same(join_packs([WHOLE], "3", {"piece-0", "piece-7"}), pack_scores(left, "3"))


def test_a_piece_added_again_takes_the_place_of_the_old_one() -> None:
    other = made_up_score(99)
    newer = replace(other, piece=replace(other.piece, piece_id="piece-5"))
    joined = join_packs([WHOLE, pack_scores([newer])], "3")
    expected = [newer if score.piece.piece_id == "piece-5" else score for score in SCORES]
    assert_same(joined, pack_scores(expected, "3"))


def test_works_are_joined_as_pieces_are_taken_over() -> None:
    works = {"piece-3": "work-1", "piece-not-there": "work-1"}
    joined = join_packs([WHOLE], "3", works=works)
    expected = [
        replace(s, piece=replace(s.piece, work_id=works.get(s.piece.piece_id, s.piece.work_id)))
        for s in SCORES
    ]
    assert_same(joined, pack_scores(expected, "3"))


def test_an_empty_catalogue_is_none() -> None:
    with pytest.raises(CatalogueError, match="no piece would be left"):
        join_packs([WHOLE], "3", {score.piece.piece_id for score in SCORES})
