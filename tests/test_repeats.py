"""Where repeat signs lead, from the signs alone."""

from __future__ import annotations

from converters.repeats import as_array, ending_passages, repeat_passages, section_passages


def test_a_part_begins_at_its_sign_or_where_the_one_before_ended() -> None:
    assert repeat_passages([], [8.0]) == [(8.0, 0.0)]
    assert repeat_passages([4.0], [8.0]) == [(8.0, 4.0)]
    assert repeat_passages([0.0, 16.0], [8.0, 12.0, 24.0]) == [
        (8.0, 0.0),
        (12.0, 8.0),
        (24.0, 16.0),
    ]


def test_every_ending_is_reached_from_where_the_first_begins() -> None:
    endings = [(8.0, 12.0), (12.0, 16.0), (16.0, 20.0), (40.0, 44.0), (44.0, 48.0)]
    assert ending_passages(endings) == [(8.0, 12.0), (8.0, 16.0), (40.0, 44.0)]


def test_the_second_of_three_endings_leads_back_before_the_first() -> None:
    endings = [(8.0, 12.0), (12.0, 16.0), (16.0, 20.0)]
    assert repeat_passages([4.0], [12.0, 16.0], endings) == [(12.0, 4.0), (16.0, 4.0)]


def test_an_order_of_sections_leads_where_it_does_not_go_on() -> None:
    sections = {"A": (0.0, 8.0), "A1": (8.0, 12.0), "A2": (12.0, 16.0), "B": (16.0, 24.0)}
    order = ["A", "A1", "A", "A2", "B", "A", "not written"]
    assert section_passages(order, sections) == [(12.0, 0.0), (8.0, 12.0), (24.0, 0.0)]


def test_a_passage_is_kept_once_and_one_that_leads_nowhere_is_not() -> None:
    passages = [(8.0, 0.0), (4.0, 4.0), (8.0, 0.0), (4.0, 12.0)]
    assert as_array(passages).tolist() == [[4.0, 12.0], [8.0, 0.0]]
    assert as_array([]).shape == (0, 2)
