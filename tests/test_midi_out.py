"""Keys go out as they were heard, none hangs, and nobody waits for a port.

The ports are real: ALSA's sequencer where the machine has one, or else a JACK server of the test's
own, which needs no sound card.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.audio.block import MidiBlock
from edge.audio.source import SourceEventKind
from edge.cli.listen import ListenOptions, check, make_midi_out, run
from edge.errors import DeviceError, UsageError
from edge.matching.pack import pack_scores, write_pack
from edge.midi import MidiPortSource, open_rtmidi, write_midi
from edge.midi_out import MOST_WAITING, VIRTUAL, Keys, MidiOut
from edge.note import NoteEvent, NoteState, NoteUpdate, PedalEvent
from edge.settings import Settings
from tests.tunes import made_up_score

SEQUENCER = Path("/dev/snd/seq")
PEDAL_UP, ALL_OFF = b"\xb0\x40\x00", b"\xb0\x7b\x00"


def step(number: int, state: NoteState, pitch: int = 60, velocity: int = 80) -> NoteUpdate:
    return NoteUpdate(number, state, NoteEvent(pitch, 1.0, None, velocity, 0.9))


def sent(keys: Keys, *events: object) -> list[bytes]:
    return [message for event in events for message in keys.push(event)]


def test_a_confirmed_note_strikes_and_its_end_lets_go() -> None:
    life = [step(1, state) for state in (NoteState.PROVISIONAL, NoteState.CONFIRMED)]
    assert sent(Keys(), *life, step(1, NoteState.ENDED)) == [b"\x90\x3c\x50", b"\x80\x3c\x40"]


def test_the_pedal_is_controller_64() -> None:
    moves = PedalEvent(1.0, True), PedalEvent(2.0, False)
    assert sent(Keys(), *moves) == [b"\xb0\x40\x7f", PEDAL_UP]


def test_a_key_struck_again_is_let_go_first_and_its_old_note_ends_nothing() -> None:
    keys = Keys()
    first, again = step(1, NoteState.CONFIRMED), step(2, NoteState.CONFIRMED)
    assert sent(keys, first, again)[1:] == [b"\x80\x3c\x40", b"\x90\x3c\x50"]
    assert sent(keys, step(1, NoteState.ENDED)) == []
    assert sent(keys, step(2, NoteState.ENDED)) == [b"\x80\x3c\x40"]


def test_provisional_notes_go_out_if_asked_are_not_struck_twice_and_are_taken_back() -> None:
    keys = Keys(provisional=True)
    guessed, sure = step(1, NoteState.PROVISIONAL), step(1, NoteState.CONFIRMED)
    assert sent(keys, guessed, sure) == [b"\x90\x3c\x50"]
    wrong = step(2, NoteState.PROVISIONAL, 72), step(2, NoteState.WITHDRAWN, 72)
    assert sent(keys, *wrong) == [b"\x90\x48\x50", b"\x80\x48\x40"]
    moved = step(3, NoteState.PROVISIONAL, 64), step(3, NoteState.CONFIRMED, 65)
    assert sent(keys, *moved) == [b"\x90\x40\x50", b"\x80\x40\x40", b"\x90\x41\x50"]


def test_silence_lets_go_of_every_key_and_the_pedal() -> None:
    keys = Keys()
    sent(keys, step(1, NoteState.CONFIRMED, 60), step(2, NoteState.CONFIRMED, 64))
    assert keys.silence() == [b"\x80\x3c\x40", b"\x80\x40\x40", PEDAL_UP, ALL_OFF]
    assert sent(keys, step(1, NoteState.ENDED, 60)) == []


class StuckPort:
    """A port that takes nothing until it is let go; no real one can be made to."""

    def __init__(self) -> None:
        self.free = threading.Event()
        self.taken: list[bytes] = []

    def open_virtual_port(self, name: str) -> None: ...

    def send_message(self, message: bytes) -> None:
        self.free.wait(20.0)
        self.taken.append(message)

    def close_port(self) -> None: ...

    def delete(self) -> None: ...


def test_who_listens_never_waits_for_a_port_and_nothing_hangs_afterwards() -> None:
    port = StuckPort()
    out = MidiOut(VIRTUAL, open_port=lambda: port)
    out.open()
    began_s = time.monotonic()
    for number in range(3 * MOST_WAITING):
        out.push([step(number, NoteState.CONFIRMED, 21 + number % 88)])
    assert time.monotonic() - began_s < 1.0
    port.free.set()
    out.close()
    held: set[int] = set()
    for status, key, _ in port.taken:
        if status == 0x90:
            held.add(key)
        elif status == 0x80:
            held.remove(key)
    assert held == set()
    assert port.taken[-1] == ALL_OFF
    assert len(port.taken) < 3 * MOST_WAITING


# -- real ports


@pytest.fixture(scope="module")
def midi_system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """ALSA's sequencer, or a JACK server that only this test knows of."""
    if SEQUENCER.exists():
        yield
        return
    jackd = shutil.which("jackd")
    if jackd is None:
        pytest.skip(f"neither {SEQUENCER} nor jackd is here: apt-get install jackd2")
    name = f"sostenuto-{os.getpid()}"
    before = os.environ.get("JACK_DEFAULT_SERVER")
    os.environ["JACK_DEFAULT_SERVER"] = name
    log = tmp_path_factory.mktemp("jack") / "jackd.log"
    waits = ["-S", "-t", "10000"]  # for a late program; without it, what it sent is lost
    command = [jackd, "-n", name, "-r", *waits, "-d", "dummy", "-r", "48000", "-p", "256"]
    with log.open("wb") as said, subprocess.Popen(command, stdout=said, stderr=said) as server:
        until_s = time.monotonic() + 20.0
        while not _answers():
            if server.poll() is not None or time.monotonic() > until_s:
                server.kill()
                pytest.skip(f"jackd does not start here: {log.read_text(errors='replace')[-200:]}")
            time.sleep(0.1)
        yield
        server.terminate()
    if before is None:
        del os.environ["JACK_DEFAULT_SERVER"]
    else:
        os.environ["JACK_DEFAULT_SERVER"] = before


