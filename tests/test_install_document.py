"""docs/install.md, as a new user would: a regular file is the card, a folder is the board."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from device.firstboot.boot import Start, first_boot
from device.firstboot.card import make_wifi, parse_card
from device.firstboot.network import Link
from device.firstboot.report import Facts, status_text
from device.flash.image import open_image
from device.flash.personal import read_from
from device.flash.wishes import COLUMNS
from device.service.place import Place
from edge.resources import demo_recording
from tests.base_dependencies import ROOT
from tests.cards import make_bmap, make_image, needs_card_tools
from tests.certificates import Authority
from tests.conftest import free_port

DOCUMENT = (ROOT / "docs" / "install.md").read_text()
PROGRAM = Path(sys.executable).parent / "sostenuto-device"
PATIENCE_S = 60.0


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", DOCUMENT, flags=re.DOTALL)


def commands() -> list[str]:
    lines = "".join(blocks("sh")).replace("\\\n", " ").splitlines()
    return [re.sub(r"\s+", " ", line.partition(" #")[0]).strip() for line in lines if line.strip()]


SUDO = """\
#!/bin/bash
# Notes its words and hands nothing of the environment on but what it is asked to keep.
echo "$*" >> sudo.log
keep=()
while [[ $1 == --* ]]; do
  [[ $1 == --preserve-env=* ]] || exit 1
  IFS=, read -ra names <<<"${1#*=}"
  for name in "${names[@]}"; do keep+=("$name=${!name}"); done
  shift
done
exec env -i PATH="$PATH" HOME="$HOME" "${keep[@]}" "$@"
"""


def as_run_here(command: str) -> str:
    """Without the rights of root, and with a file for the card."""
    here = re.sub(r"^sudo ", "./sudo ", command, flags=re.MULTILINE)
    here = here.replace("/dev/sdb", "card.img")
    return here.replace(".venv/bin/sostenuto-device", str(PROGRAM))


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What lies on an installer's desk: the image and its map, a card, a table."""
    needs_card_tools()
    folder = tmp_path_factory.mktemp("desk")
    image = make_image(folder / "sostenuto.img")
    make_bmap(image)
    shutil.copy(image, folder / "card.img")
    subprocess.run(["xz", "-0", image], check=True)
    (folder / "pianos.csv").write_text(blocks("csv")[0])
    Authority(folder)  # house.crt, as the table names it
    (folder / "sudo").write_text(SUDO)
    (folder / "sudo").chmod(0o755)
    return folder


def run(command: str, folder: Path, fails: int = 0, typed: str = "") -> str:
    ran = subprocess.run(
        ["bash", "-c", as_run_here(command)],
        cwd=folder,
        capture_output=True,
        text=True,
        input=typed,
        check=False,
    )
    assert ran.returncode == fails, f"{command}: {ran.stderr}"
    return ran.stdout + ran.stderr


