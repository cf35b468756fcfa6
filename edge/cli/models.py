"""`sostenuto models`: the note models and the catalogue that are installed."""

from __future__ import annotations

from edge.cli import console
from edge.cli.common import open_catalogue
from edge.ear import DEFAULT_MODEL, TEMPLATES, installed_models
from edge.errors import CatalogueError, ModelError
from edge.manifest import Manifest, read_model_file
from edge.resources import models_dir


def run(*, json: bool) -> None:
    """Print them; a damaged one is named and no reason to fail."""
    manifests = installed_models()
    models = [_model(manifest) for manifest in manifests]
    catalogue = _catalogue()
    if json:
        console.out_json({"models": models, "catalogue": catalogue})
        return
    for model in models:
        _print_model(model)
    console.out(f"{TEMPLATES}: onsets and pitch templates alone, no model file")
    if "error" in catalogue:
        console.out(f"catalogue: {catalogue['error']}")
    else:
        console.out(f"catalogue: {catalogue['pieces']} pieces, version {catalogue['version']}")


def _model(manifest: Manifest) -> dict[str, object]:
    folder = models_dir()
    try:
        size, fault = len(read_model_file(manifest, folder)), None
    except ModelError as error:
        size, fault = 0, str(error)
    return {
        "name": manifest.name,
        "version": manifest.version,
        "default": manifest.name == DEFAULT_MODEL,
        "file": str(folder / manifest.file),
        "bytes": size,
        "sha256": manifest.sha256,
        "quantisation": manifest.quantisation,
        "parameters": manifest.training.parameters,
        "lookahead_ms": manifest.lookahead_ms,
        "licence": manifest.licence,
        "figures": manifest.figures,
        "error": fault,
    }


def _print_model(model: dict[str, object]) -> None:
    mark = " (default)" if model["default"] else ""
    console.out(
        f"{model['name']}{mark}: version {model['version']}, {model['quantisation']}, "
        f"{model['parameters']:,} parameters, {model['bytes']:,} bytes, "
        f"looks {model['lookahead_ms']:.0f} ms ahead, {model['licence']}"
    )
    figures = model["figures"]
    assert isinstance(figures, dict)
    for name, value in figures.items():
        console.out(f"    {name}: {value:g}")
    if model["error"]:
        console.out(f"    cannot be used: {model['error']}")


def _catalogue() -> dict[str, object]:
    try:
        catalogue = open_catalogue(None)
    except CatalogueError as error:
        return {"error": str(error)}
    return {
        "pieces": len(catalogue),
        "version": catalogue.version,
        "sha256": catalogue.sha256,
    }
