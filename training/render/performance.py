"""What is played: keys going down and up, and the pedal, as a pianist's hands give them.

Scores are played with what distinguishes a person from a sequencer: a tempo that breathes,
chords that do not fall quite together, a melody brought out above its accompaniment, phrases
that swell, a pedal changed with the harmony just after it sounds. Beside music there are
chords, scales, repeated notes, single keys and notes without any sense at all, so that what
is learnt from them is the piano and not a repertoire.
"""

from __future__ import annotations

import io
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import mido
import numpy as np
from mido.midifiles.meta import KeySignatureError
from numpy.typing import ArrayLike, NDArray

from edge.errors import InputError
from edge.note import HIGHEST_PITCH_MIDI, LOWEST_PITCH_MIDI
from training.skipped import Skipped

PLAYED_DTYPE = np.dtype(
    [("pitch_midi", "i2"), ("onset_s", "f8"), ("release_s", "f8"), ("velocity", "i2")]
)
CHORD_WINDOW_S = 0.012
"""Score onsets closer than this are one chord."""
SAME_KEY_REST_S = 0.03
"""A key must come up this long before it can be struck again (repetition action: about 15/s)."""
SAME_KEY_MERGE_S = 0.05
"""Two onsets on one key closer than this are one note written twice."""
SHORTEST_PRESS_S = 0.03
SOFTEST_VELOCITY = 12
"""Below this a real key mostly does not speak; such labels would teach silence."""
PEDAL_CONTROLLER = 64
SUSTAIN_THRESHOLD = 64
TEMPO_FACTOR = (0.6, 1.5)
TRANSPOSITION = 6
MIDI_CACHE_VERSION = 2
FEWEST_NOTES = 8
"""A file with fewer is no piece."""


@dataclass(frozen=True, slots=True)
class Performance:
    """Keys and pedal over a stretch of time.

    Attributes
    ----------
    notes : structured array of PLAYED_DTYPE
        Sorted by onset; on one key each note is released before the next begins.
    pedal : float64, shape (m, 2)
        Intervals (down_s, up_s) of the sustain pedal, sorted, without overlap.
    """

    notes: NDArray[np.void]
    pedal: NDArray[np.float64]


def played(
    pitch_midi: ArrayLike,
    onset_s: ArrayLike,
    release_s: ArrayLike,
    velocity: ArrayLike,
) -> NDArray[np.void]:
    """Notes from columns."""
    notes = np.zeros(np.shape(pitch_midi), PLAYED_DTYPE)
    notes["pitch_midi"] = pitch_midi
    notes["onset_s"] = onset_s
    notes["release_s"] = release_s
    notes["velocity"] = np.clip(np.round(np.asarray(velocity)), 1, 127)
    return notes


def playable(notes: NDArray[np.void]) -> NDArray[np.void]:
    """What one piano can do with these notes: 88 keys, and each key down once at a time."""
    inside = (notes["pitch_midi"] >= LOWEST_PITCH_MIDI) & (
        notes["pitch_midi"] <= HIGHEST_PITCH_MIDI
    )
    notes = notes[inside]
    notes = notes[np.lexsort((notes["onset_s"], notes["pitch_midi"]))]
    if len(notes) == 0:
        return notes
    # Of notes written twice the first stays (as loud as the louder), in one pass.
    keep = np.ones(len(notes), bool)
    last = 0
    for i in range(1, len(notes)):
        same_key = notes["pitch_midi"][i] == notes["pitch_midi"][last]
        if same_key and notes["onset_s"][i] - notes["onset_s"][last] < SAME_KEY_MERGE_S:
            keep[i] = False
            notes["velocity"][last] = max(notes["velocity"][last], notes["velocity"][i])
            notes["release_s"][last] = max(notes["release_s"][last], notes["release_s"][i])
        else:
            last = i
    notes = notes[keep]
    same_key = notes["pitch_midi"][1:] == notes["pitch_midi"][:-1]
    latest = np.where(same_key, notes["onset_s"][1:] - SAME_KEY_REST_S, np.inf)
    notes["release_s"] = np.maximum(notes["release_s"], notes["onset_s"] + SHORTEST_PRESS_S)
    notes["release_s"][:-1] = np.minimum(notes["release_s"][:-1], latest)
    notes["release_s"] = np.maximum(notes["release_s"], notes["onset_s"] + 0.015)
    return notes[np.argsort(notes["onset_s"], kind="stable")]


