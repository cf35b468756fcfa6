"""One segment of training sound with its labels, from one random generator.

`render_segment` draws who plays what on which piano, in what state, in which room, through
which microphone, and returns the samples with the notes that sound in them. A note's onset
is where the hammer's sound begins in the samples (the direct sound's arrival is time 0 of
every room here); its offset is where the sound is stopped: by the damper after key and
pedal are up, or by the next strike of the same key.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.errors import InputError
from edge.note import NoteEvent
from training.render import performance as playing
from training.render import room
from training.render.modelled import MODELLED_INSTRUMENT, modelled_piano
from training.render.performance import Performance, PieceLibrary
from training.render.piano import SAMPLE_RATE_HZ, SampledPiano, instrument_of
from training.render.recordings import load_pianos
from training.render.soundfont import SoundfontPreset, load_soundfont
from training.render.synthesis import (
    draw_touch,
    mix,
    open_strings,
    sounding_end_s,
)
from training.skipped import Skipped

NOTE_DTYPE = np.dtype(
    [
        ("pitch_midi", "i2"),
        ("onset_s", "f8"),
        ("offset_s", "f8"),
        ("silence_s", "f8"),
        ("velocity", "i2"),
    ]
)
"""A label: the key is let go at ``offset_s``, the pedal may carry its sound on to ``silence_s``."""

LEAD_S = 4.0
"""A performance starts this long before its segment, so that notes already sound at 0."""
STRING_RESPONSES = 4
STRING_SEED = 88
PEAK_DB = (-40.0, -3.0)
"""Peak of a segment, dB re full scale: from a whisper in a far corner to just below clipping."""
NOISE_SNR_DB = (10.0, 60.0)
HUM_SNR_DB = (10.0, 50.0)
VOICE_SNR_DB = (5.0, 30.0)
THUMPS_SNR_DB = (-6.0, 20.0)
"""Of thumps the peak counts, of the others the RMS, against the RMS of the music."""


@dataclass(frozen=True, slots=True)
class Sources:
    """What can be played: pianos, pieces, and what all pianos share.

    Attributes
    ----------
    pianos : tuple of SampledPiano
    performances, scores : PieceLibrary or None
        Played pieces with velocities; scores at nominal tempo.
    string_responses : tuple of float32 arrays
        Open strings to answer under the pedal.
    skipped : tuple of Skipped
        What of the training folder cannot be used.
    """

    pianos: tuple[SampledPiano, ...]
    performances: PieceLibrary | None = None
    scores: PieceLibrary | None = None
    string_responses: tuple[NDArray[np.float32], ...] = field(default=())
    skipped: tuple[Skipped, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Conditions:
    """How often what happens to a segment; shares between 0 and 1.

    Attributes
    ----------
    pop, score, chords, scales, repetitions, single_keys, soup, silence : float
        Weights of what is played (need not sum to 1).
    octaves : float
        Share of pieces in which a hand is doubled in octaves.
    clean : float
        Share of segments that stay dry and without any noise; the shares below are of
        the others.
    room, microphone, clip, automatic_gain, noise, hum, voice, thumps : float
        Share of segments with each.
    modelled_piano : float
        Share of segments played on a modelled piano, where there are any.
    """

    pop: float = 0.28
    score: float = 0.30
    chords: float = 0.11
    scales: float = 0.07
    repetitions: float = 0.08
    single_keys: float = 0.05
    soup: float = 0.11
    silence: float = 0.02
    octaves: float = 0.0
    clean: float = 0.12
    room: float = 0.75
    microphone: float = 0.7
    clip: float = 0.07
    automatic_gain: float = 0.1
    noise: float = 0.85
    hum: float = 0.12
    voice: float = 0.12
    thumps: float = 0.15
    modelled_piano: float = 0.25


@dataclass(frozen=True, slots=True)
class Segment:
    """Sound and what is in it.

    Attributes
    ----------
    samples : float32, shape (n,)
        Mono, 16 kHz, within -1..1.
    notes : structured array of NOTE_DTYPE
        Sorted by onset; a note that began before the segment has a negative onset.
    pedal : float64, shape (m, 2)
        (down_s, up_s), cut to the segment.
    piano : str
        The sample set.
    recipe : dict
        What was drawn, in plain values.
    """

    samples: NDArray[np.float32]
    notes: NDArray[np.void]
    pedal: NDArray[np.float64]
    piano: str
    recipe: dict[str, object]

    @property
    def played(self) -> tuple[NoteEvent, ...]:
        """The notes that begin in it, each until its key is let go."""
        return tuple(
            NoteEvent(
                int(note["pitch_midi"]),
                float(note["onset_s"]),
                float(note["offset_s"]),
                int(note["velocity"]),
                1.0,
            )
            for note in self.notes
            if note["onset_s"] >= 0
        )


def music(sources: Sources) -> Conditions:
    """Pieces only, pop and scores alike; where there are none, the usual conditions."""
    if sources.performances is None and sources.scores is None:
        return Conditions()
    others = dict.fromkeys(
        ("chords", "scales", "repetitions", "single_keys", "soup", "silence"), 0.0
    )
    return Conditions(pop=0.5, score=0.5, **others)


def segment_rng(seed: int, index: int) -> np.random.Generator:
    """The generator of segment ``index`` of run ``seed``: the same anywhere, in any order."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, index])))


