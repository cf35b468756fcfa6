from __future__ import annotations

import re
from pathlib import Path

import pytest

from edge.errors import UsageError
from edge.settings import Settings, read_settings


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "sostenuto.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_an_empty_file_gives_what_no_file_gives(tmp_path: Path) -> None:
    assert read_settings(written(tmp_path, "")) == Settings()


def test_what_is_written_is_read(tmp_path: Path) -> None:
    settings = read_settings(
        written(tmp_path, 'mic = "USB"\nbroker = "mqtt://house"\nhealth_every_s = 30\n')
    )
    assert settings == Settings(mic="USB", broker="mqtt://house", health_every_s=30.0)


def test_an_unknown_key_is_named_with_the_likely_one_and_all_allowed(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        read_settings(written(tmp_path, 'brocker = "mqtt://house"'))
    line = str(caught.value)
    assert "unknown key 'brocker'" in line
    assert "did you mean 'broker'?" in line
    for key in Settings.__struct_fields__:
        assert key in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("mic = 3", "value of 'mic': expected `str | null`, got `int`"),
        ("health_every_s = 0.1", "value of 'health_every_s': expected `float` >= 0.5"),
        ("mic = ", "no TOML"),
        ("[audio]\nrate = 3", "unknown key 'audio'"),
    ],
)
def test_a_wrong_value_is_named(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_settings(written(tmp_path, text))
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.toml: settings cannot be read"):
        read_settings(tmp_path / "none.toml")


def test_every_key_is_in_the_documentation() -> None:
    page = (Path(__file__).parents[1] / "docs" / "settings.md").read_text(encoding="utf-8")
    documented = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
    assert documented == list(Settings.__struct_fields__)


def test_the_example_in_the_documentation_is_read(tmp_path: Path) -> None:
    page = (Path(__file__).parents[1] / "docs" / "settings.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    assert read_settings(written(tmp_path, example)).device == "parlour"
