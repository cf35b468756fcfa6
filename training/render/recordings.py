"""A sample set on disk: what its list says, what is heard, and which recordings are believed.

A set lists its recordings in ``regions.csv``: which keys and velocities each one serves, at which
pitch, and where its attack lies. Every recording is brought to 16 kHz and heard before it is used.
A label that is wrong teaches a wrong note thousands of times, so a recording that cannot be
decoded, is silent or damaged, sounds at another pitch than listed or begins elsewhere is left out
and named; so is a line of the list that cannot be right.

Pitch is judged against the set's own tuning: a piano may be old, flat and stretched, but
neighbouring keys are so by much the same amount.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile as sf
from numpy.typing import NDArray
from scipy.signal import butter, resample_poly, sosfilt

from edge.errors import InputError
from edge.note import pitch_to_hz
from training.render.heard_pitch import SHORTEST_SAMPLES, heard_cents
from training.render.piano import (
    ONSET_MARGIN_SAMPLES,
    SAMPLE_RATE_HZ,
    SILENT_PEAK,
    PianoSample,
    SampledPiano,
    acoustic_onset,
    cut_at_onset,
    first_attack,
    instrument_of,
    level_db,
    sampled_piano,
)
from training.skipped import Skipped

MISTUNED_CENTS = 60.0
"""A recording this far from its neighbours' tuning has a wrong label. Of the 850 in hand the
furthest is 50 (the lowest keys of an old piano), of new ones 40; a label a semitone wrong is 100
away."""
MISTUNED_SET_CENTS = 60.0
"""A set whose recordings lie this far from 440 Hz on the whole sounds a key beside its labels: the
seven in hand lie within 10."""
NEIGHBOUR_KEYS = 4
"""Recorded keys about a key whose median tuning it is compared with; its own do not count."""
ONSET_TOLERANCE_S = 0.05
"""Between the listed and the heard attack. Of the 850 in hand the furthest is 25 ms (soft and far
away), the 99th percentile 7; what trains must be right to a few milliseconds, but within this
much the attack is found where it is heard."""
HIGHEST_TUNE_CENTS = 100.0
AFTER_THE_BLOW_SAMPLES = ONSET_MARGIN_SAMPLES + 200

SOUNDS_HIGHER_CENTS = {
    "grand_yamahaC5_salamander": {108: 55.0},
    "grand_yamahaC3_headroom_close": {108: 40.0},
    "grand_yamahaC3_headroom_decca": {108: 40.0},
}
"""Set -> key of the recording -> cents by which it is taken down when played. These C8 were
measured 80 to 100 cents above equal temperament: a stretched tuning makes 30 to 50, the rest
would sound a key higher than its label."""


@dataclass(frozen=True, slots=True)
class Region:
    """One line of ``regions.csv``."""

    sample: str
    pitch_keycenter: int
    lokey: int
    hikey: int
    lovel: int
    hivel: int
    onset_s: float
    tune_cents: float

    @classmethod
    def of_row(cls, row: dict[str, str]) -> Region:
        """From a line's columns.

        Raises
        ------
        InputError
            A value is missing, not a number, or not possible.
        """
        region = cls(
            sample=row["sample"],
            pitch_keycenter=_whole(row, "pitch_keycenter"),
            lokey=_whole(row, "lokey"),
            hikey=_whole(row, "hikey"),
            lovel=_whole(row, "lovel"),
            hivel=_whole(row, "hivel"),
            onset_s=_number(row, "onset_s"),
            tune_cents=_number(row, "tune_cents"),
        )
        if region.lokey > region.hikey or region.lovel > region.hivel:
            raise InputError(
                f"keys {region.lokey} to {region.hikey}, velocities {region.lovel} to "
                f"{region.hivel}: the first must not be above the second"
            )
        if region.onset_s < 0.0:
            raise InputError(f"onset_s {region.onset_s}: it counts from the file's start")
        if abs(region.tune_cents) > HIGHEST_TUNE_CENTS:
            raise InputError(f"tune_cents {region.tune_cents}: -100 to 100 is possible")
        return region


def _number(row: dict[str, str], column: str) -> float:
    text = row[column] or "0"
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{column} is {text!r}: a number is needed")
    return value


def _whole(row: dict[str, str], column: str) -> int:
    text = row[column].strip()
    if not text.isdecimal() or int(text) > 127:
        raise InputError(f"{column} is {text!r}: a whole number from 0 to 127 is needed")
    return int(text)


COLUMNS = Region.__match_args__


def read_regions(folder: Path) -> tuple[list[Region], list[Skipped]]:
    """The list of a sample set, and its lines that cannot be right.

    Raises
    ------
    InputError
        There is no ``regions.csv``, or it is not such a list.
    """
    path = folder / "regions.csv"
    if not path.is_file():
        raise InputError(f"{folder} has no regions.csv: not a sample set this renderer can read")
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file, restval=""))
    except (csv.Error, UnicodeDecodeError) as trouble:
        raise InputError(f"{path} is not a table in UTF-8: {trouble}") from trouble
    missing = [name for name in COLUMNS if not rows or name not in rows[0]]
    if missing:
        raise InputError(f"{path} has no column {', '.join(missing)}, or no line below its first")
    regions: list[Region] = []
    skipped: list[Skipped] = []
    for line, row in enumerate(rows, start=2):
        try:
            regions.append(Region.of_row(row))
        except InputError as wrong:
            name = f"{folder.name}/{row['sample']}"
            skipped.append(Skipped(name, f"line {line} of regions.csv: {wrong}"))
    return regions, skipped


def without_rumble(samples: NDArray[np.float32], pitch_midi: float) -> NDArray[np.float32]:
    """A recorded key without what lies below its fundamental (and below 60 Hz).

    A studio's rumble is heard once in a real recording; here it would begin and end with
    every note, and grow with the soft recordings that are played louder than they were.
    """
    corner_hz = float(np.clip(0.6 * pitch_to_hz(pitch_midi), 15.0, 60.0))
    sections = butter(2, corner_hz, "highpass", fs=SAMPLE_RATE_HZ, output="sos")
    return np.asarray(sosfilt(sections, samples), dtype=np.float32)


def _read_16k(path: Path) -> NDArray[np.float32]:
    if not path.is_file():
        raise InputError("listed in regions.csv, but there is no such file")
    try:
        samples, rate = sf.read(path, dtype="float32", always_2d=True)
    except (OSError, sf.SoundFileError) as trouble:
        raise InputError(f"cannot be decoded: {getattr(trouble, 'error_string', trouble)}") from (
            trouble
        )
    mono = samples.mean(axis=1)
    if not np.all(np.isfinite(mono)):
        raise InputError("damaged: it has values that are not numbers")
    if rate != SAMPLE_RATE_HZ:
        common = np.gcd(rate, SAMPLE_RATE_HZ)
        mono = resample_poly(mono, SAMPLE_RATE_HZ // common, rate // common)
    return np.asarray(mono, dtype=np.float32)


def _cut_recording(path: Path, region: Region) -> NDArray[np.float32]:
    """A recording at 16 kHz from its attack on; see `cut_at_onset`.

    Raises
    ------
    InputError
        It cannot be decoded, is silent, damaged or too short, or begins elsewhere.
    """
    recording = _read_16k(path)
    if np.max(np.abs(recording), initial=0.0) < SILENT_PEAK:
        raise InputError("silent")
    recording = without_rumble(recording, region.pitch_keycenter)
    heard_s = first_attack(recording) / SAMPLE_RATE_HZ
    if abs(heard_s - region.onset_s) > ONSET_TOLERANCE_S:
        raise InputError(f"its attack is heard at {heard_s:.3f} s, listed at {region.onset_s} s")
    onset = acoustic_onset(recording, int(region.onset_s * SAMPLE_RATE_HZ))
    cut = cut_at_onset(recording, onset)
    after_blow = len(cut) - AFTER_THE_BLOW_SAMPLES
    if after_blow < SHORTEST_SAMPLES:
        shortest_s = (SHORTEST_SAMPLES + AFTER_THE_BLOW_SAMPLES) / SAMPLE_RATE_HZ
        raise InputError(
            f"{len(cut) / SAMPLE_RATE_HZ:.2f} s of sound: at least {shortest_s:.2f} s are needed"
        )
    return cut


@dataclass(frozen=True, slots=True)
class _Heard:
    """A recording that can be decoded, and how far from its listed key it sounds."""

    region: Region
    cut: NDArray[np.float32]
    cents: float


def _sounds_higher_cents(set_name: str, region: Region) -> float:
    return SOUNDS_HIGHER_CENTS.get(set_name, {}).get(region.pitch_keycenter, 0.0)


def _hear(folder: Path, regions: Sequence[Region]) -> tuple[list[_Heard], list[Skipped]]:
    """Every recording that can be decoded; one that serves several lines is read once."""
    heard: list[_Heard] = []
    skipped: list[Skipped] = []
    known: dict[tuple[str, int, float], _Heard] = {}
    refused: dict[str, InputError] = {}
    for region in regions:
        label = (region.sample, region.pitch_keycenter, region.onset_s)
        if label not in known and region.sample not in refused:
            try:
                cut = _cut_recording(folder / region.sample, region)
            except InputError as trouble:
                refused[region.sample] = trouble
                skipped.append(Skipped(f"{folder.name}/{region.sample}", str(trouble)))
            else:
                after_blow = cut[AFTER_THE_BLOW_SAMPLES:]
                cents = heard_cents(after_blow, region.pitch_keycenter, SAMPLE_RATE_HZ)
                cents -= _sounds_higher_cents(folder.name, region)
                known[label] = _Heard(region, cut, cents)
        if label in known:
            heard.append(_Heard(region, known[label].cut, known[label].cents))
    return heard, skipped


def tuning_about(pitch_midi: int, keys: NDArray[np.int64], cents: NDArray[np.float64]) -> float:
    """The tuning of a set about a key, without that key's own recordings, in cents.

    Parameters
    ----------
    pitch_midi : int
    keys, cents : shape (recordings,)
        Listed key of every recording, and how far from it each sounds.
    """
    others = np.setdiff1d(keys, [pitch_midi])
    nearest = others[np.argsort(np.abs(others - pitch_midi), kind="stable")][:NEIGHBOUR_KEYS]
    return float(np.median(cents[np.isin(keys, nearest)])) if len(nearest) else 0.0


def _rightly_labelled(set_name: str, heard: Sequence[_Heard]) -> tuple[list[_Heard], list[Skipped]]:
    """The recordings that sound at the pitch they are listed at, and the others."""
    keys = np.array([one.region.pitch_keycenter for one in heard], np.int64)
    cents = np.array([one.cents for one in heard])
    if len(heard) and abs(np.median(cents)) > MISTUNED_SET_CENTS:
        raise InputError(
            f"its recordings sound {np.median(cents):+.0f} cents from their labels on the whole: "
            "mislabelled by a key, or not tuned to 440 Hz"
        )
    right: list[_Heard] = []
    wrong: dict[str, Skipped] = {}
    for one in heard:
        key = one.region.pitch_keycenter
        tuning_cents = tuning_about(key, keys, cents)
        if abs(one.cents - tuning_cents) <= MISTUNED_CENTS:
            right.append(one)
        else:
            wrong[one.region.sample] = Skipped(
                f"{set_name}/{one.region.sample}",
                f"mislabelled: sounds {one.cents:+.0f} cents from its key {key}, the keys about "
                f"it {tuning_cents:+.0f}",
            )
    return right, list(wrong.values())


def _sample(set_name: str, heard: _Heard) -> PianoSample:
    region = heard.region
    higher_cents = _sounds_higher_cents(set_name, region)
    return PianoSample(
        name=region.sample,
        samples=heard.cut,
        pitch_midi=region.pitch_keycenter + (higher_cents - region.tune_cents) / 100.0,
        lokey=region.lokey,
        hikey=region.hikey,
        lovel=region.lovel,
        hivel=region.hivel,
        level_db=level_db(heard.cut),
    )


def load_piano(folder: Path) -> tuple[SampledPiano, list[Skipped]]:
    """One sample set, and what of it is not used.

    Raises
    ------
    InputError
        There is no list to read, or nothing on it can be used.
    """
    regions, skipped_lines = read_regions(folder)
    heard, unheard = _hear(folder, regions)
    right, wrong = _rightly_labelled(folder.name, heard)
    skipped = skipped_lines + unheard + wrong
    if not right:
        raise InputError(f"none of its {len(skipped)} recordings can be used: {skipped[0]}")
    piano = sampled_piano(folder.name, [_sample(folder.name, one) for one in right])
    return piano, skipped


def load_pianos(
    folder: Path, held_out: Collection[str] = ()
) -> tuple[list[SampledPiano], list[Skipped]]:
    """Every sample set below ``folder`` except the instruments held out, and what is not used.

    Parameters
    ----------
    folder : Path
        Folders with ``regions.csv`` each.
    held_out : collection of str
        Instruments (or set names); every set of such an instrument stays out.

    Raises
    ------
    InputError
        A held-out name matches nothing, or none of the others can be played.
    """
    folders = sorted(path.parent for path in folder.glob("*/regions.csv"))
    names = {path.name for path in folders}
    for name in held_out:
        if name not in names and name not in {instrument_of(known) for known in names}:
            raise InputError(f"cannot hold out {name!r}: the sets here are {sorted(names)}")
    excluded = {instrument_of(name) for name in held_out}
    pianos: list[SampledPiano] = []
    skipped: list[Skipped] = []
    for path in folders:
        if instrument_of(path.name) in excluded:
            continue
        try:
            piano, unused = load_piano(path)
        except InputError as trouble:
            skipped.append(Skipped(path.name, str(trouble)))
        else:
            pianos.append(piano)
            skipped += unused
    if not pianos and (skipped or not folders):
        why = f"; {skipped[0]}" if skipped else ""
        raise InputError(f"no sample set with a regions.csv to play below {folder}{why}")
    return pianos, skipped
