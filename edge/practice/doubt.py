"""The ear's doubt is not the player's fault.

A keyboard knows which keys went down; an ear believes it. It errs in ways that are known: it
hears a partial of what sounds as a note of its own (an octave, a twelfth, two octaves above),
and it loses a soft note under the loud ones that are struck with it. An ear that finds 84 of
100 notes loses more of them than most players do, so one note lacking in a chord of which the
others were heard says more about the ear than about the player. A place where nothing at all
was heard says more about the player.

So every finding that came by ear gets a confidence here, and those below
`edge.practice.verdict.TOLD_FROM` are counted as unsure and told to nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from edge.practice.verdict import Finding, Verdict

PARTIALS_SEMITONES = frozenset({-12, 12, 19, 24, 28, 31, 36})
"""Between a note and the second to the eighth partial; and an octave below, where an ear may put
a note whose partials it hears."""
TOGETHER_S = 0.08
RINGS_S = 1.0
"""A note may still ring so long after it was struck, and its partials with it."""

LACKS_IN_A_CHORD = 0.3
LACKS_ALONE = 0.6
NOTHING_HEARD = 0.8
PARTIAL_SHARE = 0.4
"""Confidence of a missed note where others of its chord were heard, where it stands alone, and
where of several none was; and what is left of the confidence of a note that may be a partial.
Set by reasoning from the ear's recall; ``python -m benchmarks.feedback --by-ear`` shows what they
do."""


def doubted(findings: Sequence[Finding], ear: Sequence[float]) -> list[Finding]:
    """The findings with how surely each is the player's doing.

    Parameters
    ----------
    findings : sequence of Finding
        All of a bar.
    ear : sequence of float
        The ear's confidence in the played note of each, 1 where there is none. Where all notes
        are certain there was no ear, and the findings stay as they are.
    """
    chords: dict[float, list[Finding]] = {}
    for finding in findings:
        if finding.note is not None:
            chords.setdefault(finding.beat, []).append(finding)
    struck = [each for each in findings if each.played_pitch_midi is not None]
    return [
        replace(finding, confidence=_confidence(finding, sure, chords, struck))
        for finding, sure in zip(findings, ear, strict=True)
    ]


def _confidence(
    finding: Finding,
    sure: float,
    chords: dict[float, list[Finding]],
    struck: Sequence[Finding],
) -> float:
    if finding.verdict is Verdict.MISSED:
        others = [each for each in chords[finding.beat] if each is not finding]
        if not others:
            return LACKS_ALONE
        silent = all(each.verdict is Verdict.MISSED for each in others)
        return NOTHING_HEARD if silent else LACKS_IN_A_CHORD
    if finding.verdict is Verdict.EXTRA and _may_be_a_partial(finding, struck):
        return sure * PARTIAL_SHARE
    if finding.verdict is Verdict.WRONG and _octaves_apart(finding):
        return sure * PARTIAL_SHARE
    return sure


def _octaves_apart(finding: Finding) -> bool:
    written, played = finding.expected_pitch_midi, finding.played_pitch_midi
    return written is not None and played is not None and (played - written) % 12 == 0


def _may_be_a_partial(finding: Finding, struck: Sequence[Finding]) -> bool:
    return any(
        -TOGETHER_S <= finding.t_s - each.t_s <= RINGS_S
        and (finding.played_pitch_midi or 0) - (each.played_pitch_midi or 0) in PARTIALS_SEMITONES
        for each in struck
        if each is not finding
    )
