"""Are models and catalogue the ones that their makers sealed?

A note model is one file whose sha256 stands in its manifest; a catalogue pack is a folder of
arrays whose common sha256 stands in its description, which may be signed. A card that wears out
changes bytes without a word, and a model with a changed weight still answers: only the hash tells.
Large packs are not hashed when the piano opens them; here they are.
"""

from __future__ import annotations

from pathlib import Path

from device.selftest.verdict import failed, passed
from edge.errors import CatalogueError, ModelError
from edge.manifest import read_manifest, read_model_file
from edge.matching import Catalogue
from edge.matching.pack import verify_pack
from edge.messages import Check

REINSTALL = "bring it anew: by a newer bundle, by installing again, or by flashing the card"


def manifests_in(folder: Path) -> list[Path]:
    """The manifests of all note models in ``folder``, by name.

    Raises
    ------
    ModelError
        There is none, or a model lies there that none describes.
    """
    found = sorted(folder.glob("*.json"))
    if not found:
        raise ModelError(f"no note model in {folder}: there is no NAME.json beside a NAME.tflite")
    alone = [p.name for p in sorted(folder.glob("*.tflite")) if p.with_suffix(".json") not in found]
    if alone:
        raise ModelError(f"{', '.join(alone)} in {folder} without a manifest NAME.json")
    return found


def check_models(folder: Path) -> Check:
    """Every model's file against its manifest's sha256."""
    try:
        manifests = [read_manifest(path) for path in manifests_in(folder)]
        total_bytes = sum(len(read_model_file(each, folder)) for each in manifests)
    except ModelError as error:
        return failed("models", str(error), REINSTALL)
    names = ", ".join(f"{each.name} {each.version}" for each in manifests)
    return passed("models", f"{names}: {total_bytes:,} bytes, sha256 as sealed")


def check_catalogue(folder: Path) -> Check:
    """Every pack's arrays against the sha256 of its description, and its signature."""
    try:
        catalogue = Catalogue.open(folder)
        for pack in catalogue.packs:
            verify_pack(pack, folder)
    except CatalogueError as error:
        return failed("catalogue", str(error), REINSTALL)
    packs = len(catalogue.packs)
    return passed(
        "catalogue",
        f"version {catalogue.version}: {len(catalogue):,} pieces in {packs} "
        f"pack{'s' * (packs != 1)}, sha256 as sealed",
    )
