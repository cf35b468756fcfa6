"""`sostenuto-device flash`: what it shows, asks and says; the work is done by its neighbours."""

from __future__ import annotations

import getpass
import json
import stat
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from device.firstboot.card import card_text, host_name
from device.flash import batch
from device.flash.disks import (
    Disk,
    cards,
    check_disk,
    find_disk,
    gigabytes,
    list_disks,
    size_of,
    system_numbers,
)
from device.flash.image import CardImage, open_image
from device.flash.personal import card_file, lay_in, read_from
from device.flash.wishes import Row, Wishes, read_table
from device.flash.writing import check_size, discard, opened, verify, write_card
from device.service.install import DASHBOARD_PORT
from edge.errors import DeviceError, UsageError
from edge.publish.address import BrokerAddress

NAME_MARK = "{name}"
LOOK_S = 1.0
"""How often a reader is looked at for the next card."""

MOST_NAMED = 5
"""So many files are named in one line."""


@dataclass(frozen=True, slots=True)
class FlashOptions:
    """The command line of `flash`, as given."""

    image: Path | None = None
    target: str | None = None
    wishes: Wishes = field(default_factory=Wishes)
    batch: Path | None = None
    record: Path | None = None
    again: tuple[str, ...] = ()
    dry_run: bool = False
    show_list: bool = False
    yes: bool = False
    yes_i_mean: str | None = None
    json: bool = False


@dataclass(frozen=True, slots=True)
class Written:
    """One card that is done."""

    name: str | None
    target: str
    card: str
    bytes_written: int
    seconds: float
    verified: bool = True


def run(options: FlashOptions, console: Console) -> None:
    """Do what the command line says; ``console`` is for people, standard output for ``--json``."""
    if options.show_list:
        _show_cards(options, console)
    elif options.batch is not None:
        _batch(options, console, options.batch)
    else:
        _one(options, console)


# -- one card --------------------------------------------------------------------------------


def _one(options: FlashOptions, console: Console) -> None:
    if options.image is None or options.target is None:
        raise UsageError("flash needs an image and a card: flash sostenuto.img.xz /dev/sdX")
    if options.record is not None or options.again:
        raise UsageError("--record and --again go with --batch; leave them out")
    image = open_image(options.image)
    target = Path(options.target)
    disk = _look_at(target, image, options)
    wishes = options.wishes
    if wishes == Wishes() and sys.stdin.isatty() and not options.yes:
        wishes = ask_wishes(console)
    files = _files(wishes)
    if options.dry_run:
        _tell(console, options, f"nothing written: {target} and all settings are as they must be")
        return
    if not options.yes:
        _confirm(target, disk, console)
    written = _write(image, target, disk, wishes.name, files, console)
    _report(written, options, console)


def _look_at(target: Path, image: CardImage, options: FlashOptions) -> Disk | None:
    """The disk at ``target``; None where it is a regular file that stands for a card."""
    if not target.exists():
        if target.is_relative_to("/dev"):
            raise UsageError(f"{target}: no disk; `sostenuto-device flash --list` shows the cards")
        if not target.parent.is_dir():
            raise UsageError(f"{target}: there is no folder {target.parent}; make it first")
        return None
    mode = target.stat().st_mode
    if stat.S_ISREG(mode):
        if options.image is not None and target.samefile(options.image):
            raise UsageError(f"{target}: is the image itself; give a card")
        check_size(target, target.stat().st_size, image)
        return None
    if not stat.S_ISBLK(mode):
        raise UsageError(f"{target}: neither a disk nor a file; give a card")
    disk = find_disk(target, list_disks())
    check_disk(disk, system_numbers(), options.yes_i_mean)
    check_size(target, disk.size_bytes, image)
    return disk


