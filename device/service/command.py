"""`sostenuto-device install` and `uninstall`: what they print."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from device.service.install import STATE, Wish, install, uninstall
from device.service.place import Place, Tell
from edge.cli import console
from edge.errors import UsageError


def run_install(wish: Wish, root: Path, *, dry_run: bool, json: bool) -> None:
    """Install, saying each change before it is made."""
    place = _place(root)
    changed = install(wish, place, dry_run=dry_run, tell=_teller(json, "+"))
    _sum_up(changed, "there already, all of it: nothing to do", dry_run=dry_run, json=json)
    if changed and place.live and not dry_run and not json:
        console.out("installed: systemctl status sostenuto says how it is")


def run_uninstall(root: Path, *, keep_data: bool, dry_run: bool, yes: bool, json: bool) -> None:
    """Take it away, after asking whether the record may go too."""
    place = _place(root)
    if not (keep_data or dry_run or yes) and place.at(STATE).exists():
        if not sys.stdin.isatty():
            raise UsageError(f"{STATE} goes too, with all that was played: --yes or --keep-data")
        console.err(f"{STATE} goes too, with all that was played. Go on? [y/N] ")
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise UsageError("nothing was taken away; --keep-data keeps what was played")
    gone = uninstall(place, keep_data=keep_data, dry_run=dry_run, tell=_teller(json, "-"))
    _sum_up(gone, "nothing of it is here: nothing to do", dry_run=dry_run, json=json)


def _place(root: Path) -> Place:
    if not root.is_dir():
        raise UsageError(f"root {str(root)!r}: no such folder")
    if os.geteuid() != 0:
        raise UsageError("this changes the system: run it as root, with sudo")
    return Place(root.resolve())


def _teller(json: bool, sign: str) -> Tell:
    def tell(change: str) -> None:
        if not json:
            console.out(f"{sign} {change}")

    return tell


def _sum_up(changed: list[str], nothing: str, *, dry_run: bool, json: bool) -> None:
    if json:
        console.out_json({"changed": changed, "dry_run": dry_run})
    elif not changed:
        console.out(nothing)
    elif dry_run:
        console.out("nothing was changed: --dry-run")
