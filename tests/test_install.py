from __future__ import annotations

import os
import shutil
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from device.app import app
from device.service.install import (
    BROKER,
    PASSWORD,
    SETTINGS,
    TRIAL,
    UNITS,
    USER,
    BrokerAccounts,
    Packages,
    PianoSettings,
    Wish,
    install,
    settings_text,
    shipped,
    system_steps,
    uninstall,
)
from device.service.place import Account, File, Folder, Link, Place, SetupError, apply, take_away
from device.service.software import (
    CURRENT,
    MARK,
    PREVIOUS,
    PYTHON,
    PYTHONS,
    SETTLED,
    SOFTWARE,
    InUse,
    NothingElse,
    check_python,
    environment_of,
)
from device.sums import sha256
from edge.broker_setup import OWN_PAGE, BrokerPlan, set_up
from edge.cli.dashboard import broker_for_dashboards
from edge.errors import UsageError
from edge.publish.address import BrokerAddress
from edge.settings import read_settings

PASSWD = "root:x:0:0:root:/root:/bin/bash\n"
OURS = f"{USER}:x:{os.getuid()}:{os.getgid()}:Sostenuto:/var/lib/sostenuto:/usr/sbin/nologin\n"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A root file system with the user there already."""
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc/passwd").write_text(PASSWD + OURS)
    return Place(root)


def tree(place: Place) -> dict[str, str]:
    found = {}
    for path in sorted(place.root.rglob("*")):
        kind = str(path.readlink()) if path.is_symlink() else oct(path.stat().st_mode)
        content = path.read_text() if path.is_file() and not path.is_symlink() else ""
        found[str(path.relative_to(place.root))] = kind + content
    return found


def test_installed_twice_is_installed_once(place: Place) -> None:
    first = apply(system_steps(), place)
    assert f"file {UNITS}/sostenuto.service" in first
    installed = tree(place)
    assert apply(system_steps(), place) == []
    assert tree(place) == installed


def test_a_dry_run_tells_what_the_true_one_does_and_changes_nothing(place: Place) -> None:
    before = tree(place)
    told: list[str] = []
    would = apply(system_steps(), place, dry_run=True, tell=told.append)
    assert tree(place) == before
    assert told == would == apply(system_steps(), place)


def test_what_is_taken_away_leaves_everything_as_it_was(place: Place) -> None:
    others = place.at("/etc/systemd/journald.conf.d/theirs.conf")
    others.parent.mkdir(parents=True)
    others.write_text("[Journal]\n")
    (place.at("/usr/local/bin")).mkdir(parents=True)
    place.at("/etc/udev/rules.d").mkdir(parents=True)
    before = tree(place)
    steps = [step for step in system_steps() if not isinstance(step, Account)]
    apply(steps, place)
    assert tree(place) != before
    take_away(steps, place)
    left = tree(place).keys() - before.keys()
    # Folders that every Debian has, and that belong to its packages.
    assert left <= {"opt", "etc/systemd/system", "var", "var/lib"}
    assert before.items() <= tree(place).items()
    assert take_away(steps, place) == []


def test_a_file_that_was_changed_is_put_right_and_one_that_is_yours_stays(place: Place) -> None:
    ours, yours = File("/etc/ours", "as it is\n"), File("/etc/yours", "at first\n", yours=True)
    apply((ours, yours), place)
    for each in (ours, yours):
        place.at(each.path).write_text("changed\n")
    assert apply((ours, yours), place) == ["file /etc/ours"]
    assert place.at("/etc/ours").read_text() == "as it is\n"
    assert place.at("/etc/yours").read_text() == "changed\n"
    place.at("/etc/ours").chmod(0o666)
    assert apply((ours,), place) == ["owner of /etc/ours"]


def test_a_link_is_turned_and_a_file_in_its_place_is_not_overwritten(place: Place) -> None:
    apply((Link("/etc/current", "1.0"),), place)
    assert apply((Link("/etc/current", "2.0"),), place) == ["link /etc/current -> 2.0"]
    assert str(place.at("/etc/current").readlink()) == "2.0"
    place.at("/etc/theirs").write_text("important")
    with pytest.raises(SetupError, match="/etc/theirs is there and no link"):
        apply((Link("/etc/theirs", "2.0"),), place)


def test_what_belongs_to_nobody_known_is_an_error_that_names_both(place: Place) -> None:
    with pytest.raises(SetupError, match="no user 'ghost'"):
        apply((Folder("/var/lib/ghost", "ghost"),), place)


@pytest.mark.skipif(shutil.which("systemd-sysusers") is None, reason="no systemd-sysusers here")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes users")
def test_the_user_is_made_in_the_root_that_was_meant(place: Place) -> None:
    place.at("/etc/passwd").write_text(PASSWD)
    account = Account(USER, "/var/lib/sostenuto")
    assert apply((account,), place) == [f"user {USER}"]
    (line,) = [x for x in place.at("/etc/passwd").read_text().splitlines() if USER in x]
    assert line.endswith("/nologin")
    assert apply((account,), place) == []


def make_wheel(folder: Path, content: str, version: str = "1.2.3") -> Path:
    folder.mkdir(exist_ok=True)
    wheel = folder / f"sostenuto-{version}-py3-none-any.whl"
    wheel.write_text(content)
    return wheel


def finished(place: Place, name: str, wheel: Path) -> None:
    at = place.at(f"{SOFTWARE}/{name}")
    at.mkdir(parents=True)
    (at / MARK).write_text(sha256(wheel) + "\n")


def test_software_lies_under_its_version_and_other_software_of_that_version_apart(
    place: Place, tmp_path: Path
) -> None:
    first, second = make_wheel(tmp_path / "a", "one"), make_wheel(tmp_path / "b", "two")
    assert environment_of(first, None, place).name == "1.2.3"
    finished(place, "1.2.3", first)
    assert environment_of(first, None, place).lacking(place) is None
    other = environment_of(second, None, place)
    assert other.name == f"1.2.3-{sha256(second)[:8]}"
    assert other.lacking(place) == f"software {SOFTWARE}/{other.name}"


def test_an_environment_that_was_begun_and_not_finished_is_none(
    place: Place, tmp_path: Path
) -> None:
    wheel = make_wheel(tmp_path / "a", "one")
    place.at(f"{SOFTWARE}/1.2.3/bin").mkdir(parents=True)
    environment = environment_of(wheel, None, place)
    assert environment.name == "1.2.3"
    assert environment.lacking(place) is not None


def test_what_is_installed_is_in_use_and_what_was_before_can_be_gone_back_to(
    place: Place, tmp_path: Path
) -> None:
    wheel = make_wheel(tmp_path / "a", "one")
    for name in ("1.2.1", "1.2.2", "1.2.3"):
        finished(place, name, wheel)
        place.at(SETTLED).unlink(missing_ok=True)
        place.at(SETTLED).symlink_to("1.2.1")
        last = apply((InUse(name), NothingElse()), place)
        assert last[0] == f"link {CURRENT} -> {name}"
        assert apply((InUse(name), NothingElse()), place) == []
    links = {link: str(place.at(link).readlink()) for link in (CURRENT, SETTLED, PREVIOUS)}
    assert links == {CURRENT: "1.2.3", SETTLED: "1.2.3", PREVIOUS: "1.2.2"}
    assert last[-1] == "without 1.2.1"
    folders = [p.name for p in place.at(SOFTWARE).iterdir() if not p.is_symlink()]
    assert sorted(folders) == ["1.2.2", "1.2.3"]


def test_while_an_update_is_on_trial_nothing_is_installed(place: Place) -> None:
    trial = place.at(TRIAL)
    trial.parent.mkdir(parents=True)
    trial.write_text("{}")
    with pytest.raises(UsageError, match="an update is on trial"):
        install(Wish(), Live(place.root), tell=lambda _: None)


@pytest.mark.parametrize("name", ["sostenuto.whl", "numpy-2.4.6-py3-none-any.whl", "nothing"])
def test_what_is_no_wheel_of_ours_is_refused_with_what_one_is_called(
    place: Place, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_text("")
    with pytest.raises(UsageError, match=r"sostenuto-VERSION-py3-none-any\.whl"):
        environment_of(tmp_path / name, None, place)


def test_packages_that_are_missing_are_named_and_half_installed_ones_are_missing(
    place: Place,
) -> None:
    status = place.at("/var/lib/dpkg/status")
    status.parent.mkdir(parents=True)
    status.write_text(
        "Package: openssl\nStatus: install ok installed\nVersion: 3\n\n"
        "Package: mosquitto\nStatus: deinstall ok config-files\nVersion: 2\n\n"
    )
    assert Packages(("openssl",)).lacking(place) is None
    assert Packages(("mosquitto", "openssl")).lacking(place) == "packages mosquitto"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl here")
def test_the_settings_of_a_new_piano_name_its_own_broker_and_can_be_read(place: Place) -> None:
    folder = place.at(BROKER)
    set_up(BrokerPlan(folder, ("parlour",), ("localhost",)))
    assert BrokerAccounts("parlour").lacking(place) is None
    place.at("/var/lib/sostenuto").mkdir(parents=True)
    step = PianoSettings("parlour", mic="USB")
    assert apply((step,), place) == [f"settings {SETTINGS}"]
    settings = read_settings(place.at(SETTINGS))
    assert (settings.device, settings.mic) == ("parlour", "USB")
    assert settings.broker == "mqtt://parlour@127.0.0.1:1883"
    assert settings.broker_password_file == PASSWORD
    page = broker_for_dashboards(settings, BrokerAddress.parse(settings.broker))
    account = folder / f"accounts/parlour{OWN_PAGE}/password"
    assert page == BrokerAddress(
        "127.0.0.1", 1883, f"parlour{OWN_PAGE}", account.read_text().strip()
    )
    own = (folder / "accounts/parlour/password").read_text()
    assert place.at(PASSWORD).read_text() == own
    assert place.at(PASSWORD).stat().st_mode & 0o777 == 0o600
    place.at(SETTINGS).write_text('device = "hall"\n')
    assert apply((step,), place) == []


def test_settings_are_toml_whatever_is_in_them() -> None:
    known: dict[str, object] = {"mic": 'a "quoted" \\ Mikrofön 🎹', "port": 8480, "wait": True}
    assert tomllib.loads(settings_text(known)) == known


@dataclass(frozen=True, slots=True)
class Live(Place):
    """A running system in a folder, that tells what its programs would say."""

    verified: str = ""

    @property
    def live(self) -> bool:
        return True

    def run(self, *command: str) -> str:
        return self.verified


def test_a_system_whose_python_is_too_old_or_too_new_is_refused_before_anything_is_changed(
    place: Place,
) -> None:
    place.at("/usr/bin").mkdir(parents=True)
    place.at(PYTHON).write_text("")
    before = tree(place)
    for version in ("3.10.12", "3.14.0", "3.9.2"):
        with pytest.raises(UsageError, match=rf"is Python {version}; 3\.11 to 3\.13 are allowed"):
            install(Wish(), Live(place.root, f"{version}\n"), tell=lambda _: None)
    assert tree(place) == before
    for version in ("3.11.2", "3.12.3", "3.13.5"):
        check_python(Live(place.root, f"{version}\n"))
    place.at(PYTHON).unlink()
    check_python(Live(place.root, "none was asked"))


def test_the_pythons_are_those_of_the_wheel() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    prefix = "Programming Language :: Python :: 3."
    classifiers = [word for word in project["classifiers"] if word.startswith(prefix)]
    assert [word.rpartition(" ")[2] for word in classifiers] == list(PYTHONS)
    after = int(PYTHONS[-1].removeprefix("3.")) + 1
    assert project["requires-python"] == f">={PYTHONS[0]},<3.{after}"


@pytest.mark.parametrize("how", ["changed", "added"])
def test_a_broker_that_somebody_has_set_up_is_not_taken_over(place: Place, how: str) -> None:
    place.at("/usr/sbin").mkdir(parents=True)
    place.at("/usr/sbin/mosquitto").write_text("")
    place.at("/etc/mosquitto/conf.d").mkdir(parents=True)
    verified = "??5?????? c /etc/mosquitto/mosquitto.conf" if how == "changed" else ""
    if how == "added":
        place.at("/etc/mosquitto/conf.d/house.conf").write_text("listener 1883\n")
    before = tree(place)
    with pytest.raises(UsageError, match="--broker") as refused:
        install(Wish(), Live(place.root, verified), tell=lambda _: None)
    assert ("mosquitto.conf" if how == "changed" else "house.conf") in str(refused.value)
    assert tree(place) == before


def test_settings_that_are_there_are_not_overruled_by_the_command_line(place: Place) -> None:
    place.at("/var/lib/sostenuto").mkdir(parents=True)
    place.at(SETTINGS).write_text('device = "parlour"\n')
    with pytest.raises(UsageError, match="says 'parlour'; change it there"):
        install(Wish(device="hall"), Live(place.root), tell=lambda _: None)


def test_data_that_is_to_be_kept_is_kept_with_its_user(place: Place) -> None:
    apply(system_steps(), place)
    place.at(f"{BROKER}/accounts").mkdir(parents=True)
    place.at(SETTINGS).write_text('device = "parlour"\n')
    gone = uninstall(place, keep_data=True, tell=lambda _: None)
    assert f"file {UNITS}/sostenuto.service" in gone
    assert place.at(SETTINGS).exists()
    assert place.at(f"{BROKER}/accounts").exists()
    assert place.user_id(USER) is not None
    assert not place.at("/opt/sostenuto").exists()


def test_every_step_lays_down_what_is_shipped() -> None:
    texts = [step.text for step in system_steps() if isinstance(step, File)]
    for name in ("sostenuto.service", "mosquitto.conf", "journald.conf"):
        assert shipped(name) in texts


def test_without_the_right_to_change_the_system_one_line_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = CliRunner().invoke(app, ["install", "--root", str(tmp_path / "nowhere")])
    assert isinstance(run.exception, UsageError)
    assert "no such folder" in str(run.exception)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    run = CliRunner().invoke(app, ["uninstall", "--yes"])
    assert isinstance(run.exception, UsageError)
    assert "as root" in str(run.exception)


def test_what_only_units_call_is_not_offered_to_people() -> None:
    for words, theirs, ours in (
        ((), "flash", "firstboot"),
        (("update",), "rollback", "settle"),
        (("update",), "apply", "stick"),
    ):
        said = CliRunner().invoke(app, [*words, "--help"]).output
        listed = {line.split()[0] for line in said.splitlines() if line.startswith("  ")}
        assert theirs in listed and ours not in listed
        assert CliRunner().invoke(app, [*words, ours, "--help"]).exit_code == 0


@pytest.mark.parametrize(
    ("words", "default"),
    [
        (("install",), "[default: mosquitto, here]"),
        (("image", "build"), "[default: this clone]"),
        (("flash",), "[default: the only one]"),
        (("selftest",), "[default: those of the service]"),
        (("update", "rollback"), "[default: what was updated last]"),
    ],
)
def test_help_says_what_happens_where_nothing_is_said(words: tuple[str, ...], default: str) -> None:
    said = CliRunner().invoke(app, [*words, "--help"]).output
    assert default in " ".join(said.split())
