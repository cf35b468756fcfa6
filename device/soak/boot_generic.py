"""The generic image from UEFI to a note at a broker outside, in an emulated board.

The card is the image with what an installer writes on it: name, microphone and broker. Into the
board goes one unit more, by systemd's credentials (`device.soak.emulator`): it plays the demo's
recording into the kernel's loop-back sound card, from which the service hears it as from any
microphone, and asks for the self-test at the end. The broker is on this machine, outside.

    python -m device.soak.boot_generic images/sostenuto-0.1.0-generic-arm64.img.xz
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from device.flash.image import read_layout
from device.soak.bench import Broker, report
from device.soak.emulator import HOST, Board, unpack_card, until
from edge.publish.address import BrokerAddress

DEVICE = "emulated"
PATIENCE_S = 3600.0

CARD = """\
device = "{device}"
mic = "Loopback: PCM"
broker = "mqtt://{host}:{port}"
health_every_s = 3
"""

SOUND_CARD = """\
[Unit]
Description=A sound card that hears what is played into it
DefaultDependencies=no
After=systemd-modules-load.service
Before=sostenuto.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/sbin/modprobe snd-aloop index=0 id=Loopback pcm_substreams=1
"""

PLAYER = """\
[Unit]
Description=Plays the recording, then asks whether all is well
After=sostenuto.service

[Service]
Type=oneshot
StandardOutput=journal+console
StandardError=journal+console
TimeoutStartSec=infinity
ExecStartPre=/bin/sh -c 'until systemctl is-active --quiet sostenuto; do sleep 1; done'
ExecStartPre=/bin/sh -c 'echo PROOF service ready'
ExecStartPre=/bin/sleep {settle_s}
ExecStartPre=/opt/sostenuto/software/current/bin/python -c "{convert}"
ExecStartPre=/bin/sh -c 'echo PROOF plays'
ExecStart={plays}
ExecStart=/bin/sh -c 'echo PROOF played'
ExecStart=/bin/sleep {settle_s}
ExecStart=/bin/sh -c '{selftest} --known-answer; echo PROOF self-test code $$?'
ExecStart=/bin/sh -c 'while {plays}; do :; done & \
  {selftest} | sed "s/^/PROOF whole /"; kill $$!'
ExecStart=/bin/sh -c 'echo "PROOF memory $$(systemctl show -P MemoryPeak sostenuto)"'
ExecStart=/bin/sh -c 'findmnt -n -o SIZE /data | sed "s/^ */PROOF data /"'
ExecStart=/bin/sh -c 'systemctl --failed --no-legend --plain | sed "s/^/PROOF failed /"'
ExecStart=/bin/sh -c 'rauc status --detailed 2>&1 | sed "s/^/PROOF rauc /"'
ExecStart=/bin/systemctl stop sostenuto
ExecStart=/bin/sh -c 'echo "PROOF bench $$({bench})"'
ExecStart=/bin/sh -c 'echo PROOF over'
"""

CONVERT = (
    "import soundfile; from edge.resources import demo_recording; "
    "x, rate = soundfile.read(demo_recording(), dtype='int16', always_2d=True); "
    "soundfile.write('/tmp/recording.wav', x, rate, 'PCM_16')"
)

PLAYS = "/usr/bin/aplay -q -D plughw:CARD=Loopback,DEV=1 /tmp/recording.wav"
PROGRAM = "/opt/sostenuto/software/current/bin/sostenuto-device"
SELFTEST = f"{PROGRAM} selftest"
BENCH = f"{PROGRAM} bench --seconds 5 --json"


class Outside:
    """A subscriber on this machine: what arrived under the piano's name, by topic."""

    def __init__(self, address: BrokerAddress) -> None:
        self._lock = threading.Lock()
        self._came: list[tuple[float, str, dict[str, Any]]] = []
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id="outside")
        self._client.on_connect = lambda client, *_: client.subscribe(f"sostenuto/v1/{DEVICE}/#")
        self._client.on_message = self._take
        self._client.connect(address.host, address.port)
        self._client.loop_start()

    def _take(self, _client: Any, _userdata: Any, message: paho.MQTTMessage) -> None:
        topic = message.topic.split("/", 3)[3]
        word = message.payload.decode()
        content = {"word": word} if topic == "availability" else json.loads(word)
        with self._lock:
            self._came.append((time.monotonic(), topic, content))

    def of(self, topic: str) -> list[dict[str, Any]]:
        """All that came on a topic, in order."""
        with self._lock:
            return [content for _, each, content in self._came if each == topic]

    def confirmed(self) -> int:
        """Notes that the ear was sure of."""
        return sum(
            note["state"] == "confirmed" for batch in self.of("notes") for note in batch["notes"]
        )

    def pieces(self) -> tuple[str, ...]:
        """Pieces that were named, each once."""
        named = [str(each["piece_id"]) for each in self.of("piece") if each["state"] == "matched"]
        return tuple(dict.fromkeys(named))

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@dataclass
class Figures:
    """What one start showed; seconds since the board was switched on, as they passed outside.

    ``not_passed`` are those checks of the whole self-test, run while the recording plays, that
    failed: a board of 1e9 instructions a second has no margin of speed. ``instructions`` are each
    ear's, in thousand millions for a second of sound; ``memory_mib`` is the service's peak.
    """

    image: str
    boot_loader_s: float = 0.0
    login_s: float = 0.0
    service_s: float = 0.0
    online_s: float = 0.0
    notes: int = 0
    overruns: int = 0
    level_dbfs: float = 0.0
    end_to_end_p95_ms: float = 0.0
    pieces: tuple[str, ...] = ()
    selftest_code: int = -1
    passed: int = 0
    not_passed: tuple[str, ...] = ()
    data: str = ""
    failed: tuple[str, ...] = ()
    memory_mib: float = 0.0
    instructions: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        return self.selftest_code == 0 and self.notes > 0 and not self.failed


