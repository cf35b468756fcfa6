"""A piano's service from its installation to its removal, on a Debian that is booted for it.

A root file system of Debian's packages (mmdebstrap) is booted in a container of systemd's own
(systemd-nspawn), with no network but its own loopback. Its microphone is a pipe of PulseAudio into
which the demo's recording is written at the pace of the clock. Then the service is treated as a
living room would not: stopped with SIGSTOP, its recognising thread frozen, killed, told to restart,
its microphone pulled out, its settings misspelt; and at last taken away. Everything that is printed
was seen from outside: by systemctl, by a subscriber at the broker, by the list of all files.

Needs root, mmdebstrap, systemd-container, pulseaudio.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

from device.service.install import package_steps
from edge.errors import DeviceError, SostenutoError
from edge.resources import demo_recording

CACHE = Path(".cache/service")
SYSTEM = (
    *("systemd", "systemd-sysv", "dbus", "udev", "passwd", "procps", "ca-certificates"),
    *("python3", "libasound2-plugins"),
)
DEVICE = "parlour"
UNIT = "sostenuto.service"

UNSTEADY = re.compile(
    r"/(proc|sys|dev|run|tmp|mnt|var/(log|tmp))(/|$)"  # in memory, or the system's own diary
    r"|/(root/\.cache|var/cache|var/lib/(apt|dpkg|systemd|mosquitto)|etc/ld\.so\.cache)"
    r"|/etc/(passwd|group|shadow|gshadow)-?$|/etc/(subuid|subgid)-?$|/etc/\.pwd\.lock$"
    r"|/etc/(machine-id|mtab|resolv\.conf|hostname|\.updated)$|/var/\.updated$"
    r"|/__pycache__(/|$)"
)
"""What changes on any Debian from hour to hour: diaries, caches, the store that mosquitto keeps
with its own configuration. Accounts are compared line by line instead of as files."""

TELLING = re.compile(r"Watchdog|Main process|File .*/edge/(listen|recogniser|ear|model)\.py")
"""What of the journal is printed: how it ended, and where the recognising thread stood."""

PTRACE_SEIZE, PTRACE_INTERRUPT, WAIT_ALL = 0x4206, 0x4207, 0x40000000

CONTROL_GROUPS = Path("/sys/fs/cgroup/cgroup.controllers")
LEGACY = (
    ()
    if CONTROL_GROUPS.exists()
    else (
        "SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1",
        "systemd.unified_cgroup_hierarchy=0",
    )
)
"""Newer systemd takes control groups of version 1, where there are no other, only if told."""

PATIENCE_S = 120.0


class Microphone:
    """PulseAudio with a pipe for a source, which hears the demo over and over."""

    def __init__(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)  # a pipe left over looks like a new one
        folder.mkdir(parents=True)
        folder.chmod(0o755)
        self._folder = folder
        samples, self._rate_hz = soundfile.read(demo_recording(), dtype="int16")
        self._samples: bytes = np.ascontiguousarray(samples).tobytes()
        self._pipe = (
            "module-pipe-source",
            f"source_name=piano file={folder}/fifo rate={self._rate_hz} channels=1 format=s16le",
        )
        self._environment = {**os.environ, "XDG_RUNTIME_DIR": str(folder), "HOME": str(folder)}
        self._over = threading.Event()
        self._server = subprocess.Popen(
            [
                *("pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1"),
                f"--load=module-native-protocol-unix auth-anonymous=1 socket={folder}/native",
                f"--load={' '.join(self._pipe)}",
            ],
            env=self._environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_for((folder / "fifo").exists, "PulseAudio")
        self._player = threading.Thread(target=self._play, daemon=True)
        self._player.start()

    def pull_out(self) -> None:
        """The source is gone."""
        self._control("unload-module", "module-pipe-source")

    def plug_in(self) -> None:
        """It is there again."""
        self._control("load-module", *self._pipe[:1], *self._pipe[1].split())

    def close(self) -> None:
        """End of the concert."""
        self._over.set()
        self._player.join(5.0)
        self._server.kill()
        self._server.wait()

    def _control(self, *words: str) -> None:
        server = f"unix:{self._folder}/native"
        subprocess.run(
            ["pactl", "-s", server, *words],
            env=self._environment,
            check=True,
            stdout=subprocess.DEVNULL,
        )

    def _play(self) -> None:
        fifo, pipe = self._folder / "fifo", -1
        began_s, written = time.monotonic(), 0
        while not self._over.wait(0.01):
            if pipe >= 0 and not fifo.exists():
                os.close(pipe)
                pipe = -1
            if pipe < 0:
                try:
                    pipe = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
                except OSError:
                    continue
            due = int((time.monotonic() - began_s) * self._rate_hz) * 2
            while written < due:
                start = written % len(self._samples)
                try:
                    part = self._samples[start : start + min(due - written, 2048)]
                    written += os.write(pipe, part)
                except BlockingIOError:
                    written = due  # the pipe is full: what was not heard is over


class Container:
    """A booted Debian."""

    def __init__(self, root: Path, binds: dict[Path, str]) -> None:
        self.root = root
        command = [
            *("systemd-nspawn", "--register=no", "--keep-unit", "--quiet", "--private-network"),
            *("--console=pipe", "-D", str(root)),
            *(f"--bind={host}:{inside}" for host, inside in binds.items()),
            *("-b", *LEGACY),
        ]
        self._nspawn = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self.init = 0
        wait_for(self._find_init, "the container's first process")
        wait_for(self._is_up, "the boot of Debian")

    def _find_init(self) -> bool:
        children = Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children")
        for child in children.read_text().split():
            try:
                if Path(f"/proc/{child}/comm").read_text().strip() == "systemd":
                    self.init = int(child)
            except OSError:
                continue
        return self.init != 0

    def _is_up(self) -> bool:
        state = self.run("systemctl", "is-system-running", check=False).strip()
        return state in ("running", "degraded")

    def run(self, *command: str, check: bool = True) -> str:
        """Run inside; standard output, and where it was refused standard error too."""
        words = ["nsenter", "--target", str(self.init), "--all", "--", *command]
        ran = subprocess.run(
            words, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
        )
        if check and ran.returncode != 0:
            raise DeviceError(
                f"{' '.join(command[:3])} ends with {ran.returncode}: "
                f"{ran.stdout[-800:]} {ran.stderr[-800:]}"
            )
        return ran.stdout if check else ran.stdout + ran.stderr

    def show(self, *properties: str) -> list[str]:
        """What systemd says of the service."""
        found = self.run("systemctl", "show", UNIT, *(f"--property={each}" for each in properties))
        said = dict(line.partition("=")[::2] for line in found.splitlines())
        return [said[each] for each in properties]

    @property
    def restarts(self) -> int:
        """How often systemd started it again by itself."""
        return int(self.show("NRestarts")[0])

    @property
    def process(self) -> int:
        """The service's process, by the number it has outside."""
        inside = self.show("MainPID")[0]
        for status in Path("/proc").glob("[0-9]*/status"):
            try:
                text = status.read_text()
            except OSError:
                continue
            numbers = re.search(r"^NSpid:\s+(\d+)\s+(\d+)$", text, re.MULTILINE)
            if numbers and numbers[2] == inside and _same_space(int(numbers[1]), self.init):
                return int(numbers[1])
        raise DeviceError(f"no process for the service's {inside}")

    def journal(self, since_s: float) -> list[str]:
        """What the service and systemd wrote since then."""
        since = f"--since=@{since_s:.0f}"
        return self.run("journalctl", "-q", "-o", "cat", since, "-u", UNIT).splitlines()

    def files(self) -> dict[str, str]:
        """Every steady file with its kind, size, mode and owner; and the names of users."""
        found = {}
        for folder, folders, files in os.walk(self.root):
            for name in (*folders, *files):
                path = Path(folder) / name
                inside = "/" + str(path.relative_to(self.root))
                if UNSTEADY.search(inside):
                    continue
                status = path.lstat()
                size = 0 if path.is_dir() else status.st_size
                found[inside] = f"{status.st_mode:o} {status.st_uid}:{status.st_gid} {size}"
        for table in ("passwd", "group"):
            for line in (self.root / "etc" / table).read_text().splitlines():
                found[f"{table}: {line.partition(':')[0]}"] = line
        return found

    def close(self) -> None:
        """Switch it off."""
        self.run("systemctl", "poweroff", check=False)
        try:
            self._nspawn.wait(30.0)
        except subprocess.TimeoutExpired:
            os.kill(self.init, signal.SIGKILL)  # and with it all of its processes
            self._nspawn.wait(10.0)


