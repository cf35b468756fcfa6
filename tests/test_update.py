"""Updates on a device: what is refused and why, what is in force after, and what leads back.

The bundles are RAUC's own, made and verified by it; what stands in is the service, which is a list
of answers, and where the ear itself is not what a test is about, its self-test.
"""

from __future__ import annotations

import errno
import hashlib
import lzma
import os
import shutil
import struct
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest

from device import app as device_app
from device.image.assemble import put_together
from device.image.partitions import Sizes, lay_out
from device.soak import update_cuts
from device.soak.update_bench import (
    MISSING,
    Maker,
    Service,
    device_at,
    install_software,
    lay_software,
    wheels_of,
)
from device.update import bundle as bundle_module
from device.update import grub_boot, system
from device.update import software as software_module
from device.update.apply import apply, roll_back, settle
from device.update.boot_files import grubenv, system_conf
from device.update.bundle import Bundle, Kind, read_bundle, unpack
from device.update.command import run_pack
from device.update.durable import pointed_at, turn
from device.update.failed import all_failed
from device.update.keys import AUTHORITY_KEY, make_keys
from device.update.outcome import Outcome, Result, Trial, last, mark, trial_of
from device.update.place import SPARE_BYTES, Place, fits
from device.update.stick import apply_from, disk_of
from edge.ear import DEFAULT_MODEL
from edge.errors import DeviceError, InputError, UsageError
from edge.messages import EventKind
from edge.publish.notices import take
from edge.resources import PARCELS_VARIABLE, models_dir, shipped_dir, software_version

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")

OURS = software_version()
NEXT = f"{OURS}.1"
LATER = f"{OURS}.2"


@pytest.fixture(scope="module")
def maker(tmp_path_factory: pytest.TempPathFactory) -> Maker:
    return Maker(tmp_path_factory.mktemp("maker"))


@pytest.fixture(scope="module")
def models(maker: Maker) -> Bundle:
    return maker.pack(Kind.MODELS, NEXT, shipped_dir())


@pytest.fixture(scope="module")
def later(maker: Maker) -> Bundle:
    return maker.pack(Kind.MODELS, LATER, shipped_dir())


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def device(tmp_path: Path, maker: Maker, service: Service) -> Place:
    return device_at(tmp_path / "device", maker.keyring, service=service)


def told(device: Place) -> list[tuple[str, str]]:
    return [(message.kind, message.text) for message in take(device.state)]


def everything(device: Place) -> dict[str, bytes | str]:
    """What lies on a device, to see that nothing was touched; without what it was told."""
    return {
        str(path): str(path.readlink()) if path.is_symlink() else path.read_bytes()
        for folder in (device.parcels, device.software)
        for path in sorted(folder.rglob("*"))
        if (path.is_file() or path.is_symlink())
        and path.name not in (".lock", "last.json", "failed.json")
    }


def whole(device: Place) -> dict[str, bytes | str]:
    """All that lies on a device, with what it was told and remembers."""
    kept = {str(p): p.read_bytes() for p in device.parcels.glob("*.json")}
    return everything(device) | kept


@contextmanager
def untouched(device: Place) -> Iterator[None]:
    """The piano listens on meanwhile: nobody stops its ear, and what it hears with is the same."""
    service = device.service
    assert isinstance(service, Service)
    before = everything(device), service.restarts, list(service.reboots)
    yield
    assert (everything(device), service.restarts, service.reboots) == before
    assert trial_of(device) is None


# -- keys ------------------------------------------------------------------------------------