def write_card_file(card: Path, text: str) -> None:
    """`sostenuto.toml` on partition 1, as `flash` writes it."""
    with card.open("rb") as stream:
        start = read_layout(stream.read(512), card).first_start
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write(text)
        file.flush()
        subprocess.run(
            ["mcopy", "-o", "-i", f"{card}@@{start}", file.name, "::sostenuto.toml"], check=True
        )


def units(settle_s: int) -> dict[str, str]:
    """What goes into the board for this trial."""
    return {
        "proof-card.service": SOUND_CARD,
        "proof-player.service": PLAYER.format(
            settle_s=settle_s, convert=CONVERT, plays=PLAYS, selftest=SELFTEST, bench=BENCH
        ),
    }


def trial(image: Path, folder: Path, log: Path, settle_s: int, processor: str) -> Figures:
    """Switch the board on, wait for all of it, switch it off."""
    figures = Figures(image.name)
    card = folder / "card.img"
    unpack_card(image, card)
    broker = Broker(folder)
    broker.start()
    outside = Outside(broker.address)
    board = Board(card, log, folder, units(settle_s), processor)
    try:
        write_card_file(card, CARD.format(device=DEVICE, host=HOST, port=broker.address.port))
        board.start()
        _, figures.boot_loader_s = board.await_line(r"BdsDxe: starting", 300)
        _, figures.login_s = board.await_line(r"login:", PATIENCE_S)
        _, figures.service_s = board.await_line(r"PROOF service ready", PATIENCE_S)
        online = [{"word": "online"}]
        _, figures.online_s = until(
            lambda: outside.of("availability")[-1:] == online, PATIENCE_S, "the piano online", board
        )
        board.await_line(r"PROOF self-test code", PATIENCE_S)
        figures.notes, figures.pieces = outside.confirmed(), outside.pieces()
        healths = outside.of("health")
        board.await_line(r"PROOF over", PATIENCE_S)
        for health in healths:
            figures.overruns = health.get("overruns", 0)
            figures.level_dbfs = max(figures.level_dbfs or -200.0, health.get("level_dbfs") or -200)
            told = health.get("end_to_end") or {}
            figures.end_to_end_p95_ms = max(figures.end_to_end_p95_ms, told.get("p95_ms") or 0.0)
        said = board.said
        code = re.search(r"PROOF self-test code (\d+)", said)
        figures.selftest_code = int(code[1]) if code else -1
        whole = re.findall(r"PROOF whole (passed|failed) +(.+?)  ", said)
        figures.passed = sum(verdict == "passed" for verdict, _ in whole)
        figures.not_passed = tuple(check for verdict, check in whole if verdict == "failed")
        size = re.search(r"PROOF data (\S+)", said)
        figures.data = size[1] if size else ""
        if memory := re.search(r"PROOF memory (\d+)", said):
            figures.memory_mib = round(int(memory[1]) / (1 << 20), 1)
        if bench := re.search(r"PROOF bench (\{.*\})", said):
            for ear in json.loads(bench[1])["ears"]:
                figures.instructions[ear["ear"]] = round(ear["cpu_s_per_s"], 3)
        figures.failed = tuple(re.findall(r"PROOF failed (\S+)", said))
    finally:
        figures.seconds = round(board.seconds, 1)
        board.cut()
        outside.close()
        broker.stop()
    return figures


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("image", type=Path)
    parser.add_argument("--log", type=Path, default=Path("boot-generic.log"))
    parser.add_argument("--folder", type=Path, help="where the card lies (default: temporary)")
    parser.add_argument("--settle", type=int, default=20, metavar="SECONDS")
    parser.add_argument("--processor", default="cortex-a76", help="of QEMU's")
    parser.add_argument("--json", action="store_true")
    wish = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sostenuto-board-") as name:
        folder = wish.folder or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        figures = trial(wish.image, folder, wish.log, wish.settle, wish.processor)
    if wish.json:
        print(json.dumps(asdict(figures)))
    else:
        report(figures, ("image", "pieces", "failed", "data", "instructions", "not_passed"))
        print(
            f"{figures.image}; data {figures.data}; failed: {', '.join(figures.failed) or 'none'}"
        )
        print(f"pieces named: {', '.join(figures.pieces) or 'none'}")
        print(f"whole self-test, failed: {', '.join(figures.not_passed) or 'none'}")
        costs = (f"{ear} {cost:.2f}" for ear, cost in figures.instructions.items())
        print(f"1e9 instructions a second of sound: {', '.join(costs) or 'not measured'}")
    sys.exit(0 if figures.good else 1)


if __name__ == "__main__":
    main()
