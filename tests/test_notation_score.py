"""Scores from MusicXML and MEI, through partitura."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from converters.notation_score import read_notation_score
from edge.errors import InputError
from edge.matching.score import Hand, Piece

pytest.importorskip("partitura")

BLANK = Piece("a", "a", "", "")


def xml_note(step: str, octave: int, length: int, staff: int, extra: str = "") -> str:
    return (
        f"<note>{'<grace/>' if length == 0 else ''}<pitch><step>{step}</step>"
        f"<octave>{octave}</octave></pitch>"
        f"{f'<duration>{length}</duration>' if length else ''}{extra}<voice>{staff}</voice>"
        f"<type>quarter</type><staff>{staff}</staff></note>"
    )


BACK_ONE = "<backup><duration>2</duration></backup>"
BACK_THREE = "<backup><duration>6</duration></backup>"
MUSICXML = f"""<?xml version="1.0" encoding="UTF-8"?>
<score-partwise version="3.1">
  <work><work-title>A waltz</work-title></work>
  <identification><creator type="composer">Nobody</creator></identification>
  <part-list><score-part id="P1"><part-name>Piano</part-name></score-part></part-list>
  <part id="P1">
    <measure number="0" implicit="yes">
      <attributes><divisions>2</divisions><time><beats>3</beats><beat-type>4</beat-type></time>
      <staves>2</staves></attributes>
      <sound tempo="90"/>
      {xml_note("G", 4, 2, 1)}{BACK_ONE}{xml_note("G", 2, 2, 2)}
    </measure>
    <measure number="1">
      {xml_note("C", 5, 6, 1, '<tie type="start"/>')}{BACK_THREE}
      {xml_note("C", 3, 2, 2)}{xml_note("E", 3, 2, 2)}{xml_note("E", 3, 2, 2)}
    </measure>
    <measure number="2">
      {xml_note("C", 5, 2, 1, '<tie type="stop"/>')}{xml_note("F", 5, 0, 1)}
      {xml_note("E", 5, 4, 1)}{BACK_THREE}{xml_note("C", 3, 6, 2)}
    </measure>
  </part>
