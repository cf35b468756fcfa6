"""Which slot starts: a Raspberry Pi's autoboot.txt, GRUB's environment, RAUC's configuration."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from device.update import grub_boot, raspberrypi_boot
from device.update.boot_files import autoboot_txt, grub_cfg, grubenv, system_conf
from device.update.raspberrypi_boot import CARD_VARIABLE, SECTOR, Boot

GOOD_A = Boot("A", "A", frozenset("A"))


@pytest.fixture(params=[32, 16])
def card(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A FAT file system as on the card's first partition, with other files around."""
    if shutil.which("mcopy") is None or shutil.which("mkfs.vfat", path="/usr/sbin:/sbin") is None:
        pytest.skip("mtools and dosfstools are not installed")
    image = tmp_path / "card.fat"
    with image.open("wb") as file:
        file.truncate((40 if request.param == 32 else 20) << 20)
    made = ["mkfs.vfat", "-F", str(request.param), "-n", "SOSTENUTO", str(image)]
    environment = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    subprocess.run(made, check=True, capture_output=True, env=environment)
    # FAT32's root folder is a chain of clusters: push the file beyond the first one.
    for number in range(40):
        (tmp_path / f"a long name {number}.txt").write_text("other")
    (tmp_path / "autoboot.txt").write_bytes(autoboot_txt())
    files = sorted(map(str, tmp_path.glob("*.txt")), key=lambda name: "autoboot" in name)
    subprocess.run(["mcopy", "-i", str(image), *files, "::"], check=True, capture_output=True)
    return image


def ask(card: Path, *words: str) -> str:
    asked = subprocess.run(
        [sys.executable, raspberrypi_boot.__file__, *words],
        env={CARD_VARIABLE: str(card)},
        check=True,
        capture_output=True,
        text=True,
    )
    return asked.stdout.strip()


def autoboot_of(card: Path) -> bytes:
    shown = ["mtype", "-i", str(card), "::autoboot.txt"]
    return subprocess.run(shown, check=True, capture_output=True).stdout


def test_a_sector_says_what_the_firmware_and_rauc_need() -> None:
    for boot in (GOOD_A, Boot("A", "B", frozenset("A")), Boot("B", "B", frozenset("AB"))):
        assert len(boot.to_bytes()) == SECTOR
        assert Boot.from_bytes(boot.to_bytes()) == boot
    assert autoboot_txt().startswith(
        b"[all]\ntryboot_a_b=1\nboot_partition=2\n[tryboot]\nboot_partition=3\n"
    )


def test_a_new_slot_is_tried_first_and_in_force_only_once_it_is_good() -> None:
    tried = GOOD_A.with_state("B", good=False).with_primary("B")
    assert (tried.settled, tried.tried) == ("A", "B")
    assert tried.with_state("B", good=True) == Boot("B", "B", frozenset("AB"))
    assert tried.with_state("B", good=False) == GOOD_A
    assert tried.with_state("A", good=True) == tried, "a look at A settles nothing about B"


def test_rauc_turns_the_slot_by_one_sector_of_the_card(card: Path) -> None:
    before = card.read_bytes()
    assert (ask(card, "get-primary"), ask(card, "get-state", "B")) == ("A", "bad")
    ask(card, "set-state", "B", "bad")
    assert card.read_bytes() == before, "what is so already is not written"
    ask(card, "set-primary", "B")
    assert b"[all]\ntryboot_a_b=1\nboot_partition=2\n" in autoboot_of(card)
    ask(card, "set-state", "B", "good")
    assert b"[all]\ntryboot_a_b=1\nboot_partition=3\n" in autoboot_of(card)
    assert (ask(card, "get-primary"), ask(card, "get-state", "A")) == ("B", "good")
    after = card.read_bytes()
    changed = {
        at // SECTOR
        for at in range(0, len(after), SECTOR)
        if after[at : at + SECTOR] != before[at : at + SECTOR]
    }
    assert len(changed) == 1


@pytest.mark.parametrize("content", [b"", b"x" * 100_000, b"\0" * 510 + b"\x55\xaa"])
def test_a_card_that_is_none_is_an_error_in_one_line(tmp_path: Path, content: bytes) -> None:
    card = tmp_path / "card"
    card.write_bytes(content)
    with pytest.raises(subprocess.CalledProcessError) as failed:
        ask(card, "get-primary")
    assert failed.value.stderr.count("\n") == 1
    assert card.read_bytes() == content


