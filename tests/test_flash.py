"""Writing cards: the image, the piano's own settings, the way back, and what is refused."""

from __future__ import annotations

import csv
import json
import lzma
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from device.firstboot.card import make_wifi, parse_card, wpa_psk
from device.flash import command
from device.flash.batch import COLUMNS as RECORD_COLUMNS
from device.flash.batch import FAILED, WRITTEN, Record, cards_in_turn, record_beside
from device.flash.bmap import read_bmap
from device.flash.command import FlashOptions, Written, ask_wishes
from device.flash.disks import Disk, cards, check_disk, find_disk, read_lsblk, system_numbers
from device.flash.image import open_image
from device.flash.personal import read_from
from device.flash.wishes import COLUMNS as TABLE_COLUMNS
from device.flash.wishes import Row, Wishes, read_table
from device.flash.writing import opened, verify, write_card
from edge.dashboard.login import is_kept_text
from edge.errors import DeviceError, InputError, UsageError
from tests.cards import CARD_MEBIBYTES, FAT_MEBIBYTES, MEBIBYTE, make_bmap, make_image
from tests.cards import needs_card_tools as needs
from tests.certificates import Authority

HEAD_BYTES = (1 + FAT_MEBIBYTES) * MEBIBYTE


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    needs()
    path = make_image(tmp_path_factory.mktemp("image") / "sostenuto.img")
    subprocess.run(["xz", "-0", "--keep", path], check=True)
    subprocess.run(["zstd", "-1", "--quiet", path], check=True)
    return path


@pytest.fixture
def mapped(image: Path, tmp_path: Path) -> Path:
    """The packed image with its block map beside it."""
    shutil.copy(image.with_name("sostenuto.img.xz"), tmp_path)
    shutil.copy(make_bmap(image), tmp_path)
    image.with_suffix(".bmap").unlink()
    return tmp_path / "sostenuto.img.xz"


def flash(*arguments: str | Path, fails: int = 0, **environment: str) -> tuple[str, str]:
    command = [sys.executable, "-m", "device", "flash", *map(str, arguments)]
    ran = subprocess.run(
        command,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "COLUMNS": "160"} | environment,
        check=False,
    )
    assert ran.returncode == fails, ran.stderr
    assert "Traceback" not in ran.stderr
    return ran.stdout, ran.stderr


def settings_on(card: Path) -> dict[str, object]:
    held = read_from(card, open_image(card).layout, "sostenuto.toml")
    return tomllib.loads(held.decode())


# -- what lands on the card ------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".img", ".img.xz", ".img.zst"])
def test_all_of_the_image_is_on_the_card(image, tmp_path, ending):
    card = tmp_path / "card.img"
    flash(image.with_name(f"sostenuto{ending}"), card, "--yes")
    held, built = card.read_bytes(), image.read_bytes()
    assert held[HEAD_BYTES:] == built[HEAD_BYTES:]
    assert held[:MEBIBYTE] == built[:MEBIBYTE]
    assert read_from(card, open_image(image).layout, "built.txt") == b"what was built in\n"


def test_with_a_block_map_only_what_is_mapped_is_written(mapped, image, tmp_path):
    card = tmp_path / "card.img"
    card.write_bytes(b"\xa5" * (CARD_MEBIBYTES + 1) * MEBIBYTE)
    printed, _ = flash(mapped, card, "--yes", "--json")
    assert json.loads(printed)["bytes_written"] < HEAD_BYTES + 4 * MEBIBYTE
    held, built = card.read_bytes(), image.read_bytes()
    for each in read_bmap(mapped.with_name("sostenuto.bmap")).ranges:
        start = max(each.start, HEAD_BYTES)
        assert held[start : each.end] == built[start : each.end]
    assert set(held[-2 * MEBIBYTE :]) == {0xA5}


