"""An ear: samples in, notes out.

There are two. The *model's* ear runs a trained note model over the harmonic cube; the *template*
ear knows only what follows from physics (`edge.template_ear`). Both hear 16 kHz mono, both answer
as late as their look-ahead, and the recogniser cannot tell them apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge.audio.block import STREAM_RATE_HZ
from edge.errors import ModelError
from edge.features import FeatureStream
from edge.manifest import HEADS, Manifest, read_manifest, read_model_file
from edge.model import NoteModel
from edge.note import Heard
from edge.notes import NoteTracker, by_head
from edge.pedal import PedalStream
from edge.resources import models_dir
from edge.tuning import CONCERT_PITCH, Tuning

Float32 = NDArray[np.float32]

_SOUNDING, _HELD = HEADS.index("sounding"), HEADS.index("held")

DEFAULT_MODEL = "separable3d"
# From an onset to the last sample that a decision may use: with more, a player waits for the ear.
LONGEST_LOOKAHEAD_MS = 260.0
TEMPLATES = "templates"


class Ear(Protocol):
    """What the recogniser hears with."""

    sample_rate_hz: int
    hop_samples: int
    lookahead_samples: int

    def push(self, samples: Float32) -> Sequence[Heard]: ...
    def flush(self) -> Sequence[Heard]: ...
    def reset(self) -> None: ...


class ModelEar:
    """Features, note model and what follows notes and pedal, one after the other.

    Times count from the first sample after the last ``reset`` or ``flush``. ``tuning`` is the
    piano's, by which the spectrum is laid out.
    """

    def __init__(self, model: NoteModel, tuning: Tuning = CONCERT_PITCH) -> None:
        self.manifest = model.manifest
        features = model.manifest.features
        self.sample_rate_hz = features.sample_rate_hz
        self.hop_samples = features.hop_samples
        self.lookahead_samples = model.manifest.lookahead_samples
        self._features = FeatureStream(features, tuning)
        self._model = model
        self._tracker = NoteTracker(model.manifest.segmentation, features.hop_s)
        self._pedal = PedalStream(features.hop_s)

    def push(self, samples: Float32) -> list[Heard]:
        """Take float32 samples, shape (n,); give the notes that began or ended, and the pedal."""
        return self._hear(self._features.push(samples))

    def flush(self) -> list[Heard]:
        """End the stream: everything still sounding ends with its last frame."""
        heard = self._hear(self._features.flush())
        heard += self._follow(self._model.flush())
        heard += [*self._tracker.flush(), *self._pedal.flush()]
        self.reset()
        return heard

    def reset(self) -> None:
        self._features.reset()
        self._model.reset()
        self._tracker.reset()
        self._pedal.reset()

    def _hear(self, spectrum: Float32) -> list[Heard]:
        """Frames of the spectrum, shape (n, bins), to what becomes sure with them."""
        return self._follow(self._model.push(spectrum)) if len(spectrum) else []

    def _follow(self, activations: Float32) -> list[Heard]:
        """Frame by frame, so that notes and pedal stand in the order in which they are known."""
        heard: list[Heard] = []
        for frame in by_head(activations):
            heard += self._tracker.step(frame)
            heard += self._pedal.step(frame[_SOUNDING], frame[_HELD])
        return heard


def find_manifest(model: str | Path | None) -> Path:
    """The manifest of a model: the default's, an installed one's by name, or any by its path.

    Raises
    ------
    ModelError
        No model of this name is installed and no file of this path exists.
    """
    name = str(model or DEFAULT_MODEL)
    installed = models_dir() / f"{name}.json"
    if installed.exists():
        return installed
    path = Path(name)
    beside = path.with_suffix(".json")
    if path.suffix in {".tflite", ".json"} and beside.exists():
        return beside
    known = ", ".join([*sorted(p.stem for p in models_dir().glob("*.json")), TEMPLATES])
    raise ModelError(f"no note model {name!r}: installed are {known}; or give a path to a .tflite")


def installed_models() -> list[Manifest]:
    """The manifests of every installed note model, by name."""
    return [read_manifest(path) for path in sorted(models_dir().glob("*.json"))]


def load_ear(
    model: str | Path | None = None,
    *,
    provisional: bool = False,
    tuning: Tuning = CONCERT_PITCH,
) -> Ear:
    """Load a note model as an ear, or the templates by the name ``templates``.

    With ``provisional``, a model's ear also tells strikes and guessed keys, sooner than it can be
    sure; the templates' ear, which is sure sooner, knows nothing of the kind.

    Raises
    ------
    ModelError
        The model is missing, damaged, or made for another stream than this device's.
    """
    if model == TEMPLATES:
        from edge.template_ear import TemplateEar

        return TemplateEar(tuning=tuning)
    path = find_manifest(model)
    manifest = read_manifest(path)
    rate_hz = manifest.features.sample_rate_hz
    if rate_hz != STREAM_RATE_HZ:
        raise ModelError(
            f"model {manifest.name} hears {rate_hz} Hz, this device streams {STREAM_RATE_HZ} Hz: "
            "choose a model made for it"
        )
    if manifest.lookahead_ms > LONGEST_LOOKAHEAD_MS:
        raise ModelError(
            f"model {manifest.name} looks {manifest.lookahead_ms:.0f} ms ahead, this device waits "
            f"{LONGEST_LOOKAHEAD_MS:.0f} ms at most: choose a model made for it"
        )
    content = read_model_file(manifest, path.parent)
    if provisional:
        from edge.provisional import ForeseeingModel, ProvisionalEar

        return ProvisionalEar(ForeseeingModel(manifest, content), tuning)
    return ModelEar(NoteModel(manifest, content), tuning)
