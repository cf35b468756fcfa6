"""A sampled piano: recordings of single keys, and how any key is played from them.

Every recording is cut a few milliseconds before its acoustic onset, and measured: its level
over the first 0.3 s after the hammer. A struck key is then the recording nearest in key and
velocity, read at another speed (four-point cubic interpolation) to reach the pitch, scaled to
the loudness that the velocity asks for, and made darker or brighter by a first-order shelf
where the recording was played harder or softer than that. How recordings come from a folder,
and which are refused, is in `training.render.recordings`.

Sets differ in what their levels mean: some kept the dynamics of the recording, some had
every file brought to full scale. So the measured level is taken out and a velocity curve
common to all is put in; a set keeps its own balance of bass to treble.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, lfilter, sosfilt

from edge.errors import InputError
from edge.note import HIGHEST_PITCH_MIDI, LOWEST_PITCH_MIDI, pitch_to_hz

SAMPLE_RATE_HZ = 16_000
ONSET_MARGIN_SAMPLES = 80
"""Samples kept before the onset (5 ms): what the hammer's rise needs, and no label error."""
RISE_WINDOW_SAMPLES = 32
"""Causal window of the energy rise (2 ms)."""
RISE_FRACTION = 0.1
"""The onset is where the envelope passes a tenth (-20 dB) of the attack's peak ..."""
RISE_DELAY_SAMPLES = 12
"""... less what the causal window delays it. So found, the onsets of 829 of the 850 recordings
in hand lie within 3 ms of their listed ``onset_s`` (medians of the seven sets 0 to 0.1 ms); of
the others 9 are of the far microphones' set, mostly soft keys that rise slowly or after a
noise of the key, up to 24 ms later than listed."""
ATTACK_SEARCH_SAMPLES = 1_600
LEVEL_WINDOW_SAMPLES = 4_800
END_FADE_SAMPLES = 800
SILENT_PEAK = 1e-3
LOUD_VELOCITY = 110
"""The velocity whose recordings give a set its balance between the registers."""
SHELF_DB_PER_VELOCITY = 0.25
"""Treble lost per velocity step below the recording's own. Between the layers of the five sets
that have them, the first 0.3 s loses 0.21 to 0.31 dB a step (medians over keys 33 to 87; 0.25
the middle) above twice the shelf's corner against what lies below it."""
SHELF_LIMITS_DB = (-20.0, 5.0)
SHELF_CORNER_HARMONICS = 3.0

INSTRUMENT_OF_SET = {
    "grand_yamahaC3_headroom_close": "grand_yamahaC3_headroom",
    "grand_yamahaC3_headroom_decca": "grand_yamahaC3_headroom",
}
"""Sample sets of one and the same piano; a set not named here is its own instrument."""


def instrument_of(set_name: str) -> str:
    """The piano a sample set was recorded from; sets of one piano are held out together."""
    return INSTRUMENT_OF_SET.get(set_name, set_name)


@dataclass(frozen=True, slots=True)
class PianoSample:
    """One recorded key.

    Attributes
    ----------
    samples : float32, shape (n,)
        16 kHz; the acoustic onset is at ``ONSET_MARGIN_SAMPLES``.
    pitch_midi : float
        The key it sounds like, in semitones.
    lokey, hikey, lovel, hivel : int
        What it serves.
    level_db : float
        RMS of the first 0.3 s from the onset, dB re full scale.
    """

    name: str
    samples: NDArray[np.float32]
    pitch_midi: float
    lokey: int
    hikey: int
    lovel: int
    hivel: int
    level_db: float

    @property
    def velocity(self) -> float:
        """The velocity it was most likely played at: the middle of its range."""
        low = max(self.lovel, 20)
        return 100.0 if low <= 20 and self.hivel == 127 else (low + self.hivel) / 2.0


def _envelope(samples: NDArray[np.float32]) -> NDArray[np.float64]:
    """RMS over the last 2 ms above 60 Hz, so that rumble does not count."""
    rumble = butter(2, 60.0, "highpass", fs=SAMPLE_RATE_HZ, output="sos")
    power = np.square(sosfilt(rumble, samples))
    window = np.full(RISE_WINDOW_SAMPLES, 1.0 / RISE_WINDOW_SAMPLES)
    envelope: NDArray[np.float64] = np.sqrt(np.convolve(power, window)[: len(power)])
    return envelope


def _rise(envelope: NDArray[np.float64]) -> int:
    return int(np.argmax(envelope > RISE_FRACTION * envelope.max()))


