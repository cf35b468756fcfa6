"""A piano's updates on a Debian that is booted for it: by its own commands, with its own ear.

The same container as in `device.soak.service_life`, with microphone, broker, subscriber. Models
come first, then software: one that is good, one whose ear hears nothing, one whose service does not
start, and two more during which the power is cut, right after the new one went live. Every figure
is seen from outside: where the links point, what arrives at the broker.

Needs what `service_life` needs, and rauc, squashfs-tools and openssl.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

from device.soak.service_life import (
    Container,
    Microphone,
    Subscriber,
    all_wheels,
    install_twice,
    prepare,
    root_file_system,
    say,
    wait_for,
)
from device.soak.update_bench import Maker
from device.update.bundle import Bundle, Kind
from device.update.place import default_board
from edge.errors import DeviceError
from edge.resources import shipped_dir, software_version

CACHE = Path(".cache/update-life")
COMMAND = ("/usr/local/bin/sostenuto-device", "update")
OURS = software_version()

UPDATE_S = 900.0
"""The longest that an update may take here: three minutes of waiting for a service, twice."""

SILENT = {"edge/cli/listen.py": "\n\ndef run(*_: object) -> int:\n    raise SystemExit(1)\n"}
DEAF = {
    "device/selftest/command.py": "\n\ndef run(*_: object, **__: object) -> int:\n    return 1\n"
}

Change = Mapping[str, str]
"""What is added to the end of a module."""


def renumbered(wheel: Path, version: str, folder: Path, change: Change) -> None:
    """The same wheel as another version, with something added to a module, in ``folder``."""
    old, new = f"sostenuto-{OURS}.dist-info", f"sostenuto-{version}.dist-info"
    target = folder / f"sostenuto-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as made:
        for name in source.namelist():
            content = source.read(name)
            if name == f"{old}/METADATA":
                content = content.replace(
                    f"\nVersion: {OURS}".encode(), f"\nVersion: {version}".encode()
                )
            if name == f"{old}/RECORD":
                content = content.replace(old.encode(), new.encode())
            made.writestr(name.replace(old, new), content + change.get(name, "").encode())


class Piano:
    """One device from outside."""

    def __init__(self, root: Path, binds: dict[Path, str]) -> None:
        self.root, self._binds = root, binds
        self.container = Container(root, binds)
        self.subscriber: Subscriber | None = None

    def watch(self) -> None:
        """Look at what it publishes."""
        self.subscriber = Subscriber(self.container)

    @property
    def events(self) -> list[str]:
        assert self.subscriber is not None
        return [str(event["kind"]) for event in self.subscriber.events]

    def hears(self) -> float:
        """Wait for the next note; the seconds it took."""
        assert self.subscriber is not None
        heard = self.subscriber.notes
        return wait_for(lambda: self.subscriber.notes > heard, "a note")  # type: ignore[union-attr]

    def cut_off(self) -> None:
        """The power goes, and comes again."""
        assert self.subscriber is not None
        os.kill(self.container.init, signal.SIGKILL)
        self.container._nspawn.wait(60.0)
        self.subscriber.close()
        self.container = Container(self.root, self._binds)
        self.watch()

    def link(self, name: str) -> str:
        """Where a link of the software's points."""
        path = self.root / "opt/sostenuto/software" / name
        return str(path.readlink()) if path.is_symlink() else "nowhere"

    def close(self) -> None:
        """Switch it off."""
        if self.subscriber is not None:
            self.subscriber.close()
        self.container.close()


def apply(piano: Piano, bundle: Bundle, what: str, *, event: str) -> None:
    """Apply a bundle; what was said, how long it took, what was told, when it hears again."""
    began_s, told = time.monotonic(), len(piano.events)
    said = piano.container.run(*COMMAND, "apply", f"/mnt/bundles/{bundle.path.name}", check=False)
    took_s = time.monotonic() - began_s
    wait_for(lambda: event in piano.events[told:], f"{event} at the broker")
    say(what, f"{took_s:.0f} s: {said.strip().splitlines()[-1]}")
    say("", f"{event} at the broker; a note after {piano.hears():.1f} s")


