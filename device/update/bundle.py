"""A bundle: a signed file with one update in it, made on a workstation, believed by a device.

The form is RAUC's, ``verity``: a squashfs, the tree of its checksums, and a CMS signature over the
manifest that holds the tree's root. So one signature covers every byte, it can be checked without
a loop device, and a device with slots can mount what it installs. What RAUC's manifest has no word
for stands in its ``description``, as JSON: `Label`. Every file but the manifest has its sha256 in
``CONTENT``, whose own sha256 stands on the label, and what was unpacked is checked against it.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import struct
import subprocess
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import msgspec

from device.sums import sha256
from edge.errors import InputError, UsageError
from edge.resources import CATALOGUE, MODELS, NEEDS_FILE, version_numbers

CONTENT_FILE = "CONTENT"
MANIFEST_FILE = "manifest.raucm"
KEYRING_FILE = "keyring.pem"
"""In a bundle of software: the keys that the device shall believe from now on."""

ANY_BOARD = "sostenuto"
"""The board of what fits every device: note models and catalogues."""

SYSTEM_IMAGES = {"boot": "boot.img", "rootfs": "rootfs.img"}
"""RAUC's slot classes, and the files of a system bundle."""

ENVIRONMENT_GROWS = 1.6
"""A wheel laid out with its byte code needs so much more than its files: 1.5 measured on ours."""

_LEAST_PAYLOAD_BYTES = 8192
_PAD_FILE = "PADDING"
_MOST_CONTENT_BYTES = 16 << 20


class Kind(StrEnum):
    """What a bundle changes."""

    SYSTEM = "system"
    SOFTWARE = "software"
    MODELS = MODELS
    CATALOG = CATALOGUE


PARCELS = (Kind.MODELS, Kind.CATALOG)


class BadBundleError(InputError):
    """What a believed bundle holds is at fault; tried again, it would fail again."""


class Label(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is written on a bundle, besides RAUC's version and compatible.

    Attributes
    ----------
    kind : Kind
    needs : str
        Oldest version of the software that can use it.
    unpacked_bytes : int
        Room that it takes on the device.
    content_sha256 : str
        Of the file ``CONTENT``.
    images : dict
        For a system, the size in bytes of each slot's image.
    """

    kind: Kind
    needs: str
    unpacked_bytes: int
    content_sha256: str
    images: dict[str, int] = {}


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle whose signature was found good."""

    path: Path
    version: str
    board: str
    label: Label

    @property
    def kind(self) -> Kind:
        return self.label.kind

    def __str__(self) -> str:
        return f"{self.kind} {self.version}"


# -- making ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Packing:
    """What is to be packed, and by whom it is signed."""

    kind: Kind
    version: str
    source: Path
    key: Path
    certificate: Path
    needs: str = "0"
    board: str = ANY_BOARD
    keyring: Path | None = None


def pack(packing: Packing, target: Path) -> Bundle:
    """Write the bundle ``target``; it is read back and verified against its own signer.

    Raises
    ------
    UsageError
        A version, folder, key or file that cannot be used; or rauc is not installed.
    """
    for name, text in (("version", packing.version), ("needs", packing.needs)):
        if version_numbers(text) is None:
            raise UsageError(f"{name} {text!r}: give one to four numbers with dots, as 0.2.0.1")
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", packing.board):
        raise UsageError(f"board {packing.board!r}: letters, digits, dots and dashes are allowed")
    for path in (packing.key, packing.certificate):
        if not path.is_file():
            raise UsageError(
                f"{path}: no such file; `sostenuto-device update key DIR` makes key and certificate"
            )
    if not packing.source.is_dir():
        raise UsageError(f"{packing.source}: no such folder")
    check_content(packing)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".sostenuto-pack-", dir=target.parent) as name:
        folder = Path(name) / "content"
        _lay_out(packing, folder)
        label = Label(
            packing.kind,
            packing.needs,
            _room(packing, folder),
            _write_content(folder),
            {c: (folder / f).stat().st_size for c, f in SYSTEM_IMAGES.items()}
            if packing.kind is Kind.SYSTEM
            else {},
        )
        (folder / MANIFEST_FILE).write_text(_manifest(packing, label), encoding="utf-8")
        made = Path(name) / "bundle"
        ran = rauc(
            *("--cert", packing.certificate, "--key", packing.key),
            *("--keyring", _chain(packing.certificate, Path(name))),
            *("bundle", "--mksquashfs-args=-comp zstd -all-root", folder, made),
        )
        if ran.returncode != 0:
            raise UsageError(f"{target}: rauc cannot make it: {last_words(ran)}")
        made.replace(target)
    return Bundle(target, packing.version, packing.board, label)


