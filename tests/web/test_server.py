"""Whatever is asked over HTTP, and however: an answer or the end of the connection, and the agent goes on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent.web.server import CONNECTIONS, REQUEST_LIMIT, Answer, Server
from tests.waiting import free_port, until


async def _hello() -> Answer:
    return Answer(b"hello\n")


async def _broken() -> Answer:
    raise RuntimeError("a bug")


@asynccontextmanager
async def served(token: str | None = None, host: str = "127.0.0.1") -> AsyncIterator[int]:
    port = free_port()
    async with Server(f"{host}:{port}", token, {"/": _hello, "/broken": _broken}):
        yield port


async def asked(port: int, request: str | bytes) -> str:
    """Everything that comes back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request.encode("latin-1") if isinstance(request, str) else request)
    try:
        return (await asyncio.wait_for(reader.read(), 20)).decode()
    except ConnectionError:
        return ""
    finally:
        writer.close()


def get(path: str = "/", method: str = "GET", host: str = "localhost:8686", more: str = "") -> str:
    return f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n"


def status(answer: str) -> int:
    return int(answer.split(" ")[1])


async def test_a_page_is_served_and_the_connection_closed() -> None:
    async with served() as port:
        answer = await asked(port, get())
    head, _, body = answer.partition("\r\n\r\n")
    assert (status(answer), body) == (200, "hello\n")
    assert "Connection: close" in head
    assert "Content-Length: 6" in head


@pytest.mark.parametrize(
    ("request_", "wanted"),
    [
        (get("/nothing"), 404),
        (get("/broken"), 500),
        (get(method="POST"), 405),
        ("nonsense\r\n\r\n", 400),
        (get("//[/"), 400),
        (get(host="[::1"), 400),
        (get(more="X: " + "x" * REQUEST_LIMIT + "\r\n"), 431),
        (get(host="rebound.example"), 421),
        (get(host=""), 421),
    ],
)
async def test_what_is_not_served_is_refused_with_its_status(request_: str, wanted: int) -> None:
    async with served() as port:
        assert status(await asked(port, request_)) == wanted
        assert status(await asked(port, get())) == 200


async def test_head_is_answered_without_a_body() -> None:
    async with served() as port:
        assert (await asked(port, get(method="HEAD"))).endswith("\r\n\r\n")


async def test_a_token_is_asked_for_in_a_header_or_in_the_address() -> None:
    async with served(token="s3crét") as port:
        assert status(await asked(port, get())) == 401
        assert status(await asked(port, get("/?token=other"))) == 401
        assert status(await asked(port, get("/nothing"))) == 401
        assert status(await asked(port, get("/?token=s3cr%C3%A9t"))) == 200


async def test_with_a_token_any_name_of_the_computer_will_do() -> None:
    async with served(token="abc") as port:
        assert status(await asked(port, get(host="ipc.plant.example", more="Authorization: Bearer abc\r\n"))) == 200


async def test_more_connections_than_there_are_places_are_told_to_come_again() -> None:
    async with served() as port:
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(CONNECTIONS)]
        assert status(await asked(port, get())) == 503
        for _, writer in idle:
            writer.close()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=60), max_size=5))
def test_any_bytes_are_refused_or_answered(pieces: list[bytes]) -> None:
    async def one() -> None:
        async with served() as port:
            answer = await asked(port, b"GET /" + b"\r\n".join(pieces) + b"\r\n\r\n")
            assert not answer or 200 <= status(answer) < 500
            assert status(await asked(port, get())) == 200

    asyncio.run(one())


async def test_a_client_that_does_not_read_its_answer_keeps_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_agent.web.server.ANSWER_TIME", 0.05)

    async def long() -> Answer:
        return Answer(b"x" * 20_000_000)

    port = free_port()
    async with Server(f"127.0.0.1:{port}", None, {"/": long}):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
        writer.write(get().encode())
        await until(lambda: not [task for task in asyncio.all_tasks() if task.get_name() == "web client"])
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await asyncio.wait_for(reader.readexactly(20_000_000), 20)
        writer.close()


async def test_a_crowd_that_says_nothing_is_hung_up_on_at_once() -> None:
    async with served() as port:
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3 * CONNECTIONS)]
        for reader, _ in idle[2 * CONNECTIONS :]:
            with suppress(ConnectionError):
                assert await asyncio.wait_for(reader.read(), 20) == b""
        assert len([task for task in asyncio.all_tasks() if task.get_name() == "web client"]) <= 2 * CONNECTIONS
        for _, writer in idle:
            writer.close()


async def test_the_end_of_the_server_with_clients_that_still_ask_is_quiet() -> None:
    loop, complaints = asyncio.get_running_loop(), []
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    async with served() as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        await until(lambda: [task for task in asyncio.all_tasks() if task.get_name() == "web client"])
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()
    assert complaints == []
