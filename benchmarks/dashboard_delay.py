"""From the hammer's blow to the frame in which a key lights on the dashboard, in a real browser.

``sostenuto listen --dashboard`` hears the demo's recording at the pace of real time and publishes
to a mosquitto on this machine; headless Chromium shows the page as a phone would, and takes the
messages by websocket. An observer in the page notes each key that lights, and the frame that shows
it: the second animation frame after the change, whose beginning is the first moment at which the
one before it, which drew the change, is surely on its way to the screen. A key is matched with the
recording's MIDI (the onset on the same key that lies at most `LATEST_S` back, each used once), so a
key that lights wrongly counts for nothing and is told apart.

The browser's clock and the stream's are both clocks of this machine: ``session`` says when sample 0
was heard, by the monotonic clock, and the offset between the two is taken at the beginning.

    python -m benchmarks.dashboard_delay            # --bridge: through the device's own server
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import expect, sync_playwright

from benchmarks.delay import Subscriber, free_port, wait_until_open
from benchmarks.places import demo
from edge.midi import read_midi

GOAL_MS = 250.0
LATEST_S = 1.0
PHONE = {"width": 390, "height": 844}
PATIENCE_S = 90

WATCH = """
addEventListener('DOMContentLoaded', () => {
    globalThis.lightings = [];
    new MutationObserver((changes) => {
        const lit = changes
            .filter(({ target, oldValue }) => target.dataset.lit && oldValue !== target.dataset.lit)
            .map(({ target: key, oldValue: before }) =>
                [Number(key.dataset.pitch), before, key.dataset.lit]);
        if (!lit.length) return;
        requestAnimationFrame(() => requestAnimationFrame(() => {
            const at = performance.timeOrigin + performance.now();
            for (const each of lit) lightings.push([at, ...each]);
        }));
    }).observe(document.getElementById('keyboard'), {
        subtree: true, attributeFilter: ['data-lit'], attributeOldValue: true,
    });
});
"""


@contextmanager
def broker() -> Iterator[tuple[int, int]]:
    """A mosquitto of our own; its ports for MQTT and for websockets."""
    program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
    port, websockets = free_port(), free_port()
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "mosquitto.conf"
        settings.write_text(
            f"listener {port} 127.0.0.1\nlistener {websockets} 127.0.0.1\nprotocol websockets\n"
            "socket_domain ipv4\nallow_anonymous true\nlog_type none\n"
        )
        process = subprocess.Popen([program, "-c", str(settings)])
        try:
            wait_until_open(port)
            yield port, websockets
        finally:
            process.terminate()
            process.wait()


@contextmanager
def listening(port: int, settings: Path, page_port: int) -> Iterator[subprocess.Popen[bytes]]:
    """``sostenuto listen`` on the demo's recording."""
    program = Path(sys.executable).with_name("sostenuto")
    command = [str(program), "listen", "--file", str(demo()[0]), "--device", "bench"]
    command += ["--broker", f"mqtt://127.0.0.1:{port}", "--settings", str(settings)]
    command += ["--dashboard", str(page_port)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, **quiet)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@dataclass(frozen=True, slots=True)
class Observed:
    """One run.

    Attributes
    ----------
    lightings : list
        Milliseconds since 1970, pitch, what the key was before, what it is now.
    told : list of tuple
        Pitch, state and second of the stream at which a subscriber beside the browser had a note.
    began_s : float
        Seconds since 1970 of the stream's sample 0.
    frames_per_s : float
    """

    lightings: list[list[Any]]
    told: list[tuple[int, str, float]]
    began_s: float
    frames_per_s: float


def observe(*, bridge: bool) -> Observed:
    """Let a browser look at the demo's recording."""
    with (
        broker() as (port, websockets),
        tempfile.TemporaryDirectory() as folder,
        sync_playwright() as driver,
    ):
        settings = Path(folder) / "sostenuto.toml"
        way = f"mqtt://127.0.0.1:{port}" if bridge else f"ws://127.0.0.1:{websockets}"
        settings.write_text(f'dashboard_broker = "{way}"\n')
        subscriber = Subscriber(port)
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page_port = free_port()
        page = browser.new_page(viewport=PHONE)
        page.add_init_script(WATCH)
        with listening(port, settings, page_port) as process:
            wait_until_open(page_port)
            page.goto(f"http://127.0.0.1:{page_port}/")
            expect(page.locator("#ear-word")).to_have_text("Listening", timeout=30_000)
            frames = page.evaluate(
                "new Promise((tell) => { let n = 0; const began = performance.now();"
                "const count = () => { n += 1; performance.now() - began > 5000"
                " ? tell(n / 5) : requestAnimationFrame(count); }; requestAnimationFrame(count); })"
            )
            process.wait(PATIENCE_S)
        page.wait_for_timeout(500)
        lightings = page.evaluate("lightings")
        browser.close()
        subscriber.close()
    start_s = subscriber.messages("session")[0][1]["stream_start_mono_ms"] / 1000
    told = [
        (step["pitch_midi"], step["state"], at_s - start_s)
        for at_s, batch in subscriber.messages("notes")
        for step in batch["notes"]
    ]
    wall_minus_mono_s = time.time() - time.monotonic()
    return Observed(lightings, told, start_s + wall_minus_mono_s, float(frames))


def delays_ms(
    onsets: list[tuple[int, float]], lit: list[tuple[int, float]]
) -> tuple[list[float], int]:
    """Lit minus struck, for each key (pitch, second) that was struck; and how many lit for nothing.

    Each lighting belongs to the latest onset of its key before it that has none yet.
    """
    open_onsets = dict(enumerate(onsets))
    found, unfounded = [], 0
    for pitch, at_s in sorted(lit, key=lambda each: each[1]):
        due = [
            (onset_s, i)
            for i, (struck, onset_s) in open_onsets.items()
            if struck == pitch and 0 <= at_s - onset_s <= LATEST_S
        ]
        if not due:
            unfounded += 1
            continue
        onset_s, i = max(due)
        del open_onsets[i]
        found.append(1000 * (at_s - onset_s))
    return found, unfounded


def measure(*, bridge: bool) -> dict[str, Any]:
    """One run: delays to a key's first light, to the light that is sure, and to its message."""
    run = observe(bridge=bridge)
    onsets = [(note.pitch_midi, note.onset_s) for note in read_midi(demo()[1]).notes]
    figures: dict[str, Any] = {"played": len(onsets), "frames_per_s": run.frames_per_s}
    lit = [(int(k), at / 1000 - run.began_s, was, now) for at, k, was, now in run.lightings]
    of_interest = {
        "first": [(pitch, at_s) for pitch, at_s, was, _ in lit if was is None],
        "sure": [(pitch, at_s) for pitch, at_s, _, now in lit if now == "sure"],
        "sure at a subscriber": [(p, at_s) for p, state, at_s in run.told if state == "confirmed"],
    }
    for name, moments in of_interest.items():
        found, unfounded = delays_ms(onsets, moments)
        figures[name] = {
            "lit": len(found),
            "unfounded": unfounded,
            "median_ms": float(np.median(found)) if found else None,
            "p95_ms": float(np.percentile(found, 95)) if found else None,
        }
    return figures


def main() -> None:
    """Print the figures, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--bridge", action="store_true", help="through the device's own server")
    figures = measure(bridge=parser.parse_args().bridge)
    print(json.dumps({**figures, "goal_median_ms": GOAL_MS}, indent=2))


if __name__ == "__main__":
    main()