def check_content(packing: Packing) -> None:
    """Refuse a folder that a device could not use."""
    from edge.matching import Catalogue

    source, kind = packing.source, packing.kind
    strange = [p for p in source.rglob("*") if p.is_symlink() or not (p.is_file() or p.is_dir())]
    if strange:
        raise UsageError(f"{strange[0]}: only files and folders can be packed")
    if kind is Kind.SYSTEM:
        for name in SYSTEM_IMAGES.values():
            if not (source / name).is_file():
                raise UsageError(f"{source} has no {name}; `sostenuto-device image build` makes it")
        if packing.board == ANY_BOARD:
            raise UsageError("a system fits one board: name it, as --board sostenuto-generic-arm64")
    elif kind is Kind.SOFTWARE:
        own = sorted(source.glob("sostenuto-*.whl"))
        if [wheel.name.split("-")[1] for wheel in own] != [packing.version]:
            found = ", ".join(wheel.name for wheel in own) or "none"
            raise UsageError(
                f"{source}: one wheel sostenuto-{packing.version}-… needed, has {found}"
            )
    elif kind is Kind.MODELS:
        from edge.ear import DEFAULT_MODEL
        from edge.manifest import read_manifest, read_model_file

        for manifest in sorted(source.glob("*.json")):
            read_model_file(read_manifest(manifest), source)
        if not (source / f"{DEFAULT_MODEL}.json").is_file():
            raise UsageError(
                f"{source} has no {DEFAULT_MODEL}.json; models are packed together, and "
                f"{DEFAULT_MODEL} is the one that a device asks for"
            )
    else:
        Catalogue.open(source)


def _lay_out(packing: Packing, folder: Path) -> None:
    """The files as they will lie on the device; models without the folders beside them."""
    folder.mkdir()
    suffixes = {
        Kind.SYSTEM: (".img",),
        Kind.SOFTWARE: (".whl",),
        Kind.MODELS: (".tflite", ".json", ".md"),
        Kind.CATALOG: ("",),
    }
    for path in sorted(packing.source.glob("[!.]*")):
        if path.is_file() and path.name.endswith(suffixes[packing.kind]):
            shutil.copyfile(path, folder / path.name)
        elif packing.kind is Kind.CATALOG:
            shutil.copytree(path, folder / path.name)
    (folder / NEEDS_FILE).write_text(f"{packing.needs}\n", encoding="ascii")
    if packing.keyring is not None:
        shutil.copyfile(packing.keyring, folder / KEYRING_FILE)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if size < _LEAST_PAYLOAD_BYTES:  # RAUC makes no bundle of a single block
        (folder / _PAD_FILE).write_bytes(os.urandom(_LEAST_PAYLOAD_BYTES))