def load_sources(
    train_folder: Path,
    cache_dir: Path | None = None,
    held_out: Sequence[str] = (),
    soundfonts: Sequence[SoundfontPreset] = (),
    modelled: int = 0,
) -> Sources:
    """Everything below a training folder: ``pianos/``, POP909 and the CC BY scores.

    Parameters
    ----------
    train_folder : Path
    cache_dir : Path, optional
        Where parsed MIDI is remembered.
    held_out : sequence of str
        Instruments that must not be heard.
    soundfonts : sequence of SoundfontPreset
        More pianos; those of a held-out instrument stay out.
    modelled : int
        This many pianos that nobody built (`training.render.modelled`).
    """
    held_out_fonts = {preset.instrument for preset in soundfonts} & set(held_out)
    held_out_sets = [name for name in held_out if name not in held_out_fonts]
    pianos, skipped = load_pianos(train_folder / "pianos", held_out_sets)
    pianos += [
        load_soundfont(preset, cache_dir)
        for preset in soundfonts
        if preset.instrument not in {instrument_of(name) for name in held_out}
    ]
    pianos += [modelled_piano(number) for number in range(modelled)]
    performances, unread = playing.load_library(
        train_folder / "performances" / "pop909.tar.xz",
        cache_dir,
        lambda path: "/versions/" not in path,
    )
    scores, unread_scores = playing.load_library(
        train_folder / "scores_cc_by_midi.tar.xz", cache_dir
    )
    return make_sources(pianos, performances, scores, [*skipped, *unread, *unread_scores])


def make_sources(
    pianos: Sequence[SampledPiano],
    performances: PieceLibrary | None = None,
    scores: PieceLibrary | None = None,
    skipped: Sequence[Skipped] = (),
) -> Sources:
    """Sources from their parts, with the open strings built."""
    if not pianos:
        raise InputError("no piano to render with: load at least one sample set")
    rng = segment_rng(STRING_SEED, 0)
    strings = tuple(open_strings(rng) for _ in range(STRING_RESPONSES))
    return Sources(tuple(pianos), performances, scores, strings, tuple(skipped))


def draw_performance(
    rng: np.random.Generator, sources: Sources, conditions: Conditions, length_s: float
) -> tuple[str, Performance]:
    """Choose what is played, and play it for ``length_s`` seconds."""
    weights = {
        "pop": conditions.pop if sources.performances is not None else 0.0,
        "score": conditions.score if sources.scores is not None else 0.0,
        "chords": conditions.chords,
        "scales": conditions.scales,
        "repetitions": conditions.repetitions,
        "single_keys": conditions.single_keys,
        "soup": conditions.soup,
        "silence": conditions.silence,
    }
    names = list(weights)
    shares = np.array([weights[name] for name in names])
    name = names[int(rng.choice(len(names), p=shares / shares.sum()))]
    pieces = {
        "pop": (playing.from_performance, sources.performances),
        "score": (playing.from_score, sources.scores),
    }
    if name in pieces:
        play, library = pieces[name]
        assert library is not None
        performed = play(rng, library, length_s)
        if conditions.octaves and rng.random() < conditions.octaves:
            return f"{name} in octaves", playing.in_octaves(rng, performed)
        return name, performed
    invented = {
        "chords": playing.chords,
        "scales": playing.scales,
        "repetitions": playing.repetitions,
        "single_keys": playing.single_keys,
        "soup": playing.soup,
        "silence": playing.silence,
    }
    return name, invented[name](rng, length_s)