def typed(command: str, folder: Path, answers: list[tuple[str, str]]) -> str:
    """Run it at a terminal, and type an answer after each question."""
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(folder)
        os.execvp("bash", ["bash", "-c", as_run_here(command)])
    said, waiting, until_s = "", list(answers), time.monotonic() + PATIENCE_S
    while time.monotonic() < until_s:
        if not select.select([terminal], [], [], 1.0)[0]:
            continue
        try:
            said += os.read(terminal, 4096).decode(errors="replace")
        except OSError:  # the other end is closed
            break
        if waiting and waiting[0][0] in said.rpartition("\n")[2]:
            os.write(terminal, waiting.pop(0)[1].encode() + b"\n")
    _, status = os.waitpid(child, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 0, said
    assert not waiting, said
    return said


def test_the_way_has_seven_steps_at_most() -> None:
    assert re.findall(r"^\*\*(\d)\.", DOCUMENT, flags=re.MULTILINE) == list("1234567")


def test_every_command_of_the_document_is_tried_in_this_file() -> None:
    tried = {
        "sudo apt-get install mtools",
        "make demo",
        FLASH_LIST,
        FLASH_ONE,
        TYPE_PASSWORD,
        *(command for command in commands() if "flash" in command and "--yes" in command),
        CHECK_TABLE,
        FLASH_BATCH,
    }
    assert set(commands()) == tried


FLASH_LIST = ".venv/bin/sostenuto-device flash --list"
FLASH_ONE = "sudo .venv/bin/sostenuto-device flash sostenuto.img.xz /dev/sdb"
TYPE_PASSWORD = (
    "read -rsp 'Wi-Fi password: ' SOSTENUTO_WIFI_PASSWORD && export SOSTENUTO_WIFI_PASSWORD"
)
CHECK_TABLE = ".venv/bin/sostenuto-device flash --batch pianos.csv --dry-run"
FLASH_BATCH = f"{FLASH_ONE} --batch pianos.csv"


def test_from_a_blank_card_to_the_first_note(desk: Path, tmp_path: Path) -> None:
    assert run(f"make -C {ROOT} -n demo", desk)
    run(FLASH_LIST, desk)
    said = typed(
        FLASH_ONE,
        desk,
        [
            ("name of the piano", "parlour"),
            ("Wi-Fi, its name", "House"),
            ("Wi-Fi password", "the house and its dog"),
            ("country", "DE"),
            ("broker", "mqtt://house.local"),
            ("microphone", "USB"),
            ("settings' page", ""),
            ("(y/N)", "y"),
        ],
    )
    assert "http://parlour.local:8480/" in said
    assert "the house and its dog" not in said

    place = Place(tmp_path / "board")
    for folder in ("boot/card", "var/lib/sostenuto", "run", "etc/NetworkManager"):
        place.at(folder).mkdir(parents=True)
    card = desk / "card.img"
    held = read_from(card, open_image(card).layout, "sostenuto.toml")
    place.at("/boot/card/sostenuto.toml").write_bytes(held)
    assert first_boot(place, "0123456789ab").troubles == ()

    program = [str(PROGRAM.with_name("sostenuto")), "listen", "--no-mqtt"]
    settings = place.at("/var/lib/sostenuto/settings.toml")
    program += ["--dashboard", str(free_port())]
    program += ["--settings", str(settings), "--file", str(demo_recording()), "--json"]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as ear:
        assert ear.stdout is not None
        for line in ear.stdout:
            notes = json.loads(line).get("notes", [])
            if isinstance(notes, list) and any(note["state"] == "confirmed" for note in notes):
                break
        else:
            pytest.fail("no note was heard")
        ear.terminate()


def test_every_line_without_questions_works(desk: Path) -> None:
    run(CHECK_TABLE, desk)
    lines = [command for command in commands() if "--yes" in command]
    assert len(lines) == 3
    password = "the house and its dog"
    for command in lines:
        before = f"{TYPE_PASSWORD}\n" if "--preserve-env" in command else ""
        assert ("--wifi" in command) == bool(before)
        run(before + command, desk, typed=f"{password}\n" if before else "")
    card = desk / "card.img"
    held = read_from(card, open_image(card).layout, "sostenuto.toml")
    wifi = parse_card(held.decode(), Path("sostenuto.toml")).wifi
    assert wifi is not None and wifi.psk == make_wifi("House", password).psk
    assert "--preserve-env" in (desk / "sudo.log").read_text()
    assert password not in (desk / "sudo.log").read_text()
    for name in ("parlour", "hall"):
        image = desk / f"{name}.img"
        said = tomllib.loads(read_from(image, open_image(image).layout, "sostenuto.toml").decode())
        assert said["device"] == name
    assert "pianos.written.csv" in {path.name for path in desk.iterdir()}


def test_a_batch_into_a_single_file_is_refused_with_the_way_to_name_many(desk: Path) -> None:
    assert "{name}" in run(FLASH_BATCH, desk, fails=2)


def test_the_card_s_file_that_is_shown_is_one() -> None:
    card = parse_card(blocks("toml")[0], Path("sostenuto.toml"))
    assert card.settings["device"] == "parlour"
    assert card.wifi is not None and card.wifi.psk is not None


def test_the_table_that_is_shown_names_every_column_but_one() -> None:
    named = blocks("csv")[0].partition("\n")[0].split(",")
    assert set(named) == set(COLUMNS) - {"security"}


def test_the_status_that_is_shown_is_what_the_piano_writes() -> None:
    shown = blocks("text")[0]
    facts = Facts(
        Start("parlour", "House"),
        links=(
            Link("eth0", "ethernet", 100, 0, ("169.254.3.9",)),
            Link("wlan0", "wifi", 30, 7),
        ),
        microphones=("USB PnP Sound Device", "Jabra SPEAK 510 USB"),
        service="active",
    )
    assert shown == status_text(facts, 1_795_284_120.0)
