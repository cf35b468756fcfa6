from __future__ import annotations

from pathlib import Path

import pytest

from edge.audio.devices import list_microphones
from edge.cli.devices import METER_COLUMNS, meter_bar


class FakeAudio:
    """PortAudio with the devices of a board that was just started."""

    def __init__(self, names: list[tuple[str, int]], default: int | None = None) -> None:
        self.names = names
        self.default = default

    def get_device_count(self) -> int:
        return len(self.names)

    def get_device_info_by_index(self, index: int) -> dict[str, object]:
        name, channels = self.names[index]
        return {
            "index": index,
            "name": name,
            "maxInputChannels": channels,
            "defaultSampleRate": 48000.0,
        }

    def get_default_input_device_info(self) -> dict[str, object]:
        if self.default is None:
            raise OSError("No Default Input Device Available")
        return self.get_device_info_by_index(self.default)


def test_a_microphone_keeps_its_name_when_its_card_gets_another_number() -> None:
    before = list_microphones(FakeAudio([("USB Audio: - (hw:1,0)", 1)]))
    after = list_microphones(FakeAudio([("HDMI (hw:0,3)", 0), ("USB Audio: - (hw:2,0)", 1)]))
    assert [m.name for m in before] == [m.name for m in after] == ["USB Audio: -"]
    assert after[0].index == 1


def test_outputs_are_no_microphones_and_two_of_a_name_are_told_apart() -> None:
    found = list_microphones(
        FakeAudio([("Mic (hw:1,0)", 2), ("HDMI (hw:0,3)", 0), ("Mic (hw:2,0)", 2)], default=2)
    )
    assert [m.name for m in found] == ["Mic", "Mic #2"]
    assert [m.default for m in found] == [False, True]


def plug_in(cards: Path, card: int, port: str) -> None:
    """What the kernel shows of a card of USB."""
    device = cards.parent / f"devices/usb1/1-1/{port}/{port}:1.0/sound/card{card}"
    device.mkdir(parents=True)
    (cards / f"card{card}").symlink_to(device)


def test_two_microphones_of_one_make_are_told_apart_by_the_port_they_are_plugged_into(
    tmp_path: Path,
) -> None:
    for number, cards in ((1, tmp_path / "today/class"), (2, tmp_path / "tomorrow/class")):
        cards.mkdir(parents=True)
        plug_in(cards, number, "1-1.2")
        plug_in(cards, 3 - number, "1-1.4")
        found = list_microphones(FakeAudio([("Mic (hw:1,0)", 2), ("Mic (hw:2,0)", 2)]), cards)
        assert {m.name: m.index for m in found} == {
            "Mic [1-1.2]": number - 1,
            "Mic [1-1.4]": 2 - number,
        }
    (alone,) = list_microphones(FakeAudio([("Mic (hw:2,0)", 2)]), cards)
    assert (alone.name, alone.full_name) == ("Mic", "Mic [1-1.2]")


@pytest.mark.parametrize(("level", "filled"), [(None, 0), (-72.0, 0), (-36.0, 24), (0.0, 48)])
def test_the_meter_is_as_long_as_the_sound_is_loud(level: float | None, filled: int) -> None:
    bar = meter_bar(level, None)
    assert bar.count("#") == filled
    assert len(bar) == METER_COLUMNS + 2