def acoustic_onset(samples: NDArray[np.float32], listed_onset_samples: int) -> int:
    """Index at which a recorded key begins to sound.

    The rise of a 2 ms envelope (above 60 Hz, so that rumble does not count) through a
    tenth of its peak in the first 100 ms after where the list says the attack lies.

    Parameters
    ----------
    samples : float32, shape (n,)
        16 kHz.
    listed_onset_samples : int
        Where ``regions.csv`` puts the attack; the search begins 10 ms before it.
    """
    start = max(0, listed_onset_samples - 160)
    stop = listed_onset_samples + ATTACK_SEARCH_SAMPLES
    rise = start + _rise(_envelope(samples[:stop])[start:])
    return max(0, rise - RISE_DELAY_SAMPLES)


def first_attack(samples: NDArray[np.float32]) -> int:
    """Index at which a recording begins to sound, whatever a list says: for checking the list."""
    return max(0, _rise(_envelope(samples)) - RISE_DELAY_SAMPLES)


def cut_at_onset(samples: NDArray[np.float32], onset: int) -> NDArray[np.float32]:
    """The recording from ``ONSET_MARGIN_SAMPLES`` before its onset, faded in and out.

    In over half of the margin; out over the last 50 ms, for recordings cut while they ring.
    """
    start = onset - ONSET_MARGIN_SAMPLES
    cut = samples[start:] if start >= 0 else np.concatenate([np.zeros(-start), samples])
    cut = np.array(cut, dtype=np.float32)
    fade = ONSET_MARGIN_SAMPLES // 2
    cut[:fade] *= np.linspace(0.0, 1.0, fade, dtype=np.float32)
    end = min(END_FADE_SAMPLES, len(cut))
    cut[len(cut) - end :] *= np.linspace(1.0, 0.0, end, dtype=np.float32)
    return cut


def level_db(samples: NDArray[np.float32]) -> float:
    """RMS in dB over the first 0.3 s after the onset of a cut sample."""
    window = samples[ONSET_MARGIN_SAMPLES : ONSET_MARGIN_SAMPLES + LEVEL_WINDOW_SAMPLES]
    return float(10.0 * np.log10(np.mean(np.square(window, dtype=np.float64)) + 1e-12))


def read_at(
    samples: NDArray[np.float32], ratio: float, length: int, first: float = 0.0
) -> NDArray[np.float32]:
    """Read a signal at another speed, four-point cubic (Catmull-Rom) interpolation.

    Parameters
    ----------
    samples : float32, shape (n,)
    ratio : float
        Samples advanced per output sample; 2^(semitones / 12).
    length : int
        At most this many output samples; fewer where the signal ends before.
    first : float
        Position of output sample 0.

    Returns
    -------
    float32, shape (<= length,)
    """
    last = len(samples) - 3
    length = min(length, int((last - first) / ratio))
    if length <= 0:
        return np.zeros(0, np.float32)
    position = first + ratio * np.arange(length)
    index = position.astype(np.int32)
    fraction = (position - index).astype(np.float32)
    before, here, after, beyond = (samples[index + offset] for offset in (-1, 0, 1, 2))
    slope = after - before
    bend = 2.0 * before - 5.0 * here + 4.0 * after - beyond
    twist = 3.0 * (here - after) + beyond - before
    result: NDArray[np.float32] = here + 0.5 * fraction * (
        slope + fraction * (bend + fraction * twist)
    )
    return result


def treble_shelf(
    samples: NDArray[np.float32], corner_hz: float, gain_db: float
) -> NDArray[np.float32]:
    """First-order shelf: unity below the corner, ``gain_db`` far above it."""
    gain = 10.0 ** (gain_db / 20.0)
    tangent = np.tan(np.pi * min(corner_hz / SAMPLE_RATE_HZ, 0.45))
    pole = (tangent - 1.0) / (tangent + 1.0)
    low = tangent / (tangent + 1.0)
    numerator = np.array([gain * (1 - low) + low, gain * (low - 1) + low], np.float32)
    denominator = np.array([1.0, pole], np.float32)
    return np.asarray(lfilter(numerator, denominator, samples), dtype=np.float32)