def _answers() -> bool:
    try:
        open_rtmidi().delete()
    except DeviceError:
        return False
    return True


class Synth:
    """Another program with a MIDI input of its own."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self._port = open_rtmidi()
        self._port.set_callback(lambda event, _: self.got.append(bytes(event[0])))
        self._port.open_virtual_port("keys")

    def unplug(self) -> None:
        self._port.cancel_callback()
        self._port.close_port()
        self._port.delete()


@pytest.fixture
def synth(midi_system: None) -> Iterator[Synth]:
    plugged = Synth()
    yield plugged
    plugged.unplug()


Waits = Callable[[Callable[[], Any], str], None]


def test_a_virtual_port_is_heard_by_whoever_connects_to_it(
    midi_system: None, wait_until: Waits
) -> None:
    out = MidiOut(VIRTUAL)
    out.open()
    heard = MidiPortSource("sostenuto:piano")
    heard.open()
    steps: list[object] = []

    def listen() -> None:
        for item in heard.items():
            if isinstance(item, MidiBlock):
                steps.extend(item.events)

    listening = threading.Thread(target=listen, daemon=True)
    listening.start()
    out.push([PedalEvent(0.9, True), step(1, NoteState.CONFIRMED, 60, 33)])
    out.push([step(2, NoteState.CONFIRMED, 64, 101)])
    wait_until(lambda: len(steps) == 3, "the pedal and two keys")
    out.close()
    wait_until(lambda: len(steps) == 6, "their ends")
    heard.stop()
    listening.join(5.0)
    heard.close()
    struck = [s.note for s in steps if isinstance(s, NoteUpdate) and s.note.offset_s is None]
    assert [(n.pitch_midi, n.velocity) for n in struck] == [(60, 33), (64, 101)]
    assert [s.down for s in steps if isinstance(s, PedalEvent)] == [True, False]


def test_a_port_that_is_unplugged_is_told_of_and_found_again(
    midi_system: None, wait_until: Waits
) -> None:
    synth = Synth()
    out = MidiOut("keys", watch_s=0.05)
    out.open()
    kinds: list[SourceEventKind] = []

    def told(kind: SourceEventKind) -> bool:
        kinds.extend(fault.kind for fault in out.faults())
        return kinds[-1:] == [kind]

    out.push([step(1, NoteState.CONFIRMED, 60)])
    wait_until(lambda: synth.got, "the first note")
    synth.unplug()
    wait_until(lambda: told(SourceEventKind.DEVICE_LOST), "the loss")
    out.push([step(2, NoteState.CONFIRMED, 62)])
    synth = Synth()
    wait_until(lambda: told(SourceEventKind.DEVICE_RECOVERED), "the return")
    out.push([step(3, NoteState.CONFIRMED, 64)])
    wait_until(lambda: b"\x90\x40\x50" in synth.got, "a note after the return")
    out.close()
    assert b"\x90\x3e\x50" not in synth.got  # what nobody could hear is not played later
    assert kinds == [SourceEventKind.DEVICE_LOST, SourceEventKind.DEVICE_RECOVERED]
    synth.unplug()


def test_a_file_that_is_listened_to_plays_on_another_instrument(
    synth: Synth, tmp_path: Path, wait_until: Waits
) -> None:
    notes = [NoteEvent(60 + i, i * 0.1, i * 0.1 + 0.3, 50 + i, 1.0) for i in range(8)]
    write_midi(tmp_path / "played.mid", notes, [PedalEvent(0.2, True)], end_s=1.2)
    write_pack(pack_scores([made_up_score(1)]), tmp_path / "catalogue")
    run(
        ListenOptions(
            file=tmp_path / "played.mid",
            midi_out="keys",
            no_mqtt=True,
            catalog=tmp_path / "catalogue",
        ),
        "0",
    )
    wait_until(lambda: synth.got[-1:] == [ALL_OFF], "the end")
    struck = [(key, velocity) for status, key, velocity in synth.got if status == 0x90]
    let_go = [key for status, key, _ in synth.got if status == 0x80]
    assert struck == [(n.pitch_midi, n.velocity) for n in notes]
    assert let_go == [n.pitch_midi for n in notes]
    assert synth.got[2:4].count(b"\xb0\x40\x7f") == 1


def test_a_port_that_is_not_there_is_named(midi_system: None) -> None:
    with pytest.raises(DeviceError, match="no MIDI output named 'Roland'; there are: "):
        MidiOut("Roland").open()


# -- the command line


def test_a_port_is_chosen_by_the_command_line_or_else_by_the_settings() -> None:
    kept = Settings(midi_out="Roland", midi_out_provisional=True)
    out = make_midi_out(ListenOptions(midi_out="Nord"), kept)
    assert out is not None
    assert out.wanted == "Nord"
    assert make_midi_out(ListenOptions(), Settings()) is None


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(UsageError, match="pace of real time; leave out --fast"):
        check(ListenOptions(file=Path("a.wav"), fast=True, midi_out="x"))
    with pytest.raises(UsageError, match="give --midi-out PORT"):
        make_midi_out(ListenOptions(midi_out_provisional=True), Settings())
    with pytest.raises(UsageError, match="provisional = false"):
        make_midi_out(
            ListenOptions(midi_out="x", midi_out_provisional=True), Settings(provisional=False)
        )
