"""Building a catalogue: folders read through, titles found, failures reported, swapped in whole."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import mido
import numpy as np
import pytest
from typer.testing import CliRunner

from converters import catalogue as building
from converters.catalogue import build_catalogue, find_scores
from converters.checking import check_catalogue
from converters.in_time import Unfinished, in_time
from converters.studio import app
from edge.errors import CatalogueError, InputError, SostenutoError
from edge.matching import Catalogue, Piece
from edge.matching.pack import open_pack, pack_of, write_pack
from tests.base_dependencies import ROOT

KERN = "!!!OTL: {title}\n**kern\n*M4/4\n=1\n4c\n4d\n4e\n4{last}\n=2\n1c\n==\n*-\n"


def write(path: Path, title: str = "A tune", last: str = "f") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(KERN.format(title=title, last=last))
    return path


def pieces(folder: Path) -> dict[str, Piece]:
    return {piece.piece_id: piece for piece in Catalogue.open(folder).pieces}


def test_a_folder_is_read_through(tmp_path: Path) -> None:
    write(tmp_path / "scores" / "one.krn", "First")
    write(tmp_path / "scores" / "deep" / "down" / "two.krn", "Second")
    (tmp_path / "scores" / "notes.txt").write_text("no score")
    report = build_catalogue([tmp_path / "scores"], tmp_path / "out", processes=1)
    assert report.pieces == 2
    assert report.left_out == ()
    assert {name: piece.title for name, piece in pieces(tmp_path / "out").items()} == {
        "one": "First",
        "two": "Second",
    }


def test_titles_and_ids_come_from_the_nearest_catalogue_csv(tmp_path: Path) -> None:
    write(tmp_path / "scores" / "kern" / "one.krn")
    write(tmp_path / "scores" / "kern" / "two.krn")
    write(tmp_path / "scores" / "three.krn", "Its own")
    (tmp_path / "scores" / "catalogue.csv").write_text(
        "id,composer,title,path_score,dup_of\n"
        "opus1,Nobody,The first,archive/kern/one.krn,\n"
        "two,Nobody,The second,,opus1\n"
    )
    build_catalogue([tmp_path / "scores"], tmp_path / "out", processes=1)
    found = pieces(tmp_path / "out")
    assert found["opus1"].title == "The first"
    assert found["opus1"].work_id == "opus1"
    assert found["two"].work_id == "opus1"
    assert found["three"].title == "Its own"


def test_works_join_versions(tmp_path: Path) -> None:
    write(tmp_path / "scores" / "one.krn")
    write(tmp_path / "scores" / "two.krn")
    works = tmp_path / "works.csv"
    works.write_text("id,work_id,title\none,the_work,x\ntwo,the_work,y\n")
    build_catalogue([tmp_path / "scores"], tmp_path / "out", works, processes=1)
    assert {piece.work_id for piece in pieces(tmp_path / "out").values()} == {"the_work"}


def test_two_files_of_one_name_are_two_pieces(tmp_path: Path) -> None:
    write(tmp_path / "scores" / "a" / "one.krn")
    write(tmp_path / "scores" / "b" / "one.krn", last="g")
    build_catalogue([tmp_path / "scores"], tmp_path / "out", processes=1)
    assert sorted(pieces(tmp_path / "out")) == ["one", "one-2"]


def test_what_cannot_be_read_is_reported_and_the_rest_is_built(tmp_path: Path) -> None:
    write(tmp_path / "scores" / "one.krn")
    (tmp_path / "scores" / "broken.krn").write_text("nothing of the kind")
    (tmp_path / "scores" / "empty.mid").write_bytes(b"")
    report = build_catalogue([tmp_path / "scores"], tmp_path / "out", processes=1)
    assert report.pieces == 1
    assert [path.name for path, _ in report.left_out] == ["broken.krn", "empty.mid"]
    assert all(path.name in reason for path, reason in report.left_out)


def test_a_file_that_stops_the_parser_is_given_up(tmp_path: Path) -> None:
    """A pipe that nobody writes to: opening it blocks in the kernel, for ever."""
    write(tmp_path / "one.krn")
    os.mkfifo(tmp_path / "stuck.krn")
    write(tmp_path / "two.krn")
    report = build_catalogue(
        [tmp_path / f"{name}.krn" for name in ("one", "stuck", "two")],
        tmp_path / "out",
        processes=1,
        time_limit_s=0.5,
    )
    assert report.pieces == 2
    assert [reason for _, reason in report.left_out] == [
        f"{tmp_path}/stuck.krn was given up: it was not read within 0.5 s"
    ]


def lazy_bytes_eater(path: Path) -> str:
    """Work that runs in C, where no handler of Python's is called."""
    if path.name == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    return str(re.match(r"(a+)+b", "a" * (40 if path.name == "stuck" else 4)))


