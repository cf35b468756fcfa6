"""Play middle C: the whole way from the string to a word, tried by whoever stands at the piano.

Nothing is on a screen but sentences, one after the other, as a person beside would say them: what
to play, what was heard, and which way to go if that was another key. First one key, which finds a
microphone at the wrong piano and a keyboard counted from the wrong end; then a chord, which a weak
or distant microphone loses a note of. Without reading music one finds a key by the black ones
beside it, so keys are told so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from device.selftest.sound import SoundReading, judge_sound
from device.selftest.verdict import failed, passed, verdict_of
from edge.audio.block import STREAM_RATE_HZ, Block
from edge.audio.microphone import MicrophoneSource
from edge.audio.source import SourceEvent, SourceEventKind
from edge.client import Dashboard
from edge.messages import AudioState, Check, Health, Notes, Verdict
from edge.note import NoteState, NoteUpdate
from edge.recogniser import Recogniser
from edge.vitals import Meter

PATIENCE_S = 20.0
"""For each thing that is to be played."""

MOST_TRIES = 6
"""Wrong keys for one thing; whoever has not found it then is helped better by a person."""

TOGETHER_S = 0.6
"""What is told within this after a first note is answered as one: fingers of a chord lie 50 ms
apart, the ear's answers up to 300 ms."""

MIDDLE_C = 60
OCTAVE = 12
WHITE_KEYS_OF_OCTAVE = 7

_NAMES = ("C", "C sharp", "D", "E flat", "E", "F", "F sharp", "G", "G sharp", "A", "B flat", "B")


@dataclass(frozen=True, slots=True)
class Task:
    """Something to play.

    Attributes
    ----------
    name : str
        Of the check.
    keys_midi : tuple of int
    instruction, done : str
        What is said before, and when it was heard.
    """

    name: str
    keys_midi: tuple[int, ...]
    instruction: str
    done: str


TASKS = (
    Task(
        "middle C",
        (MIDDLE_C,),
        "Play middle C, once, not too softly: near the middle of the keyboard, the white key just "
        "to the left of a pair of black keys.",
        "I heard middle C.",
    ),
    Task(
        "C major chord",
        (60, 64, 67),
        "Now play three keys together: middle C, and every second white key to its right, so C, E "
        "and G.",
        "I heard all three: C, E and G.",
    ),
)


def key_words(pitch_midi: int) -> str:
    """A key as one says it: ``middle C``, ``E flat``."""
    return "middle C" if pitch_midi == MIDDLE_C else _NAMES[pitch_midi % OCTAVE]


def answer(task: Task, heard: Sequence[int]) -> str | None:
    """What to say to the keys that were ``heard`` together; None when it was the right ones.

    More keys than asked for are let pass: an ear that hears an overtone too is no reason to send
    anybody up a ladder.
    """
    missing = [key for key in task.keys_midi if key not in heard]
    if not missing:
        return None
    if len(task.keys_midi) == 1:
        return _about_one(task.keys_midi[0], heard)
    there = [key for key in task.keys_midi if key in heard]
    if not there:
        return f"I heard {_listed(heard)}, and none of the three. Once more, please: C, E and G."
    return f"I heard {_listed(there)}; {_listed(missing)} was missing. Once more, a little louder."