def _confirm(target: Path, disk: Disk | None, console: Console) -> None:
    """Show what will be lost, and ask.

    Raises
    ------
    UsageError
        No, or nobody is there to ask.
    """
    if disk is None and not target.exists():
        return
    if disk is None:
        console.print(f"[bold]{escape(str(target))}[/]: a file of {gigabytes(size_of(target))}")
    else:
        console.print(_disks_table((disk,)))
    if not sys.stdin.isatty():
        raise UsageError("nobody is here to say yes: add --yes if all on it may be lost")
    console.print("[bold red]All that is on it will be lost.[/]")
    if console.input("Write it? (y/N) ").strip().lower() not in ("y", "yes"):
        raise UsageError("nothing was written")


def _files(wishes: Wishes) -> dict[str, bytes]:
    """What is laid into the card for one piano, by name."""
    return card_file(card_text(wishes.card())) | wishes.files()


def _write(
    image: CardImage,
    target: Path,
    disk: Disk | None,
    name: str | None,
    files: dict[str, bytes],
    console: Console,
) -> Written:
    """Write and read back one card."""
    began_s = time.monotonic()
    if disk is None and not target.exists():
        with target.open("xb") as file:
            file.truncate(image.image_bytes)

    def personal(head: bytes) -> bytes:
        return lay_in(head, image.layout, files)

    with ExitStack() as stack:
        progress = stack.enter_context(_progress(console))
        writing = progress.add_task("writing", total=image.written_bytes)
        card = stack.enter_context(opened(target))
        if disk is not None:
            discard(card, disk.size_bytes)
        written = write_card(card, image, personal, lambda n: progress.advance(writing, n))
        total = sum(stretch.length for stretch in written)
        reading = progress.add_task("reading back", total=total)
        verify(target, written, lambda n: progress.advance(reading, n))
    for file_name, held in files.items():
        if read_from(target, image.layout, file_name) != held:
            raise DeviceError(f"{target}: {file_name} reads otherwise than written; take another")
    where = str(target) if disk is None else f"{disk.name} {disk.serial}".strip() or str(target)
    return Written(name, str(target), where, total, round(time.monotonic() - began_s, 1))


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description:<12}"),
        BarColumn(bar_width=None),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
        expand=True,
    )


def _report(written: Written, options: FlashOptions, console: Console) -> None:
    if options.json:
        sys.stdout.write(json.dumps(asdict(written)) + "\n")
        sys.stdout.flush()
        return
    name = written.name or "the card"
    console.print(
        f"[bold green]{escape(name)}[/]: {gigabytes(written.bytes_written)} written to "
        f"{escape(written.target)} and read back in {written.seconds:.0f} s"
    )
    if written.name is not None:
        where = f"http://{host_name(written.name)}.local:{DASHBOARD_PORT}/"
        console.print(f"Put it into the board and switch on; two minutes later: {where}")


def _tell(console: Console, options: FlashOptions, line: str) -> None:
    if not options.json:
        console.print(escape(line))


def ask_wishes(console: Console, secret: Callable[[str], str] = getpass.getpass) -> Wishes:
    """What one piano is to be, asked one by one; an empty answer leaves a thing out.

    Parameters
    ----------
    secret : callable
        Asks for a password.
    """
    console.print("An empty answer leaves a thing out.")
    name = _asked("name of the piano", console.input, lambda given: Wishes(name=given))
    ssid = console.input("Wi-Fi, its name: ").strip()
    password = security = country = None
    if ssid:
        password = _asked(
            "Wi-Fi password", secret, lambda given: Wishes(ssid=ssid, wifi_password=given)
        )
    if ssid and password is None:
        answer = console.input("Is it open, a network without a password? (y/N) ")
        if answer.strip().lower() in ("y", "yes"):
            security = "open"
        else:
            console.print("Wi-Fi without its password is left out.")
            ssid = ""
    if ssid:
        country = _asked(
            "country (two letters)",
            console.input,
            lambda given: Wishes(
                ssid=ssid, wifi_password=password, security=security, country=given
            ),
        )
    broker = _asked(
        "broker, as mqtt://user@host", console.input, lambda given: Wishes(broker=given)
    )
    broker_password = secret("the broker's password: ") if broker and "@" in broker else None
    broker_ca = None
    if broker and BrokerAddress.parse(broker).tls:
        broker_ca = _asked(
            "its authority's certificate, a file, if it is your own",
            console.input,
            lambda given: Wishes(broker=broker, broker_ca=given),
        )
    mic = _asked("microphone, a part of its name", console.input, lambda given: Wishes(mic=given))
    dashboard = _asked(
        "password of the settings' page", secret, lambda given: Wishes(dashboard_password=given)
    )
    return Wishes(
        name=name,
        ssid=ssid or None,
        wifi_password=password,
        country=country,
        security=security,
        broker=broker,
        broker_password=broker_password or None,
        broker_ca=broker_ca,
        mic=mic,
        dashboard_password=dashboard,
    )


