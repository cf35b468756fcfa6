"""Building a catalogue: folders read through, titles found, failures reported, swapped in whole."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from converters import catalogue as building
from converters.catalogue import build_catalogue, find_scores
from converters.kern_score import read_kern_score
from converters.studio import app
from edge.errors import CatalogueError, InputError
from edge.matching import Catalogue, Piece, Score

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


def test_a_file_that_stops_the_parser_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stuck(path: Path, piece: Piece) -> Score:
        until_s = time.monotonic() + 30.0
        while path.stem == "stuck" and time.monotonic() < until_s:
            pass
        return read_kern_score(path, piece)

    monkeypatch.setitem(building.READERS, ".krn", stuck)
    write(tmp_path / "scores" / "one.krn")
    write(tmp_path / "scores" / "stuck.krn")
    report = build_catalogue([tmp_path / "scores"], tmp_path / "out", processes=1, time_limit_s=0.2)
    assert report.pieces == 1
    assert "0.2 s" in report.left_out[0][1]


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