def _about_one(wanted: int, heard: Sequence[int]) -> str:
    octaves = {(key - wanted) // OCTAVE for key in heard if (key - wanted) % OCTAVE == 0}
    if octaves:
        by = min(octaves, key=abs)
        where, back = ("high", "left") if by > 0 else ("low", "right")
        many = "one octave" if abs(by) == 1 else f"{abs(by)} octaves"
        keys = abs(by) * WHITE_KEYS_OF_OCTAVE
        return f"I heard a C, but {many} too {where}. Go {keys} white keys to the {back}."
    nearest = min(heard, key=lambda key: abs(key - wanted))
    side, back = ("right", "left") if nearest > wanted else ("left", "right")
    steps = abs(nearest - wanted)
    far = "the very next key" if steps == 1 else f"{steps} keys off, counting the black ones"
    return (
        f"I heard {key_words(nearest)}, to the {side} of middle C: {far}. "
        f"Go to the {back} and try again."
    )


def _listed(keys: Sequence[int]) -> str:
    names = list(dict.fromkeys(key_words(key) for key in sorted(keys)))
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"


class ByEar:
    """Gives one task after the other and answers what is heard.

    Times are seconds of any one clock.

    Parameters
    ----------
    patience_s : float
        For each task, and anew after each wrong answer.
    """

    def __init__(self, patience_s: float = PATIENCE_S) -> None:
        self._patience_s = patience_s
        self._done: list[Task] = []
        self._together: list[int] = []
        self._together_until_s = 0.0
        self._until_s: float | None = None
        self._tries = 0
        self.given_up = False
        self.heard_any = False

    @property
    def task(self) -> Task | None:
        """What is to be played; None when all was."""
        return None if len(self._done) == len(TASKS) else TASKS[len(self._done)]

    @property
    def over(self) -> bool:
        """All was played, or nothing right came in time."""
        return self.given_up or self.task is None

    def push(self, keys_midi: Iterable[int], now_s: float) -> list[str]:
        """Keys that were heard up to ``now_s``; what is to be said."""
        said: list[str] = []
        if self._until_s is None and self.task is not None:
            self._until_s = now_s + self._patience_s
            said.append(self.task.instruction)
        for key in keys_midi:
            if not self._together:
                self._together_until_s = now_s + TOGETHER_S
            self._together.append(key)
            self.heard_any = True
        if self._together and now_s >= self._together_until_s:
            said += self._answered(now_s)
        elif not self._together and self._until_s is not None and now_s >= self._until_s:
            self.given_up = True
        return said

    def _answered(self, now_s: float) -> list[str]:
        task = self.task
        heard, self._together = self._together, []
        if task is None:
            return []
        wrong = answer(task, heard)
        if wrong is not None:
            self._tries += 1
            self._until_s = now_s + self._patience_s
            self.given_up = self._tries >= MOST_TRIES
            return [wrong]
        self._done.append(task)
        self._until_s, self._tries = None, 0
        return [task.done, *self.push((), now_s)]

    def checks(self) -> list[Check]:
        """How each task went; those that were not come to are left out."""
        found = [passed(task.name, task.done) for task in self._done]
        if self.task is not None:
            text = f"nothing was heard for {self._patience_s:.0f} s"
            if self._tries:
                text = f"other keys were heard, {self._tries} times"
            found.append(failed(self.task.name, text, _REMEDY))
        return found


_REMEDY = "sostenuto-device selftest looks at the microphone; docs/selftest.md"


class AtMicrophone:
    """Hears by itself.

    Raises
    ------
    DeviceError
        On entering: no microphone, or it cannot be opened.
    """

    def __init__(self, source: MicrophoneSource, recogniser: Recogniser) -> None:
        self._source = source
        self._recogniser = recogniser
        self._meter = Meter()
        self._heard = self._losses = self._lost = 0

    def __enter__(self) -> AtMicrophone:
        self._source.open()
        return self

    def __exit__(self, *_: object) -> None:
        self._source.close()

    def struck(self) -> Iterator[tuple[int, ...]]:
        """Keys struck, once a block; ends when the microphone is gone."""
        for item in self._source.items():
            if isinstance(item, SourceEvent):
                self._losses += item.kind is not SourceEventKind.ATTENTION
                self._lost += item.lost_samples
                if item.kind is SourceEventKind.DEVICE_LOST:
                    return
            elif isinstance(item, Block):
                self._meter.push(item.samples)
                self._heard += len(item.samples)
                events = self._recogniser.push(item)
                yield tuple(
                    event.note.pitch_midi
                    for event in events
                    if isinstance(event, NoteUpdate) and event.state is NoteState.CONFIRMED
                )

    def sound(self) -> Check:
        """How the microphone did meanwhile."""
        return judge_sound(
            SoundReading(
                self._source.name,
                self._heard / STREAM_RATE_HZ,
                self._losses,
                self._lost / STREAM_RATE_HZ,
                self._meter.level_dbfs,
                self._meter.peak_dbfs,
                self._meter.state is AudioState.CLIPPING,
            )
        )


class AtService:
    """Reads what the service hears, which holds the microphone."""

    def __init__(self, dashboard: Dashboard, device: str) -> None:
        self._dashboard = dashboard
        self._device = device

    def __enter__(self) -> AtService:
        return self

    def __exit__(self, *_: object) -> None:
        """It goes on listening."""

    def struck(self) -> Iterator[tuple[int, ...]]:
        """Keys struck, once a message, and four times a second when none comes."""
        while True:
            for message in self._dashboard.messages(timeout_s=0.25):
                if isinstance(message.body, Notes):
                    yield tuple(
                        note.pitch_midi
                        for note in message.body.notes
                        if note.state is NoteState.CONFIRMED
                    )
            yield ()

    def sound(self) -> Check:
        """How the microphone did during the last minute."""
        health: Health = self._dashboard.ask(self._device, "health")
        if health.audio is AudioState.OFF:
            remedy = "switch it on, on the dashboard or with sostenuto listen --switch-on"
            return failed("microphone", "listening is switched off", remedy)
        return judge_sound(
            SoundReading(
                "microphone",
                health.uptime_s,
                0,
                0.0,
                health.level_dbfs,
                health.peak_dbfs,
                health.audio is AudioState.CLIPPING,
                asked=True,
            )
        )


def run(
    ear: AtMicrophone | AtService,
    say: Callable[[str], Any],
    patience_s: float = PATIENCE_S,
) -> list[Check]:
    """The whole conversation; how each task went, and the microphone where one failed."""
    talk = ByEar(patience_s)
    with ear:
        for keys in ear.struck():
            for sentence in talk.push(keys, time.monotonic()):
                say(sentence)
            if talk.over:
                break
        checks = talk.checks()
        if all(check.passed for check in checks):
            say("This piano is heard. You are done.")
            return checks
        checks.append(ear.sound())
    for sentence in comfort(talk, checks[-1], patience_s):
        say(sentence)
    return checks


def comfort(talk: ByEar, sound: Check, patience_s: float) -> list[str]:
    """What to say when it did not work: what it probably is, and what to do."""
    if verdict_of(sound) is Verdict.FAILED:
        return [f"The trouble is the microphone: {sound.text}.", f"What to do: {sound.remedy}."]
    if talk.heard_any:
        return [
            "I heard keys, but not the right ones.",
            "What to do: begin again, and play each key for as long as you say its name. "
            "If the keys I tell are off by one, the piano is out of tune: sostenuto calibrate.",
        ]
    return [
        f"I heard the room, but no piano, for {patience_s:.0f} seconds.",
        "What to do: bring the microphone nearer to the strings, play louder, and begin again. "
        "Is it the microphone of this piano? sostenuto devices shows all there are.",
    ]