def test_a_parser_stuck_in_c_code_and_one_that_crashes_cost_their_file_alone() -> None:
    tasks = [Path(name) for name in ("one", "stuck", "crash", "two")]
    results = dict(in_time(lazy_bytes_eater, tasks, 2, time_limit_s=0.5))
    assert results == {
        Path("one"): "None",
        Path("two"): "None",
        Path("stuck"): Unfinished.TOO_SLOW,
        Path("crash"): Unfinished.CRASHED,
    }


REST = "1r\n=\n"


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("broken.krn", "nothing of the kind", "broken.krn"),
        ("silent.krn", "**kern\n*M4/4\n=1\n1r\n*-\n", "has no notes"),
        (
            "rests.krn",
            f"**kern\n*M4/4\n=1\n1c\n=2\n{REST * 1000}1c\n*-\n",
            "silent for 4004 quarters from bar 1 on",
        ),
        ("nothing_but_rests.krn", f"**kern\n*M4/4\n=1\n{REST * 1000}*-\n", "has no notes"),
        ("two.krn", "**kern\n=1\n4c\n*-\n**kern\n=1\n4d\n*-\n", "a second piece begins"),
    ],
)
def test_a_score_that_is_none_is_one_clear_line(
    tmp_path: Path, name: str, text: str, reason: str
) -> None:
    write(tmp_path / "scores" / "one.krn")
    (tmp_path / "scores" / name).write_text(text)
    report = build_catalogue([tmp_path / "scores"], tmp_path / "out", processes=1)
    assert report.pieces == 1
    ((path, said),) = report.left_out
    assert path.name == name and name in said and reason in said
    assert "\n" not in said


def test_two_pieces_in_one_midi_file_are_refused(tmp_path: Path) -> None:
    midi = mido.MidiFile(type=2)
    for pitch in (60, 62):
        midi.tracks.append(
            mido.MidiTrack(
                [mido.Message("note_on", note=pitch), mido.Message("note_off", note=pitch, time=9)]
            )
        )
    midi.save(tmp_path / "two.mid")
    with pytest.raises(InputError, match="holds 2 pieces"):
        build_catalogue([tmp_path / "two.mid"], tmp_path / "out", processes=1)


def test_a_score_without_bars_is_kept_and_said_so(tmp_path: Path) -> None:
    (tmp_path / "free.krn").write_text("**kern\n" + "4c\n4d\n4e\n" * 12 + "*-\n")
    report = build_catalogue([tmp_path / "free.krn"], tmp_path / "out", processes=1)
    assert report.pieces == 1
    assert [reason for _, reason in report.noticed] == [
        f"{tmp_path}/free.krn has no bars: the piece will be known, but not the bar"
    ]
    assert Catalogue.open(tmp_path / "out").piece_chords(0).bar_at(2.0) == 1


KILLED_BUILD = """
import sys, time
from pathlib import Path
from converters import catalogue
catalogue.PART_FILES = 2
if __name__ == "__main__":
    def progress(done, total):
        print(done, flush=True)
        time.sleep(0.05)
    catalogue.build_catalogue([Path(sys.argv[1])], Path(sys.argv[2]), None, 1, progress)
"""


