"""One ear, measured in a process of its own, for memory counts all that a process ever loaded.

    python -m device.bench.measure separable3d             # once through: one line of JSON
    python -m device.bench.measure separable3d --warm 60   # without a pause: a line each 5 s

*The delay* is what it would be live. A block of sound is there when its last sample has sounded; it
is heard when those before it have been, and takes what it took. A note is told when the block that
made it sure is through. Onsets are those of the MIDI file that the recording was made of, so the
ear's look-ahead is in it; the sound card's buffer (10 ms) and the network are not.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path

import msgspec

from device.selftest.known_answer import ONSET_TOLERANCE_S, KnownAnswer, answer_file, read_answer
from device.selftest.machine import PowerReading, read_power
from edge.audio.block import BLOCK_S, STREAM_RATE_HZ, Block
from edge.audio.file import AudioFile
from edge.cli import console
from edge.matching import Catalogue, default_catalogue_dir
from edge.messages import Percentiles
from edge.note import NoteEvent, NoteState, NoteUpdate
from edge.publish.health import percentiles
from edge.recogniser import Recogniser, load_recogniser

WINDOW_S = 5.0
"""A board warms up in minutes and throttles within seconds."""

KIB_PER_MB = 1024


class EarReading(msgspec.Struct, frozen=True):
    """How one ear does on this board.

    Attributes
    ----------
    ear : str
    cpu_s_per_s, wall_s_per_s : float
        Processor time, and time by the clock, for a second of sound.
    compute : Percentiles
        Time for one block of 10 ms.
    delay : Percentiles or None
        From a note's onset to its being told; None where no note was heard rightly.
    memory_mb : float
        The most it ever took.
    """

    ear: str
    cpu_s_per_s: float
    wall_s_per_s: float
    compute: Percentiles
    delay: Percentiles | None
    memory_mb: float


class Window(msgspec.Struct, frozen=True):
    """A few seconds of hearing without a pause.

    Attributes
    ----------
    until_s : float
        Since the run began.
    cpu_s_per_s : float
        Processor time for a second of sound, which another program's work does not change.
    power : PowerReading
        At the window's end.
    """

    until_s: float
    cpu_s_per_s: float
    power: PowerReading


def live_delays_ms(
    heard: list[tuple[float, float, list[NoteEvent]]], answer: KnownAnswer
) -> list[float]:
    """When each right note would have been told, after its true onset.

    Parameters
    ----------
    heard : list of (arrival_s, compute_s, notes)
        For each block: when its last sample sounds, how long hearing it took, which notes it
        made sure.
    """
    free_s = 0.0
    waiting = list(answer.notes)
    delays_ms: list[float] = []
    for arrival_s, compute_s, notes in heard:
        free_s = max(free_s, arrival_s) + compute_s
        for note in notes:
            for struck in waiting:
                near = abs(struck.onset_s - note.onset_s) <= ONSET_TOLERANCE_S
                if near and struck.pitch_midi == note.pitch_midi:
                    waiting.remove(struck)
                    delays_ms.append((free_s - struck.onset_s) * 1e3)
                    break
    return delays_ms


def measure(ear: str) -> EarReading:
    """The known recording once through, as a microphone would bring it, and what it took.

    Raises
    ------
    ModelError, CatalogueError, InputError
        A part is missing or damaged.
    """
    answer = read_answer(answer_file())
    recogniser, blocks = _made_ready(ear, answer)
    heard: list[tuple[float, float, list[NoteEvent]]] = []
    began_wall_s, began_cpu_s = time.perf_counter(), time.process_time()
    for block in blocks:
        before_s = time.perf_counter()
        events = recogniser.push(block)
        took_s = time.perf_counter() - before_s
        sure = [
            event.note
            for event in events
            if isinstance(event, NoteUpdate) and event.state is NoteState.CONFIRMED
        ]
        heard.append((block.end_sample / STREAM_RATE_HZ, took_s, sure))
    wall_s, cpu_s = time.perf_counter() - began_wall_s, time.process_time() - began_cpu_s
    sound_s = blocks[-1].end_sample / STREAM_RATE_HZ
    compute = percentiles(took_s * 1e3 for _, took_s, _ in heard)
    assert compute is not None, "the recording has blocks"
    return EarReading(
        ear,
        cpu_s / sound_s,
        wall_s / sound_s,
        compute,
        percentiles(live_delays_ms(heard, answer)),
        most_memory_mb(),
    )


def windows(
    ear: str, seconds: float, read: Callable[[], PowerReading] = read_power
) -> Iterator[Window]:
    """The recording over and over without a pause, for ``seconds`` by the clock.

    That is more than a piano asks of the board, so what shows here is the worst.
    """
    recogniser, blocks = _made_ready(ear, read_answer(answer_file()))
    began_s = window_s = time.monotonic()
    cpu_s, samples, shift = time.process_time(), 0, 0
    for block in cycle(blocks):
        recogniser.push(Block(block.start_sample + shift, block.samples))
        samples += len(block.samples)
        if block is blocks[-1]:
            shift += block.end_sample
        now_s = time.monotonic()
        if now_s - window_s >= min(WINDOW_S, seconds):
            cost = (time.process_time() - cpu_s) * STREAM_RATE_HZ / samples
            yield Window(round(now_s - began_s, 1), cost, read())
            window_s, cpu_s, samples = time.monotonic(), time.process_time(), 0
            if now_s - began_s >= seconds:
                return


def _made_ready(ear: str, answer: KnownAnswer) -> tuple[Recogniser, list[Block]]:
    """The ear with the installed catalogue, as it listens to a piano, and the recording."""
    recogniser = load_recogniser(ear, Catalogue.open(default_catalogue_dir()), provisional=True)
    with AudioFile(answer_file().with_name(answer.recording)) as file:
        until = answer.stretch_s * STREAM_RATE_HZ
        blocks = [block for block in file.blocks(BLOCK_S) if block.end_sample <= until]
    recogniser.push(blocks[0])  # the first block finds nothing allocated
    recogniser.reset()
    return recogniser, blocks


def most_memory_mb(status: Path = Path("/proc/self/status")) -> float:
    """The most resident memory that this process ever had (``VmHWM``)."""
    for line in status.read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / KIB_PER_MB
    return 0.0


def main() -> None:
    """Measure what the command line names; JSON on standard output."""
    options = argparse.ArgumentParser()
    options.add_argument("ear")
    options.add_argument("--warm", type=float, metavar="SECONDS")
    asked = options.parse_args()
    console.mute_libraries()
    if asked.warm is None:
        console.out(msgspec.json.encode(measure(asked.ear)).decode())
        return
    for window in windows(asked.ear, asked.warm):
        console.out(msgspec.json.encode(window).decode())


if __name__ == "__main__":
    main()