def _room(packing: Packing, folder: Path) -> int:
    """Bytes that the update takes on the device, whole blocks; of software, laid out too."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    size = sum(-(-path.stat().st_size // 4096) * 4096 for path in files)
    if packing.kind is Kind.SOFTWARE:
        for wheel in folder.glob("*.whl"):
            with zipfile.ZipFile(wheel) as laid:
                inside = sum(each.file_size for each in laid.infolist())
            size += round(inside * ENVIRONMENT_GROWS)
    return size


def _write_content(folder: Path) -> str:
    """Write ``CONTENT`` as sha256sum would; returns its own sha256."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = [f"{sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
    content = "".join(lines).encode()
    (folder / CONTENT_FILE).write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def _manifest(packing: Packing, label: Label) -> str:
    lines = [
        "[update]",
        f"compatible={packing.board}",
        f"version={packing.version}",
        f"description={msgspec.json.encode(label).decode()}",
        "",
        "[bundle]",
        "format=verity",
    ]
    if label.kind is Kind.SYSTEM:
        for slot, file in SYSTEM_IMAGES.items():
            lines += ["", f"[image.{slot}]", f"filename={file}"]
    return "\n".join(lines) + "\n"


def _chain(certificate: Path, folder: Path) -> Path:
    """The authority beside a certificate, as `update key` lays it; else the certificate itself."""
    beside = certificate.with_name("keyring.pem")
    if beside.is_file():
        return beside
    copy = folder / "signer.pem"
    shutil.copyfile(certificate, copy)
    return copy


# -- believing -------------------------------------------------------------------------------


def read_bundle(path: Path, keyring: Path) -> Bundle:
    """Verify a bundle's signature and read its label; nothing is unpacked.

    Raises
    ------
    InputError
        It is no bundle, cut short, unsigned, or signed by a key that the device does not believe.
    """
    again = "get it again from its maker"
    if not keyring.is_file():
        raise InputError(
            f"{path.name}: this device believes no key yet ({keyring} is missing); put the "
            "maker's keyring.pem there"
        )
    _check_form(path)
    ran = rauc("--keyring", keyring, "info", "--output-format=json", path)
    if ran.returncode != 0:
        words = last_words(ran)
        if "signature verification failed" in words.lower():
            raise InputError(
                f"{path.name}: signed by a key that this device does not believe "
                f"({keyring} says which; {words}); {again}"
            )
        raise InputError(f"{path.name}: damaged, or not signed ({words}); {again}")
    try:
        told = msgspec.json.decode(ran.stdout, type=_Told)
        label = msgspec.json.decode(told.description or "", type=Label)
    except msgspec.DecodeError:
        raise InputError(
            f"{path.name}: signed, but no update of Sostenuto; `sostenuto-device update pack` "
            "makes one"
        ) from None
    for text in (told.version, label.needs):
        if version_numbers(text) is None:
            raise InputError(f"{path.name}: version {text!r}; one to four numbers are allowed")
    return Bundle(path, told.version, told.compatible, label)


def unpack(bundle: Bundle, keyring: Path, folder: Path) -> None:
    """Lay a bundle's files into ``folder``, which must not be there, and check every one.

    Raises
    ------
    BadBundleError
        The content does not fit the signature or the list of its files.
    OSError
        There is no room for it.
    """
    ran = rauc("--keyring", keyring, "extract", bundle.path, folder)
    if ran.returncode != 0:
        check_room(ran, folder)
        raise BadBundleError(
            f"{bundle.path.name}: cannot be unpacked ({last_words(ran)}); "
            "get it again from its maker"
        )
    check_files(bundle, folder)
    for path in (folder, *folder.rglob("*")):  # the service is another user than who unpacks
        path.chmod(0o755 if path.is_dir() else 0o644)


def check_files(bundle: Bundle, folder: Path) -> None:
    """Every file that is listed is there as listed, and no other."""
    name = bundle.path.name

    def refuse(what: str) -> BadBundleError:
        return BadBundleError(f"{name}: {what}; get it again from its maker")

    list_file = folder / CONTENT_FILE
    if list_file.is_symlink() or not list_file.is_file():
        raise refuse(f"has no list of its files ({CONTENT_FILE})")
    if list_file.stat().st_size > _MOST_CONTENT_BYTES:
        raise refuse(f"its list of files has more than {_MOST_CONTENT_BYTES} bytes")
    content = list_file.read_bytes()
    if hashlib.sha256(content).hexdigest() != bundle.label.content_sha256:
        raise refuse("its list of files is not the one that was signed")
    fault = fault_in(folder)
    if fault is not None:
        raise refuse(fault)


def fault_in(folder: Path) -> str | None:
    """What is not as the list of files in ``folder`` says; None where everything is."""
    try:
        content = (folder / CONTENT_FILE).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return f"has no list of its files ({CONTENT_FILE})"
    lines = [line.partition("  ") for line in content.splitlines()]
    listed = {inside: sum_ for sum_, _, inside in lines}
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_dir() or path.is_file()):
            return f"{inside} is neither a file nor a folder"
        if path.is_file() and inside not in (CONTENT_FILE, MANIFEST_FILE):
            wanted = listed.pop(inside, None)
            if wanted is None:
                return f"{inside} is not in the list of its files"
            if sha256(path) != wanted:
                return f"{inside} is not as listed"
    return f"{min(listed)} is missing" if listed else None


class _Told(msgspec.Struct, frozen=True):
    """What `rauc info` says of a bundle."""

    compatible: str
    version: str
    description: str | None = None


def _check_form(path: Path) -> None:
    """Tell a file that is cut short or unsigned from one that is signed by a stranger.

    A squashfs says how long it is; after it come the checksums, the signature, and the signature's
    length in eight bytes, most significant first.
    """
    again = "get it again from its maker"
    try:
        with path.open("rb") as file:
            start = file.read(96)
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 8))
            end = file.read(8)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    if len(start) < 96 or start[:4] != b"hsqs":
        raise InputError(f"{path.name}: no bundle ({size} bytes that begin otherwise); {again}")
    (payload,) = struct.unpack_from("<Q", start, 40)
    if size < payload:
        raise InputError(f"{path.name}: cut short, {size} of at least {payload} bytes; {again}")
    (signature,) = struct.unpack(">Q", end)
    padded = -(-payload // 4096) * 4096
    if size <= padded:
        raise InputError(f"{path.name}: not signed; only signed bundles are taken: {again}")
    if not 0 < signature <= size - padded - 8:
        raise InputError(f"{path.name}: cut short, or not signed: it does not end in one; {again}")


def rauc(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run RAUC's program, which every Debian has."""
    program = shutil.which("rauc")
    if program is None or shutil.which("unsquashfs") is None:
        raise UsageError("bundles need two programs: apt-get install rauc squashfs-tools")
    return run_program((program, *map(str, words)))


def run_program(
    words: Sequence[str], timeout_s: float | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program, in English, and keep what it says."""
    return subprocess.run(
        list(words),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        env={**os.environ, "LC_ALL": "C.UTF-8"},
        timeout=timeout_s,
        check=False,
    )


def check_room(ran: subprocess.CompletedProcess[str], folder: Path) -> None:
    """Raise the OSError of a full disk where that is what a program failed of."""
    full = os.strerror(errno.ENOSPC)
    if full in ran.stderr or full in ran.stdout:
        raise OSError(errno.ENOSPC, full, str(folder))


def last_words(ran: subprocess.CompletedProcess[str]) -> str:
    """The last line that a program said before it failed."""
    lines = [line.strip() for line in ran.stderr.splitlines() if line.strip()]
    return lines[-1] if lines else f"exit code {ran.returncode}"