def test_a_build_that_was_killed_goes_on_and_gives_the_same_bytes(tmp_path: Path) -> None:
    for number in range(12):
        write(tmp_path / "scores" / f"{number:02d}.krn", last="abcdefg"[number % 7])
    (tmp_path / "scores" / "broken.krn").write_text("x")
    (tmp_path / "killed.py").write_text(KILLED_BUILD)
    killed = subprocess.Popen(
        [sys.executable, tmp_path / "killed.py", tmp_path / "scores", tmp_path / "out"],
        stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert killed.stdout is not None
    for line in killed.stdout:
        if int(line) == 7:
            killed.kill()
            break
    killed.wait()
    killed.stdout.close()
    assert not (tmp_path / "out").exists()
    counted: list[int] = []
    report = build_catalogue(
        [tmp_path / "scores"], tmp_path / "out", None, 1, lambda done, _: counted.append(done)
    )
    whole = build_catalogue([tmp_path / "scores"], tmp_path / "whole", processes=1)
    assert counted[0] == 7, "six were read and kept before"
    assert (report.sha256, report.pieces, len(report.left_out)) == (whole.sha256, 12, 1)
    for file in (tmp_path / "whole").iterdir():
        assert file.read_bytes() == (tmp_path / "out" / file.name).read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "killed.py", "out", "scores", "whole"
    ]  # fmt: skip


def test_a_score_that_changed_meanwhile_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class PluggedOutError(Exception):
        pass

    def interrupt(done: int, _: int) -> None:
        if done == 2:
            raise PluggedOutError

    monkeypatch.setattr(building, "PART_FILES", 1)
    for name in ("one", "two", "three"):
        write(tmp_path / "scores" / f"{name}.krn", name)
    with pytest.raises(PluggedOutError):
        build_catalogue([tmp_path / "scores"], tmp_path / "out", None, 1, interrupt)
    write(tmp_path / "scores" / "one.krn", "Another one", last="b")
    (tmp_path / "scores" / "three.krn").unlink()
    build_catalogue([tmp_path / "scores"], tmp_path / "out", processes=1)
    found = {name: piece.title for name, piece in pieces(tmp_path / "out").items()}
    assert found == {"one": "Another one", "two": "Two"}


SWAPS = """
import sys
from pathlib import Path
from converters.swap import write_whole
from edge.matching.pack import open_pack, write_pack
packs = [open_pack(Path(name)) for name in sys.argv[2:]]
print("ready", flush=True)
while True:
    for pack in packs:
        write_whole(Path(sys.argv[1]), lambda folder: write_pack(pack, folder))
"""


def test_whoever_is_killed_while_swapping_leaves_the_old_one_or_the_new_one(
    tmp_path: Path,
) -> None:
    made = []
    for last in "ab":
        score = write(tmp_path / f"{last}.krn", last=last)
        made.append(build_catalogue([score], tmp_path / last, processes=1).sha256)
    build_catalogue([tmp_path / "a.krn"], tmp_path / "out", processes=1)
    for wait_s in (0.0, 0.011, 0.023, 0.037):
        swapping = subprocess.Popen(
            [sys.executable, "-c", SWAPS, tmp_path / "out", tmp_path / "a", tmp_path / "b"],
            stdout=subprocess.PIPE, cwd=ROOT,
        )  # fmt: skip
        assert swapping.stdout is not None
        swapping.stdout.readline()
        time.sleep(wait_s)
        swapping.kill()
        swapping.wait()
        swapping.stdout.close()
        assert Catalogue.open(tmp_path / "out").sha256 in made


def test_the_same_scores_give_the_same_catalogue_whatever_the_processes(tmp_path: Path) -> None:
    files = [write(tmp_path / "scores" / f"{name}.krn", last=name) for name in "abdg"]
    one = build_catalogue(files, tmp_path / "one", processes=1)
    two = build_catalogue([*reversed(files)], tmp_path / "two", processes=2)
    assert one.sha256 == two.sha256
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()


def test_a_new_catalogue_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    write(tmp_path / "scores" / "one.krn")
    build_catalogue([tmp_path / "scores"], tmp_path / "out", processes=1)
    still_open = Catalogue.open(tmp_path / "out")
    write(tmp_path / "scores" / "two.krn")
    build_catalogue([tmp_path / "scores"], tmp_path / "out", processes=1)
    assert sorted(pieces(tmp_path / "out")) == ["one", "two"]
    assert still_open.piece_chords(0).sizes.tolist() == [1] * 5
    assert [path.name for path in tmp_path.iterdir()].count("out") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "scores"]