def test_settings_lie_on_the_card_and_nothing_secret_that_need_not(image, tmp_path):
    card = tmp_path / "card.img"
    flash(
        *(image, card, "--yes", "--name", "parlour", "--wifi", "Häuschen", "--country", "de"),
        *("--broker", "mqtts://piano@house.local", "--mic", "USB"),
        SOSTENUTO_WIFI_PASSWORD="a long secret",
        SOSTENUTO_BROKER_PASSWORD="p@ss:word/",
        SOSTENUTO_DASHBOARD_PASSWORD="wohltemperiert",
    )
    said = settings_on(card)
    assert said["device"] == "parlour"
    assert said["mic"] == "USB"
    assert said["broker"] == "mqtts://piano:p%40ss%3Aword%2F@house.local"
    psk = wpa_psk("Häuschen", "a long secret")
    assert said["wifi"] == {"ssid": "Häuschen", "psk": psk, "country": "DE"}
    assert is_kept_text(said["dashboard"]["kept"])
    assert b"a long secret" not in card.read_bytes()
    assert b"wohltemperiert" not in card.read_bytes()


def test_a_wifi_password_is_derived_as_the_standard_says():
    # IEEE 802.11i-2004, H.4.2, first test vector
    assert wpa_psk("IEEE", "password").startswith("f42c6fc52df0ebef9ebb4b90b38a5f90")
    assert make_wifi("x", "ab" * 32).psk == "ab" * 32
    assert make_wifi("x", "only in clear", security="wpa3").psk is None


def test_a_card_that_reads_otherwise_than_written_is_told_with_its_place(image, tmp_path):
    card, loaded = tmp_path / "card.img", open_image(image)
    card.write_bytes(bytes(loaded.image_bytes))
    with opened(card) as handle:
        written = write_card(handle, loaded, lambda head: head)
    verify(card, written)
    place = HEAD_BYTES + 2 * MEBIBYTE + 5
    with card.open("r+b") as file:
        file.seek(place)
        file.write(b"\xff\x00")
    with pytest.raises(DeviceError, match=f"from byte {HEAD_BYTES + 2 * MEBIBYTE} on"):
        verify(card, written)


def test_a_card_that_was_cut_in_writing_has_no_partition_table(image, tmp_path):
    card = tmp_path / "card.img"
    shutil.copy(image, card)
    loaded = open_image(image)

    def pulled_out(count: int) -> None:
        raise DeviceError("pulled out")

    with opened(card) as handle, pytest.raises(DeviceError):
        write_card(handle, loaded, lambda head: head, pulled_out)
    with pytest.raises(InputError, match="partition table"):
        open_image(card)


# -- what is refused -------------------------------------------------------------------------


def test_a_damaged_image_is_refused_and_leaves_no_bootable_card(mapped, tmp_path):
    card = tmp_path / "card.img"
    raw = bytearray(lzma.decompress(mapped.read_bytes()))
    raw[HEAD_BYTES + 9 * 4096] ^= 1
    mapped.write_bytes(lzma.compress(bytes(raw), preset=0))
    _, told = flash(mapped, card, "--yes", fails=InputError.exit_code)
    assert "not those of its block map" in told
    with pytest.raises(InputError):
        open_image(card)