def apply_and_cut(piano: Piano, bundle: Bundle, what: str, *, event: str) -> None:
    """Apply software; the power is cut right after its link was turned."""
    words = [
        *("nsenter", "--target", str(piano.container.init), "--all", "--", *COMMAND),
        *("apply", f"/mnt/bundles/{bundle.path.name}"),
    ]
    applying = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: piano.link("current") == bundle.version, "the link to be turned", UPDATE_S)
    began_s = time.monotonic()
    piano.cut_off()
    applying.wait(10.0)
    wait_for(lambda: event in piano.events, f"{event} at the broker", UPDATE_S)
    say(what, f"{event} {time.monotonic() - began_s:.0f} s after the cut")
    say("", f"a note after {piano.hears():.1f} s")


def links(piano: Piano, current: str, settled: str) -> bool:
    """Whether the links point as they should."""
    found = piano.link("current"), piano.link("settled")
    say("in force, settled", ", ".join(found))
    return found == (current, settled)


def trial(piano: Piano, pack: Callable[[str, Change], Bundle], models: Bundle) -> bool:
    """The whole life; whether everything pointed where it should."""
    good = True
    apply(piano, models, "models", event="update_committed")
    first, deaf, silent, cut, cut_silent = (f"{OURS}.{n}" for n in (11, 12, 13, 14, 15))
    apply(piano, pack(first, {}), "good software", event="update_committed")
    good &= links(piano, first, first)
    apply(piano, pack(deaf, DEAF), "software that does not hear", event="update_refused")
    good &= links(piano, first, first)
    silence = pack(silent, SILENT)
    apply(piano, silence, "software whose service does not start", event="update_rolled_back")
    good &= links(piano, first, first)
    apply_and_cut(piano, pack(cut, {}), "good software, cut off", event="update_committed")
    good &= links(piano, cut, cut)
    silence = pack(cut_silent, SILENT)
    apply_and_cut(piano, silence, "silent software, cut off", event="update_rolled_back")
    good &= links(piano, cut, cut)
    return good


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--suite", default="bookworm", help="Debian's: bookworm or trixie.")
    parser.add_argument("--python", default="3.11", help="That of the suite.")
    parser.add_argument("--mirror", help="Debian's mirror.  [default: deb.debian.org]")
    options = parser.parse_args()
    root, sound = (CACHE / "root").resolve(), (CACHE / "sound").resolve()
    bundles = (CACHE / "bundles").resolve()
    shutil.rmtree(bundles, ignore_errors=True)
    bundles.mkdir(parents=True)
    root_file_system(options.suite, options.mirror, root)
    wheels = CACHE / "wheels"
    shutil.rmtree(wheels, ignore_errors=True)
    shutil.copytree(all_wheels(options.python), wheels)
    prepare(root, sound)
    maker = Maker(bundles / "keys")
    (root / "etc/rauc").mkdir(exist_ok=True)
    shutil.copy(maker.keyring, root / "etc/rauc/keyring.pem")
    board = default_board(Path("/nowhere"))

    def pack(version: str, change: Change) -> Bundle:
        source = bundles / f"wheels-{version}"
        shutil.copytree(wheels, source)
        (own,) = source.glob("sostenuto-*.whl")
        renumbered(own, version, source, change)
        own.unlink()
        made = maker.pack(
            Kind.SOFTWARE, version, source, board=board, name=f"../{version}.sostenuto"
        )
        shutil.rmtree(source)
        return made

    models = maker.pack(Kind.MODELS, f"{OURS}.90", shipped_dir(), name="../models.sostenuto")
    microphone = Microphone(sound)
    piano = None
    try:
        binds = {wheels.resolve(): "/mnt/wheels", sound: str(sound), bundles: "/mnt/bundles"}
        piano = Piano(root, binds)
        install_twice(piano.container)
        piano.watch()
        say("first note after", f"{piano.hears():.1f} s")
        good = trial(piano, pack, models)
        print(piano.container.run(*COMMAND, "status"))
    except (DeviceError, subprocess.SubprocessError) as error:
        sys.stderr.write(f"{error}\n")
        if piano is not None:
            journal = ("journalctl", "-q", "-o", "cat", "-n", "30", "-u", "sostenuto*")
            sys.stderr.write(piano.container.run(*journal, check=False) + "\n")
        return 1
    finally:
        microphone.close()
        if piano is not None:
            piano.close()
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
