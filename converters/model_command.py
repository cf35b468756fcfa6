"""``sostenuto-studio convert``: a training run becomes an installed note model.

Converts to 8 bits, fits the thresholds to rendered playing that was kept apart, reports what each
form of the model loses in activations and in notes, and writes NAME.tflite and its manifest.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console

from converters.parity import compare, parity_table
from converters.tflite import convert, manifest_of, write_model
from edge.errors import InputError, UsageError
from edge.manifest import Manifest, Training, read_manifest
from edge.model import NoteModel
from edge.resources import shipped_dir
from training.architecture import CONV3D_REFERENCE, Architecture, read_architecture
from training.evaluation import mean_scores
from training.hearing import hear, recordings_in
from training.judging import heard, heard_in_keras, played_segments
from training.run_record import read_record
from training.shards import Shard, levels_to_spectrum, load_shard
from training.thresholds import fit_thresholds
from training.train import averaged_model

Float32 = NDArray[np.float32]

# Playing that the quantisation is fitted to: enough for every register at every level.
CALIBRATION_SEGMENTS = 24

_to_people = Console(stderr=True)


def convert_command(
    run: Annotated[Path, typer.Argument(help="Folder of a training run.")],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Folder for the model; by default models/.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the model; by default its family's.")
    ] = None,
    version: Annotated[
        str | None,
        typer.Option(help="Version of the model; 0.1.0, or needed where one is to be replaced."),
    ] = None,
    audio: Annotated[str, typer.Option(help="What it was trained on, for the manifest.")] = (
        "rendered from recorded, sampled and modelled pianos"
    ),
    recordings: Annotated[
        Path | None, typer.Option(help="Recordings with MIDI, to state the figures on.")
    ] = None,
) -> None:
    """Convert a run to an int8 TFLite model with its manifest, thresholds fitted."""
    architecture = read_architecture(run / "architecture.json")
    if architecture.family == CONV3D_REFERENCE:
        raise InputError(
            f"{run} is a {CONV3D_REFERENCE}: it is there to compare with, no device runs it; "
            "convert a run of another family"
        )
    folder, title = out or shipped_dir(), name or architecture.family
    version = version or _first_version(folder / f"{title}.json")
    sequence = averaged_model(run)
    shards = [load_shard(path) for path in sorted((run / "shards").glob("*.npz"))]
    judging, hop_s = played_segments(run / "judging"), architecture.features.hop_s
    training = _training(run, sequence, architecture, shards, audio)
    log = _to_people.print

    eight_bits = convert(sequence, architecture, _spectra(shards, CALIBRATION_SEGMENTS))
    log(f"int8: {len(eight_bits.content)} bytes, operators {eight_bits.operators}")
    manifest = manifest_of(eight_bits, architecture, title, version, training)
    in_int8 = heard(judging, _on_device(manifest, eight_bits.content), hop_s)
    thresholds = fit_thresholds(in_int8, report=log)

    floating = convert(sequence, architecture, [], quantise=False)
    plain = manifest_of(floating, architecture, title, version, training)
    forms = compare(
        {
            "Keras": heard_in_keras(judging, sequence, architecture),
            "TFLite float": heard(judging, _on_device(plain, floating.content), hop_s),
            "TFLite int8": in_int8,
        },
        thresholds,
        manifest.warm_up_frames,
    )
    log(parity_table(forms))
    in_floats, in_eight_bits = forms["TFLite float"].scores, forms["TFLite int8"].scores
    figures = {
        "rendered_onset_f1": round(in_eight_bits.f1, 4),
        "rendered_offset_f1": round(in_eight_bits.f1_with_offsets, 4),
        "rendered_onset_f1_float": round(in_floats.f1, 4),
    }
    manifest = msgspec.structs.replace(manifest, segmentation=thresholds, figures=figures)
    write_model(folder, manifest, eight_bits.content)
    if recordings is not None:
        hearings = hear(folder / manifest.file, recordings_in(recordings))
        real = mean_scores([hearing.scores for hearing in hearings])
        on_recordings = {
            "real_onset_f1": round(real.f1, 4),
            "real_offset_f1": round(real.f1_with_offsets, 4),
        }
        manifest = msgspec.structs.replace(manifest, figures=figures | on_recordings)
        write_model(folder, manifest, eight_bits.content)
    read_manifest(folder / f"{title}.json")
    log(
        f"{folder / manifest.file}: {training.parameters} parameters, "
        f"look-ahead {manifest.lookahead_ms:.0f} ms"
    )
    card = folder / f"{title}.md"
    state = "it still tells of the model before" if card.exists() else "it is not there yet"
    log(f"its card, {card}, is written by hand: {state}")


def _first_version(manifest: Path) -> str:
    """The version of a model that replaces none."""
    if manifest.exists():
        raise UsageError(
            f"{manifest} is there already, of version {read_manifest(manifest).version}: "
            "give the version that replaces it with --version, or another --name or --out"
        )
    return "0.1.0"


def _training(
    run: Path, sequence: Any, architecture: Architecture, shards: Sequence[Shard], audio: str
) -> Training:
    try:
        last = json.loads((run / "log.jsonl").read_text().splitlines()[-1])
    except (OSError, IndexError, ValueError):
        raise InputError(
            f"no steps in {run / 'log.jsonl'}: a run is a folder as `sostenuto-studio train` "
            "leaves it, its log included"
        ) from None
    frames = sum(shard.spectra.shape[0] * shard.spectra.shape[1] for shard in shards)
    on_disk_hours = frames * architecture.features.hop_s / 3600
    # What a run has heard need not be on disk any more.
    recorded = (run / "run.json").exists()
    return Training(
        architecture=architecture.family,
        parameters=int(sequence.count_params()),
        audio=audio,
        audio_hours=round(read_record(run).audio_hours if recorded else on_disk_hours, 1),
        steps=int(last["steps"]),
    )


def _spectra(shards: Sequence[Shard], count: int) -> list[Float32]:
    """Segments from as many shards as there are, as spectra in 0..1."""
    if not shards:
        raise InputError("the run has no shards to calibrate on: train it first")
    chosen = [shards[i * len(shards) // count] for i in range(count)]
    return [
        levels_to_spectrum(shard.spectra[i % len(shard.spectra), :200])
        for i, shard in enumerate(chosen)
    ]


def _on_device(manifest: Manifest, content: bytes) -> Callable[[Float32], Float32]:
    model = NoteModel(manifest, content)

    def activations_of(spectrum: Float32) -> Float32:
        return np.concatenate([model.push(spectrum), model.flush()])

    return activations_of
