"""A card loses what it was not asked to keep, and nothing else."""

import random
import shutil
import subprocess

import pytest

from device.soak.forgetful_card import SECTOR, ForgetfulCard, Kept


@pytest.fixture
def card(tmp_path):
    path = tmp_path / "card.img"
    path.write_bytes(bytes(64 * SECTOR))
    made = ForgetfulCard(path, tmp_path / "card")
    yield made
    made.close()


def test_what_was_flushed_is_kept_and_what_came_after_is_not(card, tmp_path):
    card.write(0, b"a" * SECTOR)
    card.flush()
    card.write(0, b"b" * SECTOR)
    card.write(SECTOR, b"c" * SECTOR, keep=True)
    assert card.read(0, 1) == b"b"
    lost = card.cut(Kept.NOTHING, random.Random(1))
    assert (lost.writes, lost.sectors, lost.kept) == (1, 1, 0)
    assert card.read(0, 1) == b"a" and card.read(SECTOR, 1) == b"c"
    assert (tmp_path / "card.img").read_bytes()[: 2 * SECTOR] == b"a" * SECTOR + b"c" * SECTOR


def test_of_a_long_write_some_sectors_are_kept(card):
    card.write(0, b"x" * 64 * SECTOR)
    lost = card.cut(Kept.SOME, random.Random(1))
    found = [card.read(at * SECTOR, SECTOR) for at in range(64)]
    assert set(found) == {bytes(SECTOR), b"x" * SECTOR}
    assert lost.kept == found.count(b"x" * SECTOR)


def test_all_is_kept_where_nothing_shall_be_lost(card):
    card.write(0, b"x" * 64 * SECTOR)
    assert card.cut(Kept.ALL, random.Random(1)).kept == 64
    assert card.read(0, 64 * SECTOR) == b"x" * 64 * SECTOR


def test_nothing_is_taken_any_more_from_the_second_write_into_a_part_on(card):
    card.stop_at(range(SECTOR, 2 * SECTOR), 2)
    card.write(SECTOR, b"1" * SECTOR)
    card.write(0, b"1" * SECTOR)
    assert not card.reached.is_set()
    card.write(SECTOR, b"2" * SECTOR)
    card.write(0, b"2" * SECTOR)
    card.flush()
    assert card.reached.is_set()
    card.cut(Kept.ALL, random.Random(1))
    assert card.read(0, 1) == b"1" and card.read(SECTOR, 1) == b"2"


@pytest.mark.skipif(not shutil.which("qemu-io"), reason="qemu-io is not installed")
def test_qemu_writes_flushes_and_reads(card):
    def qemu(*commands: str) -> None:
        words = [word for command in commands for word in ("-c", command)]
        subprocess.run(
            ["qemu-io", "-t", "writeback", "-f", "raw", *words, card.qemu_name], check=True
        )

    qemu("write -P 7 0 4096", "flush", "read -P 7 0 4096")
    card.cut(Kept.NOTHING, random.Random(1))
    assert card.read(0, 4096) == b"\7" * 4096
