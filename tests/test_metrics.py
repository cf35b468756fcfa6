from __future__ import annotations

import re
import socket
import urllib.error
import urllib.request

import pytest

from edge.errors import UsageError
from edge.messages import AudioState, Health, Percentiles, Throttling
from edge.publish.metrics import MetricsServer, exposition

HEALTH = Health(
    audio=AudioState.RUNNING,
    uptime_s=12.5,
    overruns=3,
    level_dbfs=-31.25,
    inference=Percentiles(p50_ms=2.5, p95_ms=4.0, count=10),
    throttling=(Throttling.UNDER_VOLTAGE,),
)


def test_what_health_says_is_exposed_and_what_it_does_not_know_is_left_out() -> None:
    lines = exposition(HEALTH, 1.5).splitlines()
    assert "sostenuto_uptime_seconds 12.5" in lines
    assert "sostenuto_overruns_total 3" in lines
    assert "sostenuto_level_dbfs -31.25" in lines
    assert "sostenuto_cpu_seconds_total 1.5" in lines
    assert 'sostenuto_inference_seconds{quantile="0.95"} 0.004' in lines
    assert 'sostenuto_audio_state{state="running"} 1' in lines
    assert 'sostenuto_audio_state{state="lost"} 0' in lines
    assert 'sostenuto_throttled{by="under_voltage"} 1' in lines
    assert "sostenuto_listening 1" in lines
    assert not any("temperature" in line or "end_to_end" in line for line in lines)


def test_every_line_is_of_the_text_format() -> None:
    text = exposition(HEALTH, 1.5)
    sample = r'sostenuto_[a-z_]+(\{[a-z]+="[a-z0-9_.]+"\})? -?[0-9.e+-]+'
    comment = r"# (HELP sostenuto_[a-z_]+ .+|TYPE sostenuto_[a-z_]+ (gauge|counter))"
    assert text.endswith("\n")
    for line in text.splitlines():
        assert re.fullmatch(sample, line) or re.fullmatch(comment, line), line


def get(port: int, path: str = "/metrics") -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_scraper_gets_the_newest_health() -> None:
    with MetricsServer(0) as server:
        assert get(server.port)[0] == 503
        server.show(HEALTH)
        assert get(server.port)[0] == 200
        assert "sostenuto_overruns_total 3" in get(server.port)[1]
        assert get(server.port, "/etc/passwd")[0] == 404


def test_a_port_that_is_taken_is_an_error_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"metrics port {port}: cannot be listened on"):
            MetricsServer(port)