def _asked(what: str, ask: Callable[[str], str], would_be: Callable[[str], Wishes]) -> str | None:
    """An answer that is allowed, asked again until it is; None for an empty one."""
    while True:
        given = ask(f"{what}: ").strip()
        if not given:
            return None
        fault = next(would_be(given).faults(), None)
        if fault is None:
            return given
        sys.stderr.write(f"{fault}\n")


# -- a batch ---------------------------------------------------------------------------------


def _batch(options: FlashOptions, console: Console, table: Path) -> None:
    if options.wishes != Wishes():
        raise UsageError(f"with --batch all settings stand in {table}; leave the options out")
    rows = read_table(table)
    record = batch.Record(options.record) if options.record else batch.record_beside(table)
    unknown = set(options.again) - {row.wishes.name for row in rows}
    if unknown:
        raise UsageError(f"--again {min(unknown)}: no such name in {table}")
    done = record.done() - set(options.again)
    left = [row for row in rows if row.wishes.name not in done]
    _tell(console, options, f"{table}: {len(rows)} pianos, {len(rows) - len(left)} done before")
    if options.dry_run:
        return
    if options.image is None or options.target is None:
        raise UsageError("flash needs an image and a card: flash sostenuto.img.xz /dev/sdX")
    image = open_image(options.image)
    if NAME_MARK in options.target:
        there = [str(file) for row in left if (file := _file_for(row, options.target)).exists()]
        if there and not options.yes:
            _confirm_files(there, console)
        for row in left:
            _file_of_batch(row, options, image, record, console)
    else:
        _reader(options, console, image, left, record)
    _tell(console, options, f"all {len(rows)} done; {record.path} tells of each")


def _file_for(row: Row, named: str) -> Path:
    return Path(named.replace(NAME_MARK, row.wishes.name or ""))


def _confirm_files(there: list[str], console: Console) -> None:
    """Name the files of a batch that will be written anew, left by one that was cut or not.

    Raises
    ------
    UsageError
        No, or nobody is there to ask.
    """
    if not sys.stdin.isatty():
        raise UsageError(
            f"{len(there)} files are there already ({', '.join(there[:MOST_NAMED])}"
            f"{', …' if len(there) > MOST_NAMED else ''}): add --yes if they may be lost"
        )
    console.print(escape("\n".join(there)))
    console.print("[bold red]These files are there already, and will be lost.[/]")
    if console.input("Write them anew? (y/N) ").strip().lower() not in ("y", "yes"):
        raise UsageError("nothing was written")


def _file_of_batch(
    row: Row, options: FlashOptions, image: CardImage, record: batch.Record, console: Console
) -> None:
    """A file for one piano, for factories that write cards by a machine of their own."""
    assert options.target is not None
    target = _file_for(row, options.target)
    if target.exists() and not stat.S_ISREG(target.stat().st_mode):
        raise UsageError(f"{target}: no file; {NAME_MARK} is for files")
    target.unlink(missing_ok=True)  # left over by a batch that was cut, or written again
    _look_at(target, image, options)
    written = _write(image, target, None, row.wishes.name, _files(row.wishes), console)
    record.mark(row, batch.WRITTEN, card=written.card, image=image.path.name)
    _report(written, options, console)


