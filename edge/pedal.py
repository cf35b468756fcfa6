"""The sustain pedal, read from the strings: what rings without being held.

A damper lies on its string again as soon as the key is let go, unless the pedal lifts all dampers
at once. So a string that goes on ringing after its key was let go tells that the pedal is down,
and one that falls silent while nobody holds its key tells that it is up. The note model hears both
(`sounding` is the string, `held` the key; the regression of pedal times by Kong et al.,
"High-resolution piano transcription with pedals", 2021, needs a second network).

While every string that sounds is also held, the pedal makes no difference to the sound and nothing
is known of it; then the last that was known is kept. In doubt there is silence: several strings
must ring freely for a while before the pedal is said to be down, and the top of the keyboard, which
has no dampers at all, has no say. The times told are those of the strings: the pedal went down
before the first of them was let go, and came up when the last of them was damped.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.note import KEYS, LOWEST_PITCH_MIDI, PedalEvent

Float32 = NDArray[np.float32]
Bools = NDArray[np.bool_]

# From here upwards pianos have no dampers, or none that everybody has.
LOWEST_UNDAMPED_PITCH_MIDI = 88


@dataclass(frozen=True, slots=True)
class PedalParameters:
    """When strings that ring freely are taken for a pedal.

    Activations are 0 to 1; two levels for each make a hysteresis, between them nothing changes.
    Chosen on activations drawn from the labels of rendered playing, spoilt in the ways in which a
    model errs (``python -m benchmarks.provisional`` prints what they are worth there): with these
    no pedal is made up even where strings are heard up to 0.16 s too long and every sixth key is
    let go too soon; two strings, or 0.12 s, find a tenth more of the pedal and make some up.

    Attributes
    ----------
    rings, silent : float
        A string rings from this sounding activation on, and is silent below this one.
    holds, lets_go : float
        A key is held from this held activation on, and let go below this one.
    free_s : float
        A string rings freely when it has done so for this long after its key was let go: longer
        than a damper takes in the bass.
    free_strings : int
        So many strings that ring freely at once are a pedal that is down.
    damped_s : float
        Strings that fall silent within so long of one another were damped together, and the pedal
        is said to be up when none has rung freely for so long.
    """

    rings: float = 0.5
    silent: float = 0.3
    holds: float = 0.5
    lets_go: float = 0.25
    free_s: float = 0.2
    free_strings: int = 3
    damped_s: float = 0.06


def pedal_moves(
    sounding: Float32, held: Float32, hop_s: float, parameters: PedalParameters | None = None
) -> list[PedalEvent]:
    """Find the pedal's moves in a whole piece.

    Parameters
    ----------
    sounding, held : float32, shape (frames, 88), 0 to 1
        Activations: the string sounds, the key is down.
    hop_s : float
        Seconds between frames.

    Returns
    -------
    list of PedalEvent
        Down and up in turn; a pedal that is down at the end comes up there.
    """
    stream = PedalStream(hop_s, parameters)
    return stream.push(sounding, held) + stream.flush()


class PedalStream:
    """The same, frame by frame."""

    def __init__(self, hop_s: float, parameters: PedalParameters | None = None) -> None:
        self.parameters = parameters or PedalParameters()
        self._hop_s = hop_s
        self._free_frames = round(self.parameters.free_s / hop_s)
        self._damped_frames = max(1, round(self.parameters.damped_s / hop_s))
        self._damped_keys = np.arange(KEYS) + LOWEST_PITCH_MIDI < LOWEST_UNDAMPED_PITCH_MIDI
        self.reset()

    def reset(self) -> None:
        self._frame = 0
        self._rings, self._held = np.zeros(KEYS, np.bool_), np.zeros(KEYS, np.bool_)
        self._let_go_frame = np.zeros(KEYS, np.int64)
        self._loose = np.zeros(KEYS, np.bool_)
        self._fell_frame = -1
        self._moved_frame = 0
        self._down = False

    def push(self, sounding: Float32, held: Float32) -> list[PedalEvent]:
        """Take frames, each array (frames, 88); give the moves that have become sure."""
        moves: list[PedalEvent] = []
        for string, key in zip(sounding, held, strict=True):
            moves += self.step(string, key)
        return moves

    def flush(self) -> list[PedalEvent]:
        """End the stream: a pedal that is down comes up with its last frame."""
        moves = [PedalEvent(self._frame * self._hop_s, down=False)] if self._down else []
        self.reset()
        return moves

    def step(self, sounding: Float32, held: Float32) -> list[PedalEvent]:
        """Take one frame, each array (88,); give the move that has become sure."""
        p = self.parameters
        was_held, was_loose = self._held, self._loose
        self._rings = _switched(self._rings, sounding >= p.rings, sounding < p.silent)
        self._held = _switched(self._held, held >= p.holds, held < p.lets_go)
        let_go = was_held & ~self._held
        self._let_go_frame[let_go] = self._frame
        # Only what was held and then let go can ring freely: a key's own onset is no pedal.
        self._loose = (was_loose | let_go) & self._rings & ~self._held & self._damped_keys
        free = self._loose & (self._frame - self._let_go_frame >= self._free_frames)
        self._frame += 1
        return self._comes_up(free, was_loose) if self._down else self._goes_down(free)

    def _goes_down(self, free: Bools) -> list[PedalEvent]:
        if free.sum() < self.parameters.free_strings:
            return []
        self._down, self._fell_frame = True, -1
        first = int(self._let_go_frame[free].min())
        return [self._move(max(first, self._moved_frame))]

    def _comes_up(self, free: Bools, was_loose: Bools) -> list[PedalEvent]:
        """The pedal is up when the last string that rang freely was damped, not struck again.

        One that falls silent while others ring on has faded; a pedal damps them all.
        """
        if (was_loose & ~self._loose & ~self._held).any():
            self._fell_frame = self._frame - 1
        fallen_frames = self._frame - self._fell_frame
        if free.any() and fallen_frames > self._damped_frames:
            self._fell_frame = -1
        if free.any() or self._fell_frame < 0 or fallen_frames < self._damped_frames:
            return []
        self._down = False
        return [self._move(max(self._fell_frame, self._moved_frame))]

    def _move(self, frame: int) -> PedalEvent:
        self._moved_frame = frame
        return PedalEvent(frame * self._hop_s, down=self._down)


def _switched(state: Bools, on: Bools, off: Bools) -> Bools:
    """A switch for each key with two levels: on, off, or as it was."""
    return np.asarray(on | (state & ~off), np.bool_)
