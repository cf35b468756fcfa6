"""A verdict: passed, failed with what to do, or not tried and why.

A verdict is a `Check` of the contract, so what a table shows, what ``--json`` prints and what a
dashboard reads are one value. Not tried is no failure: a machine without a sensor is not ill.
"""

from __future__ import annotations

from collections.abc import Iterable

from edge.messages import Check, SelfTest, Verdict


def passed(name: str, text: str) -> Check:
    """``name`` is as it should be; ``text`` says what was measured."""
    return Check(name=name, passed=True, text=text, verdict=Verdict.PASSED)


def failed(name: str, text: str, remedy: str) -> Check:
    """``name`` is not as it should be; ``remedy`` says what to do."""
    return Check(name=name, passed=False, text=text, verdict=Verdict.FAILED, remedy=remedy)


def not_tried(name: str, reason: str, remedy: str | None = None) -> Check:
    """``name`` could not be measured; ``remedy``, where something makes it measurable."""
    return Check(name=name, passed=True, text=reason, verdict=Verdict.NOT_TRIED, remedy=remedy)


def verdict_of(check: Check) -> Verdict:
    """Its verdict; a check of a device that gives none has passed or failed."""
    if check.verdict is not None:
        return check.verdict
    return Verdict.PASSED if check.passed else Verdict.FAILED


def summed_up(checks: Iterable[Check]) -> SelfTest:
    """All of them: passed unless one failed."""
    found = tuple(checks)
    return SelfTest(passed=all(check.passed for check in found), checks=found)
