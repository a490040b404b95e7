import asyncio
import json
import os
import stat
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from edge_agent.control.client import ControlClient, NoAnswer, NotRunning, Refused
from edge_agent.control.feed import Dropped, Feed
from edge_agent.control.place import connect, listen, socket_path
from edge_agent.control.protocol import VERSION, decode, encode
from edge_agent.control.server import CONNECTIONS, ControlServer


@pytest.fixture(params=[True, False], ids=["unix socket", "loopback port"])
def unix(request: pytest.FixtureRequest) -> bool:
    return request.param


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return socket_path(tmp_path / "data" / "buffer.db")


def in_thread(call: Callable[..., Any], *args: Any, **kwargs: Any) -> asyncio.Future[Any]:
    return asyncio.ensure_future(asyncio.to_thread(call, *args, **kwargs))


def raw(place: Path, unix: bool, sent: bytes) -> bytes:
    sock, _ = connect(place, 5, unix=unix)
    with sock:
        sock.sendall(sent)
        return sock.makefile("rb").readline()


async def test_a_command_is_answered_with_its_result(place: Path, unix: bool) -> None:
    async def status(request: Mapping[str, Any]) -> object:
        return {"agent": "a", "asked": dict(request)}

    async with ControlServer(place, {"status": status}, unix=unix):
        client = ControlClient(place, unix=unix)
        assert await in_thread(client.ask, "status", brief=True) == {"agent": "a", "asked": {"brief": True}}


async def test_a_plain_function_is_a_command_too(place: Path, unix: bool) -> None:
    async with ControlServer(place, {"version": lambda _: "1"}, unix=unix):
        assert await in_thread(ControlClient(place, unix=unix).ask, "version") == "1"


async def test_only_the_same_user_can_reach_the_agent(place: Path, unix: bool) -> None:
    async with ControlServer(place, {}, unix=unix):
        assert stat.S_IMODE(os.lstat(place).st_mode) == 0o600


async def test_a_client_without_the_token_is_refused(place: Path) -> None:
    async with ControlServer(place, {"status": lambda _: 1}, unix=False):
        for token in ("", ',"token":"x"', ',"token":7'):
            answer = json.loads(await in_thread(raw, place, False, b'{"do":"status"%s}\n' % token.encode()))
            assert (answer["ok"], answer["code"]) == (False, "denied")


@pytest.mark.parametrize(
    "sent",
    [
        b"\n",
        b"hello\n",
        b"[1]\n",
        b'{"do":7}\n',
        b'{"do":"nothing"}\n',
        b'{"do":"status","version":7}\n',
        b"\xff\xfe\n",
        b"[" * 60_000 + b"\n",
        b"x" * 70_000,
    ],
    ids=["empty", "text", "list", "no name", "unknown", "version", "not utf-8", "deep", "long"],
)
async def test_malformed_input_is_refused_and_harms_nothing(place: Path, sent: bytes) -> None:
    async with ControlServer(place, {"status": lambda _: "fine"}):
        try:
            answer = json.loads(await in_thread(raw, place, True, sent))
        except ConnectionError:  # the agent hung up on a line without an end
            pass
        else:
            assert answer["ok"] is False
        assert await in_thread(ControlClient(place).ask, "status") == "fine"


async def test_a_command_that_fails_is_told_to_its_caller_alone(place: Path) -> None:
    def broken(_: Mapping[str, Any]) -> object:
        raise RuntimeError("a bug")

    def picky(_: Mapping[str, Any]) -> object:
        raise ValueError("n must be a number")

    async with ControlServer(place, {"broken": broken, "picky": picky, "status": lambda _: "fine"}):
        client = ControlClient(place)
        with pytest.raises(Refused, match="a bug"):
            await in_thread(client.ask, "broken")
        with pytest.raises(Refused, match="n must be a number"):
            await in_thread(client.ask, "picky")
        assert await in_thread(client.ask, "status") == "fine"


async def test_an_agent_of_another_version_is_not_misunderstood(place: Path, unix: bool) -> None:
    async with ControlServer(place, {"status": lambda _: "fine"}, unix=unix):
        sock, token = connect(place, 5, unix=unix)
        sock.close()
        asked = encode({"do": "status", "version": "0.0.9", "token": token})
        answer = decode(await in_thread(raw, place, unix, asked))
    assert (answer["ok"], answer["code"], answer["version"]) == (False, "other_version", VERSION)
    assert f"version {VERSION}" in answer["error"]
    assert "version 0.0.9" in answer["error"]


@pytest.mark.parametrize("said", ['{"ok":true,"version":"0.0.9","result":{}}', '{"ok":true,"result":{}}'])
async def test_an_answer_of_an_agent_of_another_version_is_told_as_such(place: Path, said: str) -> None:
    sock, _ = listen(place)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(said.encode() + b"\n")
        writer.close()

    async with await asyncio.start_unix_server(answer, sock=sock):
        with pytest.raises(Refused, match="restart the agent"):
            await in_thread(ControlClient(place).ask, "status")


