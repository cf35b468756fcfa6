from __future__ import annotations

import struct
import threading
from pathlib import Path
from typing import Any

import mido
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.audio.block import MidiBlock
from edge.audio.source import SourceEvent, SourceEventKind
from edge.errors import DeviceError, InputError, UsageError
from edge.midi import (
    Keyboard,
    MidiFileSource,
    MidiPortSource,
    MidiWriter,
    StatusBytes,
    choose_by_name,
    read_midi,
    stable_port_name,
    write_midi,
)
from edge.note import NoteEvent, NoteState, NoteUpdate, PedalEvent


def on(note: int, velocity: int = 64, channel: int = 0) -> Any:
    return mido.Message("note_on", note=note, velocity=velocity, channel=channel)


def off(note: int, channel: int = 0) -> Any:
    return mido.Message("note_off", note=note, channel=channel)


def pedal(value: int) -> Any:
    return mido.Message("control_change", control=64, value=value)


def ended(steps: list[NoteUpdate | PedalEvent]) -> list[tuple[int, float | None]]:
    return [
        (s.note.pitch_midi, s.note.offset_s)
        for s in steps
        if isinstance(s, NoteUpdate) and s.state is NoteState.ENDED
    ]


def test_a_key_down_is_a_confirmed_note_and_a_key_up_ends_it() -> None:
    keyboard = Keyboard()
    (struck,) = keyboard.push(on(60, 90), 1.0)
    (over,) = keyboard.push(off(60), 1.5)
    assert struck == NoteUpdate(0, NoteState.CONFIRMED, NoteEvent(60, 1.0, None, 90, 1.0))
    assert over == NoteUpdate(0, NoteState.ENDED, NoteEvent(60, 1.0, 1.5, 90, 1.0))


def test_velocity_0_ends_a_note() -> None:
    keyboard = Keyboard()
    keyboard.push(on(60), 0.0)
    assert ended(keyboard.push(on(60, 0), 0.5)) == [(60, 0.5)]


def test_the_pedal_is_told_beside_the_notes_which_end_with_their_keys() -> None:
    keyboard = Keyboard()
    keyboard.push(on(60), 0.0)
    assert keyboard.push(pedal(127), 0.1) == [PedalEvent(0.1, True)]
    assert keyboard.push(pedal(100), 0.2) == []
    assert ended(keyboard.push(off(60), 0.5)) == [(60, 0.5)]
    assert keyboard.push(pedal(0), 2.0) == [PedalEvent(2.0, False)]


def test_a_key_struck_again_before_it_came_up_gives_two_notes() -> None:
    keyboard = Keyboard()
    keyboard.push(on(60), 0.1)
    steps = keyboard.push(on(60), 0.7)
    assert ended(steps) == [(60, 0.7)]
    assert [s.id for s in steps if isinstance(s, NoteUpdate)] == [0, 1]


def test_drums_and_keys_that_no_piano_has_are_left_out() -> None:
    keyboard = Keyboard()
    assert keyboard.push(on(40, channel=9), 0.0) == []
    assert keyboard.push(on(20), 0.0) == []
    assert keyboard.push(on(109), 0.0) == []
    assert keyboard.push(off(40, channel=9), 0.0) == []


@pytest.mark.parametrize("control", [120, 123])
def test_a_keyboard_that_says_all_notes_off_holds_none(control: int) -> None:
    keyboard = Keyboard()
    keyboard.push(on(60, channel=0), 0.0)
    keyboard.push(on(64, channel=1), 0.1)
    off = mido.Message("control_change", channel=0, control=control)
    assert ended(keyboard.push(off, 0.5)) == [(60, 0.5)]


def test_the_pedal_comes_up_with_the_last_keys_and_when_controllers_are_reset() -> None:
    keyboard = Keyboard()
    keyboard.push(pedal(127), 0.0)
    reset = mido.Message("control_change", control=121)
    assert keyboard.push(reset, 0.5) == [PedalEvent(0.5, False)]
    keyboard.push(pedal(127), 1.0)
    assert keyboard.flush(2.0) == [PedalEvent(2.0, False)]
    assert keyboard.push(pedal(127), 3.0) == [PedalEvent(3.0, True)]


