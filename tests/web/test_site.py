"""The page of a running agent: what it says, and that nothing about it ever ends the agent."""

import json
import re
import socket
from base64 import b64encode
from hashlib import sha256
from pathlib import Path

from config.load import load
from drivers.registry import Drivers
from tests.runtime.test_agent import running
from tests.waiting import free_port, until
from tests.web.test_server import asked, get, status


async def up(port: int) -> None:
    await until(lambda: not _is_free(port), what="the page is there")


def body(answer: str) -> str:
    return answer.partition("\r\n\r\n")[2]


async def test_people_and_programs_are_told_what_status_says(tmp_path: Path) -> None:
    port = free_port()
    async with running(tmp_path, more=f"http: {{listen: '127.0.0.1:{port}'}}\n") as run:
        await up(port)
        await until(lambda: "production.counted" in run.types(), what="a count")
        told = json.loads(body(await asked(port, get("/status.json"))))
        assert told["agent"]["id"] == "whole"
        assert told["needs_a_person"] == ["the broker is DOWN; events are kept in the buffer"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT.*Z", told["machines"]["press-1"]["since"])
        assert 'edge_agent_machine_count_total{machine="press-1"' in await asked(port, get("/metrics"))
        assert status(await asked(port, get("/healthz"))) == 200
        assert status(await asked(port, get("/readyz"))) == 200


async def test_a_browser_runs_the_script_of_the_page_and_no_other(tmp_path: Path) -> None:
    port = free_port()
    async with running(tmp_path, more=f"http: {{listen: '127.0.0.1:{port}'}}\n"):
        await up(port)
        head, _, page = (await asked(port, get())).partition("\r\n\r\n")
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.S)
    digest = b64encode(sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; script-src 'sha256-{digest}';" in head
    assert "http" not in page.replace("http-equiv", "")


async def test_an_address_that_is_taken_costs_the_page_and_nothing_else(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with running(tmp_path, more=f"http: {{listen: '127.0.0.1:{port}'}}\n") as run:
            await until(lambda: "production.counted" in run.types(), what="a count")


async def test_a_reload_moves_the_page_and_turns_it_off(tmp_path: Path) -> None:
    first, second = free_port(), free_port()
    file = tmp_path / "edge-agent.yaml"
    async with running(
        tmp_path, more=f"http: {{listen: '127.0.0.1:{first}'}}\n", reread=lambda: load(file, Drivers().options())
    ) as run:
        await up(first)
        file.write_text(file.read_text().replace(str(first), str(second)))
        assert (await run.agent.reload()).told() == "the page is opened anew"
        await up(second)
        assert await _gone(first)
        file.write_text(re.sub("http: .*", "http: false", file.read_text()))
        await run.agent.reload()
        assert await _gone(second)


async def test_a_token_that_cannot_be_read_leaves_no_page_open(tmp_path: Path) -> None:
    port = free_port()
    more = f"http: {{listen: '127.0.0.1:{port}', token: {{env: EDGE_AGENT_NO_SUCH_TOKEN}}}}\n"
    async with running(tmp_path, more=more) as run:
        await until(lambda: "production.counted" in run.types(), what="a count")
        assert await _gone(port)


async def _gone(port: int) -> bool:
    await until(lambda: _is_free(port), what="nothing listens")
    return True


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0
