"""The packs that a device has out of the box: ``python scripts/catalogue_packs.py --help``.

``starter`` is compiled from ``scores/starter``, which we wrote out ourselves. ``cc_by`` is
compiled from the scores that the Fryderyk Chopin Institute (Narodowy Instytut Fryderyka
Chopina) published under CC BY 4.0: Chopin's first editions and four centuries of Polish piano
music. Duplicates are left out, titles and composers are written as a person would, and who
made what is kept in the pack and in its ATTRIBUTION.csv.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from pathlib import Path

from converters.catalogue import BuildReport, build_catalogue
from converters.titles import tidy_composer, tidy_title

ROOT = Path(__file__).resolve().parent.parent
PACKS = ROOT / "models" / "catalogue"
STARTER_SCORES = ROOT / "scores" / "starter"

CHOPIN = "Chopin, Frédéric"
ATTRIBUTION_PAGE = """# Whose work this pack is

The scores in this pack were encoded and published by the **Narodowy Instytut Fryderyka
Chopina** (The Fryderyk Chopin Institute, Warsaw) under the
[Creative Commons Attribution 4.0 International](https://creativecommons.org/licenses/by/4.0/)
licence, in these collections:

- *Chopin first editions*: https://github.com/pl-wnifc/humdrum-chopin-first-editions
- *Polish scores*: https://github.com/pl-wnifc/humdrum-polish-scores (https://polishscores.org)

`ATTRIBUTION.csv` lists every piece with its title, composer and the file that it comes from.

Changes: the scores were read from Humdrum kern into arrays of pitches, onsets, lengths, hands
and bars; lyrics, slurs, dynamics and layout are not kept; repeats are not unfolded; titles and
composers were tidied; {left_out} files flagged as duplicates of others were left out. The
arrays are under the same licence, CC BY 4.0.
"""


def main() -> None:
    """Build the packs that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="pack", required=True)
    commands.add_parser("starter", help="from scores/starter")
    cc_by = commands.add_parser("cc_by", help="from the unpacked CC BY scores")
    cc_by.add_argument("scores", type=Path, help="folder with the kern files")
    cc_by.add_argument("catalogue", type=Path, help="their catalogue.csv")
    options = parser.parse_args()
    if options.pack == "starter":
        report = build_catalogue([STARTER_SCORES], PACKS / "starter")
    else:
        report = build_cc_by(options.scores, options.catalogue, PACKS / "cc_by")
    print(f"{report.pieces} pieces, sha256 {report.sha256}")
    for _, reason in report.left_out:
        print(f"left out: {reason}")


def build_cc_by(scores: Path, catalogue: Path, out: Path) -> BuildReport:
    """Compile the CC BY pack from a folder of kern files and their catalogue.csv."""
    with catalogue.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    kept = [_tidied(row) for row in rows if not row["dup_of"]]
    with tempfile.TemporaryDirectory() as folder:
        for row in kept:
            link = Path(folder) / f"{row['id']}.krn"
            link.symlink_to((scores / row["path"]).resolve())
        _write_csv(Path(folder) / "catalogue.csv", kept)
        report = build_catalogue([Path(folder)], out)
    _write_csv(out / "ATTRIBUTION.csv", kept)
    page = ATTRIBUTION_PAGE.format(left_out=len(rows) - len(kept))
    (out / "ATTRIBUTION.md").write_text(page, encoding="utf-8")
    return report


def _tidied(row: dict[str, str]) -> dict[str, str]:
    composer = tidy_composer(row["composer"])
    if "chopin" in composer.lower() and "first-editions" in row["source"]:
        composer = CHOPIN
    source = row["source"].split(" @")[0]
    return {
        "id": row["id"],
        "composer": composer,
        "title": _title(row),
        "source": source,
        "licence": row["licence"],
        "path": row["path_score_in_tar"],
    }


def _title(row: dict[str, str]) -> str:
    """The title; where it is a bare number, with the form or the opus it belongs to."""
    title = tidy_title(row["title"])
    words = [word for word in title.replace(",", " ").split() if word.isalpha() and len(word) > 4]
    if words:
        return title
    context = tidy_title(row["form"].removeprefix("Secular").strip("; ")) or "Piano piece"
    return f"{context}, {title}" if title else context


def _write_csv(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as lines:
        writer = csv.DictWriter(lines, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