def test_running_status_is_written_out_whatever_stands_between() -> None:
    status = StatusBytes()
    heard = [0x90, 60, 64, 62, 0xF8, 64, 0xFE, 62, 0, 0xB0, 64, 127, 64, 0, 0xC0, 5, 6]
    whole = b"".join(status.push(heard[i : i + 2]) for i in range(0, len(heard), 2))
    assert whole == bytes(
        (
            *(0x90, 60, 64, 0x90, 62, 64, 0x90, 62, 0),
            *(0xB0, 64, 127, 0xB0, 64, 0, 0xC0, 5, 0xC0, 6),
        )
    )


def test_a_file_in_running_status_is_read(tmp_path: Path) -> None:
    body = bytes([0, 0x90, 60, 64, 0x60, 60, 0, 0, 62, 70, 0x60, 62, 0, 0, 0xFF, 0x2F, 0])
    header = b"MThd" + struct.pack(">IHHH", 6, 0, 1, 96)
    (tmp_path / "a.mid").write_bytes(header + b"MTrk" + struct.pack(">I", len(body)) + body)
    notes = read_midi(tmp_path / "a.mid").notes
    assert [(n.pitch_midi, n.onset_s, n.offset_s, n.velocity) for n in notes] == [
        (60, 0.0, 0.5, 64),
        (62, 0.5, 1.0, 70),
    ]


def test_two_hands_on_one_pitch_in_two_channels_are_two_notes() -> None:
    keyboard = Keyboard()
    keyboard.push(on(60, channel=0), 0.0)
    keyboard.push(on(60, channel=1), 0.1)
    assert ended(keyboard.push(off(60, channel=0), 0.5)) == [(60, 0.5)]
    assert ended(keyboard.flush(1.0)) == [(60, 1.0)]


notes_strategy = st.lists(
    st.builds(
        lambda pitch, onset_ms, length_ms, velocity: NoteEvent(
            pitch, onset_ms / 1000, (onset_ms + length_ms) / 1000, velocity, 1.0
        ),
        pitch=st.integers(21, 108),
        onset_ms=st.integers(0, 60_000),
        length_ms=st.integers(2, 5_000),
        velocity=st.integers(1, 127),
    ),
    min_size=1,
    max_size=40,
)


@given(notes=notes_strategy)
@settings(max_examples=60, deadline=None)
def test_what_is_written_is_read_again_to_the_millisecond(
    tmp_path_factory: pytest.TempPathFactory, notes: list[NoteEvent]
) -> None:
    path = tmp_path_factory.mktemp("midi") / "a.mid"
    write_midi(path, notes)
    read = read_midi(path).notes
    strikes = {(n.pitch_midi, round(n.onset_s, 3)): n for n in notes}
    assert len(read) == len(strikes)
    for note in read:
        nearest = min(
            (n for n in notes if n.pitch_midi == note.pitch_midi),
            key=lambda n: abs(n.onset_s - note.onset_s),
        )
        assert note.onset_s == pytest.approx(nearest.onset_s, abs=0.0005)
        later = [
            n.onset_s
            for n in notes
            if n.pitch_midi == note.pitch_midi and n.onset_s > nearest.onset_s
        ]
        assert nearest.offset_s is not None
        ends = [
            n.offset_s
            for n in notes
            if n.pitch_midi == note.pitch_midi and n.onset_s == nearest.onset_s
        ]
        allowed = [min([end, *later]) for end in ends if end is not None]
        assert any(note.offset_s == pytest.approx(end, abs=0.001) for end in allowed)


def test_velocity_pedal_and_length_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.mid"
    notes = [NoteEvent(60, 0.5, 1.0, 33, 0.9), NoteEvent(64, 1.0, None, 99, 0.9)]
    moves = [PedalEvent(0.25, True), PedalEvent(2.0, False)]
    write_midi(path, notes, moves, end_s=4.0, title="Für Elise — ♪")
    read = read_midi(path)
    assert [n.velocity for n in read.notes] == [33, 99]
    assert [(round(p.t_s, 3), p.down) for p in read.pedal] == [(0.25, True), (2.0, False)]
    assert mido.MidiFile(path).length == pytest.approx(4.0, abs=0.001)