def _same_space(process: int, init: int) -> bool:
    try:
        spaces = [Path(f"/proc/{each}/ns/pid").readlink() for each in (process, init)]
    except OSError:
        return False
    return spaces[0] == spaces[1]


class Subscriber:
    """Who looks at the piano from beside it, with the account that dashboards are given."""

    WATCH = """
import sys, json, paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
at = paho.Client(CallbackAPIVersion.VERSION2)
at.username_pw_set("dashboard", sys.argv[1])
at.on_connect = lambda c, *_: c.subscribe("sostenuto/v1/#")
def tell(c, u, m):
    print(m.topic.split("/", 3)[3], m.payload.decode(), flush=True)
at.on_message = tell
at.connect_async("127.0.0.1", 1883)
at.reconnect_delay_set(1, 1)
at.loop_start()
for line in sys.stdin:
    topic, _, payload = line.partition(" ")
    at.publish("sostenuto/v1/" + sys.argv[2] + "/" + topic, payload, qos=1)
"""

    def __init__(self, container: Container) -> None:
        password = container.root / "etc/mosquitto/sostenuto/accounts/dashboard/password"
        self._process = subprocess.Popen(
            [
                *("nsenter", "--target", str(container.init), "--net", "--"),
                *(sys.executable, "-c", self.WATCH, password.read_text().strip(), DEVICE),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.notes = 0
        self.audio = ""
        self.piece = ""
        self.boot = ""
        self.events: list[dict[str, object]] = []
        self.self_test: dict[str, object] = {}
        threading.Thread(target=self._read, daemon=True).start()

    def send(self, topic: str, payload: object) -> None:
        """Publish to the piano."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{topic} {json.dumps(payload)}\n")
        self._process.stdin.flush()

    def close(self) -> None:
        """Look no more."""
        self._process.kill()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            topic, _, payload = line.partition(" ")
            if not payload.startswith("{"):
                continue
            message = json.loads(payload)
            if topic == "notes" and not message["historical"]:
                self.notes += sum(note["state"] == "confirmed" for note in message["notes"])
                self.boot = message["boot"]
            if topic == "piece" and message["state"] == "matched":
                self.piece = message["title"]
            if topic == "event":
                self.events.append(message)
            if topic == "health":
                self.audio = message["audio"]
            if topic == "self_test":
                self.self_test = message


def freeze(thread: int) -> None:
    """One thread of a process stands still until it dies, all others go on: as an inference that
    hangs."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    trouble: list[int] = []
    done = threading.Event()

    def hold() -> None:
        for request in (PTRACE_SEIZE, PTRACE_INTERRUPT):
            if libc.ptrace(request, thread, None, None) != 0:
                trouble.append(ctypes.get_errno())
        done.set()
        # Whoever traces is told of a death first, and has to take note of it.
        while not trouble and os.WIFSTOPPED(os.waitpid(thread, WAIT_ALL)[1]):
            pass

    threading.Thread(target=hold, daemon=True).start()
    done.wait()
    if trouble:
        raise DeviceError(f"thread {thread} cannot be frozen: {os.strerror(trouble[0])}")


def wait_for(there: Callable[[], object], what: str, within_s: float = PATIENCE_S) -> float:
    """Wait until ``there``; the seconds it took."""
    began_s = time.monotonic()
    while not there():
        if time.monotonic() - began_s > within_s:
            raise DeviceError(f"waited {within_s:.0f} s in vain for {what}")
        time.sleep(0.1)
    return time.monotonic() - began_s


def say(what: str, found: str) -> None:
    """One line of the log."""
    print(f"{what:<44} {found}", flush=True)


def root_file_system(suite: str, mirror: str | None, folder: Path) -> None:
    """Debian in ``folder``, of packages that were fetched once."""
    packed = CACHE / f"{suite}.tar"
    if not packed.exists():
        packed.parent.mkdir(parents=True, exist_ok=True)
        fresh = packed.with_suffix(".new.tar")
        (ours,) = package_steps()
        packages = ",".join((*SYSTEM, *ours.names))
        words = ["mmdebstrap", "--variant=minbase", f"--include={packages}", suite, str(fresh)]
        subprocess.run([*words, *([mirror] if mirror else [])], check=True)
        fresh.replace(packed)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    subprocess.run(["tar", "-xf", str(packed), "-C", str(folder)], check=True)


def all_wheels(python: str) -> Path:
    """Our wheel as it is now, and those it depends on, for one version of Python."""
    folder = CACHE / f"wheels-{python}"
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("sostenuto-*.whl"):
        old.unlink()
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(folder), "."], check=True
    )
    if len(list(folder.glob("*.whl"))) == 1:
        only = ("--only-binary", ":all:", "--python-version", python)
        (own,) = folder.glob("sostenuto-*.whl")
        subprocess.run([*pip, "download", *only, "-d", str(folder), str(own)], check=True)
    return folder


