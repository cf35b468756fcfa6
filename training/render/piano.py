"""A sampled piano: recordings of single keys, and how any key is played from them.

A sample set lists its recordings in ``regions.csv``: which keys and velocities each one
serves and where its attack lies. Here every recording is brought to 16 kHz once, cut a
few milliseconds before its acoustic onset, and measured: its level over the first 0.3 s
after the hammer. A struck key is then the recording nearest in key and velocity, read at
another speed (four-point cubic interpolation) to reach the pitch, scaled to the loudness
that the velocity asks for, and made darker or brighter by a first-order shelf where the
recording was played harder or softer than that.

Sets differ in what their levels mean: some kept the dynamics of the recording, some had
every file brought to full scale. So the measured level is taken out and a velocity curve
common to all is put in; a set keeps its own balance of bass to treble.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile as sf
from numpy.typing import NDArray
from scipy.signal import butter, lfilter, resample_poly, sosfilt

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
MISLABELLED_CENTS = 130.0
"""A recording that sounds further than this from its listed key is skipped. The furthest of
the seven sets in hand is a C8 at 100 cents, of old uprights at 80."""
HIGHEST_COMB_PITCH_MIDI = 80

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

SOUNDS_HIGHER_CENTS = {
    "grand_yamahaC5_salamander": {108: 55.0},
    "grand_yamahaC3_headroom_close": {108: 40.0},
    "grand_yamahaC3_headroom_decca": {108: 40.0},
}
"""Set -> key of the recording -> cents by which it is taken down when played. These C8 were
measured 80 to 100 cents above equal temperament: a stretched tuning makes 30 to 50, the rest
would sound a key higher than its label."""

SKIPPED_SAMPLES: dict[str, dict[str, str]] = {}
"""Set name -> sample -> why it is not used."""


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
    rumble = butter(2, 60.0, "highpass", fs=SAMPLE_RATE_HZ, output="sos")
    start = max(0, listed_onset_samples - 160)
    stop = listed_onset_samples + ATTACK_SEARCH_SAMPLES
    power = np.square(sosfilt(rumble, samples[:stop]))
    envelope = np.sqrt(
        np.convolve(power, np.full(RISE_WINDOW_SAMPLES, 1.0 / RISE_WINDOW_SAMPLES))[: len(power)]
    )[start:]
    rise = start + int(np.argmax(envelope > RISE_FRACTION * envelope.max()))
    return max(0, rise - RISE_DELAY_SAMPLES)


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


def without_rumble(samples: NDArray[np.float32], pitch_midi: float) -> NDArray[np.float32]:
    """A recorded key without what lies below its fundamental (and below 60 Hz).

    A studio's rumble is heard once in a real recording; here it would begin and end with
    every note, and grow with the soft recordings that are played louder than they were.
    """
    corner_hz = float(np.clip(0.6 * pitch_to_hz(pitch_midi), 15.0, 60.0))
    sections = butter(2, corner_hz, "highpass", fs=SAMPLE_RATE_HZ, output="sos")
    return np.asarray(sosfilt(sections, samples), dtype=np.float32)


def sounding_cents(samples: NDArray[np.float32], pitch_midi: float) -> float:
    """How far a cut recording sounds from the pitch it is listed at, within 7 semitones.

    Up to ``HIGHEST_COMB_PITCH_MIDI`` the shift at which a comb of six partials finds most
    (log) energy; above, where 8 kHz leaves few partials, the strongest peak near the
    fundamental. Good to about 50 cents, which is enough to find a wrong label.
    """
    start = ONSET_MARGIN_SAMPLES + 200
    high = pitch_midi > HIGHEST_COMB_PITCH_MIDI  # rings briefly, then other strings answer
    window = samples[start : start + (4_096 if high else 16_384)]
    if len(window) < 2_048:
        return 0.0
    spectrum = np.abs(np.fft.rfft(window * np.hanning(len(window)), 32_768))
    fundamental_hz = pitch_to_hz(pitch_midi)
    bin_hz = SAMPLE_RATE_HZ / 32_768
    cents = np.arange(-700.0, 701.0, 10.0)
    shifted_hz = fundamental_hz * 2.0 ** (cents / 1200.0)
    bins = np.arange(len(spectrum))
    if high:
        return float(cents[np.argmax(np.interp(shifted_hz / bin_hz, bins, spectrum))])
    log_spectrum = np.log(spectrum + 1e-3 * spectrum.max())
    found = np.zeros(len(cents))
    for partial in range(1, 7):
        found += np.interp(partial * shifted_hz / bin_hz, bins, log_spectrum)
    return float(cents[np.argmax(found)])


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
    skipped : tuple of str
        "sample: reason" for recordings that could not be used.
    """

    name: str
    instrument: str
    layers: dict[int, tuple[PianoSample, ...]]
    register_db: NDArray[np.float64]
    skipped: tuple[str, ...] = field(default=())

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
    skipped: Sequence[str] = (),
    instrument: str | None = None,
) -> SampledPiano:
    """A piano from its recordings.

    Raises
    ------
    InputError
        No recording is left to play.
    """
    if not samples:
        raise InputError(f"piano {name!r} has no usable sample; {len(skipped)} were skipped")
    return SampledPiano(
        name=name,
        instrument=instrument or instrument_of(name),
        layers=_layers_by_key(samples),
        register_db=_register_balance(samples),
        skipped=tuple(skipped),
    )


