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
import base64
import hashlib
import json
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from device.image.boards import COMPATIBLE
from device.image.partitions import lay_out
from device.soak.bench import Broker, Dashboard, Key, alike, until
from device.soak.boot_generic import CARD, CONVERT, SOUND_CARD, write_card_file
from device.soak.emulator import GIB, HOST, Board, unpack_card
from device.soak.forgetful_card import ForgetfulCard, Kept
from device.update.bundle import SYSTEM_IMAGES, Kind, Packing, pack
from edge.errors import DeviceError
from edge.publish.outbox import HISTORY
from edge.resources import shipped_dir, software_version

LOG = Path("docs/trials/power_cuts.jsonl")
CACHE = Path(".cache/power-cuts")
KEYS = Path(".cache/image/keys/development-only")
CARD_BYTES = 4 * GIB
DEVICE = "cut"

PATIENCE_S = 3000.0
"""An emulated board starts in some minutes, and judges an update in some more."""

ARRIVES_S = 600.0

PROGRAM = "/opt/sostenuto/software/current/bin"

T = TypeVar("T")

BEFORE = """\
[Unit]
Description=Keeps the outbox as it was found
DefaultDependencies=no
After=sostenuto-data.service
Before=sostenuto.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'mkdir -p /run/found; cp /var/lib/sostenuto/outbox.sqlite* /run/found/; true'
"""

INSIDE = """\
[Unit]
Description=Does what the trial asks

[Service]
ExecStart=/usr/bin/python3 -I -c 'exec(__import__("base64").b64decode("{program}"))'
"""

FOUND = """
import base64, json, sqlite3, zlib
from pathlib import Path
sound, rows = True, []
if Path("/run/found/outbox.sqlite").exists():
    try:
        found = sqlite3.connect("/run/found/outbox.sqlite")
        sound = found.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        for boot, name, seq, payload in found.execute(
            "SELECT b.boot, o.name, o.seq, o.payload FROM outbox o JOIN boots b ON b.no = o.boot_no"
        ):
            plain = zlib.decompress(payload) if name == "{history}" else payload
            rows.append((boot, name, seq, base64.b64encode(plain).decode()))
    except sqlite3.Error as error:
        sound = False
aside = [str(path) for path in Path("/var/lib/sostenuto").glob("*.aside")]
print(json.dumps([sound, aside, rows]))
"""
"""Asked inside: whether the outbox that was found is sound, files put aside, messages in it."""

FAULTS = """
from pathlib import Path
from device.update.bundle import fault_in
for kind in ("models", "catalog"):
    lies = Path("/var/lib/sostenuto/parcels") / kind / "current"
    fault = fault_in(lies.resolve()) if lies.is_symlink() else None
    if fault: print(kind, fault)
"""
"""Asked inside: what is wrong with the parcels in force; nothing where all is well."""


# -- the moments -----------------------------------------------------------------------------

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


# -- the board -------------------------------------------------------------------------------