@pytest.mark.parametrize("ending", [".img", ".img.xz", ".img.zst"])
def test_an_image_that_is_cut_short_is_told(image, tmp_path, ending):
    short = tmp_path / f"short{ending}"
    held = image.with_name(f"sostenuto{ending}").read_bytes()
    short.write_bytes(held[: len(held) * 9 // 10])
    _, told = flash(short, tmp_path / "card.img", "--yes", fails=InputError.exit_code)
    assert "cut short" in told


def test_another_image_is_refused(tmp_path):
    needs()
    other = make_image(tmp_path / "other.img")
    with other.open("r+b") as file:
        file.seek(MEBIBYTE + 71)
        file.write(b"BOOT       ")
    _, told = flash(other, tmp_path / "card.img", "--yes", fails=InputError.exit_code)
    assert "'BOOT'" in told
    empty = tmp_path / "empty.img"
    empty.write_bytes(bytes(MEBIBYTE))
    assert "partition table" in flash(empty, tmp_path / "c.img", "--yes", fails=3)[1]


def test_a_card_too_small_is_left_as_it_was(image, tmp_path):
    card = tmp_path / "card.img"
    card.write_bytes(b"precious" * 1000)
    _, told = flash(image, card, "--yes", fails=UsageError.exit_code)
    assert "8000 bytes" in told and str(CARD_MEBIBYTES * MEBIBYTE) in told
    assert card.read_bytes() == b"precious" * 1000


def test_nothing_is_overwritten_without_a_yes(image, tmp_path):
    card = tmp_path / "card.img"
    shutil.copy(image, card)
    before = card.read_bytes()
    _, told = flash(image, card, fails=UsageError.exit_code)
    assert "--yes" in told
    assert card.read_bytes() == before


def test_a_bad_block_map_is_told(mapped, tmp_path):
    bmap = mapped.with_name("sostenuto.bmap")
    good = bmap.read_text()
    for bad in (
        "nothing",
        good.replace("2.0", "1.4"),
        good.replace("<ImageSize> 6", "<ImageSize> 7"),
    ):
        bmap.write_text(bad)
        with pytest.raises(InputError, match=r"block map|checksum"):
            open_image(mapped)


LSBLK = {
    "blockdevices": [
        {
            "name": "sda",
            "path": "/dev/sda",
            "size": 500_107_862_016,
            "model": "Samsung SSD",
            "serial": "S5H",
            "rm": False,
            "hotplug": False,
            "type": "disk",
            "maj:min": "8:0",
            "mountpoints": [None],
            "children": [
                {
                    "name": "sda1",
                    "path": "/dev/sda1",
                    "size": 499_000_000_000,
                    "type": "part",
                    "maj:min": "8:1",
                    "mountpoints": [None],
                    "children": [
                        {
                            "name": "root",
                            "path": "/dev/mapper/root",
                            "size": 499_000_000_000,
                            "type": "crypt",
                            "maj:min": "254:0",
                            "mountpoints": ["/"],
                        }
                    ],
                }
            ],
        },
        {
            "name": "sdb",
            "path": "/dev/sdb",
            "size": 31_914_983_424,
            "model": "MassStorage",
            "vendor": "Generic ",
            "serial": "0416",
            "rm": True,
            "type": "disk",
            "maj:min": "8:16",
            "mountpoints": [None],
            "children": [
                {
                    "name": "sdb1",
                    "path": "/dev/sdb1",
                    "size": 31_000_000_000,
                    "type": "part",
                    "maj:min": "8:17",
                    "mountpoints": ["/media/me/CAMERA"],
                    "fstype": "exfat",
                }
            ],
        },
        {
            "name": "sdc",
            "path": "/dev/sdc",
            "size": 2_000_398_934_016,
            "model": "WD Archive",
            "serial": "WX1",
            "rm": False,
            "hotplug": False,
            "type": "disk",
            "maj:min": "8:32",
            "mountpoints": [None],
        },
        {
            "name": "sdd",
            "path": "/dev/sdd",
            "size": 0,
            "model": "Reader",
            "rm": True,
            "type": "disk",
            "maj:min": "8:48",
            "mountpoints": [None],
        },
    ]
}


def test_the_system_s_disk_is_never_written_whatever_is_said():
    system, *_ = read_lsblk(json.dumps(LSBLK).encode())
    for meant in (None, "S5H", "/dev/sda"):
        with pytest.raises(UsageError, match="runs from it"):
            check_disk(system, frozenset(), meant)
    bare = replace(system, parts=())
    with pytest.raises(UsageError, match="runs from it"):
        check_disk(bare, frozenset({"8:0"}), "S5H")


def test_a_disk_is_refused_that_is_mounted_built_in_empty_or_read_only():
    _, card, archive, empty = read_lsblk(json.dumps(LSBLK).encode())
    with pytest.raises(UsageError, match="umount /dev/sdb1"):
        check_disk(card, frozenset())
    free = replace(card, parts=())
    check_disk(free, frozenset())
    with pytest.raises(UsageError, match="slide"):
        check_disk(replace(free, read_only=True), frozenset())
    with pytest.raises(UsageError, match="--yes-i-mean WX1"):
        check_disk(archive, frozenset(), "/dev/sdc")
    check_disk(archive, frozenset(), "WX1")
    with pytest.raises(UsageError, match="no card in it"):
        check_disk(empty, frozenset())
    mirrored = replace(free, parts=(Disk(Path("/dev/md0"), "raid1", 1),))
    with pytest.raises(UsageError, match="in use by /dev/md0"):
        check_disk(mirrored, frozenset())


def test_only_cards_and_sticks_are_listed():
    disks = read_lsblk(json.dumps(LSBLK).encode())
    assert [str(disk.path) for disk in cards(disks, frozenset())] == ["/dev/sdb", "/dev/sdd"]
    with pytest.raises(UsageError, match=r"only a part \(part\) of /dev/sdb"):
        find_disk(Path("/dev/sdb1"), disks)


def test_this_machine_s_own_disks_can_be_listed_and_none_of_its_system_is_among_them():
    printed, _ = flash("--list", "--json")
    assert isinstance(json.loads(printed), list)
    number = Path("/").stat().st_dev
    assert f"{os.major(number)}:{os.minor(number)}" in system_numbers()


# -- asked one by one ------------------------------------------------------------------------


def test_wishes_are_asked_until_they_are_allowed(monkeypatch, capsys):
    answers = iter(
        *(["parlour!", "parlour", "House", "short", "long enough", "DE", "", "", "1234", ""],)
    )
    console = Console(quiet=True)
    monkeypatch.setattr(console, "input", lambda _: next(answers))
    wishes = ask_wishes(console, lambda _: next(answers))
    assert wishes == Wishes(name="parlour", ssid="House", wifi_password="long enough", country="DE")
    assert "parlour!" in capsys.readouterr().err


@pytest.mark.parametrize(("answer", "security"), [("y", "open"), ("", None)])
def test_an_empty_password_leaves_the_wifi_out_unless_it_is_said_to_be_open(
    monkeypatch, answer, security
):
    answers = iter(["parlour", "House", "", answer, *(["DE"] if answer else []), "", "", ""])
    console = Console(quiet=True)
    monkeypatch.setattr(console, "input", lambda _: next(answers))
    wishes = ask_wishes(console, lambda _: next(answers))
    assert (wishes.ssid, wishes.security) == (("House", "open") if security else (None, None))
    assert wishes.country == ("DE" if security else None)
    assert next(answers, None) is None


def test_a_broker_with_tls_is_asked_for_its_authority(monkeypatch, tmp_path):
    ca = Authority(tmp_path).certificate
    answers = iter(["", "", "mqtts://house", "none.crt", str(ca), "", ""])
    console = Console(quiet=True)
    monkeypatch.setattr(console, "input", lambda _: next(answers))
    wishes = ask_wishes(console, lambda _: next(answers))
    assert wishes == Wishes(broker="mqtts://house", broker_ca=str(ca))


# -- batches ---------------------------------------------------------------------------------

PIANOS = """\
name;ssid;wifi_password;country;broker;broker_user;broker_password;mic
parlour;House;long enough;DE;mqtt://house.local;parlour;first;USB
hall;House;long enough;DE;mqtt://house.local;hall;second;
attic;;;;;;;
"""


@pytest.fixture
def pianos(tmp_path: Path) -> Path:
    path = tmp_path / "pianos.csv"
    path.write_text("\ufeff" + PIANOS.replace("\n", "\r\n"), encoding="utf-8")
    return path


def test_a_table_as_spreadsheets_write_it_becomes_wishes(pianos):
    rows = read_table(pianos)
    assert [row.number for row in rows] == [2, 3, 4]
    card = rows[0].wishes.card()
    assert card.settings["broker"] == "mqtt://parlour:first@house.local"
    assert rows[2].wishes == Wishes(name="attic")


def test_every_fault_of_a_table_is_told_at_once_with_its_row(tmp_path):
    table = tmp_path / "pianos.csv"
    table.write_text(
        "name,ssid,wifi_password,country,broker,dashboard_password\n"
        "parlour,House,short,DE,,\n"
        "Par_lour,,,,ftp://house,\n"
        "hall,House,long enough,Germany,,\n"
        "par-lour,,,,,1234\n"
        ",,,,mqtt://house,\n"
        "attic,House,,,,\n"
        "a,b,c,d,e,f,g\n"
    )
    printed, told = flash("--batch", table, "--dry-run", fails=InputError.exit_code)
    for row, words in (
        (2, "5 characters"),
        (3, "ftp"),
        (4, "two letters"),
        (5, "4 characters"),
        (6, "no name"),
        (7, "no password"),
        (8, "7 cells"),
    ):
        assert any(f"row {row}: " in line and words in line for line in told.splitlines()), row
    assert "rows 3, 5: " in told and "par-lour.local" in told
    assert "8 to mend" in told
    assert printed == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("name,ssdi\nparlour,x\n", "unknown column 'ssdi'"),
        ("ssid\nHouse\n", "no column 'name'"),
        ("name,name\na,b\n", "there twice"),
        ("name\n", "no row below"),
        ('name\n"parlour\n', "no CSV"),
    ],
)
def test_a_table_without_sense_is_told(tmp_path, text, words):
    table = tmp_path / "pianos.csv"
    table.write_text(text)
    with pytest.raises(InputError, match=words):
        read_table(table)