def _read_16k(path: Path) -> NDArray[np.float32]:
    samples, rate = sf.read(path, dtype="float32", always_2d=True)
    mono = samples.mean(axis=1)
    if rate != SAMPLE_RATE_HZ:
        common = np.gcd(rate, SAMPLE_RATE_HZ)
        mono = resample_poly(mono, SAMPLE_RATE_HZ // common, rate // common)
    return np.asarray(mono, dtype=np.float32)


def _cut_recording(folder: Path, row: dict[str, str]) -> NDArray[np.float32]:
    recording = _read_16k(folder / row["sample"])
    if np.max(np.abs(recording), initial=0.0) < SILENT_PEAK:
        raise InputError("silent")
    listed = int(float(row["onset_s"] or 0.0) * SAMPLE_RATE_HZ)
    key = int(row["pitch_keycenter"])
    recording = without_rumble(recording, key)
    cut = cut_at_onset(recording, acoustic_onset(recording, listed))
    cents = sounding_cents(cut, key)
    if abs(cents) > MISLABELLED_CENTS:
        raise InputError(f"sounds {cents:+.0f} cents from its key {key}: mislabelled?")
    return cut


def _sample_of_row(
    folder: Path, row: dict[str, str], recordings: dict[str, NDArray[np.float32]]
) -> PianoSample:
    """A row's sample; a recording that serves several rows is read once."""
    if row["sample"] not in recordings:
        recordings[row["sample"]] = _cut_recording(folder, row)
    cut = recordings[row["sample"]]
    key = int(row["pitch_keycenter"])
    higher_cents = SOUNDS_HIGHER_CENTS.get(folder.name, {}).get(key, 0.0)
    return PianoSample(
        name=row["sample"],
        samples=cut,
        pitch_midi=key + (higher_cents - float(row["tune_cents"] or 0.0)) / 100.0,
        lokey=int(row["lokey"]),
        hikey=int(row["hikey"]),
        lovel=int(row["lovel"]),
        hivel=int(row["hivel"]),
        level_db=level_db(cut),
    )


def load_piano(folder: Path) -> SampledPiano:
    """Load one sample set.

    Raises
    ------
    InputError
        No ``regions.csv``, a column is missing, or no sample can be used.
    """
    regions = folder / "regions.csv"
    if not regions.is_file():
        raise InputError(f"{folder} has no regions.csv: not a sample set this renderer can read")
    with regions.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    samples: list[PianoSample] = []
    skipped: list[str] = []
    recordings: dict[str, NDArray[np.float32]] = {}
    known_bad = SKIPPED_SAMPLES.get(folder.name, {})
    for row in rows:
        if row.get("sample") in known_bad:
            skipped.append(f"{row['sample']}: {known_bad[row['sample']]}")
            continue
        try:
            samples.append(_sample_of_row(folder, row, recordings))
        except KeyError as missing:
            raise InputError(f"{regions} has no column {missing}") from missing
        except (InputError, OSError, ValueError, RuntimeError) as trouble:
            skipped.append(f"{row['sample']}: {trouble}")
    return sampled_piano(folder.name, samples, skipped)


def load_pianos(folder: Path, held_out: Collection[str] = ()) -> list[SampledPiano]:
    """Load every sample set below ``folder``, except the instruments held out.

    Parameters
    ----------
    folder : Path
        Folders with ``regions.csv`` each.
    held_out : collection of str
        Instruments (or set names); every set of such an instrument stays out.

    Raises
    ------
    InputError
        A held-out name matches nothing, or nothing is left.
    """
    folders = sorted(path.parent for path in folder.glob("*/regions.csv"))
    names = {path.name for path in folders}
    for name in held_out:
        if name not in names and name not in {instrument_of(known) for known in names}:
            raise InputError(f"cannot hold out {name!r}: the sets here are {sorted(names)}")
    excluded = {instrument_of(name) for name in held_out}
    chosen = [path for path in folders if instrument_of(path.name) not in excluded]
    if not chosen:
        raise InputError(f"no sample set with a regions.csv to play below {folder}")
    return [load_piano(path) for path in chosen]
