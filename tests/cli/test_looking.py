"""browse, read and watch: with a device of one's own, and through the agent that holds the only connection."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from edge_agent.cli.exits import ExitCode
from tests.agent_process import agent
from tests.servers_modbus import HostilePeer
from tests.waiting import free_port

Run = Callable[..., Result]

OVEN = """\
version: 1
agent: {{id: a1}}
site: {{enterprise: acme, site: sz1, area: stamping}}
mqtt: {{url: mqtt://127.0.0.1:9}}
buffer: {{path: buffer.db}}
machines:
  oven-1:
    line: line3
    device:
      driver: modbus
      url: {url}
      timeout: 3s
      scan: 100ms
      tags:
        trays: {{holding: 200}}
        temp:  {{holding: 300, type: float32}}
        gone:  {{holding: 900}}
    counters:
      main: {{good: trays, max_rate: 1000/s}}
"""


class OneConnection(HostilePeer):
    """Allows one connection at a time, closes every other one at once, and counts both."""

    def __init__(self) -> None:
        super().__init__(lambda asked: asked.exception(2) if asked.start + asked.count > 900 else asked.reply())
        self.refused = 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._writers:
            self.refused += 1
            writer.transport.abort()
            return
        await super()._serve(reader, writer)


async def test_while_an_agent_holds_the_only_connection_every_look_goes_through_it(
    edge_agent: Run, tmp_path: Path
) -> None:
    async def run(*arguments: str) -> tuple[int, str, str]:
        done = await asyncio.to_thread(edge_agent, *arguments)
        return done.exit_code, done.stdout, done.stderr

    async with OneConnection() as peer:
        config = tmp_path / "edge-agent.yaml"
        config.write_text(OVEN.format(url=peer.url), encoding="utf-8")
        async with agent(config) as running:
            await running.until(lambda status: status["devices"]["oven-1"]["readings"] > 0)
            code, out, err = await run("read", "oven-1/trays", "temp", "--all-decodings", "-o", "json")
            assert code == 0, err
            trays, temp = json.loads(out)["readings"]
            assert (trays["value"], trays["quality"], trays["registers"]) == (200, "GOOD", [200, 201, 202, 203])
            own, *others = sorted(trays["decodings"], key=lambda one: not one["configured"])
            assert own == {
                "type": "uint16", "word_order": "big", "byte_order": "big", "value": 200, "plausible": True,
                "configured": True,
            }  # fmt: skip
            assert not any(one["configured"] for one in others)
            assert temp["registers"] == [300, 301, 302, 303]
            code, out, _ = await run("watch", "trays", "-n", "1")
            assert (code, "oven-1/trays" in out, "00C8" in out) == (0, True, True)
            code, out, _ = await run("browse", "oven-1", "holding/895-905")
            assert code == 0
            assert "899" in out
            assert "illegal data address" in out
            code, out, _ = await run("browse", peer.url, "holding/5", "--yaml")  # by its address too
            assert (code, out) == (0, "tags:\n  holding_5: {holding: 5, type: uint16}\n")
            code, out, _ = await run("read", "gone")
            assert code == ExitCode.PROBLEM
            assert "BAD(illegal data address (exception 2): C532, there is no such register)" in out
            status = await running.status()
            assert status is not None
            assert (status["devices"]["oven-1"]["connects"], peer.connections, peer.refused) == (1, 1, 0)
        code, out, _ = await run("read", "trays")  # the agent has gone: now by itself
        assert code == 0
        assert (peer.connections, peer.refused) == (2, 0)


def test_without_an_agent_a_device_is_read_by_itself(edge_agent: Run, configuration: Path) -> None:
    done = edge_agent("read", "press-1/total", "note", "-o", "json")
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["ok"] is True
    assert [one["name"] for one in told["readings"]] == ["press-1/total", "press-1/note"]
    assert told["readings"][1]["value"] == "急停"
    assert set(told["readings"][0]) == {
        "device", "name", "tag", "value", "quality", "detail", "source_at", "read_at", "age_s", "registers", "native",
        "code", "problem", "fix", "unit",
    }  # fmt: skip


def test_a_tree_is_browsed_filtered_and_written_as_tags(edge_agent: Run, configuration: Path, tmp_path: Path) -> None:
    tree = edge_agent("browse", "press-1")
    assert tree.exit_code == 0, tree.stderr
    assert "note" in tree.stdout
    assert "急停" in tree.stdout
    assert edge_agent("browse", "press-1", "--filter", "TOT", "--yaml").stdout == (
        "tags:\n  total: {kind: counter, rate: 20/s}\n"
    )
    saved = edge_agent("browse", "press-1", "--save", "tags.csv")
    assert saved.exit_code == 0, saved.stderr
    text = (tmp_path / "tags.csv").read_bytes().decode("utf-8-sig")
    assert text.splitlines()[0].startswith("device;tag;")
    assert len(text.splitlines()) == 4
    assert edge_agent("browse", "press-1", "--save", "tags.csv").exit_code == ExitCode.WILL_NOT_OVERWRITE
    (tmp_path / "tags.csv").write_text(text.replace(";total;", ";more;"), encoding="utf-8")
    done = edge_agent("tags", "import", "tags.csv")
    assert done.exit_code == 0, done.stderr
    assert "1 tag added, 0 changed, 2 as they were" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["read", "totl"], "did you mean"),
        (["read", "press-1/nix"], "press-1 has no tag 'nix'"),
        (["browse", "press-2"], "did you mean 'press-1'?"),
        (["browse", "press-1", "Axes/1"], "its tags and nothing below"),
        (["browse", "http://10.0.0.1"], "tcp://HOST:502"),
        (["browse", "press-1", "--save", "x.csv", "--delimiter", "ab"], "one character"),
    ],
)
def test_what_is_not_there_is_exit_2_with_a_hint(
    edge_agent: Run, configuration: Path, arguments: list[str], said: str
) -> None:
    done = edge_agent(*arguments)
    assert done.exit_code == ExitCode.USAGE, done.stderr
    assert said in done.stderr


def test_a_device_that_is_not_there_is_exit_69_and_says_what_to_try(edge_agent: Run, tmp_path: Path) -> None:
    url = f"tcp://127.0.0.1:{free_port()}"
    (tmp_path / "edge-agent.yaml").write_text(OVEN.format(url=url), encoding="utf-8")
    done = edge_agent("read", "trays")
    assert done.exit_code == ExitCode.UNREACHABLE
    assert "error C501: Cannot connect to oven-1" in done.stderr
    assert "ConnectionRefusedError" not in done.stderr
    assert "ConnectionRefusedError" in edge_agent("read", "trays", "-v").stderr
    told = json.loads(edge_agent("browse", url, "-o", "json").stdout)
    assert (told["ok"], told["exit"], told["code"]) == (False, 69, "C501")