def test_certificates_count_from_1970_until_9999(maker: Maker) -> None:
    for certificate in (maker.keyring, maker.certificate):
        shown = subprocess.run(
            ["openssl", "x509", "-in", str(certificate), "-noout", "-dates"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        assert "notBefore=Jan  1 00:00:00 1970 GMT" in shown
        assert "notAfter=Dec 31 23:59:59 9999 GMT" in shown
    for second in (0, 60 * 365 * 86400):  # 1970, and when Python's own 32 bits are over
        subprocess.run(
            [
                "openssl",
                "verify",
                "-attime",
                str(second),
                "-CAfile",
                str(maker.keyring),
                str(maker.certificate),
            ],
            check=True,
            capture_output=True,
        )


def test_keys_are_their_owners_alone_and_are_never_overwritten(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    key, _ = make_keys(folder, "one")
    authority = (folder / AUTHORITY_KEY).read_bytes()
    for path in (key, folder / AUTHORITY_KEY):
        assert path.stat().st_mode & 0o077 == 0
    with pytest.raises(UsageError, match="is there already and stays"):
        make_keys(folder, "one")
    make_keys(folder, "two")
    assert (folder / AUTHORITY_KEY).read_bytes() == authority
    with pytest.raises(UsageError, match="letters, digits"):
        make_keys(folder, "../three")


# -- what is refused -------------------------------------------------------------------------


def changed(bundle: Bundle, tmp_path: Path, name: str, change: str) -> Path:
    content = bundle.path.read_bytes()
    (payload,) = struct.unpack_from("<Q", content, 40)
    padded = -(-payload // 4096) * 4096
    content = {
        "unsigned": content[:padded],
        "cut in the files": content[: payload // 2],
        "cut in the checksums": content[: padded + 2048],
        "cut in the signature": content[:-200],
        "without its last byte": content[:-1],
        "empty": b"",
        "something else": b"RIFF" + content[4:],
        "signed, then changed": content[:9000] + b"x" + content[9001:],
    }[change]
    path = tmp_path / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("unsigned", "not signed; only signed bundles are taken"),
        ("cut in the files", "cut short, [0-9]+ of at least [0-9]+ bytes"),
        ("cut in the checksums", "cut short, or not signed"),
        ("cut in the signature", "cut short, or not signed"),
        ("without its last byte", "cut short, or not signed"),
        ("empty", r"no bundle \(0 bytes"),
        ("something else", "no bundle"),
        ("signed, then changed", "cannot be unpacked .*corrupted"),
    ],
)
def test_a_bundle_that_is_not_whole_is_refused(
    models: Bundle, device: Place, tmp_path: Path, change: str, why: str
) -> None:
    path = changed(models, tmp_path, "odd.sostenuto", change)
    before = everything(device)
    with pytest.raises(InputError, match=f"odd.sostenuto: {why}.*get it again"):
        apply(str(path), device)
    assert everything(device) == before
    ((kind, text),) = told(device)
    assert kind == EventKind.UPDATE_REFUSED
    outcome = last(device)
    assert outcome is not None
    assert (outcome.result, outcome.text) == (Result.REFUSED, text)


def test_a_bundle_signed_by_another_key_is_refused(device: Place, tmp_path: Path) -> None:
    stranger = Maker(tmp_path / "stranger").pack(Kind.MODELS, NEXT, shipped_dir())
    with pytest.raises(InputError, match="signed by a key that this device does not believe"):
        apply(str(stranger.path), device)


def test_a_device_without_a_key_ring_believes_nobody(models: Bundle, tmp_path: Path) -> None:
    device = device_at(tmp_path / "device", tmp_path / "none.pem")
    with pytest.raises(InputError, match=r"believes no key yet \(.*none.pem is missing\)"):
        apply(str(models.path), device)


def test_a_signed_bundle_of_somebody_elses_is_no_update(maker: Maker, tmp_path: Path) -> None:
    folder, bundle = tmp_path / "content", tmp_path / "foreign.raucb"
    folder.mkdir()
    (folder / "file").write_bytes(os.urandom(20_000))
    (folder / "manifest.raucm").write_text(
        "[update]\ncompatible=sostenuto\nversion=1\n\n[bundle]\nformat=verity\n"
    )
    subprocess.run(
        [
            "rauc",
            "--cert",
            str(maker.certificate),
            "--key",
            str(maker.key),
            "--keyring",
            str(maker.keyring),
            "bundle",
            str(folder),
            str(bundle),
        ],
        check=True,
        capture_output=True,
    )
    with pytest.raises(InputError, match="signed, but no update of Sostenuto"):
        read_bundle(bundle, maker.keyring)


def test_a_bundle_for_another_board_is_refused(maker: Maker, device: Place) -> None:
    other = maker.pack(Kind.MODELS, NEXT, shipped_dir(), board="sostenuto-organ", name="organ")
    with pytest.raises(InputError, match="made for sostenuto-organ; this device is sostenuto-deb"):
        apply(str(other.path), device)


def test_an_older_version_needs_consent(models: Bundle, later: Bundle, device: Place) -> None:
    assert apply(str(later.path), device).result is Result.COMMITTED
    with pytest.raises(InputError, match=f"models {NEXT}, older than {LATER}.*--allow-downgrade"):
        apply(str(models.path), device)
    assert device.version_of(Kind.MODELS) == LATER
    assert apply(str(models.path), device, allow_downgrade=True).result is Result.COMMITTED
    assert device.version_of(Kind.MODELS) == NEXT


@pytest.fixture(scope="module")
def newest(maker: Maker) -> Bundle:
    return maker.pack(Kind.MODELS, f"{OURS}.3", shipped_dir(), name="newest.sostenuto")


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("unsigned", "not signed"),
        ("signed by another key", "signed by a key that this device does not believe"),
        ("cut short", "cut short"),
        ("damaged", "cannot be unpacked"),
        ("for another board", "made for sostenuto-organ"),
        ("older", "older than"),
        ("for newer software", "needs software 99.0"),
        ("too large", "bytes of room"),
    ],
)
def test_whatever_is_refused_the_piano_listens_on_with_what_it_had(
    models: Bundle,
    later: Bundle,
    newest: Bundle,
    maker: Maker,
    device: Place,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    why: str,
) -> None:
    apply(str(later.path), device)
    version = newest.version
    if what == "signed by another key":
        path = Maker(tmp_path / "stranger").pack(Kind.MODELS, version, shipped_dir()).path
    elif what == "for another board":
        path = maker.pack(Kind.MODELS, version, shipped_dir(), board="sostenuto-organ", name=what)
        path = path.path
    elif what == "for newer software":
        path = maker.pack(Kind.MODELS, "99.0.1", shipped_dir(), needs="99.0", name=what).path
    elif what == "older":
        path = models.path
    elif what == "too large":
        path = newest.path
        monkeypatch.setattr(Place, "free_bytes", lambda *_: newest.label.unpacked_bytes)
    else:
        change = {"cut short": "cut in the files", "damaged": "signed, then changed"}
        path = changed(newest, tmp_path, "odd.sostenuto", change.get(what, what))
    with untouched(device), pytest.raises(InputError, match=why):
        apply(str(path), device)
    parcel = device.parcels / "models" / LATER
    for file in shipped_dir().glob("*.tflite"):
        assert (parcel / file.name).read_bytes() == file.read_bytes()


def test_models_for_newer_software_are_refused(maker: Maker, device: Place) -> None:
    bundle = maker.pack(Kind.MODELS, "99.0.1", shipped_dir(), needs="99.0", name="future")
    with pytest.raises(InputError, match=f"needs software 99.0 or newer; this device has {OURS}"):
        apply(str(bundle.path), device)


def test_a_parcel_that_would_not_be_used_is_refused(maker: Maker, device: Place) -> None:
    bundle = maker.pack(Kind.MODELS, OURS, shipped_dir())
    with pytest.raises(InputError, match=f"would not be used.*pack it as {OURS}.1 or newer"):
        apply(str(bundle.path), device)


def test_a_bundle_larger_than_the_disk_is_refused(
    models: Bundle, device: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = models.label.unpacked_bytes + models.path.stat().st_size + SPARE_BYTES
    monkeypatch.setattr(Place, "free_bytes", lambda *_: needed - 1)
    with pytest.raises(
        InputError, match=f"needs {needed:,} bytes of room.*{needed - 1:,} are free"
    ):
        apply(str(models.path), device)
    monkeypatch.setattr(Place, "free_bytes", lambda *_: needed)
    fits(models, device)


def test_kinds_that_a_device_has_no_place_for_are_refused(maker: Maker, tmp_path: Path) -> None:
    debian = device_at(tmp_path / "debian", maker.keyring)
    card = device_at(
        tmp_path / "card", maker.keyring, slots="[system]\ncompatible=sostenuto-card\n"
    )
    images = tmp_path / "images"
    images.mkdir()
    for name in ("boot.img", "rootfs.img"):
        (images / name).write_bytes(os.urandom(8192))
    whole = maker.pack(Kind.SYSTEM, "9.0", images, board=debian.boards[-1])
    with pytest.raises(InputError, match="a whole system, and this device has no slots"):
        apply(str(whole.path), debian)
    alone = maker.pack(
        Kind.SOFTWARE, "9.0", wheels_of(tmp_path / "w", "9.0"), board="sostenuto-card"
    )
    with pytest.raises(InputError, match="here it is part of the system"):
        apply(str(alone.path), card)


def test_only_one_update_at_a_time_and_only_in_a_folder_of_ones_own(
    models: Bundle, device: Place, tmp_path: Path
) -> None:
    with device.alone(), pytest.raises(DeviceError, match="another update is under way"):
        apply(str(models.path), device)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    shutil.rmtree(device.parcels)
    device.parcels.symlink_to(foreign)
    with pytest.raises(DeviceError, match="is a link"):
        apply(str(models.path), device)
    assert not list(foreign.iterdir())


# -- parcels ---------------------------------------------------------------------------------


def test_models_that_hear_are_in_force_and_told(
    models: Bundle, device: Place, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = apply(str(models.path), device)
    assert (outcome.result, outcome.before) == (Result.COMMITTED, OURS)
    assert service.restarts == 1
    assert told(device) == [
        (EventKind.UPDATE_COMMITTED, f"models {NEXT} is in force, after {OURS}")
    ]
    monkeypatch.setenv(PARCELS_VARIABLE, str(device.parcels))
    assert models_dir() == device.parcels / "models" / NEXT
    for path in shipped_dir().glob("*.tflite"):
        assert (models_dir() / path.name).read_bytes() == path.read_bytes()
    assert apply(str(models.path), device).result is Result.ALREADY
    assert service.restarts == 1


def test_whoever_the_service_is_may_read_a_parcel(
    maker: Maker, device: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = os.umask(0o077)
    try:
        bundle = maker.pack(Kind.MODELS, NEXT, shipped_dir(), name="private.sostenuto")
        apply(str(bundle.path), device)
    finally:
        os.umask(before)
    for path in (device.parcels / "models", *(device.parcels / "models").rglob("*")):
        if not path.is_symlink():
            assert path.stat().st_mode & 0o555 == (0o555 if path.is_dir() else 0o444), path


@pytest.mark.slow
def test_the_ear_itself_judges_new_models(maker: Maker, tmp_path: Path) -> None:
    device = device_at(tmp_path / "device", maker.keyring, self_test=())
    deaf = tmp_path / "deaf"
    deaf.mkdir()
    for path in shipped_dir().glob(f"{DEFAULT_MODEL}.*"):
        shutil.copy(path, deaf)
    tflite, described = deaf / f"{DEFAULT_MODEL}.tflite", deaf / f"{DEFAULT_MODEL}.json"
    weights = bytearray(tflite.read_bytes())
    for at in range(40_000, 140_000, 7):
        weights[at] ^= 0x55
    tflite.write_bytes(weights)
    manifest = msgspec.json.decode(described.read_bytes())
    manifest["sha256"] = hashlib.sha256(weights).hexdigest()
    described.write_bytes(msgspec.json.encode(manifest))
    bundle = maker.pack(Kind.MODELS, NEXT, deaf, name="deaf.sostenuto")
    with pytest.raises(InputError, match=f"with it, the self-test failed: .*{OURS} stays in force"):
        apply(str(bundle.path), device)
    assert device.version_of(Kind.MODELS) == OURS
    assert not [p for p in (device.parcels / "models").iterdir() if p.is_dir()]


def test_models_that_do_not_hear_change_nothing(
    models: Bundle, later: Bundle, maker: Maker, tmp_path: Path, service: Service
) -> None:
    device = device_at(tmp_path / "device", maker.keyring, service=service)
    apply(str(models.path), device)
    told(device)
    deaf = device_at(tmp_path / "device", maker.keyring, self_test=("false",), service=service)
    before = everything(device)
    with pytest.raises(InputError, match=f"models {LATER}: with it, the self-test failed"):
        apply(str(later.path), deaf)
    assert everything(device) == before
    assert service.restarts == 1
    assert [kind for kind, _ in told(device)] == [EventKind.UPDATE_REFUSED]


def test_models_with_which_the_service_does_not_start_go_back(
    models: Bundle, later: Bundle, device: Place, service: Service
) -> None:
    apply(str(models.path), device)
    told(device)
    service.answers = [False]
    outcome = apply(str(later.path), device)
    assert outcome.result is Result.ROLLED_BACK
    assert not outcome.good
    assert device.version_of(Kind.MODELS) == NEXT
    assert service.restarts == 3
    assert [kind for kind, _ in told(device)] == [EventKind.UPDATE_ROLLED_BACK]


def test_going_back_leads_to_the_parcel_before_and_then_to_the_softwares_own(
    models: Bundle, later: Bundle, device: Place
) -> None:
    apply(str(models.path), device)
    apply(str(later.path), device)
    assert roll_back(None, device).version == NEXT
    assert device.version_of(Kind.MODELS) == NEXT
    assert roll_back(Kind.MODELS, device).version == OURS
    assert device.version_of(Kind.MODELS) == OURS
    with pytest.raises(UsageError, match="no models were ever updated here"):
        roll_back(Kind.MODELS, device)


def test_only_two_parcels_are_kept(maker: Maker, device: Place) -> None:
    for number in range(1, 5):
        bundle = maker.pack(Kind.MODELS, f"{OURS}.{number}", shipped_dir())
        apply(str(bundle.path), device)
    apply(str(maker.pack(Kind.MODELS, f"{OURS}.5", shipped_dir()).path), device)
    names = sorted(p.name for p in (device.parcels / "models").iterdir())
    assert names == [f"{OURS}.3", f"{OURS}.4", f"{OURS}.5", "current", "previous"]


def test_a_parcel_that_the_card_damaged_is_laid_anew(models: Bundle, device: Place) -> None:
    apply(str(models.path), device)
    weights = device.parcels / "models" / NEXT / "compressed.tflite"
    weights.write_bytes(b"\0" * 1000)
    assert apply(str(models.path), device).result is Result.COMMITTED
    assert weights.read_bytes() == (shipped_dir() / "compressed.tflite").read_bytes()


def test_another_content_needs_another_version(
    models: Bundle, maker: Maker, device: Place, tmp_path: Path
) -> None:
    apply(str(models.path), device)
    folder = tmp_path / "other"
    folder.mkdir()
    for path in shipped_dir().glob(f"{DEFAULT_MODEL}.*"):
        shutil.copy(path, folder)
    (folder / f"{DEFAULT_MODEL}.md").write_text("other words")
    bundle = maker.pack(Kind.MODELS, NEXT, folder, name="other.sostenuto")
    with pytest.raises(InputError, match=r"another models .* is in force already"):
        apply(str(bundle.path), device)


def test_a_catalogue_comes_the_same_way(
    maker: Maker, device: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edge.matching import Catalogue, default_catalogue_dir

    bundle = maker.pack(Kind.CATALOG, NEXT, shipped_dir() / "catalogue")
    assert apply(str(bundle.path), device).result is Result.COMMITTED
    monkeypatch.setenv(PARCELS_VARIABLE, str(device.parcels))
    assert default_catalogue_dir() == device.parcels / "catalog" / NEXT
    assert len(Catalogue.open(default_catalogue_dir())) > 0


# -- from the network and from a stick -------------------------------------------------------


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder; of ``/short/…`` it says more bytes than it sends."""

    def do_GET(self) -> None:
        if not self.path.startswith("/short/"):
            super().do_GET()
            return
        content = (Path(self.directory) / self.path.removeprefix("/short/")).read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(maker: Maker) -> Iterator[str]:
    serving = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(maker.folder)))
    thread = threading.Thread(target=serving.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{serving.server_address[1]}"
    serving.shutdown()
    serving.server_close()
    thread.join()


def test_a_bundle_comes_over_the_network(models: Bundle, device: Place, server: str) -> None:
    came: list[int] = []
    url = f"{server}/{models.path.name}"
    assert apply(url, device, told=lambda n, _: came.append(n)).result is Result.COMMITTED
    assert came[-1] == models.path.stat().st_size
    assert not (device.parcels / ".fetched").exists()


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("none.sostenuto", "404"),
        ("short/{bundle}", "cut short, [0-9,]+ of [0-9,]+ bytes came"),
    ],
)
def test_what_does_not_come_whole_is_refused(
    models: Bundle, device: Place, server: str, address: str, why: str
) -> None:
    before = everything(device)
    with pytest.raises(InputError, match=why):
        apply(f"{server}/{address.format(bundle=models.path.name)}", device)
    assert everything(device) == before


def test_of_a_stick_the_newest_that_fits_is_applied_and_the_rest_refused(
    models: Bundle, later: Bundle, device: Place, tmp_path: Path
) -> None:
    stick = tmp_path / "stick"
    (stick / "below").mkdir(parents=True)
    shutil.copy(models.path, stick / "a.sostenuto")
    shutil.copy(later.path, stick / "b.raucb")
    shutil.copy(models.path, stick / "holiday.jpg")
    shutil.copy(models.path, stick / "below" / "c.sostenuto")
    changed(models, stick, "d.sostenuto", "unsigned")
    outcomes = apply_from(stick, device)
    assert [(o.result, o.version) for o in outcomes] == [
        (Result.REFUSED, None),
        (Result.COMMITTED, LATER),
    ]
    assert [kind for kind, _ in told(device)] == [
        EventKind.UPDATE_REFUSED,
        EventKind.UPDATE_COMMITTED,
    ]
    (stick / "d.sostenuto").unlink()
    assert apply_from(stick, device) == [], "a stick may stay in the device"


def test_a_stick_with_an_older_version_changes_nothing(
    models: Bundle, later: Bundle, device: Place, tmp_path: Path
) -> None:
    apply(str(later.path), device)
    stick = tmp_path / "stick"
    stick.mkdir()
    shutil.copy(models.path, stick)
    (outcome,) = apply_from(stick, device)
    assert outcome.result is Result.REFUSED
    assert "older than" in outcome.text
    assert device.version_of(Kind.MODELS) == LATER


def test_models_that_failed_are_not_tried_again_from_a_stick(
    models: Bundle, later: Bundle, device: Place, service: Service, tmp_path: Path
) -> None:
    stick = tmp_path / "stick"
    stick.mkdir()
    shutil.copy(later.path, stick / "b.sostenuto")
    service.answers = [False]
    assert [o.result for o in apply_from(stick, device)] == [Result.ROLLED_BACK]
    shutil.copy(models.path, stick / "a.sostenuto")
    outcomes = apply_from(stick, device)
    assert [o.result for o in outcomes] == [Result.PASSED_OVER, Result.COMMITTED]
    assert "the service was not ready with it; it is passed over" in outcomes[0].text
    assert device.version_of(Kind.MODELS) == NEXT, "an older one that fits is applied all the same"
    assert apply(str(later.path), device).result is Result.COMMITTED, "asked for, it is tried"
    assert all_failed(device) == ()


def test_models_that_do_not_hear_are_tried_once_from_a_stick(
    models: Bundle, maker: Maker, service: Service, tmp_path: Path
) -> None:
    deaf = device_at(tmp_path / "device", maker.keyring, self_test=("false",), service=service)
    stick = tmp_path / "stick"
    stick.mkdir()
    copy = Path(shutil.copy(models.path, stick))
    assert [o.result for o in apply_from(stick, deaf)] == [Result.REFUSED]
    told(deaf)
    before = whole(deaf)
    (outcome,) = apply_from(stick, deaf)
    assert (outcome.result, outcome.good) == (Result.PASSED_OVER, True)
    assert whole(deaf) == before and told(deaf) == [] and service.restarts == 0
    copy.unlink()
    damaged = changed(models, stick, "damaged.sostenuto", "signed, then changed")
    assert [o.result for o in apply_from(stick, deaf)] == [Result.REFUSED]
    assert [o.result for o in apply_from(stick, deaf)] == [Result.PASSED_OVER]
    damaged.unlink()
    hears = device_at(tmp_path / "device", maker.keyring, service=service)
    assert apply(str(models.path), hears).result is Result.COMMITTED


def test_what_does_not_fit_now_may_fit_later_and_is_not_remembered(
    models: Bundle, device: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stick = tmp_path / "stick"
    stick.mkdir()
    shutil.copy(models.path, stick)
    monkeypatch.setattr(Place, "free_bytes", lambda *_: 0)
    for _ in range(3):
        assert [o.result for o in apply_from(stick, device)] == [Result.REFUSED]
    monkeypatch.undo()
    assert [o.result for o in apply_from(stick, device)] == [Result.COMMITTED]


def test_a_partition_belongs_to_its_disk(tmp_path: Path) -> None:
    disk = tmp_path / "devices" / "usb" / "sda"
    (disk / "sda1").mkdir(parents=True)
    (disk / "sda1" / "partition").write_text("1")
    names = tmp_path / "class" / "block"
    names.mkdir(parents=True)
    (names / "sda").symlink_to(disk)
    (names / "sda1").symlink_to(disk / "sda1")
    assert disk_of(Path("/dev/sda1"), tmp_path) == disk_of(Path("/dev/sda"), tmp_path) == "sda"


# -- software --------------------------------------------------------------------------------


def software(
    maker: Maker, tmp_path: Path, device: Place, version: str, *, hears: bool = True
) -> Bundle:
    wheels = wheels_of(tmp_path / f"wheels-{version}", version, hears=hears)
    return maker.pack(
        Kind.SOFTWARE, version, wheels, board=device.boards[-1], name=f"s-{version}-{hears}"
    )


@pytest.fixture
def debian(tmp_path: Path, maker: Maker, service: Service) -> Place:
    """A device with software in use, whose self-tests are those of the software itself."""
    place = device_at(tmp_path / "debian", maker.keyring, service=service, self_test=())
    install_software(place, "1.0")
    return place


@pytest.mark.slow
def test_software_is_laid_out_proves_itself_and_is_in_force(
    maker: Maker, tmp_path: Path, debian: Place, service: Service
) -> None:
    bundle = software(maker, tmp_path, debian, "1.1")
    outcome = apply(str(bundle.path), debian)
    assert (outcome.result, outcome.version, outcome.before) == (Result.COMMITTED, "1.1", "1.0")
    links = {
        name: pointed_at(debian.software / name) for name in ("current", "settled", "previous")
    }
    assert links == {"current": "1.1", "settled": "1.1", "previous": "1.0"}
    assert service.restarts == 1
    ran = subprocess.run([debian.software / "current" / "bin" / "sostenuto-device"], check=False)
    assert ran.returncode == 0
    assert apply(str(bundle.path), debian).result is Result.ALREADY
    assert told(debian) == [(EventKind.UPDATE_COMMITTED, "software 1.1 is in force, after 1.0")]
    assert roll_back(Kind.SOFTWARE, debian).version == "1.0"
    assert pointed_at(debian.software / "current") == "1.0"
    assert pointed_at(debian.software / "previous") == "1.1"


@pytest.mark.slow
def test_software_that_does_not_hear_is_never_started(
    maker: Maker, tmp_path: Path, debian: Place, service: Service
) -> None:
    before = everything(debian)
    with pytest.raises(InputError, match=r"software 1\.2: the self-test failed.*1\.0 stays"):
        apply(str(software(maker, tmp_path, debian, "1.2", hears=False).path), debian)
    assert everything(debian) == before
    assert service.restarts == 0


@pytest.mark.slow
def test_software_without_its_wheels_is_refused(
    maker: Maker, tmp_path: Path, debian: Place
) -> None:
    wheels = wheels_of(tmp_path / "wheels", "1.3")
    wheel = next(wheels.glob("*.whl"))
    with zipfile.ZipFile(wheel) as old:
        inside = {name: old.read(name) for name in old.namelist()}
    inside["sostenuto-1.3.dist-info/METADATA"] += b"Requires-Dist: usearch>=99\n"
    with zipfile.ZipFile(wheel, "w") as new:
        for name, content in inside.items():
            new.writestr(name, content)
    bundle = maker.pack(Kind.SOFTWARE, "1.3", wheels, board=debian.boards[-1])
    with pytest.raises(InputError, match=r"cannot be laid out here: .*usearch.*every wheel"):
        apply(str(bundle.path), debian)
    assert pointed_at(debian.software / "current") == "1.0"


def on_trial(place: Place, version: str, *, hears: bool = True, starts: int = 0) -> None:
    lay_software(place, version, hears=hears)
    turn(place.software / "settled", "1.0")
    mark(Trial(Kind.SOFTWARE, version, version, "1.0", starts), place)
    turn(place.software / "current", version)


def ended(place: Place) -> tuple[Result, str | None]:
    outcome = settle(place)
    assert isinstance(outcome, Outcome)
    assert trial_of(place) is None
    return outcome.result, pointed_at(place.software / "current")


def test_software_on_trial_settles_at_the_next_start(debian: Place) -> None:
    on_trial(debian, "1.1")
    assert ended(debian) == (Result.COMMITTED, "1.1")
    assert settle(debian) is None


def test_software_that_was_not_ready_goes_back(debian: Place, service: Service) -> None:
    on_trial(debian, "1.1")
    service.answers = [False]
    assert ended(debian) == (Result.ROLLED_BACK, "1.0")
    assert service.restarts == 1
    ((kind, text),) = told(debian)
    assert (kind, text) == (
        EventKind.UPDATE_ROLLED_BACK,
        "software 1.1: was not ready in time; back to 1.0",
    )


def test_software_that_does_not_stay_ready_goes_back(debian: Place, service: Service) -> None:
    on_trial(debian, "1.1")
    service.answers = [True, False]
    assert ended(debian) == (Result.ROLLED_BACK, "1.0")


def test_software_that_does_not_hear_any_more_goes_back(debian: Place) -> None:
    on_trial(debian, "1.1", hears=False)
    assert ended(debian) == (Result.ROLLED_BACK, "1.0")


def test_two_starts_without_settling_lead_back(debian: Place) -> None:
    on_trial(debian, "1.1", starts=2)
    assert ended(debian) == (Result.ROLLED_BACK, "1.0")


def test_each_start_is_counted_before_anything_can_hang(
    debian: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_trial(debian, "1.1")

    def hang(_self: Service) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(Service, "ready", hang)
    for starts in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            settle(debian)
        trial = trial_of(debian)
        assert trial is not None
        assert trial.starts == starts
    monkeypatch.undo()
    assert ended(debian) == (Result.ROLLED_BACK, "1.0")


@pytest.mark.parametrize(
    ("current", "settled", "starts", "result"),
    [
        ("1.0", "1.0", 0, Result.ROLLED_BACK),  # cut before the link was turned
        ("1.1", "1.1", 1, Result.COMMITTED),  # cut after it had settled
        ("1.0", "1.0", 2, Result.ROLLED_BACK),  # cut after it had gone back
    ],
)
def test_a_judgement_that_was_cut_off_is_finished(
    debian: Place, current: str, settled: str, starts: int, result: Result
) -> None:
    on_trial(debian, "1.1", starts=starts)
    turn(debian.software / "current", current)
    turn(debian.software / "settled", settled)
    assert ended(debian) == (result, current)


def test_the_next_update_judges_what_was_left_on_trial(
    models: Bundle, debian: Place, service: Service, maker: Maker
) -> None:
    on_trial(debian, "1.1")
    service.answers = [False, False]
    with pytest.raises(InputError, match=f"models {NEXT}.*older"):
        apply(str(models.path), debian)
    assert pointed_at(debian.software / "current") == "1.0"
    assert [kind for kind, _ in told(debian)] == [
        EventKind.UPDATE_ROLLED_BACK,
        EventKind.UPDATE_REFUSED,
    ]


# -- a whole system --------------------------------------------------------------------------

RAUC = """#!{python}
import json, os, sys
path = os.environ["RAUC_OF_A_TEST"]
words = sys.argv[1:]
with open(path, "a") as file: file.write(" ".join(words) + "\\n")
if words[-2] == os.environ.get("FAILS"):
    folder = os.path.dirname(path)
    os.system(f"cat {{folder}}/card/parcels/trial.json >>{{folder}}/trial")
    sys.exit("no")
if words[0].startswith("--"): os.execv("{rauc}", ["rauc", *words])
if words[:2] == ["status", "--output-format=json"]:
    print(json.dumps({{"slots": [
        {{"rootfs.0": {{"bootname": "A", "boot_status": "good"}}}}, {{"boot.0": {{}}}},
        {{"rootfs.1": {{"bootname": "B", "boot_status": os.environ.get("B", "bad")}}}}]}}))
"""


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """RAUC where there are no slots to write: verifying is its own, the rest is noted down."""
    real = shutil.which("rauc")
    folder = tmp_path / "programs"
    folder.mkdir()
    (folder / "rauc").write_text(RAUC.format(python=sys.executable, rauc=real))
    (folder / "rauc").chmod(0o755)
    block = tmp_path / "grubenv"
    block.write_bytes(grubenv())
    monkeypatch.setattr(grub_boot, "GRUBENV", block)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("RAUC_OF_A_TEST", str(tmp_path / "asked"))
    return tmp_path / "asked"


def words(asked: Path) -> list[str]:
    lines = asked.read_text().splitlines() if asked.exists() else []
    asked.unlink(missing_ok=True)
    return [line for line in lines if not line.startswith("--")]


def card(
    tmp_path: Path, maker: Maker, service: Service, board: str, *, hears: bool = True
) -> Place:
    conf = system_conf(board, "1234abcd")
    for number, name in (("02", "b0"), ("03", "b1"), ("05", "r0"), ("06", "r1")):
        (tmp_path / name).write_bytes(b"\0" * 16384)
        conf = conf.replace(f"/dev/disk/by-partuuid/1234abcd-{number}", str(tmp_path / name))
    place = device_at(
        tmp_path / "card",
        maker.keyring,
        self_test=("true" if hears else "false",),
        service=service,
        slots=conf,
    )
    place.os_release.write_text('NAME="Sostenuto"\nIMAGE_VERSION="1.0"\n')
    place.kernel_arguments.write_text("root=/dev/x ro rauc.slot=A quiet\n")
    return place


def whole_system(
    maker: Maker, tmp_path: Path, version: str, board: str, size: int = 16384
) -> Bundle:
    images = tmp_path / "images"
    images.mkdir(exist_ok=True)
    (images / "boot.img").write_bytes(os.urandom(8192))
    (images / "rootfs.img").write_bytes(os.urandom(size))
    return maker.pack(Kind.SYSTEM, version, images, board=board, name=f"system-{size}.raucb")


BOARDS = ("sostenuto-generic-arm64", "sostenuto-raspberrypi-arm64")


@pytest.mark.parametrize("board", BOARDS)
def test_a_system_is_written_tried_and_settles(
    maker: Maker, tmp_path: Path, service: Service, asked: Path, board: str
) -> None:
    device = card(tmp_path, maker, service, board)
    bundle = whole_system(maker, tmp_path, "1.1", board)
    assert apply(str(bundle.path), device).result is Result.ON_TRIAL
    assert words(asked) == [f"install {bundle.path}", "status mark-active other"]
    raspberrypi = "raspberrypi" in board
    assert service.reboots == [raspberrypi]
    assert told(device) == []
    device.kernel_arguments.write_text("rauc.slot=B\n")
    outcome = settle(device)
    assert outcome is not None
    assert outcome.result is Result.COMMITTED
    assert words(asked) == ["status mark-good booted"]
    settled = grub_boot.from_bytes(grub_boot.GRUBENV.read_bytes())["SETTLED"]
    assert settled == ("A" if raspberrypi else "B")
    assert [kind for kind, _ in told(device)] == [EventKind.UPDATE_COMMITTED]
    assert settle(device) is None


@pytest.mark.parametrize("board", BOARDS)
def test_a_system_that_does_not_hear_is_left_and_told_of_by_the_old_one(
    maker: Maker, tmp_path: Path, service: Service, asked: Path, board: str
) -> None:
    device = card(tmp_path, maker, service, board, hears=False)
    apply(str(whole_system(maker, tmp_path, "1.1", board).path), device)
    words(asked)
    device.kernel_arguments.write_text("rauc.slot=B\n")
    settle(device)
    assert words(asked) == ["status mark-bad booted"]
    assert service.reboots == ["raspberrypi" in board, False]
    assert told(device) == []
    device.kernel_arguments.write_text("rauc.slot=A\n")
    outcome = settle(device)
    assert outcome is not None
    assert outcome.result is Result.ROLLED_BACK
    assert [kind for kind, _ in told(device)] == [EventKind.UPDATE_ROLLED_BACK]
    assert settle(device) is None


def start_from(slot: str, device: Place) -> Outcome | None:
    """A start of the machine: the kernel's words, and the judge."""
    device.kernel_arguments.write_text(f"rauc.slot={slot}\n")
    return settle(device)


@pytest.mark.parametrize("board", BOARDS)
def test_a_bad_system_on_a_stick_that_stays_is_written_once(
    maker: Maker, tmp_path: Path, service: Service, asked: Path, board: str
) -> None:
    device = card(tmp_path, maker, service, board, hears=False)
    stick = tmp_path / "stick"
    stick.mkdir()
    shutil.copy(whole_system(maker, tmp_path, "1.1", board).path, stick)
    assert [o.result for o in apply_from(stick, device)] == [Result.ON_TRIAL]
    start_from("B", device)
    outcome = start_from("A", device)
    assert outcome is not None and outcome.result is Result.ROLLED_BACK
    words(asked)
    told(device)
    before, starts = whole(device), list(service.reboots)
    for _ in range(3):
        assert start_from("A", device) is None
        (outcome,) = apply_from(stick, device)
        assert outcome.result is Result.PASSED_OVER
        assert "system 1.1 was tried on this device and failed" in outcome.text
        assert "`sostenuto-device update apply` tries it again" in outcome.text
    assert words(asked) == [] and service.reboots == starts and told(device) == []
    assert whole(device) == before
    (bundle,) = stick.iterdir()
    assert apply(str(bundle), device).result is Result.ON_TRIAL, "asked for, it is tried again"


def test_a_system_that_never_came_to_its_judge_is_tried_twice_from_a_stick(
    maker: Maker, tmp_path: Path, service: Service, asked: Path
) -> None:
    """It may be bad, or the power was cut while it started."""
    device = card(tmp_path, maker, service, BOARDS[1])
    stick = tmp_path / "stick"
    stick.mkdir()
    shutil.copy(whole_system(maker, tmp_path, "1.1", BOARDS[1]).path, stick)
    for _ in range(2):
        assert [o.result for o in apply_from(stick, device)] == [Result.ON_TRIAL]
        start_from("A", device)
    assert [o.result for o in apply_from(stick, device)] == [Result.PASSED_OVER]
    assert len(service.reboots) == 2
    assert apply(str(next(stick.iterdir())), device).result is Result.ON_TRIAL
    outcome = start_from("B", device)
    assert outcome is not None and outcome.result is Result.COMMITTED
    assert all_failed(device) == (), "what is in force has not failed"


def test_a_system_that_cannot_be_written_is_written_twice_from_a_stick_and_not_for_ever(
    maker: Maker, tmp_path: Path, service: Service, asked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = card(tmp_path, maker, service, BOARDS[0])
    stick = tmp_path / "stick"
    stick.mkdir()
    bundle = whole_system(maker, tmp_path, "1.1", BOARDS[0])
    shutil.copy(bundle.path, stick)
    monkeypatch.setenv("FAILS", "install")
    results = [o.result for _ in range(4) for o in apply_from(stick, device)]
    assert results == [Result.REFUSED] * 2 + [Result.PASSED_OVER] * 2
    assert sum(line.startswith("install") for line in words(asked)) == 2
    assert service.reboots == []


def test_a_system_that_cannot_be_left_does_not_start_again_for_ever(
    maker: Maker, tmp_path: Path, service: Service, asked: Path
) -> None:
    device = card(tmp_path, maker, service, BOARDS[0], hears=False)
    mark(Trial(Kind.SYSTEM, "1.1", "B", "1.0"), device)
    device.kernel_arguments.write_text("rauc.slot=B\n")
    for _ in range(5):
        settle(device)
    assert len(service.reboots) == 3


def test_nothing_starts_unproven_of_which_no_trial_is_noted_down(
    maker: Maker, tmp_path: Path, service: Service, asked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = card(tmp_path, maker, service, BOARDS[0])
    monkeypatch.setenv("FAILS", "mark-active")
    with pytest.raises(DeviceError, match="mark-active fails: no; the old system stays"):
        apply(str(whole_system(maker, tmp_path, "1.1", BOARDS[0]).path), device)
    assert trial_of(device) is None and service.reboots == []
    noted = asked.with_name("trial").read_text()
    assert '"target":"B"' in noted, "the trial was noted down before"


def test_the_version_of_a_system_is_that_of_the_bundle_that_its_slot_was_written_from(
    maker: Maker, tmp_path: Path, service: Service
) -> None:
    device = card(tmp_path, maker, service, BOARDS[0])
    status = "[slot.rootfs.1]\nbundle.version=1.1\nstatus={}\n"
    device.slots_status.write_text(status.format("ok"))
    assert device.version_of(Kind.SYSTEM) == "1.0"
    device.kernel_arguments.write_text("rauc.slot=B\n")
    assert device.version_of(Kind.SYSTEM) == "1.1"
    device.slots_status.write_text(status.format("pending"))
    assert device.version_of(Kind.SYSTEM) == "1.0"


def test_a_system_larger_than_its_slot_is_refused(
    maker: Maker, tmp_path: Path, service: Service, asked: Path
) -> None:
    device = card(tmp_path, maker, service, BOARDS[0])
    bundle = whole_system(maker, tmp_path, "1.1", BOARDS[0], size=16385)
    with (
        untouched(device),
        pytest.raises(InputError, match="its rootfs has 16,385 bytes, the slot 16,384"),
    ):
        apply(str(bundle.path), device)
    assert words(asked) == []


def test_a_system_that_is_older_or_for_another_board_is_refused(
    maker: Maker, tmp_path: Path, service: Service, asked: Path
) -> None:
    device = card(tmp_path, maker, service, BOARDS[0])
    with untouched(device), pytest.raises(InputError, match=r"system 0\.9, older than 1\.0"):
        apply(str(whole_system(maker, tmp_path, "0.9", BOARDS[0]).path), device)
    other = f"made for {BOARDS[1]}; this device is {BOARDS[0]}"
    with untouched(device), pytest.raises(InputError, match=other):
        apply(str(whole_system(maker, tmp_path, "1.1", BOARDS[1]).path), device)
    assert words(asked) == []


def test_going_back_a_whole_system_is_a_trial_of_the_other_slot(
    maker: Maker, tmp_path: Path, service: Service, asked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = card(tmp_path, maker, service, BOARDS[1])
    with pytest.raises(UsageError, match="slot B holds no system that is known to be good"):
        roll_back(Kind.SYSTEM, device)
    monkeypatch.setenv("B", "good")
    assert roll_back(Kind.SYSTEM, device).result is Result.ON_TRIAL
    assert words(asked)[-1] == "status mark-active other"
    assert service.reboots == [True]


def test_a_system_needs_to_know_which_slot_runs(
    maker: Maker, tmp_path: Path, service: Service, asked: Path
) -> None:
    device = card(tmp_path, maker, service, BOARDS[0])
    device.kernel_arguments.write_text("quiet\n")
    with pytest.raises(DeviceError, match=r"names no rauc\.slot=A or B"):
        apply(str(whole_system(maker, tmp_path, "1.1", BOARDS[0]).path), device)
    assert system.OTHER == {"A": "B", "B": "A"}


# -- cuts ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_of_twenty_cuts_each_leaves_the_old_or_the_new_whole(tmp_path: Path) -> None:
    figures = update_cuts.run(Kind.MODELS, 8, tmp_path, every=4)
    assert figures.good, figures
    assert figures.power_losses >= 10
    assert figures.found_old > 0
    assert figures.found_new > 0


# -- a full disk -----------------------------------------------------------------------------


class Full:
    """A disk that takes so many writes more, of whichever kind, and then none.

    Renames in place and removals need no room and go on.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
        self.room = room
        for owner, name in (
            (Path, "write_bytes"),
            (Path, "symlink_to"),
            (Path, "mkdir"),
            (Path, "rename"),
            (shutil, "copyfile"),
        ):
            monkeypatch.setattr(owner, name, self._limited(getattr(owner, name)))
        monkeypatch.setattr(bundle_module, "run_program", self._program(bundle_module.run_program))

    def takes(self) -> bool:
        self.room -= 1
        return self.room >= 0

    def _limited(self, write: Callable[..., Any]) -> Callable[..., Any]:
        def written(*words: Any, **options: Any) -> Any:
            made_before = write.__name__ == "mkdir" and words[0].is_dir()
            if not made_before and not self.takes():
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(words[0]))
            return write(*words, **options)

        return written

    def _program(self, run: Callable[..., Any]) -> Callable[..., Any]:
        def ran(words: Sequence[str], timeout_s: float | None = None) -> Any:
            if "extract" in words and not self.takes():
                said = "Write on output file failed because No space left on device\nexit code 1"
                return subprocess.CompletedProcess(words, 1, "", said)
            return run(words, timeout_s)

        return ran


def applied_in(room: int, bundle: Bundle, device: Place) -> tuple[Full, str]:
    """Apply a bundle where there is room for so many writes; the result, or the error."""
    with pytest.MonkeyPatch.context() as patched:
        full = Full(patched, room)
        try:
            return full, apply(str(bundle.path), device).result
        except DeviceError as error:
            return full, f"error: {error}"


@pytest.mark.parametrize("ready", [True, False])
def test_a_disk_that_is_full_at_any_write_of_new_models_leaves_the_old_ones(
    models: Bundle, later: Bundle, device: Place, service: Service, ready: bool
) -> None:
    apply(str(models.path), device)
    before, room, ended = everything(device), 0, []
    while True:
        service.answers, service.restarts = ([] if ready else [False]), 0
        full, how = applied_in(room, later, device)
        if how.startswith("error"):
            assert "the disk is full" in how and "make room" in how
            assert "what was in force stays in force" in how
            assert everything(device) == before and service.restarts == 0
        ended.append(how.partition(":")[0])
        assert device.version_of(Kind.MODELS) == (LATER if ended[-1] == "committed" else NEXT)
        if ended[-1] == "committed" or full.room >= 0:
            break
        room += 1
    assert ended.count("error") >= 5
    assert not (device.parcels / ".fetched").exists()
    assert all_failed(device) == () or not ready, "a full disk is not the bundle's fault"
    service.answers = []
    assert apply(str(later.path), device).good, "with room again it is taken"
    assert device.version_of(Kind.MODELS) == LATER


def test_a_disk_that_is_full_at_any_write_of_new_software_leaves_the_old(
    maker: Maker, tmp_path: Path, debian: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def laid(folder: Path, _wheel: Path, place: Place) -> None:
        lay_software(place, folder.name)
        (folder / "weight").write_bytes(b"1")

    monkeypatch.setattr(software_module, "_make_environment", laid)
    bundle = software(maker, tmp_path, debian, "1.1")
    ended: list[str] = []
    room = 0
    while True:
        full, how = applied_in(room, bundle, debian)
        assert not how.startswith("error") or "the disk is full" in how
        ended.append(how.partition(":")[0])
        assert trial_of(debian) is None
        if ended[-1] == "committed":
            break
        assert full.room < 0
        assert pointed_at(debian.software / "current") == "1.0", (room, ended)
        assert not (debian.software / ".bundle").exists()
        room += 1
    assert {"error", "rolled_back", "committed"} == set(ended)
    assert pointed_at(debian.software / "settled") == "1.1"
    assert all_failed(debian) == ()


def test_pip_that_finds_no_room_is_no_fault_of_the_bundles(
    debian: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"
    monkeypatch.setattr(
        software_module,
        "run_program",
        lambda words: subprocess.CompletedProcess(words, 1, "", said),
    )
    with pytest.raises(OSError, match="No space left"):
        software_module._make_environment(debian.software / "2.0", Path("a.whl"), debian)
    assert not (debian.software / "2.0").exists()


def test_a_disk_that_is_full_at_any_write_of_a_new_system_leaves_the_old(
    maker: Maker, tmp_path: Path, service: Service, asked: Path
) -> None:
    device = card(tmp_path, maker, service, BOARDS[1])
    bundle = whole_system(maker, tmp_path, "1.1", BOARDS[1])
    room = 0
    while (how := applied_in(room, bundle, device)[1]) != "on_trial":
        assert "the disk is full" in how
        assert trial_of(device) is None and service.reboots == []
        assert not any("mark-active" in line for line in words(asked))
        room += 1
    assert room > 0 and service.reboots == [True]
    # It runs now from B, and the disk is full: it cannot be judged, and the firmware goes back.
    device.kernel_arguments.write_text("rauc.slot=B\n")
    with pytest.MonkeyPatch.context() as patched:
        Full(patched, 0)
        with pytest.raises(DeviceError, match="the disk is full"):
            settle(device)
        outcome = start_from("A", device)
    assert outcome is not None and outcome.result is Result.ROLLED_BACK
    assert trial_of(device) is None and device.version_of(Kind.SYSTEM) == "1.0"


def test_a_full_disk_is_one_line_whatever_command_meets_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/data/x")

    monkeypatch.setattr(device_app, "app", full)
    with pytest.raises(SystemExit) as ended:
        device_app.main()
    assert ended.value.code == DeviceError.exit_code
    assert capsys.readouterr().err == "/data/x: the disk is full; make room, or use a larger one\n"


# -- of a card's image -----------------------------------------------------------------------


@pytest.mark.parametrize("packed", [True, False])
def test_a_system_bundle_holds_slot_a_of_a_card_image(
    maker: Maker, tmp_path: Path, packed: bool
) -> None:
    boot, root = os.urandom(3 << 20), tmp_path / "root"
    root.mkdir()
    (root / "file").write_bytes(os.urandom(1 << 20))
    squashfs = tmp_path / "root.squashfs"
    made = ["mksquashfs", str(root), str(squashfs), "-quiet", "-no-progress"]
    subprocess.run(made, check=True, capture_output=True)
    (tmp_path / "boot").write_bytes(boot)
    layout = lay_out(Sizes(card_mib=8, boot_mib=8, root_mib=8, data_mib=8))
    image = tmp_path / "card.img"
    card_part = tmp_path / "card"
    fat_start = b"\xeb\x58\x90mkfs.fat".ljust(71, b"\0") + b"SOSTENUTO  FAT32   "
    card_part.write_bytes(fat_start.ljust(510, b"\0") + b"\x55\xaa")
    parts = {"card": card_part, "boot-a": tmp_path / "boot", "root-a": squashfs}
    put_together(layout, parts, image, lambda _: None)
    if packed:
        image = image.rename(tmp_path / "plain.img")
        (tmp_path / "card.img.xz").write_bytes(lzma.compress(image.read_bytes(), preset=0))
        image = tmp_path / "card.img.xz"
    output = tmp_path / "system.raucb"
    run_pack("system", "1.1", image, maker.key, output, "0", board="sostenuto-x", keyring=None)
    bundle = read_bundle(output, maker.keyring)
    unpack(bundle, maker.keyring, tmp_path / "unpacked")
    assert (tmp_path / "unpacked" / "rootfs.img").read_bytes() == squashfs.read_bytes()
    assert (tmp_path / "unpacked" / "boot.img").read_bytes() == boot.ljust(8 << 20, b"\0")
    assert bundle.label.images == {"boot": 8 << 20, "rootfs": squashfs.stat().st_size}


# -- the command -----------------------------------------------------------------------------


def command(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "device", "update", *words],
        env={**os.environ, PARCELS_VARIABLE: str(folder)},
        check=False,
        capture_output=True,
        text=True,
    )


def test_from_keys_to_a_refusal_by_the_command_alone(tmp_path: Path) -> None:
    keys, bundle, parcels = tmp_path / "keys", tmp_path / "m.sostenuto", tmp_path / "parcels"
    assert command(parcels, "key", str(keys)).returncode == 0
    packed = command(
        parcels,
        *("pack", str(shipped_dir()), "--kind", "models", "--version", NEXT),
        *("--key", str(keys / "signing.key"), "-o", str(bundle)),
    )
    assert packed.returncode == 0, packed.stderr
    assert f"models {NEXT}, for sostenuto, needs software 0" in packed.stdout
    if Path("/etc/rauc/keyring.pem").exists():
        pytest.skip("this machine believes somebody")
    refused = command(parcels, "apply", str(bundle))
    assert refused.returncode == InputError.exit_code
    assert refused.stdout == ""
    assert refused.stderr.count("\n") == 1
    assert "believes no key yet" in refused.stderr
    status = msgspec.json.decode(command(parcels, "status", "--json").stdout)
    assert status["in_force"]["models"] == OURS
    assert status["last"]["result"] == "refused"
    assert command(parcels, "rollback").returncode == UsageError.exit_code


def test_what_a_maker_cannot_pack_is_said(tmp_path: Path, maker: Maker) -> None:
    for words, why in (
        (("--kind", "melodies", "--version", "1"), "system, software, models, catalog are allowed"),
        (("--kind", "models", "--version", "one"), "one to four numbers"),
        (("--kind", "catalog", "--version", "1"), "no catalogue at"),
        (("--kind", "software", "--version", "1"), "one wheel sostenuto-1-… needed, has none"),
        (("--kind", "system", "--version", "1"), "has no boot.img"),
    ):
        made = command(tmp_path, "pack", str(maker.folder), *words, "--key", str(maker.key))
        assert made.returncode in (UsageError.exit_code, 4)
        assert made.stderr.count("\n") == 1
        assert why in made.stderr
