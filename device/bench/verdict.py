"""Which ear a board can carry, as a pure function of what was measured.

An ear is carried when it hears `LEAST_MARGIN` times as fast as the piano plays, also when the board
is as warm as it gets, and a note is told in time. Of those carried the most accurate is the best.
"""

from __future__ import annotations

from itertools import pairwise

import msgspec

from device.bench.measure import EarReading, Window
from device.selftest.known_answer import LEAST_MARGIN
from device.selftest.machine import PowerReading
from edge.messages import Throttling

LONGEST_DELAY_MS = 300.0
"""For 95 notes of 100, from onset to message: the goal of the README's table."""


class Carried(msgspec.Struct, frozen=True):
    """Whether an ear is carried.

    Attributes
    ----------
    ear : str
    speed : float
        How many times as fast as the piano, the board being warm.
    carried : bool
    reason : str
        For people.
    """

    ear: str
    speed: float
    carried: bool
    reason: str


class Judgement(msgspec.Struct, frozen=True):
    """What this board can carry.

    Attributes
    ----------
    best : str or None
        The most accurate ear that is carried; None: none is.
    ears : tuple of Carried
        The most accurate first.
    slowdown : float
        Processor time for the same sound, warm against fresh; 1 for none.
    held_back : tuple of Throttling
        What held the processor back during the run.
    text : str
        For people.
    """

    best: str | None
    ears: tuple[Carried, ...]
    slowdown: float
    held_back: tuple[Throttling, ...]
    text: str


def slowdown_of(windows: list[Window]) -> float:
    """The worst pair of windows against the first one: a single one may have been disturbed."""
    costs = [window.cpu_s_per_s for window in windows]
    if len(costs) < 2:
        return 1.0
    pairs = [min(pair) for pair in pairwise(costs[1:])] or costs[1:]
    return max(1.0, max(pairs) / costs[0])


def held_back_in(before: PowerReading, during: list[PowerReading]) -> tuple[Throttling, ...]:
    """All that held the processor back at any reading ``during`` a run, or between two of them."""
    seen = [kind for each in during for kind in each.now or ()]
    known = before.since_start or ()
    between = [kind for each in during for kind in each.since_start or () if kind not in known]
    return tuple(dict.fromkeys((*seen, *between)))


def judge_ear(reading: EarReading, slowdown: float) -> Carried:
    """One ear on a board that gets ``slowdown`` times slower when it is warm."""
    speed = 1.0 / (reading.cpu_s_per_s * slowdown)
    if speed < LEAST_MARGIN:
        reason = f"too slow: {speed:.1f} times as fast as the piano, {LEAST_MARGIN:.0f} are needed"
        return Carried(reading.ear, speed, False, reason)
    if reading.delay is None:
        return Carried(reading.ear, speed, False, "it heard no note rightly: run the self-test")
    if reading.delay.p95_ms > LONGEST_DELAY_MS:
        reason = f"too late: {reading.delay.p95_ms:.0f} ms, {LONGEST_DELAY_MS:.0f} are allowed"
        return Carried(reading.ear, speed, False, reason)
    return Carried(reading.ear, speed, True, f"{speed:.1f} times as fast as the piano")


def judge(
    readings: list[EarReading], before: PowerReading, windows: list[Window], used: str
) -> Judgement:
    """The verdict on a board.

    Parameters
    ----------
    readings : list of EarReading
        The most accurate ear first.
    before : PowerReading
        At the beginning.
    windows : list of Window
        Of the run without a pause.
    used : str
        The ear that is used now.
    """
    slowdown = slowdown_of(windows)
    held_back = held_back_in(before, [window.power for window in windows])
    ears = tuple(judge_ear(reading, slowdown) for reading in readings)
    best = next((each.ear for each in ears if each.carried), None)
    return Judgement(best, ears, slowdown, held_back, _in_words(best, used, ears, held_back))


def _in_words(
    best: str | None, used: str, ears: tuple[Carried, ...], held_back: tuple[Throttling, ...]
) -> str:
    if best is None:
        text = "this board carries none of the ears with margin; take a faster one"
    else:
        text = f"this board carries {best}"
        carries_used = any(each.ear == used and each.carried for each in ears)
        if best != used:
            text += f'; {used} is in use: model = "{best}" in the settings'
            text += " would hear better" if carries_used else ", since that is too much for it"
    if held_back:
        words = ", ".join(kind.value.replace("_", " ") for kind in held_back)
        remedy = "its own power supply" if Throttling.UNDER_VOLTAGE in held_back else "air"
        text += f". It was held back by {words}: give it {remedy}"
    return text