def test_a_batch_that_was_cut_goes_on_and_writes_no_card_twice(image, pianos, tmp_path):
    packed, named = image.with_name("sostenuto.img.zst"), f"{tmp_path}/{{name}}.img"
    (tmp_path / "hall.img").mkdir()  # the second card fails
    _, told = flash(packed, named, "--batch", pianos, "--yes", fails=UsageError.exit_code)
    assert "hall.img" in told
    assert Record(tmp_path / "pianos.written.csv").done() == {"parlour"}
    first = (tmp_path / "parlour.img").stat().st_mtime_ns
    (tmp_path / "hall.img").rmdir()
    flash(packed, named, "--batch", pianos, "--yes")
    assert (tmp_path / "parlour.img").stat().st_mtime_ns == first
    assert settings_on(tmp_path / "hall.img")["broker"] == "mqtt://hall:second@house.local"
    assert settings_on(tmp_path / "attic.img") == {"device": "attic"}
    with (tmp_path / "pianos.written.csv").open() as file:
        told_rows = list(csv.DictReader(file))
    assert tuple(told_rows[0]) == RECORD_COLUMNS
    assert [(line["name"], line["result"]) for line in told_rows] == [
        *(("parlour", WRITTEN), ("hall", WRITTEN), ("attic", WRITTEN)),
    ]
    record = (tmp_path / "pianos.written.csv").read_text()
    assert not any(secret in record for secret in ("first", "second", "long enough"))
    flash(packed, named, "--batch", pianos, "--yes", "--again", "parlour")
    assert (tmp_path / "parlour.img").stat().st_mtime_ns > first