class Inside:
    """The line into the board."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._path = path
        self._answers: dict[int, tuple[int, str]] = {}
        self._number = 0
        self.starts = 0
        """How often a system has come up since the board was switched on."""

    def open(self) -> None:
        """Connect, once QEMU listens."""

        def connected() -> bool:
            with suppress(OSError):
                self._socket.connect(str(self._path))
                return True
            return False

        until(connected, "the board's line", 30.0)
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        with suppress(OSError, ValueError), self._socket.makefile("rb") as lines:
            for line in lines:
                with suppress(ValueError):  # a line that ends with the start of the next system
                    number, code, text = json.loads(line[max(0, line.rfind(b"[0, 0,")) :])
                    self.starts += number == 0
                    self._answers[number] = code, text

    def send(self, *words: str) -> int:
        """Have a program started inside."""
        self._number += 1
        self._socket.sendall(json.dumps([self._number, words]).encode() + b"\n")
        return self._number

    def answer(self, number: int) -> tuple[int, str] | None:
        """Its exit code and words, once it has ended."""
        return self._answers.get(number)

    def close(self) -> None:
        self._socket.close()


@dataclass
class Found:
    """What a start after a cut came to.

    Attributes
    ----------
    faults : list of str
        What does not hold of that which must.
    system, models : str
        The versions in force.
    """

    faults: list[str] = field(default_factory=list)
    slot: str = ""
    system: str = ""
    models: str = ""
    last: str = ""
    outbox: int = 0
    ready_s: float = 0.0
    note_s: float = 0.0


class Piano:
    """One card, the boards that it is put into, and who is outside."""

    def __init__(
        self, pristine: Path, tray: Path, systems: dict[str, str], folder: Path, port: int
    ) -> None:
        self.folder, self._pristine, self._tray, self.systems = folder, pristine, tray, systems
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "card.img"
        if not self._path.exists():
            self._new()
        self.broker = Broker(folder, port)
        self.broker.start()
        self.dashboard = Dashboard(self.broker.address)
        self.card = ForgetfulCard(self._path, folder / "card.socket")
        self.board: Board | None = None
        self.inside = Inside(folder / "inside.socket")
        self.awaited: dict[Key, int] = {}

    def _new(self) -> None:
        beside = self._path.with_suffix(".new")
        subprocess.run(["cp", "--sparse=always", self._pristine, beside], check=True)
        beside.replace(self._path)

    def new_card(self) -> None:
        """A card as it comes from its writer."""
        self.card.close()
        self._new()
        self.card = ForgetfulCard(self._path, self.folder / "card.socket")

    def switch_on(self) -> None:
        """Power."""
        if not self.broker.runs:
            self.broker.start()
        program = Path(__file__).with_name("power_cuts_inside.py").read_bytes()
        units = {
            "proof-card.service": SOUND_CARD,
            "proof-found.service": BEFORE,
            "proof-inside.service": INSIDE.format(program=base64.b64encode(program).decode()),
        }
        line = self.folder / "inside.socket"
        line.unlink(missing_ok=True)
        self.board = Board(
            self.card.qemu_name,
            self.folder / "board.log",
            self.folder,
            units,
            more=(
                *("-drive", f"if=none,id=tray,format=raw,readonly=on,file={self._tray}"),
                *("-device", "virtio-blk-pci,drive=tray,serial=tray"),
                *("-device", "virtio-serial-pci"),
                *("-chardev", f"socket,id=inside,path={line},server=on,wait=off"),
                *("-device", "virtserialport,chardev=inside,name=proof"),
            ),
        )
        self.board.start()
        self.inside = Inside(line)
        self.inside.open()

    def cut(self, kept: Kept, chance: random.Random) -> dict[str, int]:
        """The power goes."""
        assert self.board is not None
        self.board.cut()
        self.inside.close()
        return asdict(self.card.cut(kept, chance))

    def close(self) -> None:
        if self.board is not None:
            self.board.cut()
        self.inside.close()
        self.card.close()
        self.dashboard.close()
        self.broker.kill()

    # -- looking

    def await_(self, look: Callable[[], T | None], what: str, patience_s: float = PATIENCE_S) -> T:
        """What ``look`` finds at last."""
        assert self.board is not None
        end_s = time.monotonic() + patience_s
        while time.monotonic() < end_s:
            found = look()
            if found:
                return found
            if not self.board.on:
                raise DeviceError(f"the board went off before: {what}")
            time.sleep(0.3)
        raise DeviceError(f"not within {patience_s:.0f} s: {what}")

    def ask(self, *words: str, patience_s: float = PATIENCE_S) -> tuple[int, str]:
        """Run a program inside to its end."""
        number = self.inside.send(*words)
        return self.await_(lambda: self.inside.answer(number), " ".join(words)[:60], patience_s)

    def sh(self, text: str) -> str:
        """What a shell inside says."""
        return self.ask("sh", "-c", text)[1].strip()

    def status(self) -> dict[str, Any]:
        """`update status`."""
        code, text = self.ask(f"{PROGRAM}/sostenuto-device", "update", "status", "--json")
        if code != 0:
            raise DeviceError(f"update status: {text}")
        return dict(json.loads(text))

    def ready(self, starts: int = 1) -> None:
        """Wait until the service says so, of the so-and-so-many-th start of the system."""
        self.await_(lambda: self.inside.starts >= starts, "the system to come up")
        self.sh("until systemctl is-active --quiet sostenuto; do sleep 0.5; done")

    def whole_system(self, slot: str) -> str:
        """Which of the systems lies in a slot, byte for byte; nothing where none does."""
        layout = lay_out()
        for version, told in self.systems.items():
            sizes_and_sums = json.loads(told)
            if all(
                hashlib.sha256(
                    self.card.read(layout[f"{part}-{slot.lower()}"].start_bytes, size)
                ).hexdigest()
                == wanted
                for part, (size, wanted) in sizes_and_sums.items()
            ):
                return version
        return ""

    def judge(self) -> Found:
        """Wait until it listens, and look at everything."""
        found = Found()
        assert self.board is not None
        try:
            self.ready()
            found.ready_s = round(self.board.seconds, 1)
            self._look(found)
        except (DeviceError, OSError, ValueError, SystemExit) as error:
            found.faults.append(str(error))
        return found

    def _look(self, found: Found) -> None:
        def must(holds: object, what: str) -> None:
            if not holds:
                found.faults.append(what)

        status = self.status()
        found.slot = str(status["slot"])
        found.models = str(status["in_force"]["models"])
        found.last = str((status["last"] or {}).get("result", ""))
        found.system = self.whole_system(found.slot)
        must(found.system, f"slot {found.slot} is none of the systems")
        code, said = self.ask(f"{PROGRAM}/python", "-I", "-c", FAULTS)
        must(code == 0 and not said.strip(), f"parcels: {said.strip()[-200:]}")
        must(self.sh("findmnt -n -o SOURCE /data").startswith("/dev/"), "/data is not the card's")
        failed = self.sh("systemctl --failed --no-legend --plain | cut -d' ' -f1")
        must(not failed, f"failed: {failed}")
        sound, aside, rows = json.loads(
            self.ask("python3", "-I", "-c", FOUND.replace("{history}", HISTORY))[1]
        )
        must(sound, "the outbox is damaged")
        must(not aside, f"put aside: {aside}")
        found.outbox = len(rows)
        for boot, name, seq, payload in rows:
            self.awaited[boot, name, seq] = alike(base64.b64decode(payload))
        began_s = time.monotonic()
        try:
            self.play(8)
        except DeviceError as error:
            found.faults.append(str(error))
        found.note_s = round(time.monotonic() - began_s, 1)
        content = self.dashboard.seen.content
        with suppress(SystemExit):
            until(lambda: self.awaited.keys() <= content.keys(), "the outbox outside", ARRIVES_S)
        missing = self.awaited.keys() - content.keys()
        must(not missing, f"never arrived: {sorted(missing)[:3]} of {len(missing)}")
        differ = [key for key in self.awaited.keys() & content.keys()
                  if content[key] != self.awaited[key]]  # fmt: skip
        must(not differ and not self.dashboard.seen.changed, f"two contents: {differ[:3]}")
        self.awaited.clear()

    def notes(self) -> int:
        """Messages with notes that have come."""
        return sum(name == "notes" for _, name, _ in list(self.dashboard.seen.content))

    def play(self, seconds: int) -> None:
        """Play the beginning of the recording; a note must arrive.

        Raises
        ------
        DeviceError
            None does.
        """
        heard = self.notes()
        self.inside.send(
            "sh",
            "-c",
            f'test -e /tmp/recording.wav || {PROGRAM}/python -c "{CONVERT}"; '
            f"aplay -q -d {seconds} -D plughw:CARD=Loopback,DEV=1 /tmp/recording.wav",
        )
        self.await_(lambda: self.notes() > heard, "a note outside", ARRIVES_S)

    def apply(self, bundle: str) -> int:
        """Begin an update by a bundle of the tray."""
        self.sh(
            "mkdir -p /run/tray; mountpoint -q /run/tray || "
            "mount -o ro /dev/disk/by-id/virtio-tray /run/tray"
        )
        program = f"{PROGRAM}/sostenuto-device"
        return self.inside.send(
            program, "update", "apply", "--allow-downgrade", f"/run/tray/{bundle}"
        )

    def applied(self, number: int) -> tuple[int, str]:
        """Its end; of a system, that it was written, for the board may start again before that."""
        starts = self.inside.starts
        return self.await_(
            lambda: (
                self.inside.answer(number)
                or ((0, "starts again") if self.inside.starts > starts else None)
            ),
            "the update's end",
        )

    def settled(self, starts: int) -> dict[str, Any]:
        """Wait until nothing is on trial in the so-and-so-many-th start, or a later one."""
        self.await_(lambda: self.inside.starts >= starts, "the next start")
        while True:
            seen = self.inside.starts
            number = self.inside.send(
                "sh", "-c", "while test -e /var/lib/sostenuto/parcels/trial.json; do sleep 1; done"
            )
            self.await_(
                lambda n=number, s=seen: self.inside.answer(n) or self.inside.starts > s,  # type: ignore[misc]
                "the judgement",
            )
            if self.inside.starts == seen:
                return self.status()


# -- what it is made of ----------------------------------------------------------------------


SAYS_NOTHING = ("-quiet", "-no-progress")


def _quietly(*words: str | Path) -> None:
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)


def with_file(root: Path, name: str, target: Path) -> None:
    """The same system with one file more at its top: another one, byte for byte."""
    shutil.copyfile(root, target)
    folder = target.with_suffix(".more")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "version-of-a-trial").write_text(f"{name}\n")
    _quietly("mksquashfs", folder, target, *SAYS_NOTHING, "-all-root", "-no-recovery")
    shutil.rmtree(folder)


def with_ending(root: Path, ending: dict[str, str], target: Path) -> None:
    """The same system with something added to modules of its software."""
    folder = target.with_suffix(".tree")
    shutil.rmtree(folder, ignore_errors=True)
    _quietly("unsquashfs", "-q", "-n", "-d", folder, root)
    for name, text in ending.items():
        (module,) = folder.glob(f"opt/sostenuto/software/[0-9]*/lib/python3*/site-packages/{name}")
        with module.open("a") as stream:
            stream.write(text)
        for code in module.parent.glob(f"__pycache__/{module.stem}.*.pyc"):
            code.unlink()
    target.unlink(missing_ok=True)
    packing = ("-comp", "zstd", "-Xcompression-level", "3")
    _quietly("mksquashfs", folder, target, *packing, *SAYS_NOTHING)
    shutil.rmtree(folder)


BAD = {
    "deaf": {"device/selftest/command.py": "\n\ndef run(*_, **__):\n    return 1\n"},
    "silent": {"edge/cli/listen.py": "\n\ndef run(*_):\n    raise SystemExit(1)\n"},
}
"""Systems that must not stay: the known recording fails; the service does not start."""


class Maker:
    """Bundles of systems and models, made once and kept."""

    def __init__(self, image: Path, folder: Path, keys: Path) -> None:
        stem = image.name.removesuffix(".img.xz").removesuffix(".img")
        self._root = image.with_name(f"{stem}.root.squashfs")
        self._boot = image.with_name(f"{stem}.boot.vfat")
        (self._key,) = [path for path in keys.glob("*.key") if path.name != "authority.key"]
        self.folder, self._board = folder, COMPATIBLE["generic"]
        self.tray = folder / "tray"
        self.tray.mkdir(parents=True, exist_ok=True)
        self.systems = {"as flashed": self._sums(self._root)}

    def _sums(self, root: Path) -> str:
        parts = {"boot": self._boot, "root": root}
        return json.dumps({n: (p.stat().st_size, sha256(p)) for n, p in parts.items()})

    def system(self, version: str, bad: str | None = None) -> str:
        """A bundle on the tray."""
        root = self.folder / f"{version}.squashfs"
        name = f"system-{version}.sostenuto"
        if not (self.tray / name).exists():
            if bad is None:
                with_file(self._root, version, root)
            else:
                with_ending(self._root, BAD[bad], root)
            source = self.folder / "images"
            shutil.rmtree(source, ignore_errors=True)
            source.mkdir()
            shutil.copyfile(self._boot, source / SYSTEM_IMAGES["boot"])
            shutil.copyfile(root, source / SYSTEM_IMAGES["rootfs"])
            self._pack(Kind.SYSTEM, version, source, name)
            shutil.rmtree(source)
        self.systems[version] = self._sums(root)
        return name

    def models(self, version: str) -> str:
        """Note models as they are, with a number of their own."""
        name = f"models-{version}.sostenuto"
        if not (self.tray / name).exists():
            self._pack(Kind.MODELS, version, shipped_dir(), name)
        return name

    def _pack(self, kind: Kind, version: str, source: Path, name: str) -> None:
        certificate = self._key.with_suffix(".crt")
        board = self._board if kind is Kind.SYSTEM else "sostenuto"
        packing = Packing(kind, version, source, self._key, certificate, "0", board)
        pack(packing, self.tray / name)

    def lay_tray(self) -> Path:
        """All bundles on a disk."""
        disk = self.folder / "tray.squashfs"
        newest = max((path.stat().st_mtime for path in self.tray.iterdir()), default=0.0)
        if not disk.exists() or disk.stat().st_mtime < newest:
            disk.unlink(missing_ok=True)
            bare = ("-noI", "-noD", "-noF", "-noX", "-all-root")
            _quietly("mksquashfs", self.tray, disk, *bare, *SAYS_NOTHING)
        return disk


def sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


# -- the trial -------------------------------------------------------------------------------


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


def versions() -> tuple[str, str]:
    """Of both kinds, two that continue the software's."""
    return f"{software_version()}.1", f"{software_version()}.2"


def bad_version(name: str) -> str:
    return f"{software_version()}.{90 + list(BAD).index(name)}"


def table(cuts: Sequence[dict[str, Any]]) -> str:
    """What the log comes to, by moment."""
    lines = [f"{'moment':18}{'kills':>6}{'good':>6}{'lost sectors':>14}{'in the outbox':>15}"]
    kills, good, lost, kept = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    for cut in cuts:
        moment, then = cut["moment"], cut["then"]
        kills[moment] += 1
        good[moment] += not then["faults"]
        lost[moment] += cut["on_its_way"]["sectors"] - cut["on_its_way"]["kept"]
        kept[moment] += then["outbox"]
    for moment in dict.fromkeys(PLAN):
        lines.append(
            f"{moment:18}{kills[moment]:6}{good[moment]:6}{lost[moment]:14,}{kept[moment]:15,}"
        )
    total = kills.total(), good.total(), lost.total(), kept.total()
    lines.append(f"{'together':18}{total[0]:6}{total[1]:6}{total[2]:14,}{total[3]:15,}")
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