def prepare(root: Path, sound: Path) -> None:
    """What stands for hardware: the way to the microphone."""
    (root / "etc/asound.conf").write_text("pcm.piano { type pulse device piano }\n")
    drop_in = root / f"etc/systemd/system/{UNIT}.d"
    drop_in.mkdir(parents=True)
    (drop_in / "proof.conf").write_text(
        f"[Service]\nEnvironment=PULSE_SERVER=unix:{sound}/native\n"
    )


def install_twice(container: Container) -> None:
    """As a person does it who has a wheel."""
    bootstrap = "/run/bootstrap"
    container.run("python3", "-m", "venv", bootstrap)
    container.run(
        f"{bootstrap}/bin/pip",
        "install",
        "-q",
        "--no-index",
        "--no-cache-dir",
        "--find-links",
        "/mnt/wheels",
        "sostenuto",
    )
    command = (
        f"{bootstrap}/bin/sostenuto-device",
        "install",
        "--wheels",
        "/mnt/wheels",
        "--device",
        DEVICE,
        "--mic",
        "piano",
    )
    dry = container.run(*command, "--dry-run").splitlines()
    say("install --dry-run", f"{len(dry) - 1} changes, {dry[-1]}")
    began_s = time.monotonic()
    first = container.run(*command).splitlines()
    took_s = time.monotonic() - began_s
    say("install", f"{sum(line.startswith('+') for line in first)} changes in {took_s:.1f} s")
    for line in first:
        print(f"    {line}")
    began_s = time.monotonic()
    again = container.run(*command).splitlines()
    say("install once more", f"{again[-1]} ({time.monotonic() - began_s:.1f} s)")