def test_a_folder_that_is_no_catalogue_is_left_alone(tmp_path: Path) -> None:
    write(tmp_path / "scores" / "one.krn")
    with pytest.raises(CatalogueError, match="no catalogue"):
        build_catalogue([tmp_path / "scores"], tmp_path / "scores", processes=1)
    assert (tmp_path / "scores" / "one.krn").exists()


def test_nothing_readable_is_an_error_of_the_input(tmp_path: Path) -> None:
    (tmp_path / "scores").mkdir()
    with pytest.raises(InputError, match=r"\.krn"):
        build_catalogue([tmp_path / "scores"], tmp_path / "out", processes=1)
    with pytest.raises(InputError, match="does not exist"):
        find_scores([tmp_path / "none"])
    (tmp_path / "scores" / "broken.krn").write_text("x")
    with pytest.raises(InputError, match="no score could be read"):
        build_catalogue([tmp_path / "scores"], tmp_path / "out", processes=1)
    assert not (tmp_path / "out").exists()


def test_works_without_the_columns_are_an_error(tmp_path: Path) -> None:
    write(tmp_path / "one.krn")
    works = tmp_path / "works.csv"
    works.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="id and work_id"):
        build_catalogue([tmp_path / "one.krn"], tmp_path / "out", works, processes=1)


def test_the_command_builds_and_names_what_was_left_out(tmp_path: Path) -> None:
    write(tmp_path / "scores" / "one.krn")
    (tmp_path / "scores" / "broken.krn").write_text("x")
    said = CliRunner().invoke(
        app,
        ["catalog", "build", str(tmp_path / "scores"), "-o", str(tmp_path / "out"),
         "--processes", "1"],
    )  # fmt: skip
    assert said.exit_code == 0
    assert said.stdout == ""
    assert "1 pieces" in said.stderr
    assert "broken.krn" in said.stderr


def studio(*arguments: str | Path) -> str:
    """What the command prints on standard output; it must do what it is asked."""
    said = CliRunner().invoke(app, ["catalog", *map(str, arguments)])
    assert said.exit_code == 0, said.exception
    return said.stdout


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    for name in ("one", "two"):
        write(tmp_path / "scores" / f"{name}.krn", name)
    build_catalogue([tmp_path / "scores"], tmp_path / "mine", processes=1, version="4")
    return tmp_path / "mine"


def test_the_report_is_json_where_a_program_reads(tmp_path: Path) -> None:
    write(tmp_path / "scores" / "one.krn")
    (tmp_path / "scores" / "broken.krn").write_text("x")
    report = json.loads(
        studio("build", tmp_path / "scores", "-o", tmp_path / "out", "--processes", "1", "--json")
    )
    assert (report["pieces"], report["works"]) == (1, 1)
    assert [Path(each["path"]).name for each in report["left_out"]] == ["broken.krn"]
    (checked,) = json.loads(studio("verify", tmp_path / "out", "--json"))
    assert checked["sha256"] == report["sha256"]
    assert checked["signed_with"] is None


def test_an_edition_is_added_under_its_work(catalogue: Path, tmp_path: Path) -> None:
    edition = write(tmp_path / "new" / "one-urtext.krn", "One, urtext", last="g")
    studio("add", catalogue, edition, "--work", "one", "--processes", "1")
    found = pieces(catalogue)
    assert {name: piece.work_id for name, piece in found.items()} == {
        "one": "one",
        "one-urtext": "one",
        "two": "two",
    }
    assert Catalogue.open(catalogue).version == "4"
    studio("remove", catalogue, "one", "--version", "5")
    assert list(pieces(catalogue)) == ["two"]
    assert Catalogue.open(catalogue).version == "5"


def test_adding_all_at_once_or_one_by_one_gives_the_same_bytes(tmp_path: Path) -> None:
    files = [write(tmp_path / f"{name}.krn", name, last=name) for name in "gab"]
    build_catalogue(files, tmp_path / "whole", processes=1)
    build_catalogue(files[:1], tmp_path / "grown", processes=1)
    for file in files[1:]:
        studio("add", tmp_path / "grown", file, "--processes", "1")
    for file in (tmp_path / "whole").iterdir():
        assert file.read_bytes() == (tmp_path / "grown" / file.name).read_bytes()


