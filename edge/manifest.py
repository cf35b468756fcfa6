"""What must be known about a note model to run it, in a JSON file beside the ``.tflite``.

A model's file holds tensors, not their meaning. Which spectrum it was trained on, how far its
answers lag behind, what its outputs mean, at which activation a note begins: all of that belongs
to the training and stands here. The converter writes it; the device builds its front end from it
and has no defaults of its own.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Annotated

import msgspec

from edge.errors import ModelError
from edge.features import FeatureParameters
from edge.note import LOWEST_PITCH_MIDI
from edge.segmentation import SegmentationParameters

FORMAT = 1
AXIS_ORDER = ("batch", "time", "pitch", "harmonic")
HEADS = ("onset", "sounding", "offset", "velocity", "held")

# A model is warmed up whenever it is loaded; with more, a small board would be deaf for minutes.
MOST_WARM_UP_FRAMES = 10_000


class StateTensor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tensor that goes in as the past and comes out as the next step's past.

    Inputs and outputs are known by their position: converters rename them.
    """

    input_index: int
    output_index: int
    shape: tuple[int, ...]


class Training(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a model comes from, in words a reader can follow back."""

    architecture: str
    parameters: int
    audio: str
    audio_hours: float
    steps: int


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything a device needs to run a note model, and what it may be told of it.

    Attributes
    ----------
    step_frames : int
        Frames that one run of the model takes and gives.
    lookahead_frames : int
        A run's first output belongs to the frame this many before its first input.
    lookahead_ms : float
        From an onset to the last sample its decision used: the frames above, the one that
        confirms a peak, and half the analysis window.
    warm_up_frames : int
        Frames of silence after which the states no longer remember their start.
    quantisation : str
        ``int8`` or ``float32``: type of inputs, outputs and states.
    figures : dict
        Measured figures by name; `docs/` and the card say how.
    """

    format: int
    name: str
    version: str
    file: str
    sha256: str
    licence: str
    quantisation: str
    features: FeatureParameters
    axis_order: tuple[str, ...]
    lowest_pitch_midi: int
    heads: tuple[str, ...]
    step_frames: Annotated[int, msgspec.Meta(ge=1)]
    lookahead_frames: Annotated[int, msgspec.Meta(ge=0)]
    lookahead_ms: float
    warm_up_frames: Annotated[int, msgspec.Meta(ge=0, le=MOST_WARM_UP_FRAMES)]
    states: tuple[StateTensor, ...]
    segmentation: SegmentationParameters
    training: Training
    figures: dict[str, float]

    @property
    def lookahead_samples(self) -> int:
        """Samples from an onset to the last one that its confirmation used."""
        f = self.features
        return f.half_window_samples + (self.lookahead_frames + 1) * f.hop_samples


def lookahead_ms(features: FeatureParameters, lookahead_frames: int) -> float:
    """What `Manifest.lookahead_ms` must be for these features and frames."""
    samples = features.half_window_samples + (lookahead_frames + 1) * features.hop_samples
    return 1000 * samples / features.sample_rate_hz


def read_manifest(path: Path) -> Manifest:
    """Read and check a manifest.

    Raises
    ------
    ModelError
        The file is missing, not a manifest, of another format, or contradicts itself.
    """
    try:
        document = path.read_bytes()
        manifest = msgspec.json.decode(document, type=Manifest)
    except FileNotFoundError:
        raise ModelError(
            f"no manifest {path}: a model NAME.tflite needs NAME.json beside it"
        ) from None
    except msgspec.ValidationError as error:
        raise ModelError(
            f"manifest {path}: {_with_value(str(error), document)}: "
            "install a model made for this version of Sostenuto"
        ) from None
    except (msgspec.DecodeError, OSError) as error:
        raise ModelError(
            f"manifest {path} cannot be read ({error}): install the model again"
        ) from None
    _check(manifest, path)
    return manifest


def _with_value(told: str, document: bytes) -> str:
    """What msgspec expected, with the value that it found there, which it does not tell."""
    found = re.fullmatch(r"(Expected )?(.+) - at `\$\.([\w.]+)`", told)
    if not found:
        return told
    expected, what, place = found.groups()
    if not expected:
        return f"{place}: {what}"
    given = msgspec.json.decode(document)
    for field in place.split("."):
        given = given[field]
    return f"{place} is {given!r}, must be {what}"


def _check(manifest: Manifest, path: Path) -> None:
    expected: list[tuple[str, object, object]] = [
        ("format", manifest.format, FORMAT),
        ("axis_order", manifest.axis_order, AXIS_ORDER),
        ("heads", manifest.heads, HEADS),
        ("lowest_pitch_midi", manifest.lowest_pitch_midi, LOWEST_PITCH_MIDI),
    ]
    for field, given, allowed in expected:
        if given != allowed:
            raise ModelError(
                f"manifest {path}: {field} is {given}, this version of Sostenuto runs {allowed}: "
                "install a model made for it"
            )
    late_ms = lookahead_ms(manifest.features, manifest.lookahead_frames)
    if round(manifest.lookahead_ms, 3) != round(late_ms, 3):
        raise ModelError(
            f"manifest {path}: lookahead_ms is {manifest.lookahead_ms}, its frames, hop and window "
            f"make {late_ms:.3f}: install the model again"
        )
    if manifest.states and not manifest.warm_up_frames:
        raise ModelError(
            f"manifest {path}: warm_up_frames is 0, a model with {len(manifest.states)} states "
            "needs at least 1: install the model again"
        )


def read_model_file(manifest: Manifest, folder: Path) -> bytes:
    """The model's bytes, once their sha256 has been found to be the manifest's.

    Raises
    ------
    ModelError
        The file is missing or another one than the manifest describes.
    """
    path = folder / manifest.file
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"no model file {path} ({error}): install the model again") from None
    found = hashlib.sha256(content).hexdigest()
    if found != manifest.sha256:
        raise ModelError(
            f"model {path} has sha256 {found[:12]}…, its manifest says {manifest.sha256[:12]}…: "
            "one of the two was changed or damaged; install the model again"
        )
    return content