def test_a_batch_asks_before_it_destroys_a_file(image, pianos, tmp_path, monkeypatch):
    hall = tmp_path / "hall.img"
    hall.write_bytes(b"the only copy of something")
    named = f"{tmp_path}/{{name}}.img"
    _, told = flash(image, named, "--batch", pianos, fails=UsageError.exit_code)
    assert f"1 files are there already ({hall}): add --yes if they may be lost" in told
    assert not (tmp_path / "parlour.img").exists(), "nothing is written before the answer"

    asked: list[str] = []
    console = Console(quiet=True)
    monkeypatch.setattr(command.sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr(console, "print", lambda *words: asked.extend(map(str, words)))
    monkeypatch.setattr(console, "input", lambda words: asked.append(words) or "n")
    options = FlashOptions(image=image, target=named, batch=pianos)
    with pytest.raises(UsageError, match="nothing was written"):
        command.run(options, console)
    assert str(hall) in asked and len([a for a in asked if a.endswith("(y/N) ")]) == 1
    assert hall.read_bytes() == b"the only copy of something"


def test_an_authority_s_certificate_comes_along_with_each_card(image, tmp_path):
    ca = Authority(tmp_path).certificate
    (tmp_path / "pianos.csv").write_text(
        f"name,broker,broker_ca\nparlour,mqtts://house.local,{ca.name}\nhall,,\n"
    )
    flash(image, f"{tmp_path}/{{name}}.img", "--batch", tmp_path / "pianos.csv")
    card = tmp_path / "parlour.img"
    named = settings_on(card)["broker_ca"]
    assert read_from(card, open_image(card).layout, str(named)) == ca.read_bytes()
    assert settings_on(tmp_path / "hall.img") == {"device": "hall"}
    one = tmp_path / "one.img"
    flash(image, one, "--yes", "--broker", "wss://house.local", "--broker-ca", ca)
    assert read_from(one, open_image(one).layout, str(settings_on(one)["broker_ca"]))


def test_a_certificate_that_cannot_be_used_is_told_before_any_card_is_written(tmp_path):
    ca = Authority(tmp_path).certificate
    key = ca.with_suffix(".key")
    (tmp_path / "no.crt").write_text("-----BEGIN CERTIFICATE-----\nnone\n")
    (tmp_path / "both.pem").write_bytes(ca.read_bytes() + key.read_bytes())
    for broker, file, words in (
        ("mqtts://house", "none.crt", "No such file"),
        ("mqtts://house", "no.crt", "no certificate in PEM"),
        ("mqtts://house", key.name, "no certificate in PEM"),
        ("mqtts://house", "both.pem", "holds a private key"),
        ("mqtt://house", ca.name, "only a broker at mqtts:// or wss://"),
        (None, ca.name, "only a broker at mqtts:// or wss://"),
    ):
        faults = list(Wishes(broker=broker, broker_ca=str(tmp_path / file)).faults())
        assert len(faults) == 1 and words in faults[0], (file, faults)


def test_the_help_names_every_column_of_a_table():
    told = re.sub(r"[\s│]+", " ", flash("--help")[0])
    assert ", ".join(TABLE_COLUMNS) in told


def test_a_card_that_failed_is_not_done(tmp_path):
    record = record_beside(tmp_path / "pianos.csv")
    row = Row(2, Wishes(name="parlour"))
    record.mark(row, FAILED, card="a card", image="x.img", remark="reads otherwise")
    assert record.done() == frozenset()
    record.mark(row, WRITTEN, card="another", image="x.img")
    assert record.done() == {"parlour"}
    record.path.write_text("name,age\nparlour,3\n")
    with pytest.raises(InputError, match="no record"):
        record.done()


def test_each_card_has_its_turn_once_and_the_reader_must_be_empty_between():
    card = Disk(Path("/dev/sdb"), "disk", 32, serial="1")
    empty, other = replace(card, size_bytes=0), replace(card, serial="2")
    seen = [card, card, empty, card, None, None, card, other, other]
    looks = iter(seen)
    turns = cards_in_turn(lambda: next(looks))
    taken = [next(turns) for _ in seen]
    assert taken == [card, None, None, card, None, None, card, other, None]


def test_a_reader_asks_for_another_card_after_a_bad_one(tmp_path, pianos, image, monkeypatch):
    good = Disk(Path("/dev/none"), "disk", 1 << 30, name="Ultra", serial="1", removable=True)
    small, bad = replace(good, size_bytes=1), replace(good, serial="2")
    mounted = replace(good, serial="3", mounted_at=("/media/CAMERA",))
    free = replace(mounted, mounted_at=())
    others = [replace(good, serial=serial) for serial in "45"]
    seen = [small, small, None, bad, bad, None, mounted, mounted, free]
    looks = iter([*seen, None, others[0], others[0], None, others[1], others[1]])
    told: list[str] = []

    def write(*given):
        disk, name = given[2], given[3]
        if disk.serial == "2":
            raise DeviceError("reads otherwise than written")
        told.append(name)
        return Written(name, "/dev/none", disk.name, 1, 1.0)

    monkeypatch.setattr(command, "_card_in", lambda _: next(looks))
    monkeypatch.setattr(command, "_write", write)
    monkeypatch.setattr(command, "LOOK_S", 0.0)
    console = Console(record=True, width=160, file=(tmp_path / "said").open("w"))
    options = FlashOptions(image=image, target="/dev/none", batch=pianos, yes=True)
    command.run(options, console)
    assert told == ["parlour", "hall", "attic"]
    said = console.export_text()
    assert "take a larger card" in said
    assert "reads otherwise than written" in said
    assert "umount /dev/none" in said
    with (tmp_path / "pianos.written.csv").open() as file:
        results = [(line["name"], line["result"]) for line in csv.DictReader(file)]
    assert results == [
        *(("parlour", FAILED), ("parlour", FAILED), ("parlour", WRITTEN)),
        *(("hall", WRITTEN), ("attic", WRITTEN)),
    ]


def test_what_the_card_says_can_be_read_again():
    wishes = Wishes(name="parlour", ssid='a "quoted" name', wifi_password="12345678", country="de")
    from device.firstboot.card import card_text

    card = wishes.card()
    assert parse_card(card_text(card).replace("\n", "\r\n"), Path("card")) == card


def test_a_card_is_written_within_its_time(image, tmp_path):
    began_s = time.monotonic()
    flash(image, tmp_path / "card.img", "--yes")
    assert time.monotonic() - began_s < 30