def shifted(performance: Performance, by_s: float, end_s: float) -> Performance:
    """A performance moved in time; what would begin after ``end_s`` is left out."""
    notes = performance.notes[performance.notes["onset_s"] + by_s < end_s].copy()
    notes["onset_s"] = np.round((notes["onset_s"] + by_s) * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    notes["release_s"] += by_s
    return Performance(notes, performance.pedal + by_s)


def labels_of(performance: Performance, duration_s: float) -> NDArray[np.void]:
    """The notes that sound between 0 and ``duration_s``."""
    end_s = sounding_end_s(performance)
    inside = (end_s > 0.0) & (performance.notes["onset_s"] < duration_s)
    labels = np.zeros(int(np.sum(inside)), NOTE_DTYPE)
    labels["pitch_midi"] = performance.notes["pitch_midi"][inside]
    labels["velocity"] = performance.notes["velocity"][inside]
    labels["onset_s"] = performance.notes["onset_s"][inside]
    labels["offset_s"] = np.minimum(performance.notes["release_s"], end_s)[inside]
    labels["silence_s"] = end_s[inside]
    return labels


def render_segment(
    rng: np.random.Generator,
    sources: Sources,
    duration_s: float,
    conditions: Conditions | None = None,
) -> Segment:
    """Draw and render one segment.

    Parameters
    ----------
    rng : numpy.random.Generator
        From `segment_rng`; the segment depends on nothing else that is random.
    sources : Sources
    duration_s : float
    conditions : Conditions, optional

    Returns
    -------
    Segment
    """
    conditions = conditions or Conditions()
    piano = _draw_piano(rng, sources.pianos, conditions.modelled_piano)
    touch = draw_touch(rng)
    kind, performed = draw_performance(rng, sources, conditions, duration_s + LEAD_S)
    performed = shifted(performed, -LEAD_S, duration_s)
    strings = sources.string_responses
    response = strings[int(rng.integers(len(strings)))] if strings else None
    length = round(duration_s * SAMPLE_RATE_HZ)
    dry = mix(rng, piano, performed, touch, length, response)
    recipe: dict[str, object] = {"kind": kind, "cents": float(touch.cents_of_key[69])}
    samples = dry if rng.random() < conditions.clean else heard(rng, dry, conditions, recipe)
    samples = to_level(samples, rng.uniform(*PEAK_DB))
    pedal = np.clip(performed.pedal, 0.0, duration_s)
    return Segment(
        samples=samples,
        notes=labels_of(performed, duration_s),
        pedal=pedal[pedal[:, 1] > pedal[:, 0]],
        piano=piano.name,
        recipe=recipe,
    )


def heard(
    rng: np.random.Generator,
    dry: NDArray[np.float32],
    conditions: Conditions,
    recipe: dict[str, object],
) -> NDArray[np.float32]:
    """What a microphone in some room makes of a dry mix; the recipe gains what was drawn."""
    sound = dry
    if rng.random() < conditions.room:
        place = room.draw_room(rng)
        sound = room.in_room(sound, place)
        recipe["rt60_s"] = place.rt60_s
        recipe["direct_to_reverberant_db"] = place.direct_to_reverberant_db
    if rng.random() < conditions.microphone:
        sound = room.through_microphone(sound, room.draw_microphone(rng))
        recipe["microphone"] = True
    sound = sound + _other_sounds(rng, sound, conditions, recipe)
    if rng.random() < conditions.automatic_gain:
        sound = room.levelled(rng, sound)
        recipe["automatic_gain"] = True
    if rng.random() < conditions.clip:
        sound = room.clipped(rng, sound)
        recipe["clipped"] = True
    return sound


def _other_sounds(
    rng: np.random.Generator,
    sound: NDArray[np.float32],
    conditions: Conditions,
    recipe: dict[str, object],
) -> NDArray[np.float32]:
    level = max(room.rms(sound), 1e-4)
    others = np.zeros(len(sound), np.float32)
    for name, share, ratio_db, make in (
        ("noise", conditions.noise, NOISE_SNR_DB, room.coloured_noise),
        ("hum", conditions.hum, HUM_SNR_DB, room.mains_hum),
        ("voice", conditions.voice, VOICE_SNR_DB, room.babble),
        ("thumps", conditions.thumps, THUMPS_SNR_DB, room.thumps),
    ):
        if rng.random() < share:
            snr_db = rng.uniform(*ratio_db)
            others += make(rng, len(sound)) * np.float32(level * 10.0 ** (-snr_db / 20.0))
            recipe[f"{name}_snr_db"] = float(snr_db)
    return others


def to_level(samples: NDArray[np.float32], peak_db: float) -> NDArray[np.float32]:
    """Scale to a peak in dB re full scale; silence stays silent."""
    peak = float(np.max(np.abs(samples), initial=0.0))
    if peak < 1e-9:
        return samples
    return samples * np.float32(10.0 ** (peak_db / 20.0) / peak)


def _draw_piano(
    rng: np.random.Generator, pianos: Sequence[SampledPiano], modelled_share: float
) -> SampledPiano:
    """Each instrument as often as any other, then one of its sample sets.

    Modelled pianos together are heard in ``modelled_share`` of the segments.
    """
    modelled = [piano for piano in pianos if piano.instrument == MODELLED_INSTRUMENT]
    recorded = [piano for piano in pianos if piano.instrument != MODELLED_INSTRUMENT]
    if modelled and (not recorded or rng.random() < modelled_share):
        return modelled[int(rng.integers(len(modelled)))]
    instruments = sorted({piano.instrument for piano in recorded})
    instrument = instruments[int(rng.integers(len(instruments)))]
    sets = [piano for piano in recorded if piano.instrument == instrument]
    return sets[int(rng.integers(len(sets)))]