@dataclass(frozen=True, slots=True)
class SampledPiano:
    """All recordings of one set, ready to be struck.

    Attributes
    ----------
    name : str
        The set's folder name.
    instrument : str
        The piano it was recorded from.
    layers : mapping of key to samples
        For each key from 21 to 108 the samples that serve it, softest first.
    register_db : float64, shape (128,)
        The set's own loudness per key, relative to its mean.
    """

    name: str
    instrument: str
    layers: dict[int, tuple[PianoSample, ...]]
    register_db: NDArray[np.float64]

    def sample_for(self, pitch_midi: int, velocity: float) -> PianoSample:
        """The recording that serves this key at this velocity (the nearest, if none does)."""
        layers = self.layers[pitch_midi]
        for sample in layers:
            if velocity <= sample.hivel:
                return sample
        return layers[-1]

    def strike(
        self,
        pitch_midi: int,
        velocity: float,
        gain_db: float,
        cents: float,
        length: int,
        layer_velocity: float | None = None,
        neighbour: int = 0,
        brightness_db: float = 0.0,
    ) -> NDArray[np.float32]:
        """The sound of one key, from ``ONSET_MARGIN_SAMPLES`` before its onset.

        Parameters
        ----------
        pitch_midi : int
        velocity : float
            1 to 127: sets the colour; the loudness is ``gain_db``.
        gain_db : float
            Level of the first 0.3 s, dB re full scale, before the register's own balance.
        cents : float
            Distance from equal temperament at 440 Hz (as the set was tuned).
        length : int
            Samples wanted; the result is shorter where the recording ends.
        layer_velocity : float, optional
            Choose the recording as for this velocity, so that the seams between layers
            do not always fall at the same velocities.
        neighbour : int
            Take the recording of the key this many semitones higher and play it down: the
            same strings in a larger or smaller body.
        brightness_db : float
            Added to the treble shelf: softer or harder hammers.

        Returns
        -------
        float32, shape (<= length,)
        """
        choice = velocity if layer_velocity is None else layer_velocity
        key = int(np.clip(pitch_midi + neighbour, LOWEST_PITCH_MIDI, HIGHEST_PITCH_MIDI))
        sample = self.sample_for(key, choice)
        ratio = 2.0 ** ((pitch_midi - sample.pitch_midi + cents / 100.0) / 12.0)
        first = ONSET_MARGIN_SAMPLES * (1.0 - ratio)
        note = read_at(sample.samples, ratio, length, max(first, 1.0))
        if first < 1.0:  # a sample read faster has less before its onset
            lost = round((1.0 - first) / ratio)
            note = np.concatenate([np.zeros(lost, np.float32), note])[:length]
        shelf_db = float(
            np.clip(SHELF_DB_PER_VELOCITY * (velocity - sample.velocity), *SHELF_LIMITS_DB)
        )
        shelf_db += brightness_db
        if abs(shelf_db) > 0.5:
            fundamental_hz = pitch_to_hz(pitch_midi)
            note = treble_shelf(note, SHELF_CORNER_HARMONICS * fundamental_hz + 300.0, shelf_db)
        level = gain_db + self.register_db[pitch_midi] - sample.level_db
        return note * np.float32(10.0 ** (level / 20.0))


def _register_balance(samples: Sequence[PianoSample]) -> NDArray[np.float64]:
    """Loudness per key, a smooth (cubic) curve through the loudest recording of each key."""
    loudest: dict[float, float] = {}
    for sample in samples:
        if sample.lovel <= LOUD_VELOCITY:
            previous = loudest.get(sample.pitch_midi, -np.inf)
            loudest[sample.pitch_midi] = max(previous, sample.level_db)
    keys = np.array(sorted(loudest))
    levels = np.array([loudest[key] for key in keys])
    degree = min(3, len(keys) - 1)
    centred = (np.arange(128) - 64.5) / 43.5
    curve = np.polyval(np.polyfit((keys - 64.5) / 43.5, levels, degree), centred)
    curve -= curve[LOWEST_PITCH_MIDI : HIGHEST_PITCH_MIDI + 1].mean()
    balance: NDArray[np.float64] = np.clip(curve, -12.0, 8.0)
    return balance


def _layers_by_key(samples: Sequence[PianoSample]) -> dict[int, tuple[PianoSample, ...]]:
    layers: dict[int, tuple[PianoSample, ...]] = {}
    for key in range(LOWEST_PITCH_MIDI, HIGHEST_PITCH_MIDI + 1):
        serving = [sample for sample in samples if sample.lokey <= key <= sample.hikey]
        if not serving:
            nearest = min(abs(sample.pitch_midi - key) for sample in samples)
            serving = [s for s in samples if abs(s.pitch_midi - key) == nearest]
        layers[key] = tuple(sorted(serving, key=lambda sample: sample.hivel))
    return layers


def sampled_piano(
    name: str,
    samples: Sequence[PianoSample],
    instrument: str | None = None,
) -> SampledPiano:
    """A piano from its recordings.

    Raises
    ------
    InputError
        No recording is left to play.
    """
    if not samples:
        raise InputError(f"piano {name!r} has no usable sample")
    return SampledPiano(
        name=name,
        instrument=instrument or instrument_of(name),
        layers=_layers_by_key(samples),
        register_db=_register_balance(samples),
    )
