"""The card image: its table, its map, its lists; and a small one made twice."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import os
import py_compile
import shutil
import struct
import subprocess
import tarfile
import zipfile
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest

from device.flash.bmap import read_bmap
from device.flash.image import open_image
from device.image import (
    assemble,
    base,
    blockmap,
    boards,
    bom,
    debian,
    filesystems,
    overlay,
    tree,
    wheels,
)
from device.image import lock as locks
from device.image.partitions import MIB, Sizes, lay_out, tables
from device.image.programs import need
from device.update.bundle import Kind
from device.update.place import Place as Device
from edge.errors import InputError, UsageError

EPOCH_S = 1_763_700_000
SMALL = Sizes(card_mib=40, boot_mib=40, root_mib=8, data_mib=32)

PACKAGE = locks.Package(
    name="zstd",
    version="1.5.7+dfsg-1",
    sha256="71" * 32,
    size_bytes=635036,
    file="zstd_1.5.7+dfsg-1_arm64.deb",
    path="pool/main/libz/libzstd/zstd_1.5.7+dfsg-1_arm64.deb",
    place="root",
)
WHEEL = locks.Wheel(name="numpy", version="2.4.6", sha256="ab" * 32, file="numpy-2.4.6.whl")


def a_lock(**changed: object) -> locks.Lock:
    values: dict[str, object] = {
        "format": 1,
        "board": "generic",
        "suite": "trixie",
        "epoch_s": EPOCH_S,
        "tools": {"xz": "5.4.1"},
        "packages": (PACKAGE,),
        "wheels": (WHEEL,),
    }
    return locks.Lock(**{**values, **changed})  # type: ignore[arg-type]


def have(*programs: str) -> bool:
    try:
        need(*programs)
    except UsageError:
        return False
    return True


# -- the card's table ----------------------------------------------------------------------


def test_the_parts_follow_one_another_on_borders_of_four_mebibytes():
    layout = lay_out()
    assert [(p.number, p.name) for p in layout.partitions] == [
        (1, "card"), (2, "boot-a"), (3, "boot-b"), (4, "extended"),
        (5, "root-a"), (6, "root-b"), (7, "data"),
    ]  # fmt: skip
    real = [p for p in layout.partitions if p.name != "extended"]
    for before, after in pairwise(real):
        assert before.end_bytes <= after.start_bytes
    assert all(p.start_bytes % (4 * MIB) == 0 for p in layout.partitions)
    assert layout["data"].end_bytes == layout["extended"].end_bytes == layout.size_bytes
    assert layout["root-b"].uuid == "536f7374-06"
    assert layout.size_bytes < 3.7e9, "fits on what is sold as 4 GB"


@pytest.mark.skipif(not have("sfdisk"), reason="sfdisk is not installed (Debian: fdisk)")
def test_sfdisk_reads_the_table_as_it_was_meant(tmp_path):
    card = tmp_path / "card.img"
    layout = lay_out()
    assemble.put_together(layout, {}, card, lambda done: None)
    read = json.loads(
        subprocess.run(["/usr/sbin/sfdisk", "--json", card], capture_output=True, check=True).stdout
    )["partitiontable"]
    assert read["label"] == "dos" and read["id"] == "0x536f7374"
    found = [(p["start"] * 512, p["size"] * 512, int(p["type"], 16)) for p in read["partitions"]]
    assert found == [(p.start_bytes, p.size_bytes, p.kind) for p in layout.partitions]


def test_a_table_s_sector_ends_with_its_mark_and_a_chain_leads_through_the_logical_parts():
    sectors = tables(lay_out())
    assert len(sectors) == 4
    assert all(len(sector) == 512 and sector[510:] == b"\x55\xaa" for sector in sectors.values())
    extended = lay_out()["extended"].start_bytes
    at, seen = extended, 0
    while True:
        seen += 1
        kind, start = sectors[at][466], struct.unpack_from("<I", sectors[at], 470)[0]
        if kind == 0:
            break
        at = extended + start * 512
    assert seen == 3


# -- the block map -------------------------------------------------------------------------


def test_a_map_names_the_blocks_that_say_something_and_those_that_must_be_empty(tmp_path):
    image = tmp_path / "a.img"
    content = bytearray(4096 * 10 + 100)
    content[4096 * 2] = 1
    content[4096 * 3 + 5] = 2
    content[-1] = 3
    image.write_bytes(content)
    parsed = ElementTree.fromstring(blockmap.make(image, [(4096 * 6, 4096 * 6 + 1)]))
    assert [r.text.strip() for r in parsed.iter("Range")] == ["2-3", "6", "10"]
    assert parsed.findtext("MappedBlocksCount").strip() == "4"
    assert parsed.findtext("BlocksCount").strip() == "11"
    first = next(parsed.iter("Range")).get("chksum")
    assert first == hashlib.sha256(content[4096 * 2 : 4096 * 4]).hexdigest()


def test_a_map_carries_the_sum_of_itself_with_that_place_blank(tmp_path):
    image = tmp_path / "a.img"
    image.write_bytes(b"x" * 5000)
    text = blockmap.make(image)
    told = ElementTree.fromstring(text).findtext("BmapFileChecksum").strip()
    assert told == hashlib.sha256(text.replace(told, "0" * 64).encode()).hexdigest()


def test_flash_reads_the_map_that_the_build_writes(tmp_path):
    image = tmp_path / "a.img"
    image.write_bytes(bytes(8192) + b"x" * 5000)
    (tmp_path / "a.bmap").write_text(blockmap.make(image))
    assert read_bmap(tmp_path / "a.bmap").image_bytes == 13192


# -- lists ---------------------------------------------------------------------------------


def test_a_lock_list_is_read_as_it_was_written_one_package_a_line(tmp_path):
    path = tmp_path / "a.lock"
    path.write_bytes(locks.encode(a_lock()))
    assert locks.read(path, "generic") == a_lock()
    assert any(line.startswith('{"name":"zstd"') for line in path.read_text().splitlines())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no list", "not a lock list"),
        (json.dumps({"format": 9}), "not a lock list"),
        (locks.encode(a_lock()).decode().replace("zstd_1", "../zstd_1"), "not a lock list"),
        (locks.encode(a_lock()).decode().replace("71" * 32, "short"), "not a lock list"),
        (locks.encode(a_lock(board="raspberrypi")).decode(), "a lock list for raspberrypi"),
    ],
)
def test_a_lock_list_that_is_none_is_refused_in_one_line(tmp_path, text, said):
    path = tmp_path / "a.lock"
    path.write_text(text)
    with pytest.raises(InputError, match=said):
        locks.read(path, "generic")


def test_what_apt_says_becomes_packages():
    said = (
        "Reading package lists...\n"
        "'http://mirror/debian/pool/main/w/wpa/wpasupplicant_2.10-24_arm64.deb' "
        f"wpasupplicant_2%3a2.10-24_arm64.deb 1311872 SHA256:{'d9' * 32}\n"
    )
    (package,) = debian.parse_uris(said, "root")
    assert (package.name, package.version) == ("wpasupplicant", "2:2.10-24")
    assert package.path == "pool/main/w/wpa/wpasupplicant_2.10-24_arm64.deb"
    assert package.file == "wpasupplicant_2%3a2.10-24_arm64.deb"


def test_a_cached_package_that_is_another_is_fetched_again_and_one_that_cannot_be_had_is_told(
    tmp_path,
):
    mirror = tmp_path / "mirror"
    right = b"the package"
    package = locks.Package(
        name="zstd", version="1", sha256=hashlib.sha256(right).hexdigest(), size_bytes=11,
        file="zstd_1_arm64.deb", path="pool/zstd_1_arm64.deb", place="root",
    )  # fmt: skip
    (mirror / "pool").mkdir(parents=True)
    (mirror / "pool" / "zstd_1_arm64.deb").write_bytes(right)
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "zstd_1_arm64.deb").write_bytes(b"damaged")
    debian.fetch([package], cache, [mirror.as_uri()])
    assert (cache / "zstd_1_arm64.deb").read_bytes() == right
    other = locks.Package(**{**{f: getattr(package, f) for f in package.__struct_fields__},
                             "sha256": "00" * 32})  # fmt: skip
    with pytest.raises(InputError, match="cannot be had"):
        debian.fetch([other], cache, [mirror.as_uri()])


def test_another_list_or_time_is_another_base():
    assert base.key(a_lock()) == base.key(a_lock(tools={}))
    assert base.key(a_lock()) != base.key(a_lock(epoch_s=EPOCH_S + 1))
    assert base.key(a_lock()) != base.key(a_lock(packages=()))


def test_every_tag_of_the_board_s_glibc_is_asked_for():
    assert "manylinux_2_27_aarch64" in wheels.PLATFORMS
    assert "manylinux_2_41_aarch64" in wheels.PLATFORMS
    assert "manylinux_2_42_aarch64" not in wheels.PLATFORMS


# -- the software --------------------------------------------------------------------------


def make_wheel(path: Path, files: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


def test_an_environment_is_made_of_wheels_without_running_any(tmp_path):
    own = make_wheel(
        tmp_path / "sostenuto-1.2-py3-none-any.whl",
        {
            "edge/__init__.py": "",
            "sostenuto-1.2.dist-info/METADATA": "Name: sostenuto\nVersion: 1.2\n",
            "sostenuto-1.2.dist-info/entry_points.txt": "[console_scripts]\n"
            "sostenuto = edge.cli.app:main\nsostenuto-device = device.app:main\n",
        },
    )
    other = make_wheel(
        tmp_path / "a-1-py3-none-any.whl",
        {"a-1.data/purelib/a.py": "x = 1\n", "a-1.data/scripts/a": "#!python\n"},
    )
    assert wheels.make_environment(own, tmp_path / "root") == "1.2"
    wheels.unpack(other, tmp_path / "root" / wheels.site_of("1.2").lstrip("/"))
    folder = tmp_path / "root/opt/sostenuto/software/1.2"
    assert (folder / "lib/python3.13/site-packages/a.py").read_text() == "x = 1\n"
    script = (folder / "bin/sostenuto").read_text()
    assert script.startswith("#!/opt/sostenuto/software/1.2/bin/python\n")
    assert "from edge.cli.app import main" in script
    assert not (folder / "bin/a").exists()
    assert (folder.parent / "current").readlink() == Path("1.2")


def test_a_wheel_that_leads_out_of_the_environment_is_refused(tmp_path):
    bad = make_wheel(tmp_path / "bad-1-py3-none-any.whl", {"../../etc/passwd": "x"})
    with pytest.raises(InputError, match="leads out"):
        wheels.unpack(bad, tmp_path / "site")


# -- what a card starts from ---------------------------------------------------------------


def test_grub_s_configuration_starts_either_slot_from_its_own_partitions():
    files = boards.card_files("generic", Path("/beside"))
    assert set(files) == {
        "EFI/BOOT/BOOTAA64.EFI", "EFI/debian/grub.cfg", "grub/grub.cfg", "grub/grubenv",
        "sostenuto.toml",
    }  # fmt: skip
    said = files["grub/grub.cfg"].decode()
    assert "536f7374-$part" in said and "part=05" in said and "part=06" in said
    assert "rauc.slot=$slot" in said and "squashfs" in said
    assert len(files["grub/grubenv"]) == 1024 and b"A_OK=1" in files["grub/grubenv"]


def test_a_raspberry_pi_tries_the_other_slot_for_one_start():
    files = boards.card_files("raspberrypi", Path("/beside"))
    said = files["autoboot.txt"].decode()
    assert "tryboot_a_b=1" in said
    assert said.index("boot_partition=2") < said.index("[tryboot]") < said.index("boot_partition=3")
    assert "bootcode.bin" in files


def test_a_raspberry_pi_s_slot_has_firmware_kernel_and_device_trees(tmp_path):
    root = {
        "boot/vmlinuz-6.12": b"kernel",
        "boot/initrd.img-6.12": b"initrd",
        "usr/lib/linux-image-6.12/broadcom/bcm2711-rpi-4-b.dtb": b"4",
        "usr/lib/linux-image-6.12/broadcom/bcm2837-rpi-zero-2-w.dtb": b"0",
    }
    files = boards.slot_files("raspberrypi", root, tmp_path)
    assert {"start4.elf", "fixup4.dat", "start_cd.elf", "bootcode.bin", "config.txt"} <= set(files)
    assert files["bcm2837-rpi-zero-2-w.dtb"] == b"0"
    config = files["config.txt"].decode()
    assert "kernel=vmlinuz" in config and "initramfs initrd.img followkernel" in config
    assert "upstream_kernel=1" in config and "arm_64bit=1" in config
    with pytest.raises(InputError, match=r"bcm2837-rpi-zero-2-w\.dtb"):
        boards.slot_files("raspberrypi", dict(list(root.items())[:3]), tmp_path)


def test_a_board_whose_radio_finds_no_firmware_is_told(tmp_path):
    archive = tmp_path / "root.tar"
    with tarfile.open(archive, "w") as tar:
        for path in ("43455-sdio.bin", "43430-sdio.bin"):
            link = tarfile.TarInfo(f"./usr/lib/firmware/brcm/brcmfmac{path}")
            link.type, link.linkname = tarfile.SYMTYPE, f"../cypress/cyfmac{path}"
            tar.addfile(link)
    (silent,) = boards.without_radio("raspberrypi", tree.paths(archive))
    assert "Zero 2 W" in silent and "BCM43430/2" in silent
    assert boards.without_radio("generic", set()) == []


# -- the bill of materials -----------------------------------------------------------------

DEP5 = """Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
Copyright: somebody
License: {}
"""


@pytest.mark.parametrize(
    ("text", "licence"),
    [
        (DEP5.format("Expat"), "MIT"),
        (DEP5.format("GPL-2+ or BSD-3-clause"), "BSD-3-Clause AND GPL-2.0-or-later"),
        (DEP5.format("ISC, own terms"), "ISC AND LicenseRef-debian-own-terms"),
        ("This package is free, said its author once.", "NOASSERTION"),
    ],
)
def test_a_licence_is_told_only_where_the_file_is_clear(text, licence):
    assert bom.licences_of(text) == licence


def test_the_bill_is_an_spdx_document_whose_parts_are_all_in_the_image(tmp_path):
    wheel = make_wheel(
        tmp_path / "numpy-2.4.6-py3-none-any.whl",
        {"numpy-2.4.6.dist-info/METADATA": "Name: numpy\nVersion: 2.4.6\n"
         "License-Expression: BSD-3-Clause AND 0BSD\n"},
    )  # fmt: skip
    status = "Package: zstd\nStatus: install ok installed\nSource: libzstd (1.5.7)\n"
    said = {"zstd": DEP5.format("Expat and own")}
    packages = bom.debian_packages(a_lock(), status, said, {})
    packages += bom.python_packages([wheel])
    text = bom.document("sostenuto-test", packages, EPOCH_S)
    assert text == bom.document("sostenuto-test", packages, EPOCH_S)
    read = json.loads(text)
    assert read["spdxVersion"] == "SPDX-2.3" and read["dataLicense"] == "CC0-1.0"
    assert read["creationInfo"]["created"] == "2025-11-21T04:40:00Z"
    named = {package["SPDXID"] for package in read["packages"]}
    assert len(named) == len(read["packages"]) == 3
    for relation in read["relationships"]:
        assert relation["relatedSpdxElement"] in named
    by_name = {package["name"]: package for package in read["packages"]}
    assert by_name["zstd"]["licenseDeclared"] == "LicenseRef-debian-own AND MIT"
    (extracted,) = read["hasExtractedLicensingInfos"]
    assert extracted["licenseId"] == "LicenseRef-debian-own"
    assert by_name["zstd"]["checksums"][0]["checksumValue"] == PACKAGE.sha256
    assert by_name["numpy"]["licenseDeclared"] == "BSD-3-Clause AND 0BSD"


# -- the root, and a whole small card ------------------------------------------------------


def a_base(path: Path, mtime_s: int) -> Path:
    with tarfile.open(path, "w") as tar:
        for name in ("./etc", "./boot", "./usr", "./usr/share"):
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.mtime = tarfile.DIRTYPE, 0o755, mtime_s
            tar.addfile(info)
        for name, uid in (("./etc/fstab", 0), ("./boot/vmlinuz-6", 0), ("./usr/share/x", 101)):
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.uid, info.mode = 3, mtime_s, uid, 0o640
            tar.addfile(info, io.BytesIO(b"old"))
        link = tarfile.TarInfo("./usr/share/hard")
        link.type, link.linkname = tarfile.LNKTYPE, "./usr/share/x"
        tar.addfile(link)
    return path


def test_a_root_is_what_was_there_less_what_goes_with_what_is_laid_over_it(tmp_path):
    over = tmp_path / "over"
    (over / "etc").mkdir(parents=True)
    (over / "etc/fstab").write_text("new")
    (over / "etc/resolv.conf").symlink_to("/run/x")
    target = tmp_path / "root.tar"
    tree.merge(
        a_base(tmp_path / "base.tar", 5),
        target,
        left_out=["boot/*"],
        over=[over],
        files={"etc/hostname": b"piano\n"},
        epoch_s=EPOCH_S,
    )
    with tarfile.open(target) as tar:
        members = {member.name: member for member in tar}
        assert "boot" in members and "boot/vmlinuz-6" not in members
        assert tar.extractfile("etc/fstab").read() == b"new"
        assert members["etc/fstab"].mode == 0o640, "what was closed stays closed"
        assert members["etc/resolv.conf"].linkname == "/run/x"
        assert members["usr/share/x"].uid == 101 and members["etc/fstab"].uid == 0
        assert tar.extractfile("usr/share/hard").read() == b"old"
        assert {member.mtime for member in members.values()} == {EPOCH_S}


def test_byte_code_of_a_root_that_cannot_be_written_asks_for_no_time(tmp_path):
    source = tmp_path / "a.py"
    source.write_text("x = 41 + 1\n")
    compiled = Path(py_compile.compile(str(source), doraise=True))
    compiled.write_bytes(tree.unchecked(compiled.read_bytes()))
    source.write_text("x = 'changed since'\n")
    spec = importlib.util.spec_from_file_location("a", source)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.x == 42


def test_what_the_card_mounts_is_there_to_be_mounted_on():
    fstab = (overlay.ROOT / "etc/fstab").read_text()
    script = (overlay.ROOT / "usr/lib/sostenuto/data").read_text()
    for name in overlay.MOUNT_POINTS:
        assert f"/{name} " in fstab + script, name
    assert "PARTUUID=536f7374-07" in fstab


def test_only_the_card_s_own_last_part_is_ever_grown(tmp_path):
    script = (overlay.ROOT / "usr/lib/sostenuto/data").read_text()
    grow = script[script.index("grow() {") : script.index("place() {")]
    asked = tmp_path / "asked"
    for program in ("sfdisk", "partx", "resize2fs"):
        (tmp_path / program).write_text(f'#!/bin/sh\necho {program} "$@" >> {asked}\n')
        (tmp_path / program).chmod(0o755)
    ours, own_name = tmp_path / "ours", "/dev/disk/by-partuuid/536f7374-07"
    assert own_name in grow
    ours.write_text("")
    for source, grown in (
        (f"{tmp_path}/other", ""),
        ("/dev/x[/var/keep]", ""),
        (ours, "resize2fs"),
    ):
        (tmp_path / "findmnt").write_text(f"#!/bin/sh\necho '{source}'\n")
        (tmp_path / "findmnt").chmod(0o755)
        (tmp_path / "other").write_text("")
        asked.unlink(missing_ok=True)
        sizes = "cat() { echo 4096; }\nsay() { :; }\n"
        ran = subprocess.run(
            ["sh", "-euc", sizes + grow.replace(own_name, str(ours)) + "grow"],
            env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
            capture_output=True,
            text=True,
        )
        assert (ran.returncode, ran.stderr) == (0, ""), source
        assert (asked.read_text() if asked.exists() else "").startswith(grown), source
        assert asked.exists() == bool(grown), source


@pytest.mark.parametrize("board", ["generic", "raspberrypi"])
def test_what_is_laid_over_tells_an_update_which_image_this_is(tmp_path, board):
    ours = f"sostenuto:x:{os.getuid()}:{os.getgid()}::/var/lib/sostenuto:/usr/sbin/nologin\n"
    before = {
        **dict.fromkeys(overlay.ACCOUNT_FILES, b""),
        "etc/passwd": f"root:x:0:0:root:/root:/bin/bash\n{ours}".encode(),
        "etc/group": f"root:x:0:\nsostenuto:x:{os.getgid()}:\n".encode(),
        overlay.OS_RELEASE: b'NAME="Debian GNU/Linux"\nVERSION_ID="13"\n',
    }
    overlay.make(tmp_path, board, "0.3.1", before, 1_700_000_000)
    release = tmp_path / overlay.OS_RELEASE
    lines = release.read_text().splitlines()
    assert lines[:2] == ['NAME="Debian GNU/Linux"', 'VERSION_ID="13"']
    assert f"IMAGE_ID=sostenuto-{board}-arm64" in lines
    device = Device(
        os_release=release,
        system_conf=tmp_path / "etc/rauc/system.conf",
        slots_status=tmp_path / "never written",
        kernel_arguments=tmp_path / "usr/lib/clock-epoch",
    )
    assert device.version_of(Kind.SYSTEM) == "0.3.1"
    assert f"sostenuto-{board}-arm64" in device.boards


HOLLOW = b"x" * 5000 + bytes(50_000) + b"y" + bytes(30_000)
"""Zeros inside a file, and at its end."""

TOOLS = ("mke2fs", "mkfs.vfat", "mcopy", "mmd", "mksquashfs")


@pytest.mark.skipif(not have(*TOOLS), reason="mtools, dosfstools or squashfs-tools missing")
def test_the_same_inputs_become_the_same_card_and_flash_takes_it(tmp_path):
    sums = []
    for number, mtime_s in enumerate((5, 99)):
        work = tmp_path / str(number)
        work.mkdir()
        layout = lay_out(SMALL)
        merged = work / "root.tar"
        tree.merge(a_base(work / "base.tar", mtime_s), merged, epoch_s=EPOCH_S)
        parts = {name: work / name for name in ("card", "boot-a", "root-a", "data")}
        files = {"grub/grub.cfg": HOLLOW, "a.txt": b"a"}
        size = layout["card"].size_bytes
        filesystems.make_fat(parts["card"], size, "SOSTENUTO", files, EPOCH_S)
        filesystems.make_fat(parts["boot-a"], size, "SLOT", {"vmlinuz": merged}, EPOCH_S)
        filesystems.make_squashfs(parts["root-a"], merged, EPOCH_S)
        data = layout["data"].size_bytes
        filesystems.make_data(parts["data"], data, EPOCH_S)
        packed = work / "sostenuto.img.xz"
        image = work / "whole.img"
        assemble.put_together(layout, parts, image, lambda done: None)
        (work / "sostenuto.bmap").write_text(
            blockmap.make(image, assemble.needed(layout, parts, image))
        )
        assemble.pack(image, packed, lambda done: None)
        _, found = assemble.sha256_sums([packed, work / "sostenuto.bmap"])
        sums.append(found)
        shutil.copy(image, tmp_path / "whole.img")
    assert sums[0] == sums[1]

    listed = subprocess.run(
        ["unsquashfs", "-lls", tmp_path / "0" / "root-a"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    (top,) = (line for line in listed if line.endswith(" squashfs-root"))
    assert top.startswith("drwxr-xr-x root/root"), "nobody else may add to the top folder"

    layout = lay_out(SMALL)
    card = open_image(tmp_path / "0" / "sostenuto.img.xz")
    assert card.image_bytes == layout.size_bytes
    told = subprocess.run(
        ["mdir", "-b", "-i", f"{tmp_path / 'whole.img'}@@{layout['card'].start_bytes}", "::"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "a.txt" in told
    written = bytearray(b"\xff" * layout.size_bytes)
    for at, piece in card.pieces():
        written[at : at + len(piece)] = piece
    for name in ("card", "boot-a", "root-a", "data"):
        (tmp_path / name).write_bytes(
            written[layout[name].start_bytes :][: layout[name].size_bytes]
        )
    checked = subprocess.run(["/usr/sbin/fsck.vfat", "-n", tmp_path / "card"], capture_output=True)
    assert checked.returncode == 0, "a card that was used before holds a whole FAT"
    command = ["mcopy", "-n", "-i", tmp_path / "card", "::grub/grub.cfg", tmp_path / "back"]
    subprocess.run(command, check=True)
    assert (tmp_path / "back").read_bytes() == HOLLOW, "zeros of a file are written too"
    checked = subprocess.run(["/usr/sbin/e2fsck", "-fn", tmp_path / "data"], capture_output=True)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.skipif(not have("mkfs.vfat", "mcopy"), reason="mtools or dosfstools missing")
def test_what_does_not_fit_is_told(tmp_path):
    with pytest.raises(UsageError, match="do not fit"):
        filesystems.make_fat(tmp_path / "a", 40 * MIB, "SLOT", {"x": bytes(39 * MIB)}, EPOCH_S)