PAGE = """
import json, sys, threading, urllib.request
import paho.mqtt.client as paho
where = json.load(urllib.request.urlopen("http://127.0.0.1:8480/api/where"))
said, denied = set(), threading.Event()
at = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5, transport="websockets")
at.ws_set_options("/mqtt", lambda head: {**head, "Origin": "http://127.0.0.1:8480"})
at.username_pw_set(where["username"], where["password"])
below = f"sostenuto/v1/{where['device']}/"
def begin(client, *_):
    client.subscribe(below + "#", 1)
    client.publish(below + "cmd/health", json.dumps({"value": None, "transaction": "page"}), 1)
    client.publish(below + "notes", "{}", 1)
at.on_connect = begin
at.on_message = lambda c, u, m: said.add(m.topic.removeprefix(below))
at.on_publish = lambda c, u, mid, reason, p: denied.set() if reason.is_failure else None
at.connect("127.0.0.1", 8480)
at.loop_start()
for _ in range(100):
    if "rsp/health" in said and denied.wait(0.1):
        break
    threading.Event().wait(0.1)
print(where["username"], "sees", *sorted(said), "and may" + " not" * denied.is_set(), "write notes")
sys.exit("rsp/health" not in said or not denied.is_set())
"""


def page_opens(container: Container) -> None:
    """The dashboard shows this piano and commands it, with the account that came with it."""
    words = ["nsenter", "--target", str(container.init), "--net", "--", sys.executable, "-c", PAGE]
    ran = subprocess.run(words, capture_output=True, text=True, check=False)
    if ran.returncode != 0:
        raise DeviceError(f"the dashboard is of no use: {ran.stdout}{ran.stderr}")
    say("the page at port 8480", ran.stdout.strip())


