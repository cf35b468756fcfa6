"""A whole piano in an emulated board: its card, the line into it, and who listens outside.

The board is switched on with a card whose writes can be forgotten (`device.soak.forgetful_card`);
units of the trial's own keep the outbox as it was found and run what is asked over a serial line.
`Piano.judge` says what a start came to: which system runs, whether all of it is whole, whether
every message of the outbox arrives once, and whether a note that is played is heard.
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from device.image.partitions import lay_out
from device.soak.bench import Broker, Dashboard, Key, alike, until
from device.soak.boot_generic import CONVERT, SOUND_CARD
from device.soak.emulator import Board
from device.soak.forgetful_card import ForgetfulCard, Kept
from edge.errors import DeviceError
from edge.publish.outbox import HISTORY

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
        return self._end(number, self.inside.starts, "the update's end")

    def _end(self, number: int, starts: int, what: str) -> tuple[int, str]:
        """How a program ended, or that more than so many starts have cut it short."""
        return self.await_(
            lambda: (
                self.inside.answer(number)
                or ((0, "starts again") if self.inside.starts > starts else None)
            ),
            what,
        )

    def settled(self, starts: int) -> dict[str, Any]:
        """Wait until nothing is on trial in the so-and-so-many-th start, or a later one."""
        self.await_(lambda: self.inside.starts >= starts, "the next start")
        while True:
            seen = self.inside.starts
            number = self.inside.send(
                "sh", "-c", "while test -e /var/lib/sostenuto/parcels/trial.json; do sleep 1; done"
            )
            self._end(number, seen, "the judgement")
            if self.inside.starts == seen:
                return self.status()