def test_writing_holds_no_more_than_a_few_seconds_of_music(tmp_path: Path) -> None:
    writer = MidiWriter(tmp_path / "long.mid")
    most_held = 0
    for number in range(3000):
        onset_s = number * 0.1
        struck = NoteEvent(60 + number % 24, onset_s, None, 64, 1.0)
        over = NoteEvent(60 + number % 24, onset_s, onset_s + 0.5, 64, 1.0)
        writer.push(NoteUpdate(number, NoteState.CONFIRMED, struck))
        writer.push(NoteUpdate(number, NoteState.ENDED, over))
        writer.advance(onset_s)
        most_held = max(most_held, len(writer._marks))
    writer.close(300.0)
    assert writer.notes == 3000
    assert most_held < 2 * 10 * 12
    assert len(read_midi(tmp_path / "long.mid").notes) == 3000


def test_a_file_that_is_given_up_leaves_nothing_behind(tmp_path: Path) -> None:
    writer = MidiWriter(tmp_path / "a.mid")
    writer.push(NoteUpdate(0, NoteState.CONFIRMED, NoteEvent(60, 0.0, None, 64, 1.0)))
    writer.abandon()
    assert list(tmp_path.iterdir()) == []


def test_silence_is_written_as_a_file_without_notes(tmp_path: Path) -> None:
    path = tmp_path / "silence.mid"
    write_midi(path, [], end_s=10.0)
    assert mido.MidiFile(path).length == pytest.approx(10.0, abs=0.001)
    with pytest.raises(InputError, match="no piano notes"):
        read_midi(path)


def test_a_place_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be written"):
        write_midi(tmp_path / "nowhere" / "a.mid", [])


def test_tempo_changes_are_followed(tmp_path: Path) -> None:
    track = mido.MidiTrack(
        [
            mido.MetaMessage("set_tempo", tempo=1_000_000),
            on(60).copy(time=480),
            mido.MetaMessage("set_tempo", tempo=250_000, time=0),
            off(60).copy(time=480),
        ]
    )
    song = mido.MidiFile(type=0, ticks_per_beat=480)
    song.tracks.append(track)
    song.save(tmp_path / "a.mid")
    (note,) = read_midi(tmp_path / "a.mid").notes
    assert (note.onset_s, note.offset_s) == pytest.approx((1.0, 1.25))


def test_the_songs_of_a_type_2_file_follow_each_other(tmp_path: Path) -> None:
    song = mido.MidiFile(type=2, ticks_per_beat=480)
    for pitch in (60, 64):
        song.tracks.append(mido.MidiTrack([on(pitch), off(pitch).copy(time=480)]))
    song.save(tmp_path / "a.mid")
    notes = read_midi(tmp_path / "a.mid").notes
    assert [(n.pitch_midi, n.onset_s) for n in notes] == [(60, 0.0), (64, 0.5)]


def test_smpte_time_is_understood(tmp_path: Path) -> None:
    # 25 frames of 40 ticks a second: a tick is a millisecond.
    body = bytes([0x00, 0x90, 60, 64, 0x83, 0x74, 60, 0, 0x00, 0xFF, 0x2F, 0x00])
    header = b"MThd" + struct.pack(">IHHbB", 6, 0, 1, -25, 40)
    path = tmp_path / "smpte.mid"
    path.write_bytes(header + b"MTrk" + struct.pack(">I", len(body)) + body)
    (note,) = read_midi(path).notes
    assert (note.onset_s, note.offset_s) == pytest.approx((0.0, 0.5))