def tests_itself(container: Container, piano: Subscriber) -> None:
    """The full self-test from afar: beside the listening, and less important than it."""
    notes = piano.notes
    piano.send("cmd/self_test", {"value": "full", "transaction": "full"})
    gentle = 0

    def told() -> bool:
        nonlocal gentle
        shown = container.run("ps", "-eo", "ni,args", check=False)
        gentle = max(gentle, *map(int, re.findall(r"^\s*(-?\d+) .*selftest", shown, re.M)), 0)
        return bool(piano.self_test)

    took_s = wait_for(told, "what the full self-test found", 200.0)
    checks = piano.self_test["checks"]
    assert isinstance(checks, list)
    failed = [f"{c['name']}: {c['text']}" for c in checks if not c["passed"]]
    say(
        "full self-test, asked for over MQTT",
        f"{len(checks)} checks in {took_s:.0f} s at nice {gentle}, {piano.notes - notes} notes "
        f"heard meanwhile; failed: {'; '.join(failed) or 'none'}",
    )


def look(container: Container, piano: Subscriber) -> None:
    """How the service is while all is well."""
    before, heard_s = piano.notes, wait_for(lambda: piano.notes > 0, "the first note")
    say("first note after", f"{heard_s:.1f} s")
    cpu_before = _cpu_s(container.process)
    time.sleep(30.0)
    status = Path(f"/proc/{container.process}/status").read_text()
    memory = {
        key: int(re.search(rf"^{key}:\s+(\d+) kB", status, re.MULTILINE)[1]) / 1024  # type: ignore[index]
        for key in ("VmRSS", "VmHWM")
    }
    used = (_cpu_s(container.process) - cpu_before) / 30.0
    state, sub, text = container.show("ActiveState", "SubState", "StatusText")
    say("state", f"{state} ({sub}): {text}")
    say("memory", f"{memory['VmRSS']:.0f} MB, at most {memory['VmHWM']:.0f} MB")
    say("share of a core", f"{used:.3f}")
    say("notes in 30 s, and what they are", f"{piano.notes - before}, {piano.piece}")
    exposure = container.run("systemd-analyze", "security", "--no-pager", UNIT, check=False)
    say("systemd-analyze security", exposure.splitlines()[-1].strip("→ "))
    caps = re.search(r"^CapEff:\s+(\w+)$", status, re.MULTILINE)
    privileges = re.search(r"^NoNewPrivs:\s+(\d)$", status, re.MULTILINE)
    say("capabilities, no new privileges", f"{caps and caps[1]}, {privileges and privileges[1]}")


