"""The power of a whole piano cut off again and again: it comes back, old or new, and listens.

One card, made from a card image, lives in an emulated board whose QEMU is killed at random moments:
while it starts (three times for the very first time), while it listens, while models or a whole
system are updated, while a new system is on trial, and at writes to the first partition, where the
choice between the slots lies. Of what the board had not asked the card to keep, nothing is kept,
some sectors, or all, in turn (`device.soak.forgetful_card`); the broker outside may be away, so
that the outbox fills. Then the board starts from the same card, and these must hold:

- The slot that runs is byte for byte one of the systems, and the models in force are whole.
- The service is ready, no unit failed, and what is kept lies on the card.
- The outbox as it lay there is sound; every message in it reaches the broker, with the content
  that it had; no number ever comes with two contents.
- A note that is played arrives.

Each kill is a line of a log; a run that is started again goes on after the last one. A kill while
it starts is followed by the next, so the start that is judged has survived both.

    python -m device.soak.power_cuts IMAGE.img.xz --kills 50
    python -m device.soak.power_cuts IMAGE.img.xz --kills 0     # updates without cuts, bad ones too
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec

from device.image.partitions import lay_out
from device.soak.boot_generic import CARD, write_card_file
from device.soak.emulator import GIB, HOST, unpack_card
from device.soak.forgetful_card import Kept
from device.soak.trial_bundles import BAD, Maker, bad_version, versions
from device.soak.whole_piano import PATIENCE_S, Found, Piano
from edge.errors import DeviceError

LOG = Path("docs/trials/power_cuts.jsonl")
CACHE = Path(".cache/power-cuts")
KEYS = Path(".cache/image/keys/development-only")
CARD_BYTES = 4 * GIB
DEVICE = "cut"

FIRST, START, LISTENING, MODELS = "first start", "start", "listening", "models"
WRITING, CHOICE, TRIAL = "system written", "choice of slot", "system on trial"

PLAN: tuple[str, ...] = (
    *(FIRST, START, LISTENING, WRITING, START, MODELS, TRIAL, START, CHOICE, LISTENING),
)
"""The order of kills, again and again; `FIRST`, on a new card, three times in all."""

MOST_FIRST = 3


def moment_of(number: int) -> str:
    """The moment of the kill ``number``, from 0."""
    moment = PLAN[number % len(PLAN)]
    return START if moment == FIRST and number // len(PLAN) >= MOST_FIRST else moment


@dataclass
class Spans:
    """How long, in seconds, each thing took when it was last seen; `card_writes` are a number."""

    start: float = 300.0
    models: float = 300.0
    written: float = 200.0
    trial: float = 600.0
    card_writes: int = 60


class Trial:
    """The kills, one after the other, each a line of the log."""

    def __init__(self, piano: Piano, maker: Maker, log: Path, seed: int) -> None:
        self._piano, self._maker, self._log = piano, maker, log
        self._seed = seed
        self._memory = piano.folder / "spans.json"
        self._open = piano.folder / "open.json"
        self.spans = Spans()
        with suppress(OSError, msgspec.DecodeError):
            self.spans = msgspec.json.decode(self._memory.read_bytes(), type=Spans)

    @property
    def cuts(self) -> list[dict[str, Any]]:
        """Those of which it is known what came after."""
        if not self._log.exists():
            return []
        return [json.loads(line) for line in self._log.read_text().splitlines()]

    @property
    def unjudged(self) -> list[dict[str, Any]]:
        """The last ones, after which no start was judged yet."""
        with suppress(OSError, ValueError):
            return list(json.loads(self._open.read_text()))
        return []

    def _keep(self, unjudged: list[dict[str, Any]]) -> None:
        self._open.write_text(json.dumps(unjudged))
        self._memory.write_bytes(msgspec.json.encode(self.spans))

    def go_on(self, kills: int) -> None:
        """Until there are so many."""
        while len(self.cuts) + len(self.unjudged) < kills:
            number = len(self.cuts) + len(self.unjudged)
            self._kill(number, moment_of(number))
        if self.unjudged:
            self._piano.switch_on()
            self._judged()

    def _judged(self) -> Found:
        """Look at what the last kills left; a line for each."""
        found = self._piano.judge()
        if found.ready_s:
            self.spans.start = found.ready_s
        with self._log.open("a") as log:
            for cut in self.unjudged:
                log.write(json.dumps(cut | {"then": asdict(found)}) + "\n")
        for cut in self.unjudged:
            print(f"{cut['number']:3} {cut['moment']:16} {cut['at_s']:6.0f} s  {_words(found)}")
        sys.stdout.flush()
        self._keep([])
        if found.faults:
            kept = self._piano.folder / f"bad-{len(self.cuts)}.img"
            subprocess.run(
                ["cp", "--sparse=always", self._piano.folder / "card.img", kept], check=True
            )
        return found

    def _kill(self, number: int, moment: str) -> None:
        chance = random.Random(f"{self._seed} {number}")
        kept = list(Kept)[number % len(Kept)]
        piano = self._piano
        if moment == FIRST:
            if self.unjudged:
                piano.switch_on()
                self._judged()
                piano.cut(Kept.ALL, chance)
            piano.new_card()
        piano.switch_on()
        if moment not in (FIRST, START) and self._judged().faults:
            piano.cut(Kept.ALL, chance)
            piano.new_card()
            piano.switch_on()
            found = self._judged()
            if found.faults:
                raise SystemExit(f"a new card does not do better: {'; '.join(found.faults)}")
        at_s, of_s = self._reach(moment, chance)
        lost = piano.cut(kept, chance)
        cut = {
            "number": number + 1,
            "moment": moment,
            "at_s": round(at_s, 1),
            "of_s": round(of_s, 1),
            "kept": kept,
            "on_its_way": lost,
        }
        self._keep([*self.unjudged, cut])

    def _reach(self, moment: str, chance: random.Random) -> tuple[float, float]:
        """Come to a random moment; where in it, and how long it usually takes, in seconds."""
        piano, spans = self._piano, self.spans
        began_s = time.monotonic()
        if moment in (FIRST, START):
            of_s = spans.start
        elif moment == LISTENING:
            of_s = 40.0
            if chance.random() < 0.7:
                piano.broker.stop()
            piano.inside.send(
                "aplay", "-q", "-D", "plughw:CARD=Loopback,DEV=1", "/tmp/recording.wav"
            )
        elif moment == MODELS:
            of_s = spans.models
            piano.apply(self._maker.models(self._next("models")))
        else:
            of_s = spans.written
            card = lay_out()["card"]
            if moment == CHOICE:
                writes = chance.randint(1, spans.card_writes)
                piano.card.stop_at(range(card.start_bytes, card.end_bytes), writes)
            number = piano.apply(self._maker.system(self._next("system")))
            if moment == CHOICE:
                with suppress(DeviceError):
                    end_s = time.monotonic() + 2 * (spans.written + spans.trial)
                    piano.await_(
                        lambda: piano.card.reached.is_set() or time.monotonic() > end_s,
                        "the write",
                        PATIENCE_S * 2,
                    )
                return time.monotonic() - began_s, spans.written + spans.trial
            if moment == TRIAL:
                piano.applied(number)
                began_s, of_s = time.monotonic(), spans.trial
        time.sleep(max(0.0, chance.random() * of_s - (time.monotonic() - began_s)))
        return time.monotonic() - began_s, of_s

    def _next(self, what: str) -> str:
        """The version that is not in force."""
        first, second = versions()
        piano = self._piano
        if what == "models":
            return second if piano.status()["in_force"]["models"] == first else first
        return second if piano.whole_system(piano.status()["slot"]) == first else first

    # -- without cuts

    def rehearse(self, bad: Sequence[str]) -> bool:
        """Each update once, uncut, and systems that must not stay; how long all of it took."""
        piano, maker, spans = self._piano, self._maker, self.spans
        card = lay_out()["card"]
        piano.switch_on()
        found = piano.judge()
        spans.start = found.ready_s or spans.start
        print(f"start: {_words(found)}", flush=True)
        good = not found.faults
        began_s = time.monotonic()
        code, said = piano.applied(piano.apply(maker.models(self._next("models"))))
        spans.models = time.monotonic() - began_s
        print(f"models: {spans.models:.0f} s, code {code}, {said.strip()}", flush=True)
        good &= code == 0
        for name in (None, *bad):
            before = piano.whole_system(piano.status()["slot"])
            version = self._next("system") if name is None else bad_version(name)
            starts = piano.inside.starts
            piano.card.stop_at(range(card.start_bytes, card.end_bytes), 1 << 40)
            began_s = time.monotonic()
            code, said = piano.applied(piano.apply(maker.system(version, name)))
            written_s = time.monotonic() - began_s
            print(f"system {version}: {written_s:.0f} s, code {code}, {said.strip()}", flush=True)
            if code != 0:
                return False
            status = piano.settled(starts + 1)
            trial_s = time.monotonic() - began_s - written_s
            after = piano.whole_system(status["slot"])
            wanted = version if name is None else before
            if name is None:
                spans.written, spans.trial = written_s, trial_s
                spans.card_writes = piano.card.writes_seen
            print(
                f"  {piano.inside.starts - starts} starts, {trial_s:.0f} s, "
                f"{piano.card.writes_seen} writes to the first partition; "
                f"slot {status['slot']} with {after}; {status['last']['text']}",
                flush=True,
            )
            good &= after == wanted
        self._keep(self.unjudged)
        piano.cut(Kept.NOTHING, random.Random(0))
        return good


def _words(found: Found) -> str:
    if found.faults:
        return f"NOT GOOD: {'; '.join(found.faults)}"
    return (
        f"ready after {found.ready_s:.0f} s, slot {found.slot} with {found.system}, models "
        f"{found.models}, {found.outbox} in the outbox"
    )


def table(cuts: Sequence[dict[str, Any]]) -> str:
    """What the log comes to, by moment; what a start found counts at the last cut before it."""
    lines = [f"{'moment':18}{'kills':>6}{'good':>6}{'lost sectors':>14}{'in the outbox':>15}"]
    kills, good, lost, kept = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    starts = 0
    for cut, following in zip(cuts, [*cuts[1:], None], strict=True):
        moment, then = cut["moment"], cut["then"]
        kills[moment] += 1
        good[moment] += not then["faults"]
        lost[moment] += cut["on_its_way"]["sectors"] - cut["on_its_way"]["kept"]
        if following is None or following["then"] != then:
            starts += 1
            kept[moment] += then["outbox"]
    for moment in dict.fromkeys(PLAN):
        lines.append(
            f"{moment:18}{kills[moment]:6}{good[moment]:6}{lost[moment]:14,}{kept[moment]:15,}"
        )
    total = kills.total(), good.total(), lost.total(), kept.total()
    lines.append(f"{'together':18}{total[0]:6}{total[1]:6}{total[2]:14,}{total[3]:15,}")
    lines.append(f"{starts} starts were judged, each after one kill or more")
    return "\n".join(lines)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("image", type=Path, help="card image, its two halves beside it")
    parser.add_argument("--kills", type=int, default=50, help="0: rehearse, without cuts")
    parser.add_argument("--bad", nargs="*", choices=list(BAD), default=list(BAD))
    parser.add_argument("--log", type=Path, default=LOG)
    parser.add_argument("--folder", type=Path, default=CACHE, help="card and bundles")
    parser.add_argument("--keys", type=Path, default=KEYS, help="whom the card believes")
    parser.add_argument("--port", type=int, default=18830, help="of the broker outside")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    maker = Maker(options.image, options.folder, options.keys)
    for version in versions():
        maker.system(version)
        maker.models(version)
    if options.kills == 0:
        for name in options.bad:
            maker.system(bad_version(name), name)
    tray = maker.lay_tray()
    pristine = options.folder / "pristine.img"
    if not pristine.exists():
        unpack_card(options.image, pristine, CARD_BYTES)
        write_card_file(pristine, CARD.format(device=DEVICE, host=HOST, port=options.port))
    piano = Piano(pristine, tray, maker.systems, options.folder / "life", options.port)
    trial = Trial(piano, maker, options.log, options.seed)
    try:
        if options.kills == 0:
            return 0 if trial.rehearse(options.bad) else 1
        options.log.parent.mkdir(parents=True, exist_ok=True)
        trial.go_on(options.kills)
    finally:
        piano.close()
    print(table(trial.cuts))
    return 0 if all(not cut["then"]["faults"] for cut in trial.cuts) else 1


if __name__ == "__main__":
    sys.exit(main())
