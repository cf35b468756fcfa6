"""What goes on the card: Debian's packages, what is left out of them, and how large the parts are.

Each package is here because something on the card calls it; ``docs/image.md`` says what. Firmware
that is not free goes on the Raspberry Pi's card alone, which does not start without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

Board = Literal["generic", "raspberrypi"]

SUITE = "trixie"

COMMON = (
    "alsa-utils",
    "avahi-daemon",
    "busybox",
    "ca-certificates",
    "dbus",
    "dosfstools",
    "e2fsprogs",
    "fdisk",
    "initramfs-tools",
    "iproute2",
    "kmod",
    "libnss-mdns",
    "linux-image-arm64",
    "mosquitto",
    "network-manager",
    "openssl",
    "python3",
    "python3-pyaudio",
    "python3-rtmidi",
    "rauc",
    "rauc-service",
    "squashfs-tools",
    "systemd",
    "systemd-sysv",
    "systemd-timesyncd",
    "tzdata",
    "udev",
    "wireless-regdb",
    "wpasupplicant",
    "zstd",
)

IN_THE_ROOT: Mapping[Board, tuple[str, ...]] = MappingProxyType(
    {
        "generic": COMMON,
        "raspberrypi": (*COMMON, "firmware-brcm80211"),
    }
)

BESIDE_THE_ROOT: Mapping[Board, tuple[str, ...]] = MappingProxyType(
    {
        "generic": ("grub-efi-arm64-unsigned",),
        "raspberrypi": ("raspi-firmware",),
    }
)
"""Packages of which only files are taken, for the boot partitions: they are never set up."""

COMPONENTS: Mapping[Board, tuple[str, ...]] = MappingProxyType(
    {"generic": ("main",), "raspberrypi": ("main", "non-free-firmware")}
)

_KERNEL = "/usr/lib/modules/*/kernel"

LEFT_OUT = (
    "/usr/share/man/*",
    "/usr/share/info/*",
    "/usr/share/locale/*",
    "/usr/share/lintian/*",
    "/usr/share/bug/*",
    "/usr/share/doc-base/*",
    "/usr/share/bash-completion/*",
    "/usr/share/zsh/*",
    "/usr/share/fish/*",
    "/usr/share/sounds/*",
    "/usr/share/grub/*",
    "/usr/share/doc/*",
    "/boot/System.map-*",
    f"{_KERNEL}/drivers/gpu/*",
    f"{_KERNEL}/drivers/media/*",
    f"{_KERNEL}/drivers/infiniband/*",
    f"{_KERNEL}/drivers/iio/*",
    f"{_KERNEL}/drivers/staging/*",
    f"{_KERNEL}/drivers/target/*",
    f"{_KERNEL}/drivers/md/bcache/*",
    *(
        f"{_KERNEL}/drivers/scsi/{adapter}/*"
        for adapter in (
            "aacraid", "aic7xxx", "aic94xx", "be2iscsi", "bfa", "bnx2fc", "bnx2i", "cxgbi",
            "elx", "fcoe", "fnic", "hisi_sas", "ibmvscsi", "libfc", "lpfc", "megaraid", "mpi3mr",
            "mpt3sas", "mvsas", "pm8001", "qedf", "qedi", "qla2xxx", "qla4xxx", "smartpqi",
            "sym53c8xx_2",
        )
    ),
    *(
        f"{_KERNEL}/drivers/net/ethernet/{maker}/*"
        for maker in (
            "cavium", "chelsio", "cisco", "emulex", "fungible", "huawei", "mellanox", "myricom",
            "netronome", "pensando", "qlogic", "sfc", "broadcom/bnx2x", "broadcom/bnxt",
            "intel/i40e", "intel/iavf", "intel/ice", "intel/ixgbe", "intel/ixgbevf", "microsoft",
        )
    ),
    *(
        f"{_KERNEL}/fs/{name}/*"
        for name in (
            "9p", "afs", "bcachefs", "btrfs", "ceph", "coda", "dlm", "gfs2", "jfs", "nfs", "nfsd",
            "ntfs3", "ocfs2", "orangefs", "reiserfs", "smb", "ubifs", "udf", "xfs",
        )
    ),
    f"{_KERNEL}/net/ceph/*",
    f"{_KERNEL}/net/openvswitch/*",
    f"{_KERNEL}/net/sctp/*",
    f"{_KERNEL}/net/tipc/*",
)  # fmt: skip
"""Paths that dpkg does not unpack (its ``path-exclude``)."""

KEPT = ("/usr/share/doc/*/copyright", "/usr/share/locale/locale.alias")
"""Paths unpacked all the same: whoever passes a card on passes the licences on."""