def _reader(
    options: FlashOptions,
    console: Console,
    image: CardImage,
    left: list[Row],
    record: batch.Record,
) -> None:
    """Card after card through the reader at the target."""
    target = Path(options.target or "")
    if target.exists() and not stat.S_ISBLK(target.stat().st_mode):
        raise UsageError(f"{target}: for a batch into files write {NAME_MARK} into their name")
    if left and not options.yes:
        if not sys.stdin.isatty():
            raise UsageError("nobody is here to say yes: add --yes if all cards may be lost")
        console.print(f"[bold red]Every card that is put into {target} will lose all it holds.[/]")
        if console.input("Go on? (y/N) ").strip().lower() not in ("y", "yes"):
            raise UsageError("nothing was written")
    arriving = batch.cards_in_turn(lambda: _card_in(target))
    for number, row in enumerate(left, 1):
        name = row.wishes.name or ""
        console.rule(f"{number} of {len(left)}: {escape(name)}")
        files = _files(row.wishes)
        while True:
            console.print(f"Put the card for [bold]{escape(name)}[/] into {target} …")
            while (disk := next(arriving)) is None:
                time.sleep(LOOK_S)
            try:
                _wait_until_free(disk, options, image, console)
                written = _write(image, target, disk, name, files, console)
            except DeviceError as error:
                record.mark(
                    row, batch.FAILED, card=disk.in_words, image=image.path.name, remark=str(error)
                )
                console.print(f"[bold red]{escape(str(error))}[/]")
                continue
            break
        record.mark(row, batch.WRITTEN, card=written.card, image=image.path.name)
        _report(written, options, console)
        console.print(f"Take it out and write [bold]{escape(name)}[/] on it.\a")


def _card_in(target: Path) -> Disk | None:
    """What is in the reader now."""
    try:
        return find_disk(target, list_disks()) if target.exists() else None
    except UsageError:
        return None


def _wait_until_free(disk: Disk, options: FlashOptions, image: CardImage, console: Console) -> None:
    """Come back when the card may be written: a desktop mounts what it sees, a slide is shut.

    Raises
    ------
    DeviceError
        The card is too small, or gone.
    """
    told = ""
    while True:
        now = _card_in(disk.path)
        if now is None or now.size_bytes != disk.size_bytes:
            raise DeviceError(f"{disk.path}: the card was taken out")
        if now.size_bytes < image.image_bytes:
            raise DeviceError(
                f"{disk.path}: {gigabytes(now.size_bytes)}, and the image needs "
                f"{gigabytes(image.image_bytes)}; take a larger card"
            )
        try:
            check_disk(now, system_numbers(), options.yes_i_mean)
            return
        except UsageError as error:
            if str(error) != told:
                told = str(error)
                console.print(escape(told))
            time.sleep(LOOK_S)


# -- which cards there are -------------------------------------------------------------------


def _show_cards(options: FlashOptions, console: Console) -> None:
    found = cards(list_disks(), system_numbers())
    if options.json:
        listed = [
            {
                "path": str(disk.path),
                "name": disk.name,
                "serial": disk.serial,
                "bytes": disk.size_bytes,
                "mounted_at": [place for part in disk.everything() for place in part.mounted_at],
            }
            for disk in found
        ]
        sys.stdout.write(json.dumps(listed) + "\n")
    elif found:
        console.print(_disks_table(found))
    else:
        console.print("no card or stick is plugged in")


def _disks_table(disks: tuple[Disk, ...]) -> Table:
    table = Table("", "card", "size", "serial number", "what is on it", box=None, pad_edge=False)
    for disk in disks:
        size = gigabytes(disk.size_bytes) if disk.size_bytes else "no card in it"
        parts = [
            f"{part.path.name} {part.label} {gigabytes(part.size_bytes)}"
            + (f", mounted at {' '.join(part.mounted_at)}" if part.mounted_at else "")
            for part in disk.everything()
            if part is not disk or disk.label or disk.mounted_at
        ]
        holds = "\n".join(parts) or "nothing"
        cells = (str(disk.path), disk.name or "–", size, disk.serial or "–", holds)
        table.add_row(*(escape(cell) for cell in cells))
    return table


def terminal() -> Console:
    """The console for people: standard error, so that standard output is for programs."""
    return Console(stderr=True, highlight=False)
