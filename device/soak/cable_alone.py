"""A piano without a network, and a computer on a cable into it: does the computer find it?

    python -m device.soak.cable_alone --minutes 3          # as root

NetworkManager and Avahi, the real ones, with the profile and the manners of a card, in a network
of their own; the other end of their cable is a computer with nothing but a link-local address and
no router or DHCP server anywhere. Twice a second it asks by mDNS for ``parlour.local`` and opens
the dashboard at what it is told. Nothing of this machine's own network is touched.
"""

from __future__ import annotations

import argparse
import http.client
import os
import shutil
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

from device.firstboot.network import CABLE
from device.firstboot.steps import shipped
from device.service.place import Place

NAME = "parlour"
PORT = 8480
OWN_ADDRESS = "169.254.77.1"
MULTICAST = ("224.0.0.251", 5353)
FIRST_S = 60.0
EVERY_S = 0.5
PROGRAMS = ("ip", "unshare", "NetworkManager", "nmcli", "avahi-daemon", "dbus-daemon")

PIANO = f"""\
set -e
hostname {NAME}
mount -o remount,ro,bind /sys   # NetworkManager waits for no udev where this cannot be written
for folder in /run /etc/NetworkManager /var/lib/NetworkManager; do mount -t tmpfs none $folder; done
mkdir -p /run/dbus /etc/NetworkManager/conf.d
"$0" -m device.soak.cable_alone --lay
dbus-daemon --system --fork --nopidfile
NetworkManager --no-daemon &
avahi-daemon --no-drop-root --no-chroot --no-rlimits >/dev/null 2>&1 &
until nmcli device set eth0 managed yes 2>/dev/null; do sleep 0.2; done  # a cable without a socket
exec "$0" -m edge.cli dashboard --device {NAME} --port {PORT}
"""


def ask_for_address() -> str | None:
    """The address of the piano's name, as mDNS tells it (RFC 6762, an answer to us alone)."""
    label = bytes([len(NAME)]) + NAME.encode() + b"\x05local\x00"
    question = struct.pack(">6H", 0, 0, 1, 0, 0, 0) + label + struct.pack(">HH", 1, 0x8001)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.bind((OWN_ADDRESS, 0))
        asking.settimeout(1.0)
        multicast = socket.inet_aton(OWN_ADDRESS)
        asking.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, multicast)
        try:
            asking.sendto(question, MULTICAST)
            answer, _ = asking.recvfrom(1500)
        except OSError:
            return None
    return socket.inet_ntoa(answer[-4:])


def page_is_there(address: str) -> bool:
    """Whether the dashboard opens there, called by its name."""
    there = http.client.HTTPConnection(address, PORT, timeout=2.0)
    try:
        there.request("GET", "/", headers={"Host": f"{NAME}.local:{PORT}"})
        answer = there.getresponse()
        return answer.status == http.HTTPStatus.OK and b"<title>" in answer.read()
    except OSError:
        return False
    finally:
        there.close()


def computer(minutes: float) -> int:
    """Look for the piano; 0 when it was there all the time after it was first."""
    began_s = time.monotonic()
    first_s: float | None = None
    looks = missed = 0
    addresses = set()
    while (now_s := time.monotonic() - began_s) < FIRST_S + 60.0 * minutes:
        address = ask_for_address()
        found = address is not None and page_is_there(address)
        if first_s is None and not found and now_s > FIRST_S:
            break
        if first_s is None and found:
            first_s = now_s
        if first_s is not None:
            looks, missed = looks + 1, missed + (not found)
            addresses.add(address)
            if now_s - first_s > 60.0 * minutes:
                break
        time.sleep(EVERY_S)
    if first_s is None:
        print(f"{NAME}.local was not found in {FIRST_S:.0f} s")
        return 1
    print(
        f"{NAME}.local found after {first_s:.1f} s at {', '.join(map(str, addresses))}; then asked "
        f"{looks} times in {minutes:g} min, missed {missed} times"
    )
    return 0 if missed == 0 else 1


def both_ends(minutes: float) -> int:
    """A cable with a piano at one end and a computer at the other."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        print(f"this needs root, and {', '.join(missing) or 'nothing else'}", file=sys.stderr)
        return 2
    ends = [f"sostenuto-{name}-{os.getpid()}" for name in ("piano", "computer")]
    piano, here = ends
    try:
        for end in ends:
            _ip("netns", "add", end)
            _ip("-n", end, "link", "set", "lo", "up")
        _ip(
            "link", "add", "s0", "netns", piano, "type", "veth", "peer", "name", "s1", "netns", here
        )
        _ip("-n", piano, "link", "set", "s0", "name", "eth0")
        _ip("-n", here, "addr", "add", f"{OWN_ADDRESS}/16", "dev", "s1")
        _ip("-n", here, "link", "set", "s1", "up")
        _ip("-n", here, "route", "add", "224.0.0.0/4", "dev", "s1")
        apart = ["ip", "netns", "exec", piano, "unshare", "--mount", "--uts", "--pid", "--fork"]
        apart += ["--kill-child", "--mount-proc", "bash", "-c", PIANO, sys.executable]
        with subprocess.Popen(apart, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as there:
            command = [sys.executable, "-m", "device.soak.cable_alone", "--look", str(minutes)]
            done = subprocess.run(["ip", "netns", "exec", here, *command], check=False)
            there.kill()  # unshare keeps SIGTERM from itself
        return done.returncode
    finally:
        for end in ends:
            _take_away(end)


def _take_away(end: str) -> None:
    """Busy until the last of its programs is gone."""
    for _ in range(50):
        if subprocess.run(["ip", "netns", "del", end], capture_output=True, check=False).returncode:
            time.sleep(0.1)
        else:
            return


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def lay() -> None:
    """What a card lays under /etc, for the piano's end."""
    CABLE.keep(Place())
    conf = Path("/etc/NetworkManager/conf.d/sostenuto.conf")
    conf.write_text(shipped("NetworkManager.conf"), encoding="utf-8")


def main() -> int:
    """Both ends, or the one that is asked for by the other."""
    reading = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    reading.add_argument("--minutes", type=float, default=3.0)
    reading.add_argument("--look", type=float, help=argparse.SUPPRESS)
    reading.add_argument("--lay", action="store_true", help=argparse.SUPPRESS)
    wished = reading.parse_args()
    if wished.lay:
        lay()
        return 0
    return computer(wished.look) if wished.look is not None else both_ends(wished.minutes)


if __name__ == "__main__":
    sys.exit(main())