def test_grubs_environment_is_a_block_that_grub_reads(tmp_path: Path) -> None:
    path = tmp_path / "grubenv"
    path.write_bytes(grubenv())
    assert len(grubenv()) == 1024
    if shutil.which("grub-editenv"):
        listed = subprocess.run(
            ["grub-editenv", str(path), "list"], check=True, capture_output=True, text=True
        )
        assert "ORDER=A B" in listed.stdout.splitlines()


def ask_grub(block: Path, *words: str) -> str:
    asked = subprocess.run(
        [sys.executable, grub_boot.__file__, *words],
        env={grub_boot.GRUBENV_VARIABLE: str(block)},
        check=True,
        capture_output=True,
        text=True,
    )
    return asked.stdout.strip()


def test_rauc_turns_grub_s_slot_by_one_sector_and_only_what_settled_stays(tmp_path: Path) -> None:
    block = tmp_path / "grubenv"
    block.write_bytes(grubenv())
    lies = block.stat().st_ino
    assert (ask_grub(block, "get-primary"), ask_grub(block, "get-state", "B")) == ("A", "bad")
    ask_grub(block, "set-state", "B", "bad")
    assert block.read_bytes() == grubenv(), "what is so already is not changed"
    ask_grub(block, "set-primary", "B")
    assert (ask_grub(block, "get-primary"), ask_grub(block, "get-state", "B")) == ("B", "good")
    assert b"ORDER=B A\n" in block.read_bytes() and b"SETTLED=A\n" in block.read_bytes()
    ask_grub(block, "settled", "B")
    assert b"SETTLED=B\n" in block.read_bytes()
    ask_grub(block, "set-state", "B", "bad")
    assert ask_grub(block, "get-primary") == "A"
    assert block.stat().st_ino == lies and block.stat().st_size == 1024
    assert block.read_bytes()[SECTOR:] == grubenv()[SECTOR:]


@pytest.mark.parametrize("content", [b"", b"\0" * 1024, grubenv()[:40].ljust(1024, b"#")])
def test_a_block_that_a_cut_left_empty_is_a_new_card_s(tmp_path: Path, content: bytes) -> None:
    block = tmp_path / "grubenv"
    block.write_bytes(content)
    assert ask_grub(block, "get-primary") == "A"
    ask_grub(block, "set-state", "B", "bad")
    assert block.read_bytes() == grubenv()
    assert grub_boot.from_bytes(content, "B")["SETTLED"] == "B"


def test_what_is_no_question_of_rauc_s_is_an_error_in_one_line(tmp_path: Path) -> None:
    block = tmp_path / "grubenv"
    block.write_bytes(grubenv())
    with pytest.raises(subprocess.CalledProcessError) as failed:
        ask_grub(block, "set-primary", "C")
    assert failed.value.stderr.count("\n") == 1
    assert block.read_bytes() == grubenv()


def test_the_grub_script_is_one_that_grub_understands(tmp_path: Path) -> None:
    text = grub_cfg("1234abcd", "quiet")
    assert "root=PARTUUID=1234abcd-$part ro rauc.slot=$slot quiet" in text
    if shutil.which("grub-script-check"):
        path = tmp_path / "grub.cfg"
        path.write_text(text)
        subprocess.run(["grub-script-check", str(path)], check=True, capture_output=True)


def test_rauc_reads_its_configuration(tmp_path: Path) -> None:
    generic = system_conf("sostenuto-generic-arm64", "1234abcd")
    raspberrypi = system_conf("sostenuto-raspberrypi-arm64", "1234abcd")
    assert "bootloader-custom-backend=/usr/lib/sostenuto/grub-boot\n" in generic
    assert "bootloader-custom-backend=/usr/lib/sostenuto/raspberrypi-boot\n" in raspberrypi
    assert "activate-installed=false\n" in generic
    if shutil.which("rauc") is None:
        pytest.skip("rauc is not installed")
    for text in (generic, raspberrypi):
        path = tmp_path / "system.conf"
        path.write_text(text)
        # `rauc info` reads the configuration first, and fails for want of the bundle after that.
        asked = subprocess.run(
            ["rauc", "--conf", str(path), "info", str(tmp_path / "none")],
            check=False,
            capture_output=True,
            text=True,
        )
        assert "No such file" in asked.stderr, asked.stderr
        assert "system config" not in asked.stderr, asked.stderr