def test_a_piece_added_again_replaces_the_old_one_and_is_named(
    catalogue: Path, tmp_path: Path
) -> None:
    newer = write(tmp_path / "new" / "one.krn", "One, corrected")
    report = json.loads(studio("add", catalogue, newer, "--processes", "1", "--json"))
    assert report["replaced"] == ["one"]
    assert pieces(catalogue)["one"].title == "One, corrected"


def test_what_lies_beside_the_arrays_stays(catalogue: Path) -> None:
    (catalogue / "ATTRIBUTION.md").write_text("by somebody")
    studio("remove", catalogue, "two")
    assert (catalogue / "ATTRIBUTION.md").read_text() == "by somebody"


def test_catalogues_are_merged(catalogue: Path, tmp_path: Path) -> None:
    write(tmp_path / "more" / "three.krn")
    build_catalogue([tmp_path / "more"], tmp_path / "yours", processes=1)
    studio("merge", catalogue, tmp_path / "yours", "-o", tmp_path / "ours")
    assert list(pieces(tmp_path / "ours")) == ["one", "three", "two"]


def test_catalogues_are_merged_and_their_editions_joined_to_works(
    catalogue: Path, tmp_path: Path
) -> None:
    write(tmp_path / "more" / "three.krn")
    build_catalogue([tmp_path / "more"], tmp_path / "yours", processes=1)
    works = tmp_path / "works.csv"
    works.write_text("id,work_id\nthree,sonata\none,sonata\n")
    out = tmp_path / "ours"
    studio("merge", catalogue, tmp_path / "yours", "-o", out, "--works", works)
    assert {name: piece.work_id for name, piece in pieces(out).items()} == {
        "one": "sonata",
        "three": "sonata",
        "two": "two",
    }
    studio("verify", out)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["remove", "{mine}", "onne"], "did you mean one"),
        (["remove", "{mine}", "one", "two"], "no piece would be left"),
        (["add", "{mine}", "{mine}/none.krn"], "does not exist"),
        (["add", "{mine}.none", "{mine}"], "no catalogue at"),
        (["verify", "{mine}.none"], "no catalogue at"),
        (["sign", "{mine}", "--key", "{mine}/catalogue.json"], "32 bytes in base64"),
        (["sign", "{mine}", "--key", "{mine}/no.key"], "cannot be read"),
        (["key", "{mine}/catalogue.json"], "is there already"),
    ],
)
def test_a_mistake_is_one_clear_line_and_changes_nothing(
    catalogue: Path, arguments: list[str], reason: str
) -> None:
    before = Catalogue.open(catalogue).sha256
    said = CliRunner().invoke(
        app, ["catalog", *(each.format(mine=catalogue) for each in arguments)]
    )
    assert isinstance(said.exception, SostenutoError)
    assert reason in str(said.exception)
    assert "\n" not in str(said.exception)
    assert Catalogue.open(catalogue).sha256 == before


def test_a_catalogue_is_signed_and_says_by_whom(catalogue: Path, tmp_path: Path) -> None:
    key = tmp_path / "my.key"
    trusted = studio("key", key).strip()
    assert key.stat().st_mode & 0o077 == 0
    studio("sign", catalogue, "--key", key)
    assert json.loads(studio("verify", catalogue, "--json"))[0]["signed_with"] == trusted
    studio("remove", catalogue, "two", "--sign", key)
    assert json.loads(studio("verify", catalogue, "--json"))[0]["signed_with"] == trusted


def test_arrays_that_do_not_agree_are_found(catalogue: Path) -> None:
    pack = open_pack(catalogue)
    arrays = replace(pack.arrays, posting=pack.arrays.posting + np.uint32(1000))
    wrong = catalogue.with_name("wrong")
    write_pack(pack_of(arrays, "4"), wrong)
    with pytest.raises(CatalogueError, match="posting names a chord that is not there"):
        check_catalogue(wrong)