def merged_intervals(intervals: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sorted (down, up) intervals of positive length without overlap."""
    result: list[list[float]] = []
    for down_s, up_s in intervals[np.argsort(intervals[:, 0])] if len(intervals) else ():
        if up_s <= down_s:
            continue
        if result and down_s <= result[-1][1]:
            result[-1][1] = max(result[-1][1], up_s)
        else:
            result.append([float(down_s), float(up_s)])
    return np.array(result, np.float64).reshape(-1, 2)


# --- pieces read from MIDI files -----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PieceLibrary:
    """Many pieces in three flat arrays.

    Attributes
    ----------
    notes : structured array of PLAYED_DTYPE
        All notes of all pieces.
    note_start : int64, shape (pieces + 1,)
    pedal : float64, shape (m, 2)
    pedal_start : int64, shape (pieces + 1,)
    """

    notes: NDArray[np.void]
    note_start: NDArray[np.int64]
    pedal: NDArray[np.float64]
    pedal_start: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.note_start) - 1

    def piece(self, index: int) -> Performance:
        notes = self.notes[self.note_start[index] : self.note_start[index + 1]]
        pedal = self.pedal[self.pedal_start[index] : self.pedal_start[index + 1]]
        return Performance(notes, pedal)


def piece_library(pieces: Sequence[Performance]) -> PieceLibrary:
    """Lay pieces end to end; there must be one at least."""
    return PieceLibrary(
        notes=np.concatenate([piece.notes for piece in pieces]),
        note_start=np.cumsum([0, *(len(piece.notes) for piece in pieces)]),
        pedal=np.concatenate([piece.pedal for piece in pieces]),
        pedal_start=np.cumsum([0, *(len(piece.pedal) for piece in pieces)]),
    )


UNREADABLE_MIDI = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    IndexError,
    TypeError,
    ZeroDivisionError,
    KeySignatureError,
)
"""What mido raises for damaged files: every kind seen when bytes were changed at random."""


def read_midi(content: bytes) -> Performance:
    """Keys and pedal of a Standard MIDI File, all tracks played on one piano.

    Raises
    ------
    InputError
        The file cannot be parsed.
    """
    try:
        midi = mido.MidiFile(file=io.BytesIO(content), clip=True)
        return _performance_of_midi(midi)
    except UNREADABLE_MIDI as trouble:
        raise InputError(
            f"not a readable MIDI file: {str(trouble) or 'it is cut short'}"
        ) from trouble


def _performance_of_midi(midi: mido.MidiFile) -> Performance:
    sounding: dict[tuple[int, int], tuple[float, int]] = {}
    rows: list[tuple[int, float, float, int]] = []
    pedal: list[tuple[float, float]] = []
    pedal_down: float | None = None
    now_s = 0.0
    for message in midi:
        now_s += message.time
        if message.type == "note_on" and message.velocity > 0:
            if message.channel != 9:
                sounding[(message.channel, message.note)] = (now_s, message.velocity)
        elif message.type in ("note_off", "note_on"):
            begun = sounding.pop((message.channel, message.note), None)
            if begun is not None:
                rows.append((message.note, begun[0], now_s, begun[1]))
        elif message.type == "control_change" and message.control == PEDAL_CONTROLLER:
            down = message.value >= SUSTAIN_THRESHOLD
            if down and pedal_down is None:
                pedal_down = now_s
            elif not down and pedal_down is not None:
                pedal.append((pedal_down, now_s))
                pedal_down = None
    notes = playable(np.array(rows, PLAYED_DTYPE))
    if np.any(notes["onset_s"] < 0.0):
        raise ValueError("its time runs backwards")
    return Performance(notes, merged_intervals(np.array(pedal, np.float64).reshape(-1, 2)))


def midi_files_in(archive: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """Name and content of the MIDI files in a tar archive (or a folder) whose path is wanted.

    Raises
    ------
    InputError
        The archive is damaged; what lies before the damage has been given.
    """
    if archive.is_dir():
        for path in sorted(archive.rglob("*.mid")):
            if wanted(str(path)):
                yield str(path.relative_to(archive)), path.read_bytes()
        return
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                if member.isfile() and member.name.endswith(".mid") and wanted(member.name):
                    file = tar.extractfile(member)
                    if file is not None:
                        yield member.name, file.read()
    except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError) as trouble:
        raise InputError(f"a damaged archive: {str(trouble) or 'it is cut short'}") from trouble


def read_pieces(
    archive: Path, wanted: Callable[[str], bool]
) -> tuple[list[Performance], list[Skipped]]:
    """The pieces of an archive of MIDI files, and the files that are not pieces."""
    pieces: list[Performance] = []
    skipped: list[Skipped] = []
    files = midi_files_in(archive, wanted)
    while True:
        try:
            name, content = next(files)
        except StopIteration:
            return pieces, skipped
        except InputError as damaged:
            return pieces, [*skipped, Skipped(archive.name, str(damaged))]
        try:
            piece = read_midi(content)
        except InputError as trouble:
            skipped.append(Skipped(f"{archive.name}/{name}", str(trouble)))
            continue
        if len(piece.notes) >= FEWEST_NOTES:
            pieces.append(piece)
        else:
            reason = f"{len(piece.notes)} notes: a piece has {FEWEST_NOTES} or more"
            skipped.append(Skipped(f"{archive.name}/{name}", reason))


def load_library(
    archive: Path, cache_dir: Path | None, wanted: Callable[[str], bool] = lambda path: True
) -> tuple[PieceLibrary | None, list[Skipped]]:
    """Pieces of an archive of MIDI files, and the files that are not used.

    Parsed once, if there is a folder to remember them in. No library where there is no archive,
    or no piece in it.
    """
    if not archive.exists():
        return None, [Skipped(archive.name, f"not in {archive.parent}: nothing is played from it")]
    cache = None if cache_dir is None else cache_dir / f"{archive.name}.v{MIDI_CACHE_VERSION}.npz"
    if cache is not None and cache.is_file():
        with np.load(cache) as stored:
            arrays = {name: stored[name] for name in stored.files}
        skipped = [Skipped(name, reason) for name, reason in arrays.pop("skipped").tolist()]
        return PieceLibrary(**arrays), skipped
    pieces, skipped = read_pieces(archive, wanted)
    if not pieces:
        return None, skipped or [Skipped(archive.name, "no MIDI file in it")]
    library = piece_library(pieces)
    if cache is not None:
        cache.parent.mkdir(parents=True, exist_ok=True)
        unfinished = cache.with_suffix(".part.npz")
        np.savez(
            unfinished,
            notes=library.notes,
            note_start=library.note_start,
            pedal=library.pedal,
            pedal_start=library.pedal_start,
            skipped=np.array([(s.name, s.reason) for s in skipped], np.str_).reshape(-1, 2),
        )
        unfinished.replace(cache)
    return library, skipped


# --- the hands ------------------------------------------------------------------------------


def smooth_curve(
    rng: np.random.Generator, times_s: NDArray[np.float64], period_s: float
) -> NDArray[np.float64]:
    """A slow random curve of unit variance: normal values every ``period_s``, joined smoothly."""
    if len(times_s) == 0:
        return np.zeros(0)
    position = (times_s - times_s.min()) / period_s + rng.random()
    knots = rng.standard_normal(int(position.max()) + 2)
    index = position.astype(int)
    blend = 0.5 - 0.5 * np.cos(np.pi * (position - index))
    curve: NDArray[np.float64] = knots[index] * (1 - blend) + knots[index + 1] * blend
    return curve


def excerpt(piece: Performance, start_s: float, length_s: float) -> Performance:
    """The notes that begin within a stretch of a piece, and its pedal, from time 0."""
    onset = piece.notes["onset_s"]
    chosen = piece.notes[(onset >= start_s) & (onset < start_s + length_s)].copy()
    chosen["onset_s"] -= start_s
    chosen["release_s"] -= start_s
    pedal = np.clip(piece.pedal - start_s, 0.0, length_s)
    return Performance(chosen, pedal[pedal[:, 1] > pedal[:, 0]])


def transposed(rng: np.random.Generator, notes: NDArray[np.void]) -> NDArray[np.void]:
    """Moved by up to six semitones, as far as the keyboard reaches."""
    if len(notes) == 0:
        return notes
    low = max(-TRANSPOSITION, LOWEST_PITCH_MIDI - int(notes["pitch_midi"].min()))
    high = min(TRANSPOSITION, HIGHEST_PITCH_MIDI - int(notes["pitch_midi"].max()))
    moved = notes.copy()
    if low <= high:
        moved["pitch_midi"] += rng.integers(low, high + 1)
    return moved


def chord_index(onset_s: NDArray[np.float64]) -> NDArray[np.int64]:
    """For sorted onsets, which chord (group of near-simultaneous notes) each belongs to."""
    if len(onset_s) == 0:
        return np.zeros(0, np.int64)
    return np.concatenate([[0], np.cumsum(np.diff(onset_s) > CHORD_WINDOW_S)])


def pedal_with_harmony(
    rng: np.random.Generator, notes: NDArray[np.void], length_s: float
) -> NDArray[np.float64]:
    """A sustain pedal as pianists use it.

    Mostly syncopated: up as a new harmony's bass sounds, down again 50 to 200 ms later;
    now and then held over several seconds, tapped for single chords, or not used.
    """
    habit = rng.random()
    if len(notes) == 0 or habit < 0.22:
        return np.zeros((0, 2))
    if habit < 0.34:  # held long
        downs = np.cumsum(rng.uniform(1.0, 7.0, size=int(length_s / 2) + 2)) - 2.0
        return merged_intervals(np.stack([downs[:-1], downs[1:] - rng.uniform(0.1, 0.6)], 1))
    lowest = np.percentile(notes["pitch_midi"], 35)
    bass_s = notes["onset_s"][notes["pitch_midi"] <= lowest]
    gap_s = rng.uniform(0.4, 1.6)
    bass_changes = [float(bass_s[0])] if len(bass_s) else [0.0]
    for onset_s in bass_s:
        if onset_s - bass_changes[-1] >= gap_s:
            bass_changes.append(float(onset_s))
    changes = np.array([*bass_changes, length_s + 1.0])
    up = changes[1:] + rng.normal(0.0, 0.03, len(changes) - 1)
    down = changes[:-1] + rng.uniform(0.04, 0.2, len(changes) - 1)
    if habit < 0.44:  # only some harmonies, and lifted before the next
        up = down + (up - down) * rng.uniform(0.4, 0.95, len(up))
        some = rng.random(len(up)) < 0.6
        up, down = up[some], down[some]
    return merged_intervals(np.stack([down, up], axis=1))


def humanised(rng: np.random.Generator, score: Performance) -> Performance:
    """A score as a person might play it.

    Timing: a tempo curve (the logarithm of the tempo wanders by 3 to 20 %, over phrases of
    2 to 8 s), chords spread over 0 to 30 ms (now and then rolled), 2 to 12 ms of jitter.
    Velocity: a base, a phrase curve, accents, the top voice up to 30 steps above the rest.
    Articulation: two times in three the legato of most piano music, each key let go about when
    the next is struck; else anything from staccato to overlapping.
    """
    notes = score.notes[np.argsort(score.notes["onset_s"], kind="stable")].copy()
    if len(notes) == 0:
        return score
    onset_s, release_s = notes["onset_s"].copy(), notes["release_s"].copy()
    end_s = float(release_s.max()) + 0.1
    grid_s = np.arange(0.0, end_s + 0.1, 0.05)
    stretch = np.exp(rng.uniform(0.03, 0.2) * smooth_curve(rng, grid_s, rng.uniform(2.0, 8.0)))
    warped_s = np.concatenate([[0.0], np.cumsum(stretch[:-1] * 0.05)])
    length_s = np.maximum(release_s - onset_s, SHORTEST_PRESS_S)
    chord = chord_index(onset_s)
    played_s = np.interp(onset_s, grid_s, warped_s)
    played_s += _chord_spread_s(rng, notes["pitch_midi"], chord)
    played_s += rng.normal(0.0, rng.uniform(0.002, 0.012), len(notes))
    legato = rng.random() < 0.65
    share = rng.uniform(0.88, 1.03) if legato else rng.uniform(0.35, 1.08)
    articulation = share * (1.0 + rng.uniform(-0.1, 0.1, len(notes)) * (0.4 if legato else 1.0))
    notes["velocity"] = np.clip(
        _voiced_velocity(rng, notes["pitch_midi"], chord, played_s), SOFTEST_VELOCITY, 127
    )
    notes["onset_s"] = played_s
    notes["release_s"] = played_s + length_s * articulation
    notes = playable(notes)
    return Performance(notes, pedal_with_harmony(rng, notes, end_s))


def _chord_spread_s(
    rng: np.random.Generator, pitch_midi: NDArray[np.int16], chord: NDArray[np.int64]
) -> NDArray[np.float64]:
    """How much later than its chord's first each note comes: from below, or at random."""
    widest_s = rng.uniform(0.0, 0.03)
    spread = rng.random(len(chord)) * widest_s
    rolled = rng.random(int(chord[-1]) + 1) < rng.choice([0.0, 0.0, 0.05, 0.3])
    for index in np.flatnonzero(rolled):
        members = np.flatnonzero(chord == index)
        rank = np.argsort(np.argsort(pitch_midi[members]))
        spread[members] = rank * rng.uniform(0.015, 0.08)
    return spread


def _voiced_velocity(
    rng: np.random.Generator,
    pitch_midi: NDArray[np.int16],
    chord: NDArray[np.int64],
    onset_s: NDArray[np.float64],
) -> NDArray[np.float64]:
    top = np.full(int(chord[-1]) + 1, -1)
    np.maximum.at(top, chord, pitch_midi)
    melody = pitch_midi == top[chord]
    velocity = np.full(len(chord), rng.uniform(28.0, 92.0))
    velocity += rng.uniform(3.0, 16.0) * smooth_curve(rng, onset_s, rng.uniform(1.0, 6.0))
    velocity += melody * rng.uniform(0.0, 30.0)
    accents = rng.random(int(chord[-1]) + 1) < rng.uniform(0.0, 0.15)
    velocity += accents[chord] * rng.uniform(8.0, 25.0)
    return velocity + rng.normal(0.0, rng.uniform(2.0, 8.0), len(chord))


def from_score(rng: np.random.Generator, library: PieceLibrary, length_s: float) -> Performance:
    """A stretch of a score of the library at some tempo, transposed and humanised."""
    piece = library.piece(int(rng.integers(len(library))))
    factor = rng.uniform(*TEMPO_FACTOR)
    end_s = float(piece.notes["onset_s"].max())
    start_s = rng.uniform(0.0, max(0.01, end_s - 0.6 * length_s * factor))
    cut = excerpt(piece, start_s, 1.25 * length_s * factor + 1.0)
    notes = transposed(rng, cut.notes)
    notes["onset_s"] /= factor
    notes["release_s"] /= factor
    return humanised(rng, Performance(notes, cut.pedal))


def from_performance(
    rng: np.random.Generator, library: PieceLibrary, length_s: float
) -> Performance:
    """A stretch of a played piece at another tempo, transposed, its dynamics changed.

    Its own pedal is kept two times in three; else another is put in.
    """
    piece = library.piece(int(rng.integers(len(library))))
    factor = rng.uniform(*TEMPO_FACTOR)
    end_s = float(piece.notes["onset_s"].max())
    start_s = rng.uniform(0.0, max(0.01, end_s - length_s * factor))
    cut = excerpt(piece, start_s, length_s * factor)
    notes = transposed(rng, cut.notes)
    notes["onset_s"] /= factor
    notes["release_s"] /= factor
    notes["onset_s"] += rng.normal(0.0, rng.uniform(0.0, 0.012), len(notes))
    velocity = notes["velocity"].astype(float)
    slope, middle = rng.uniform(0.5, 1.7), rng.uniform(32.0, 92.0)
    velocity = middle + slope * (velocity - np.mean(velocity) if len(notes) else velocity)
    notes["velocity"] = np.clip(velocity + rng.normal(0.0, 5.0, len(notes)), SOFTEST_VELOCITY, 127)
    notes = playable(notes)
    if len(cut.pedal) and rng.random() < 2 / 3:
        return Performance(notes, cut.pedal / factor)
    return Performance(notes, pedal_with_harmony(rng, notes, length_s))


OCTAVES = (12, 12, 12, 12, 24, 19)
"""How far away a hand doubles, in semitones: mostly an octave, else two, or a twelfth."""


def in_octaves(rng: np.random.Generator, performance: Performance) -> Performance:
    """A fifth to nine tenths of what one hand plays, or both, doubled further out.

    Two strings whose partials fall on one another are the hardest thing to hear apart, so the
    balance between them is drawn wide: 12 steps of velocity either way are common.
    """
    notes = performance.notes
    if len(notes) == 0:
        return performance
    middle = np.median(notes["pitch_midi"])
    outward = np.where(notes["pitch_midi"] < middle, -1, 1)
    hands = ([-1], [1], [-1, 1])[int(rng.integers(3))]
    some = np.isin(outward, hands) & (rng.random(len(notes)) < rng.uniform(0.2, 0.9))
    further = notes[some].copy()
    interval = OCTAVES[int(rng.integers(len(OCTAVES)))]
    further["pitch_midi"] += interval * outward[some]
    later_s = rng.uniform(0.0, 0.015, len(further))
    further["onset_s"] += later_s
    further["release_s"] += later_s
    louder = rng.normal(rng.uniform(-8.0, 8.0), 8.0, len(further))
    further["velocity"] = np.clip(further["velocity"] + louder, SOFTEST_VELOCITY, 127)
    return Performance(playable(np.concatenate([notes, further])), performance.pedal)


# --- what no composer wrote -----------------------------------------------------------------


def _random_pedal(rng: np.random.Generator, length_s: float) -> NDArray[np.float64]:
    """No pedal, or down and up at random times."""
    if rng.random() < 0.4:
        return np.zeros((0, 2))
    times = np.cumsum(rng.exponential(rng.uniform(0.4, 3.0), size=2 * int(length_s) + 4))
    return merged_intervals(times[: len(times) // 2 * 2].reshape(-1, 2))


def chords(rng: np.random.Generator, length_s: float) -> Performance:
    """Chords and clusters of two to ten keys, every 0.15 to 2 s."""
    rows: list[tuple[int, float, float, int]] = []
    pace_s = rng.uniform(0.15, 1.2)
    now_s = 0.0
    base = rng.uniform(25, 110)
    while now_s < length_s:
        size = int(rng.integers(2, 11))
        low = int(rng.integers(LOWEST_PITCH_MIDI, HIGHEST_PITCH_MIDI - 6))
        span = int(rng.choice([6, 12, 24, 48]))
        keys = rng.choice(np.arange(low, min(low + span, HIGHEST_PITCH_MIDI) + 1), size=size)
        held_s = pace_s * rng.uniform(0.2, 1.3)
        spread_s = rng.uniform(0.0, 0.03)
        for key in np.unique(keys):
            onset_s = now_s + rng.random() * spread_s
            velocity = int(np.clip(base + rng.normal(0.0, 14.0), SOFTEST_VELOCITY, 127))
            rows.append((int(key), onset_s, onset_s + held_s * rng.uniform(0.9, 1.1), velocity))
        now_s += pace_s * rng.uniform(0.7, 1.5)
    return Performance(playable(np.array(rows, PLAYED_DTYPE)), _random_pedal(rng, length_s))


SCALES = (
    (2, 2, 1, 2, 2, 2, 1),
    (2, 1, 2, 2, 1, 3, 1),
    (1,),
    (2,),
    (4, 3, 5),
    (3, 4, 5),
    (3,),
    (12,),
)
"""Steps in semitones: major, harmonic minor, chromatic, whole tone, arpeggios, octaves."""


def scales(rng: np.random.Generator, length_s: float) -> Performance:
    """Scales, arpeggios and octaves, 2 to 14 notes a second, in one hand or two."""
    rate = rng.uniform(2.0, 14.0)
    steps = SCALES[int(rng.integers(len(SCALES)))]
    ladder = [int(rng.integers(LOWEST_PITCH_MIDI, LOWEST_PITCH_MIDI + 12))]
    while ladder[-1] + steps[len(ladder) % len(steps)] <= HIGHEST_PITCH_MIDI:
        ladder.append(ladder[-1] + steps[len(ladder) % len(steps)])
    interval = int(rng.choice([0, 0, 0, 12, 3, 4, 24, 8]))
    place = int(rng.integers(len(ladder)))
    direction = 1
    count = int(length_s * rate)
    legato = rng.uniform(0.3, 1.15)
    base, swing = rng.uniform(25, 105), rng.uniform(0, 18)
    rows: list[tuple[int, float, float, int]] = []
    for index in range(count):
        if place + direction not in range(len(ladder)) or rng.random() < 0.04:
            direction = -direction
        place = int(np.clip(place + direction, 0, len(ladder) - 1))
        onset_s = index / rate + rng.normal(0.0, 0.006)
        velocity = base + swing * np.sin(index / 9.0) + rng.normal(0.0, 4.0)
        for key in {ladder[place], ladder[place] + interval}:
            begun_s = onset_s + rng.random() * 0.012
            level = int(np.clip(velocity, SOFTEST_VELOCITY, 127))
            rows.append((key, begun_s, begun_s + legato / rate, level))
    return Performance(playable(np.array(rows, PLAYED_DTYPE)), _random_pedal(rng, length_s))


def repetitions(rng: np.random.Generator, length_s: float) -> Performance:
    """Keys repeated 2 to 10 times a second, alone, in chords or over other notes."""
    rows: list[tuple[int, float, float, int]] = []
    now_s = 0.0
    while now_s < length_s:
        rate = rng.uniform(2.0, 10.0)
        size = int(rng.choice([1, 1, 1, 2, 3]))
        low = int(rng.integers(LOWEST_PITCH_MIDI, HIGHEST_PITCH_MIDI - 12))
        keys = np.unique(rng.integers(low, low + 13, size=size))
        base = rng.uniform(30, 115)
        press = rng.uniform(0.25, 0.9)
        for _ in range(int(rng.integers(3, 16))):
            velocity = int(np.clip(base + rng.normal(0.0, 9.0), SOFTEST_VELOCITY, 127))
            for key in keys:
                onset_s = now_s + rng.random() * 0.01
                rows.append((int(key), onset_s, onset_s + press / rate, velocity))
            now_s += 1.0 / rate + rng.normal(0.0, 0.005)
        now_s += rng.exponential(0.3)
    if rng.random() < 0.5:
        rows.extend(tuple(row) for row in soup(rng, length_s, notes_per_s=2.0).notes)
    return Performance(playable(np.array(rows, PLAYED_DTYPE)), _random_pedal(rng, length_s))


def single_keys(rng: np.random.Generator, length_s: float) -> Performance:
    """One key at a time over the whole keyboard, at every velocity, short and long."""
    pace_s = rng.uniform(0.25, 1.5)
    count = int(length_s / pace_s) + 1
    onset_s = np.arange(count) * pace_s + rng.uniform(0.0, 0.5 * pace_s, count)
    keys = rng.integers(LOWEST_PITCH_MIDI, HIGHEST_PITCH_MIDI + 1, count)
    held_s = np.exp(rng.uniform(np.log(0.05), np.log(3.0), count))
    notes = playable(
        played(keys, onset_s, onset_s + held_s, rng.integers(SOFTEST_VELOCITY, 128, count))
    )
    return Performance(notes, _random_pedal(rng, length_s))


def soup(
    rng: np.random.Generator, length_s: float, notes_per_s: float | None = None
) -> Performance:
    """Independent notes: any key, any time, any velocity and length."""
    rate = (
        float(np.exp(rng.uniform(np.log(2.0), np.log(20.0))))
        if notes_per_s is None
        else notes_per_s
    )
    count = max(1, rng.poisson(rate * length_s))
    onset_s = rng.uniform(0.0, length_s, count)
    centre, width = rng.uniform(40, 85), rng.uniform(8, 25)
    keys = np.clip(np.round(rng.normal(centre, width, count)), 21, 108).astype(int)
    held_s = np.exp(rng.uniform(np.log(0.05), np.log(2.5), count))
    velocity = rng.uniform(30, 100) + rng.normal(0.0, 20.0, count)
    velocity = np.clip(velocity, SOFTEST_VELOCITY, 127)
    notes = playable(played(keys, onset_s, onset_s + held_s, velocity))
    return Performance(notes, _random_pedal(rng, length_s))


def silence(rng: np.random.Generator, length_s: float) -> Performance:  # noqa: ARG001
    """Nobody plays: what else is heard then is not music."""
    return Performance(np.zeros(0, PLAYED_DTYPE), np.zeros((0, 2)))
