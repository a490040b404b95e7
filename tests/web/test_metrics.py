"""The status as metrics: every line is of the text format, and what is unknown is left out."""

import re
from typing import Any

from edge_agent.web.metrics import exposition

SAMPLE = re.compile(r'[a-z_]+(\{[a-z_]+="(?:[^"\\\n]|\\[\\"n])*"(,[a-z_]+="(?:[^"\\\n]|\\[\\"n])*")*\})? [-+0-9.e]+')

STATUS: dict[str, Any] = {
    "agent": {"id": "ipc", "version": "1.2", "config_hash": "ab", "epoch": "e", "uptime_s": 12.5},
    "devices": {
        'quo"ted\\': {
            "status": "UP", "age_s": 0.5, "tags": 4, "bad": {"a": "bad"}, "connects": 1, "failures": 0,
            "readings": 1_000_000_000, "missed_scans": 2, "ring": {"told": 30, "losses": 1, "last_at": None},
        },
        "never": {
            "status": "DOWN", "age_s": None, "tags": 1, "bad": {}, "connects": 0, "failures": 9, "readings": 0,
            "missed_scans": 0, "ring": None,
        },
    },
    "machines": {
        "press-1": {"state": "running", "counters": {"main": {"totals": {"good": 13, "total": 15}}}},
        "new": {"counters": {}},
    },
    "broker": {"status": "UP", "confirmed": 15, "rejected": 0},
    "buffer": {
        "rows": 3, "bytes": 900, "oldest_s": None, "dead": 0, "fill": 0.25, "full": False, "stored": 18,
        "written_bytes": 40_960,
        "silent_s": None,
    },
}  # fmt: skip


def test_every_line_is_a_comment_or_a_sample_and_every_family_is_described_once() -> None:
    text = exposition(STATUS)
    assert text.endswith("\n")
    lines = text.splitlines()
    samples = [line for line in lines if not line.startswith("# ")]
    assert [line for line in samples if not SAMPLE.fullmatch(line)] == []
    assert len(samples) == len(set(samples))
    described = [line.split()[2] for line in lines if line.startswith("# TYPE ")]
    assert len(described) == len(set(described))
    assert {re.split(r"[ {]", line)[0] for line in samples} <= set(described)


def test_figures_are_those_of_the_status() -> None:
    lines = exposition(STATUS).splitlines()
    assert 'edge_agent_device_up{device="quo\\"ted\\\\"} 1' in lines
    assert 'edge_agent_device_up{device="never"} 0' in lines
    assert 'edge_agent_device_bad_tags{device="quo\\"ted\\\\"} 1' in lines
    assert 'edge_agent_device_readings_total{device="quo\\"ted\\\\"} 1000000000' in lines
    assert [line for line in lines if line.startswith("edge_agent_device_ring")] == [
        'edge_agent_device_ring_told_total{device="quo\\"ted\\\\"} 30',
        'edge_agent_device_ring_losses_total{device="quo\\"ted\\\\"} 1',
    ]
    assert 'edge_agent_machine_state{machine="press-1",state="running"} 1' in lines
    assert 'edge_agent_machine_count_total{machine="press-1",counter="main",role="total"} 15' in lines
    assert "edge_agent_buffer_fill_ratio 0.25" in lines
    assert "edge_agent_buffer_oldest_seconds 0" in lines
    assert "edge_agent_buffer_stored_total 18" in lines
    assert "edge_agent_buffer_written_bytes_total 40960" in lines


def test_the_age_of_what_was_never_read_is_left_out() -> None:
    assert not [line for line in exposition(STATUS).splitlines() if "age_seconds" in line and "never" in line]
