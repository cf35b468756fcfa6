from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.messages import AudioState, Percentiles
from edge.publish.health import (
    BoardReadings,
    LoopReadings,
    RecentDurations,
    health_message,
    percentiles,
    read_board,
)
from edge.publish.publisher import PublisherCounters

COUNTERS = PublisherCounters(
    connected=True, reconnects=2, queued=3, sent=100, dropped=4, faults=0, trouble=None
)


def test_the_message_says_what_was_counted_and_read():
    loop = LoopReadings(
        audio=AudioState.RUNNING,
        uptime_s=12.345,
        overruns=1,
        dropped_samples=320,
        level_dbfs=-31.234,
        peak_dbfs=-6.0,
        inference=Percentiles(p50_ms=2.0, p95_ms=3.0, count=9),
        load=0.12345,
        queue_blocks=5,
    )
    board = BoardReadings(temperature_c=51.54, disk_free_bytes=10, memory_bytes=20)
    health = health_message(loop, COUNTERS, board)
    assert (health.audio, health.uptime_s, health.overruns) == (AudioState.RUNNING, 12.3, 1)
    assert (health.level_dbfs, health.load, health.temperature_c) == (-31.2, 0.123, 51.5)
    assert (health.reconnects, health.queue_messages, health.messages_dropped) == (2, 3, 4)
    assert health.end_to_end is None


def test_percentiles_are_durations_that_did_occur():
    assert percentiles([]) is None
    assert percentiles([7.0]) == Percentiles(p50_ms=7.0, p95_ms=7.0, count=1)
    assert percentiles(float(i) for i in range(100, 0, -1)) == Percentiles(
        p50_ms=50.0, p95_ms=95.0, count=100
    )


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=200))
def test_the_median_is_the_lower_one_and_the_95th_covers_95_of_100(durations):
    found = percentiles(float(d) for d in durations)
    assert found is not None
    assert found.p50_ms == statistics.median_low(durations)
    assert sum(d <= found.p95_ms for d in durations) >= 0.95 * len(durations)


def test_only_the_last_minute_counts():
    recent = RecentDurations(window_s=60.0)
    assert recent.percentiles(0.0) is None
    recent.add(0.0, 900.0)
    recent.add(50.0, 5.0)
    recent.add(100.0, 7.0)
    assert recent.percentiles(100.0) == Percentiles(p50_ms=5.0, p95_ms=7.0, count=2)


def test_a_board_is_read_as_far_as_it_speaks(tmp_path):
    for zone, temperature in (("thermal_zone0", "48500\n"), ("thermal_zone1", "51500\n")):
        (tmp_path / zone).mkdir()
        (tmp_path / zone / "temp").write_text(temperature)
    (tmp_path / "thermal_zone2").mkdir()
    (tmp_path / "thermal_zone2" / "temp").write_text("broken")
    status = tmp_path / "status"
    status.write_text("Name:\tsostenuto\nVmRSS:\t  1024 kB\n")
    board = read_board(tmp_path, thermal=tmp_path, proc_status=status)
    assert board.temperature_c == 51.5
    assert board.memory_bytes == 1024 * 1024
    assert board.disk_free_bytes is not None
    assert board.disk_free_bytes > 0


@pytest.mark.parametrize(
    ("word", "held_back"),
    [
        ("0\n", ()),
        ("1\n", ("under_voltage",)),
        ("50005\n", ("under_voltage", "throttled")),
        ("f000a\n", ("frequency_capped", "soft_temperature_limit")),
        ("nonsense", None),
    ],
)
def test_what_a_raspberry_pi_says_of_this_moment_is_read(tmp_path, word, held_back):
    (tmp_path / "get_throttled").write_text(word)
    assert read_board(tmp_path, throttled=tmp_path / "get_throttled").throttling == held_back


def test_a_board_that_says_nothing_gives_nulls(tmp_path):
    nowhere = tmp_path / "nowhere"
    assert read_board(nowhere, thermal=nowhere, proc_status=nowhere) == BoardReadings()


def test_this_very_machine_can_be_read(tmp_path):
    assert read_board(tmp_path).memory_bytes