def test_missing_empty_broken_and_noteless_files_are_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty.mid").touch()
    (tmp_path / "text.mid").write_text("no music")
    write_midi(tmp_path / "whole.mid", [NoteEvent(60, 0.0, 1.0, 64, 1.0)] * 20)
    whole = (tmp_path / "whole.mid").read_bytes()
    (tmp_path / "cut.mid").write_bytes(whole[:-12])
    write_midi(tmp_path / "noteless.mid", [], end_s=1.0)
    refusals = {
        "missing.mid": "no such file",
        "empty.mid": "0 bytes",
        "text.mid": "broken",
        "cut.mid": "broken",
        "noteless.mid": "no piano notes",
        "": "folder",
    }
    for name, reason in refusals.items():
        with pytest.raises(InputError, match=reason) as caught:
            read_midi(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_a_midi_file_as_a_source_says_what_reading_it_says(tmp_path: Path) -> None:
    notes = [NoteEvent(60 + i, i * 0.03, i * 0.03 + 0.1, 64, 1.0) for i in range(10)]
    write_midi(tmp_path / "a.mid", notes)
    blocks = [
        item
        for item in MidiFileSource(tmp_path / "a.mid", paced=False).items()
        if isinstance(item, MidiBlock)
    ]
    steps = [step for block in blocks for step in block.events]
    over = [s.note for s in steps if isinstance(s, NoteUpdate) and s.state is NoteState.ENDED]
    assert tuple(sorted(over, key=lambda n: n.onset_s)) == read_midi(tmp_path / "a.mid").notes
    starts = [block.start_sample for block in blocks]
    assert starts == sorted(set(starts))


class FakePort:
    """An rtmidi input whose keyboard the test plays."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self.play: Any = None

    def get_ports(self) -> list[str]:
        return self.names

    def ignore_types(self, **_: bool) -> None: ...

    def set_callback(self, callback: Any) -> None:
        self.play = callback

    def open_port(self, index: int) -> None: ...

    def cancel_callback(self) -> None: ...

    def close_port(self) -> None: ...


def test_a_live_keyboard_is_heard_and_waited_for_when_unplugged() -> None:
    names = ["Midi Through:Midi Through Port-0 14:0", "Roland FP-30:Roland FP-30 MIDI 1 20:0"]
    port = FakePort(list(names))
    source = MidiPortSource("roland", open_port=lambda: port)
    source.open()
    assert source.name == "Roland FP-30 MIDI 1"
    port.play(([0x90, 60, 80], 0.0))
    heard: list[NoteUpdate | PedalEvent] = []
    faults: list[SourceEventKind] = []
    back = threading.Event()
    for item in source.items():
        if isinstance(item, SourceEvent):
            faults.append(item.kind)
            if item.kind is SourceEventKind.DEVICE_LOST:
                port.names.extend(names[1:])
            else:
                back.set()
                source.stop()
        elif isinstance(item, MidiBlock):
            heard.extend(item.events)
            if item.events:
                del port.names[1:]
    assert back.is_set()
    assert faults == [SourceEventKind.DEVICE_LOST, SourceEventKind.DEVICE_RECOVERED]
    states = [s.state for s in heard if isinstance(s, NoteUpdate)]
    assert states == [NoteState.CONFIRMED, NoteState.ENDED]


def test_a_port_in_running_status_is_heard_and_a_flurry_is_one_block() -> None:
    port = FakePort(["Roland FP-30"])
    source = MidiPortSource("roland", open_port=lambda: port)
    source.open()
    for raw in ([0x90, 60, 80], [62, 81, 64, 82], [0xB0, 64, 20], [64, 90], [64, 110]):
        port.play((raw, 0.0))
    first = next(iter(source.items()))
    assert isinstance(first, MidiBlock)
    struck = [s.note for s in first.events if isinstance(s, NoteUpdate)]
    assert [(n.pitch_midi, n.velocity) for n in struck] == [(60, 80), (62, 81), (64, 82)]
    assert [s.down for s in first.events if isinstance(s, PedalEvent)] == [True]


def test_a_name_must_point_at_one_device() -> None:
    names = ["USB Audio One", "USB Audio Two", "USB"]
    assert choose_by_name("two", names, what="microphone") == 1
    assert choose_by_name("USB", names, what="microphone") == 2
    with pytest.raises(DeviceError, match="'USB Audio One', 'USB Audio Two'; say which"):
        choose_by_name("audio", names, what="microphone")
    with pytest.raises(DeviceError, match="no microphone named 'Rode'; there are: 'USB Audio"):
        choose_by_name("Rode", names, what="microphone")


def test_a_port_keeps_its_name_when_alsa_counts_anew() -> None:
    assert stable_port_name("Roland FP-30:Roland FP-30 MIDI 1 20:0") == "Roland FP-30 MIDI 1"
    assert stable_port_name("Roland FP-30:Roland FP-30 MIDI 1 28:0") == "Roland FP-30 MIDI 1"
