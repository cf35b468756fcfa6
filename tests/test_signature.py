"""A signed pack: who made it is checked when it is opened."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.errors import CatalogueError, UsageError
from edge.matching import Catalogue
from edge.matching.pack import CATALOGUE_FILE, pack_scores, write_pack
from edge.matching.signature import KEYS_FILE, SIGNATURE_FILE, new_key, public_key, sign
from tests.tunes import made_up_score

SECRET = new_key()


@pytest.fixture
def packs(tmp_path: Path) -> Path:
    write_pack(pack_scores([made_up_score(1)]), tmp_path / "mine")
    return tmp_path


def trust(packs: Path, *keys: str) -> None:
    (packs / KEYS_FILE).write_text("# whom we trust\n" + "\n".join(keys) + "\n")


def test_a_pack_signed_by_whom_the_folder_trusts_is_opened(packs: Path) -> None:
    sign(packs / "mine" / CATALOGUE_FILE, SECRET)
    trust(packs, public_key(new_key()), public_key(SECRET))
    assert len(Catalogue.open(packs)) == 1
    assert len(Catalogue.open(packs / "mine")) == 1


def test_a_pack_changed_after_signing_is_refused_even_where_nobody_asks_for_signatures(
    packs: Path,
) -> None:
    description = packs / "mine" / CATALOGUE_FILE
    sign(description, SECRET)
    description.write_text(description.read_text().replace('"0"', '"9"'))
    with pytest.raises(CatalogueError, match="wrong signature") as caught:
        Catalogue.open(packs)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{}", '{"key": "x", "signature": "y"}', "\x00"])
def test_a_signature_that_is_none_is_wrong(packs: Path, text: str) -> None:
    (packs / "mine" / SIGNATURE_FILE).write_text(text)
    with pytest.raises(CatalogueError, match="wrong signature"):
        Catalogue.open(packs)


def test_an_unsigned_pack_is_refused_where_signatures_are_asked_for(packs: Path) -> None:
    trust(packs, public_key(SECRET))
    for opened in (packs, packs / "mine"):
        with pytest.raises(CatalogueError, match="not signed"):
            Catalogue.open(opened)


def test_a_stranger_s_signature_is_refused_and_the_key_named(packs: Path) -> None:
    sign(packs / "mine" / CATALOGUE_FILE, SECRET)
    trust(packs, public_key(new_key()))
    with pytest.raises(CatalogueError) as caught:
        Catalogue.open(packs)
    assert public_key(SECRET) in str(caught.value)


def test_a_list_of_keys_without_a_key_trusts_nobody(packs: Path) -> None:
    trust(packs)
    with pytest.raises(CatalogueError, match="names no key"):
        Catalogue.open(packs)


def test_a_secret_key_that_is_none_is_a_user_s_mistake(packs: Path) -> None:
    with pytest.raises(UsageError, match="catalog key"):
        sign(packs / "mine" / CATALOGUE_FILE, "sesame")
