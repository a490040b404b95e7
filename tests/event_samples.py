"""The sample messages of docs/events.md: the richest event of each type that the stories of the examples make.

`python -m tests.event_samples` writes them into the page; a test compares. What no story can make, because it is said
by the agent round the machines, is encoded here from values like those of a running one.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from buffer.outbox import Lane
from config.model import Config
from edge_agent.cli.loading import read
from edge_agent.clock import SECOND, parse_rfc3339
from edge_agent.events.codec import agent_encoder
from edge_agent.events.types import AgentHeartbeat, AgentStopped, Data, DataLoss, Event
from edge_agent.replay.suite import replay_epoch, run_test
from edge_agent.replay.summary import short_type

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "events.md"
EXAMPLES = sorted((ROOT / "config" / "examples").glob("*.yaml"))
BLOCK = re.compile(r"<!-- sample: ([a-z_.]+) -->\n(?:```json\n.*?\n```\n)?", re.S)
WIDTH = 116
START = parse_rfc3339("2026-03-02T00:00:00Z")
EPOCH = replay_epoch(START)


def samples() -> dict[str, dict[str, Any]]:
    """Short type → the CloudEvent with the most members in its data, of all stories the first such one."""
    best: dict[str, dict[str, Any]] = {}
    for event in [*_told(), *_of_the_agent(read(EXAMPLES[0]).config)]:
        known = best.get(short_type(event))
        if known is None or len(event["data"]) > len(known["data"]):
            best[short_type(event)] = event
    return best


def _told() -> Iterator[dict[str, Any]]:
    for path in EXAMPLES:
        config = read(path).config
        for test in config.tests:
            yield from run_test(config, test).events


def _of_the_agent(config: Config) -> Iterator[dict[str, Any]]:
    encoder = agent_encoder(config, EPOCH)
    said: tuple[Data, ...] = (
        AgentHeartbeat(
            uptime_s=3600.04,
            buffer={"rows": 12, "bytes": 10240, "oldest_unsent_s": 0.4, "fill": 0.001},
            last_seq={"press-1.p": 18423, "press-1.m": 771200, "$agent.h": 131},
            clock={"source": "system", "synced": True},
            disk_free=182_536_110_080,
            config_hash="5b1f6c9a2d3e",
            version="0.1.0",
            clock_adjusted_total_s=0,
            missed_scans={"meter-2": 3},
        ),
        AgentStopped(uptime_s=86_400.2, reason="told to"),
        DataLoss(
            lost_stream="press-1.m",
            lost_epoch=EPOCH,
            seq_from=771_200,
            seq_to=779_999,
            extent="exact",
            count_by_type={"measurement.sampled": 8800},
            cause="buffer_full",
            policy="shed_measurements",
        ),
    )
    for number, data in enumerate(said, 130):
        at = START + number * 30 * SECOND
        made = Event(lane=Lane.HEALTH, seq=number, time=at, recorded=at, data=data)
        yield json.loads(encoder.encode(made).body)


def block(event: dict[str, Any]) -> str:
    """The event as JSON that a page can show."""
    envelope = {key: value for key, value in event.items() if key != "data"}
    return f'{{{_wrapped(envelope, " ")},\n "data": {{{_wrapped(event["data"], "  ")}}}}}'


def _wrapped(members: dict[str, Any], indent: str) -> str:
    """`"name": value` after each other, as many in a line as fit."""
    lines = [""]
    for name, value in members.items():
        member = f"{json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}"
        if lines[-1] and len(lines[-1]) + len(member) + 3 + len(indent) > WIDTH:
            lines[-1] += ","
            lines.append(indent + member)
        else:
            lines[-1] += f", {member}" if lines[-1] else member
    return "\n".join(lines)


def filled(page: str) -> str:
    """The page with the samples of now."""
    found = samples()

    def fill(match: re.Match[str]) -> str:
        type_ = match[1]
        return f"<!-- sample: {type_} -->\n```json\n{block(found[type_])}\n```\n" if type_ in found else match[0]

    return BLOCK.sub(fill, page)


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
