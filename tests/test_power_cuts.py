"""Which moments are cut, what the log comes to, and the program inside the board."""

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from device.soak import power_cuts_inside
from device.soak.power_cuts import FIRST, LISTENING, MOST_FIRST, PLAN, Found, moment_of, table


def test_fifty_kills_are_at_every_moment_and_thrice_at_a_first_start():
    moments = Counter(moment_of(number) for number in range(50))
    assert moments[FIRST] == MOST_FIRST and set(moments) == set(PLAN)
    assert min(moments.values()) >= MOST_FIRST


def test_the_table_counts_what_was_good_and_what_was_lost():
    def cut(faults: list[str]) -> dict[str, object]:
        on_its_way = {"writes": 2, "sectors": 9, "kept": 4}
        then = asdict(Found(faults=faults, outbox=3))
        return {"moment": LISTENING, "on_its_way": on_its_way, "then": then}

    damaged = cut(["the outbox is damaged"])  # which one start found after two kills
    lines = table([cut([]), damaged, damaged]).splitlines()
    (line,) = [line for line in lines if line.startswith(LISTENING)]
    assert line.split() == [LISTENING, "3", "1", "15", "6"]
    assert lines[-2].split() == ["together", "3", "1", "15", "6"]
    assert lines[-1].startswith("2 starts were judged")


def test_the_program_inside_runs_what_it_is_asked(tmp_path: Path):
    """A terminal stands for the board's line."""
    near, far = os.openpty()
    subprocess.run(["stty", "raw", "-echo"], stdin=far, check=True)
    text = Path(power_cuts_inside.__file__).read_text()
    program = text.replace("/dev/virtio-ports/proof", os.ttyname(far))
    with subprocess.Popen([sys.executable, "-I", "-c", program]) as inside:
        with os.fdopen(near, "r+b", buffering=0) as line:
            lines = os.fdopen(os.dup(near), "rb")
            assert json.loads(lines.readline()) == [0, 0, "here"]
            line.write(json.dumps([7, ["sh", "-c", "echo heard; exit 3"]]).encode() + b"\n")
            assert json.loads(lines.readline()) == [7, 3, "heard\n"]
        inside.kill()
