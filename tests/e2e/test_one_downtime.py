"""One stop over two shifts, a change of the order and a kill -9 of the agent is one downtime."""

import sys
from pathlib import Path

import pytest

from edge_agent.clock import SECOND, SystemClock
from tests.e2e.plant import FAILED, FAULT, RUNNING, STATUS, Plant, plant

pytestmark = pytest.mark.needs("mosquitto", "node")

ORDER = 20
"""Holding register of the oven's order number."""
OF_THE_OVEN = f"""\
        order:  {{holding: {ORDER}, type: uint16}}
    orders: {{authority: plc, tag: order}}
calendar:
  shifts:
    - {{name: A, start: 06:00, end: 14:00}}
    - {{name: B, start: 14:00, end: 22:00}}
"""


def agent_at(p: Plant, midnight: int, hour: int):
    """The agent on a computer on which it was half past `hour` when it was `midnight` s after midnight (UTC)."""
    return p.agent(sys.executable, "-m", "tests.e2e.another_day", str(hour * 3600 + 1800 - midnight))


async def test_a_stop_over_two_shifts_an_order_change_and_a_kill_is_one_downtime(tmp_path: Path) -> None:
    midnight = SystemClock().now().wall // SECOND % 86_400
    async with plant(tmp_path, more=OF_THE_OVEN) as p:
        agent = agent_at(p, midnight, 13)
        try:
            await p.oven.set(holding={STATUS: RUNNING, FAULT: 0, ORDER: 17})
            await agent.start()
            await agent.until(lambda s: s["machines"]["oven-1"].get("state") == "running")
            await p.oven.set(holding={STATUS: FAILED, FAULT: 12})
            await agent.until(lambda s: s["machines"]["oven-1"].get("downtime") is not None)
            await agent.kill()

            agent = agent_at(p, midnight, 14)
            await agent.start()
            await agent.until(lambda s: s["machines"]["oven-1"].get("state") == "fault")
            await p.oven.set(holding={ORDER: 18})
            await p.sink.wait_for(lambda _: len(p.ledger().of("order.started", "oven-1")) == 2, 30)
            await p.oven.set(holding={STATUS: RUNNING, FAULT: 0})
            await p.sink.wait_for(lambda _: p.ledger().of("downtime.ended", "oven-1"), 30)
        finally:
            await agent.kill()

        ledger = p.ledger()
        ledger.check_downtimes("oven-1")
        assert len(ledger.of("downtime.started", "oven-1")) == 1
        (ended,) = [event["data"] for event in ledger.of("downtime.ended", "oven-1")]
        told = [(one["state"], one["shift"][-1], one["order_id"]) for one in ended["segments"]]
        unseen = [("unknown", "A", "17"), ("unknown", "B", "17")]
        assert told[-4:] == [*unseen, ("fault", "B", "17"), ("fault", "B", "18")]
        assert told[:-4] in ([], [("fault", "A", "17")])  # as long as what was stored before the kill
        assert ended["reason"]["code"] == "12"
        assert 3500 < ended["unknown_s"] < ended["duration_s"]
        assert sum(one["duration_s"] for one in ended["segments"]) == pytest.approx(ended["duration_s"], abs=0.01)
