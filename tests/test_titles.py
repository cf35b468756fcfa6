"""Titles as a person would write them."""

from __future__ import annotations

import pytest

from converters.titles import tidy_composer, tidy_title


@pytest.mark.parametrize(
    ("given", "tidy"),
    [
        ("RONDEAU, op. op. 1, M.M. [quarter] = 108. Allegro.", "Rondeau, op. 1"),
        ("MAZURKA No. 4., op. Op. 24, Moderato", "MAZURKA No. 4, op. 24"),
        ("POLONAISE 2., op. Op. 26, MAESTOSO.", "Polonaise 2, op. 26"),
        ("Etrennes op. 27, Conte, Moderato. ([quarter]=92.)", "Etrennes op. 27, Conte"),
        ("Trio, op. Op. 8, [half-note]=69.", "Trio, op. 8"),
        ("16 Polonaises, 1. [Polonaise in F], Moderato", "16 Polonaises, 1. Polonaise in F"),
        ("Fuga a tre voci [post correcturam], Commodo.", "Fuga a tre voci, Commodo"),
        ("fur_elise", "Fur elise"),
        ("Für Elise (Bagatelle in A minor)", "Für Elise (Bagatelle in A minor)"),
        ("Moderato", "Moderato"),
        ("", ""),
    ],
)
def test_a_title_loses_what_is_no_title(given: str, tidy: str) -> None:
    assert tidy_title(given) == tidy


@pytest.mark.parametrize(
    ("given", "tidy"),
    [
        ("Chopin, Fryderyk", "Chopin, Fryderyk"),
        ("[Chopin, Fryderyk]", "Chopin, Fryderyk"),
        ("W.  A.  Mozart", "W. A. Mozart"),
        ("Anonim", ""),
        ("", ""),
    ],
)
def test_a_composer_who_is_unknown_is_not_named(given: str, tidy: str) -> None:
    assert tidy_composer(given) == tidy


def test_tidying_twice_changes_nothing() -> None:
    once = tidy_title("RONDEAU, op. op. 1, M.M. [quarter] = 108. Allegro.")
    assert tidy_title(once) == once