def _cpu_s(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def comes_back(
    container: Container, piano: Subscriber, what: str, hurt: Callable[[], object]
) -> None:
    """The service is hurt; how long until it is started again, and until the next note."""
    restarts, boot, since_s, began_s = container.restarts, piano.boot, time.time(), time.monotonic()
    hurt()
    ended_s = wait_for(lambda: container.restarts > restarts, f"a restart after {what}")
    wait_for(lambda: container.show("ActiveState")[0] == "active", "an active service")
    wait_for(lambda: piano.boot not in ("", boot), "notes after it")
    heard_s = time.monotonic() - began_s
    say(what, f"started again after {ended_s:.1f} s, notes again after {heard_s:.1f} s")
    for line in container.journal(since_s):
        if TELLING.search(line):
            print(f"    {line[:150]}")


def stays(container: Container, piano: Subscriber, microphone: Microphone) -> None:
    """A microphone that is away ends nothing, for longer than any watchdog waits."""
    restarts = container.restarts
    microphone.pull_out()
    lost_s = wait_for(lambda: piano.audio == "lost", "health that says lost")
    time.sleep(75.0)
    text, state = container.show("StatusText", "ActiveState")
    more = container.restarts - restarts
    say("microphone pulled out", f"lost after {lost_s:.1f} s; 75 s later {state}, {more} restarts")
    say("", text)
    microphone.plug_in()
    heard = piano.notes
    back_s = wait_for(lambda: piano.notes > heard, "notes of the microphone that is back")
    say("plugged in again", f"notes after {back_s:.1f} s, {container.restarts - restarts} restarts")


def begins_without(container: Container, piano: Subscriber, microphone: Microphone) -> None:
    """Started while there is no microphone at all."""
    microphone.pull_out()
    began_s = time.monotonic()
    container.run("systemctl", "restart", UNIT)
    ready_s = time.monotonic() - began_s
    wait_for(lambda: "lost" in container.show("StatusText")[0], "a status that says lost")
    restarts, text = container.show("NRestarts", "StatusText")
    say("started without a microphone", f"ready after {ready_s:.1f} s, {restarts} restarts: {text}")
    microphone.plug_in()
    heard = piano.notes
    say("plugged in", f"notes after {wait_for(lambda: piano.notes > heard, 'notes'):.1f} s")


def misspelt(container: Container, piano: Subscriber) -> None:
    """Settings that cannot be read: neither a storm nor the end."""
    settings = container.root / "var/lib/sostenuto/settings.toml"
    text = settings.read_text()
    settings.write_text(text.replace("mic =", "micropone ="))
    restarts, since_s = container.restarts, time.time()
    container.run("systemctl", "restart", UNIT, check=False)
    time.sleep(40.0)
    count = container.restarts - restarts
    said = next((line for line in container.journal(since_s) if "micropone" in line), "nothing")
    say("settings misspelt for 40 s", f"{container.restarts} starts again; {said[:90]}")
    settings.write_text(text)
    boot = piano.boot
    back_s = wait_for(lambda: piano.boot not in ("", boot), "notes with the settings mended")
    say("settings mended", f"notes after {back_s:.1f} s, nobody started it ({count} before)")


def take_away(container: Container, before: dict[str, str]) -> bool:
    """Whether not one file is left."""
    said = container.run("/usr/local/bin/sostenuto-device", "uninstall", "--yes").splitlines()
    say("uninstall", f"{sum(line.startswith('-') for line in said)} things taken away")
    container.run("rm", "-rf", "/run/bootstrap")
    after = container.files()
    left = sorted(after.keys() - before.keys())
    gone = sorted(before.keys() - after.keys())
    other = sorted(key for key in before.keys() & after.keys() if before[key] != after[key])
    say("files before, after", f"{len(before)}, {len(after)}")
    say(
        "left, missing, changed",
        f"{left[:9] or 'none'}, {gone[:9] or 'none'}, {other[:9] or 'none'}",
    )
    state = container.run("systemctl", "is-active", "mosquitto.service", UNIT, check=False).split()
    say("mosquitto with its own settings, the service", ", ".join(state))
    return not (left or gone or other)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--suite", default="bookworm", help="Debian's: bookworm or trixie.")
    parser.add_argument("--python", default="3.11", help="That of the suite.")
    parser.add_argument("--mirror", help="Debian's mirror.  [default: deb.debian.org]")
    parser.add_argument("--work", type=Path, default=CACHE / "life")
    options = parser.parse_args()
    root, sound = (options.work / "root").resolve(), (options.work / "sound").resolve()
    root_file_system(options.suite, options.mirror, root)
    wheels = all_wheels(options.python).resolve()
    prepare(root, sound)
    microphone = Microphone(sound)
    container = None
    try:
        began_s = time.monotonic()
        container = Container(root, {wheels: "/mnt/wheels", sound: str(sound)})
        version = container.run("systemctl", "--version").splitlines()[0]
        say("Debian is up", f"{options.suite}, {version}, {time.monotonic() - began_s:.1f} s")
        before = container.files()
        install_twice(container)
        piano = Subscriber(container)
        try:
            look(container, piano)
            page_opens(container)
            tests_itself(container, piano)

            def hang() -> None:
                os.kill(container.process, signal.SIGSTOP)

            def stall() -> None:
                freeze(container.process)

            comes_back(container, piano, "SIGSTOP of the whole", hang)
            comes_back(container, piano, "the recognising thread frozen", stall)
            comes_back(
                container, piano, "kill -9", lambda: os.kill(container.process, signal.SIGKILL)
            )
            asked = {"value": None, "transaction": "proof"}
            comes_back(
                container, piano, "command restart", lambda: piano.send("cmd/restart", asked)
            )
            stays(container, piano, microphone)
            begins_without(container, piano, microphone)
            misspelt(container, piano)
        finally:
            piano.close()
        clean = take_away(container, before)
    except (SostenutoError, subprocess.CalledProcessError) as error:
        sys.stderr.write(f"{error}\n")
        if container is not None:
            sys.stderr.write("\n".join(container.journal(0)[-25:]) + "\n")
        return 1
    finally:
        microphone.close()
        if container is not None:
            container.close()
    return 0 if clean else 1


if __name__ == "__main__":
    sys.exit(main())