async def test_without_an_agent_the_client_says_that_none_runs(place: Path, unix: bool) -> None:
    with pytest.raises(NotRunning):
        ControlClient(place, unix=unix).ask("status")
    async with ControlServer(place, {}, unix=unix):
        pass
    assert gone(place)
    with pytest.raises(NotRunning):
        ControlClient(place, unix=unix).ask("status")


async def test_what_a_killed_agent_left_behind_is_replaced(place: Path, unix: bool) -> None:
    dead = ControlServer(place, {}, unix=unix)
    await dead.__aenter__()
    async with ControlServer(place, {"status": lambda _: "new"}, unix=unix):
        assert await in_thread(ControlClient(place, unix=unix).ask, "status") == "new"
    await dead.__aexit__()


def test_a_file_that_is_no_socket_is_not_removed(place: Path) -> None:
    place.parent.mkdir()
    place.write_text("production figures")
    with pytest.raises(FileExistsError, match="is not a socket"):
        listen(place)
    assert place.read_text() == "production figures"


async def test_a_path_longer_than_the_system_allows_works(tmp_path: Path) -> None:
    place = socket_path(tmp_path / ("x" * 120) / "buffer.db")
    async with ControlServer(place, {"status": lambda _: "fine"}):
        assert await in_thread(ControlClient(place).ask, "status") == "fine"
    assert gone(place)


async def test_a_stream_brings_items_until_the_client_hangs_up(place: Path, unix: bool) -> None:
    feed = Feed()
    async with ControlServer(place, {"tail": lambda _: feed.listen()}, unix=unix):
        items = ControlClient(place, unix=unix).stream("tail")
        first = in_thread(next, items)
        await until(lambda: feed.wanted)
        feed.publish({"n": 1})
        assert await first == {"item": {"n": 1}}
        await in_thread(items.close)
        await until(lambda: not feed.wanted)


async def test_a_slow_listener_is_told_how_many_items_are_missing() -> None:
    feed = Feed()
    slow = feed.listen(limit=2)
    first = asyncio.ensure_future(anext(slow))
    await until(lambda: feed.wanted)
    feed.publish(0)
    assert await first == 0
    for n in range(1, 6):
        feed.publish(n)
    assert [await anext(slow) for _ in range(3)] == [1, 2, Dropped(3)]
    for n in range(6, 10):
        feed.publish(n)
    assert await anext(slow) == 6
    feed.publish(10)
    assert [await anext(slow) for _ in range(3)] == [7, Dropped(2), 10]
    await slow.aclose()
    assert not feed.wanted


async def test_a_client_that_never_reads_does_not_hold_the_agent_up(place: Path) -> None:
    feed = Feed()
    async with ControlServer(place, {"tail": lambda _: feed.listen(), "status": lambda _: "fine"}):
        sock, _ = connect(place, 5)
        with sock:
            sock.sendall(encode({"do": "tail", "version": VERSION}))
            await until(lambda: feed.wanted)
            for _ in range(5000):
                feed.publish({"body": "x" * 1000})
            assert await in_thread(ControlClient(place).ask, "status") == "fine"
        await until(lambda: not feed.wanted)


async def test_too_many_clients_are_refused(place: Path) -> None:
    feed = Feed()
    async with ControlServer(place, {"tail": lambda _: feed.listen()}):
        with ExitStack() as stack:
            for _ in range(CONNECTIONS):
                sock = stack.enter_context(connect(place, 5)[0])
                sock.sendall(encode({"do": "tail", "version": VERSION}))
            await until(lambda: feed.listeners == CONNECTIONS)
            with pytest.raises(Refused, match="already talks"):
                await in_thread(ControlClient(place).ask, "tail")
        await until(lambda: feed.listeners == 0)


async def test_an_agent_that_does_not_answer_is_not_waited_for_long(place: Path) -> None:
    async def forever(_: Mapping[str, Any]) -> object:
        await asyncio.Event().wait()
        return None

    async with ControlServer(place, {"status": forever}):
        with pytest.raises(NoAnswer, match=r"has not answered in 0\.2 s"):
            await in_thread(ControlClient(place, answer_time=0.2).ask, "status")


async def test_a_stream_ends_when_the_agent_stops(place: Path) -> None:
    feed = Feed()
    async with ControlServer(place, {"tail": lambda _: feed.listen()}):
        rest = in_thread(list, ControlClient(place).stream("tail"))
        await until(lambda: feed.wanted)
    assert await rest == []
    assert not feed.wanted


async def test_a_stream_may_end_by_itself(place: Path) -> None:
    async def three(_: Mapping[str, Any]) -> AsyncIterator[int]:
        for n in range(3):
            yield n

    async with ControlServer(place, {"count": three}):
        items = await in_thread(list, ControlClient(place).stream("count"))
    assert items == [{"item": 0}, {"item": 1}, {"item": 2}]


def gone(place: Path) -> bool:
    return not os.path.lexists(place)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - a deadline loop over a condition
            await asyncio.sleep(0.002)  # noqa: TID251 - see above