</score-partwise>
"""
NOTES = [
    (0.0, 43, 1.0, Hand.LEFT),
    (0.0, 67, 1.0, Hand.RIGHT),
    (1.0, 48, 1.0, Hand.LEFT),
    (1.0, 72, 4.0, Hand.RIGHT),
    (2.0, 52, 1.0, Hand.LEFT),
    (3.0, 52, 1.0, Hand.LEFT),
    (4.0, 48, 3.0, Hand.LEFT),
    (5.0, 76, 2.0, Hand.RIGHT),
    (5.0, 77, 0.0, Hand.RIGHT),
]


def check(path: Path) -> None:
    score = read_notation_score(path, BLANK)
    found = zip(
        score.onset_quarters, score.pitch_midi, score.duration_quarters, score.hand, strict=True
    )
    assert sorted(found) == NOTES
    assert score.bar_number.tolist() == [0, 1, 2]
    assert score.bar_quarters.tolist() == [0.0, 1.0, 4.0]
    assert score.bar_beat_quarters.tolist() == [1.0, 1.0, 1.0]
    assert score.onset_s[-1] == pytest.approx(5.0 * 60 / 90)
    assert (score.piece.title, score.piece.composer) == ("A waltz", "Nobody")


def test_musicxml_with_a_pickup_a_tie_and_a_grace_note(tmp_path: Path) -> None:
    path = tmp_path / "waltz.musicxml"
    path.write_text(MUSICXML)
    check(path)


def test_compressed_musicxml_is_the_same(tmp_path: Path) -> None:
    path = tmp_path / "waltz.mxl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            "META-INF/container.xml",
            '<?xml version="1.0"?><container><rootfiles><rootfile full-path="waltz.xml"/>'
            "</rootfiles></container>",
        )
        archive.writestr("waltz.xml", MUSICXML)
    check(path)


MEI = """<?xml version="1.0" encoding="UTF-8"?>
<mei xmlns="http://www.music-encoding.org/ns/mei" meiversion="4.0.1">
<meiHead><fileDesc><titleStmt><title>A tune</title></titleStmt></fileDesc></meiHead>
<music><body><mdiv><score>
<scoreDef meter.count="2" meter.unit="4"><staffGrp>
<staffDef n="1" lines="5" clef.shape="G" clef.line="2" xml:id="s1"/>
<staffDef n="2" lines="5" clef.shape="F" clef.line="4" xml:id="s2"/></staffGrp></scoreDef>
<section>
<measure n="1"><staff n="1"><layer n="1">
<note xml:id="a" dur="4" oct="5" pname="c"/><note xml:id="b" dur="4" oct="5" pname="d"/>
</layer></staff><staff n="2"><layer n="1"><note xml:id="c" dur="2" oct="3" pname="c"/></layer>
</staff></measure>
<measure n="2"><staff n="1"><layer n="1"><note xml:id="d" dur="2" oct="5" pname="e"/></layer>
</staff><staff n="2"><layer n="1"><note xml:id="e" dur="2" oct="3" pname="g"/></layer></staff>
</measure></section></score></mdiv></body></music></mei>
"""


def test_mei(tmp_path: Path) -> None:
    path = tmp_path / "tune.mei"
    path.write_text(MEI)
    score = read_notation_score(path, BLANK)
    assert list(zip(score.onset_quarters, score.pitch_midi, strict=True)) == [
        (0.0, 48),
        (0.0, 72),
        (1.0, 74),
        (2.0, 55),
        (2.0, 76),
    ]
    assert score.bar_number.tolist() == [1, 2]


@pytest.mark.parametrize("text", ["", "<score-partwise/>", "<score-partwise", MUSICXML[:400]])
def test_what_is_no_score_is_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "waltz.musicxml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_notation_score(path, BLANK)
    assert "\n" not in str(caught.value)


def test_two_pieces_in_one_mei_file_are_named_not_run_together(tmp_path: Path) -> None:
    path = tmp_path / "two.mei"
    score = MEI[MEI.index("<score>") : MEI.index("</mdiv>")]
    path.write_text(MEI.replace("</mdiv>", f'</mdiv><mdiv label="Trio">{score}</mdiv>'))
    with pytest.raises(InputError, match=r"two\.mei holds 2 pieces \(mdiv 1, Trio\): give each"):
        read_notation_score(path, BLANK)


def test_an_mdiv_within_an_mdiv_is_one_piece(tmp_path: Path) -> None:
    path = tmp_path / "one.mei"
    path.write_text(MEI.replace("<mdiv>", "<mdiv><mdiv>").replace("</mdiv>", "</mdiv></mdiv>"))
    assert read_notation_score(path, BLANK).bar_number.tolist() == [1, 2]


def repeats_of(path: Path) -> list[tuple[float, float]]:
    return [tuple(each) for each in read_notation_score(path, BLANK).repeat_quarters.tolist()]


def musicxml_bars(*bars: str) -> str:
    """Bars of four quarters; ``{}`` in each stands for its notes."""
    notes = "".join(
        f"<note><pitch><step>{step}</step><octave>4</octave></pitch><duration>1</duration>"
        "<voice>1</voice><type>quarter</type></note>"
        for step in "CDEF"
    )
    measures = "".join(
        f'<measure number="{number}">'
        f"{'<attributes><divisions>1</divisions></attributes>' if number == 1 else ''}"
        f"{bar.replace('{}', notes)}</measure>"
        for number, bar in enumerate(bars, start=1)
    )
    return (
        '<?xml version="1.0"?><score-partwise version="3.1"><part-list><score-part id="P1">'
        f'<part-name>Piano</part-name></score-part></part-list><part id="P1">{measures}</part>'
        "</score-partwise>"
    )


def barline(where: str, repeat: str = "", ending: str = "") -> str:
    number, _, kind = ending.partition(" ")
    volta = f'<ending number="{number}" type="{kind}"/>' if ending else ""
    dots = f'<repeat direction="{repeat}"/>' if repeat else ""
    return f'<barline location="{where}">{volta}{dots}</barline>'


def test_repeats_and_endings_of_musicxml(tmp_path: Path) -> None:
    path = tmp_path / "repeats.musicxml"
    path.write_text(
        musicxml_bars(
            "{}" + barline("right", "backward"),
            barline("left", "forward") + "{}",
            barline("left", ending="1 start") + "{}" + barline("right", "backward", "1 stop"),
            barline("left", ending="2 start") + "{}" + barline("right", "", "2 stop"),
            "{}",
        )
    )
    assert repeats_of(path) == [(4.0, 0.0), (8.0, 12.0), (12.0, 4.0)]


def sound(sign: str) -> str:
    return f"<direction><direction-type><words/></direction-type><sound {sign}/></direction>"


def test_da_capo_dal_segno_and_the_way_to_the_coda(tmp_path: Path) -> None:
    path = tmp_path / "words.musicxml"
    path.write_text(
        musicxml_bars(
            "{}",
            sound('segno="segno"') + "{}" + sound('tocoda="coda"'),
            "{}" + sound('dacapo="yes"'),
            "{}" + sound('dalsegno="segno"'),
            sound('coda="coda"') + "{}",
        )
    )
    assert repeats_of(path) == [(8.0, 16.0), (12.0, 0.0), (16.0, 4.0)]


def test_repeats_and_endings_of_mei(tmp_path: Path) -> None:
    path = tmp_path / "repeats.mei"
    begin, end = MEI.index('<measure n="2"'), MEI.index("</section>")
    bar = MEI[begin:end]
    dotted = MEI.replace('<measure n="1">', '<measure n="1" right="rptend">')
    assert repeats_of_text(path, dotted) == [(2.0, 0.0)]
    first = bar.replace("<measure", '<measure right="rptend"')
    second = bar.replace('xml:id="', 'xml:id="again-')
    endings = f'<ending n="1">{first}</ending><ending n="2">{second}</ending>'
    marked = MEI[:begin] + endings + MEI[end:]
    assert repeats_of_text(path, marked) == [(2.0, 4.0), (4.0, 0.0)]


def test_a_line_that_ends_one_repeat_and_begins_the_next_counts_as_both(tmp_path: Path) -> None:
    path = tmp_path / "both.mei"
    dotted = MEI.replace('<measure n="1">', '<measure n="1" xml:id="m1" right="rptboth">')
    dotted = dotted.replace('<measure n="2">', '<measure n="2" xml:id="m2" right="rptend">')
    assert repeats_of_text(path, dotted) == [(2.0, 0.0), (4.0, 2.0)]


def test_the_doubts_of_the_parser_do_not_reach_standard_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "doubtful.mei"
    path.write_text(MEI.replace('<measure n="1">', '<measure n="1" right="rptend">'))
    read_notation_score(path, BLANK)
    assert capsys.readouterr().out == ""


def repeats_of_text(path: Path, text: str) -> list[tuple[float, float]]:
    path.write_text(text)
    return repeats_of(path)


def test_a_score_without_signs_has_no_repeats(tmp_path: Path) -> None:
    path = tmp_path / "waltz.musicxml"
    path.write_text(MUSICXML)
    assert read_notation_score(path, BLANK).repeat_quarters.shape == (0, 2)
