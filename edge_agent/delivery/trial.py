"""One connection to the broker that publishes nothing: is it there, is it believed, may the agent log in and receive?

It has a client id and a session of its own and no will, so that neither a running agent nor the MOM notices. Whether
the agent may publish can be known by publishing alone, and is told by the agent (B603).
"""

import asyncio
import socket
from collections.abc import Sequence

from edge_agent.delivery import refusals
from edge_agent.delivery.inbox import Line
from edge_agent.delivery.login import Login
from edge_agent.delivery.publisher import NotConnected, PublishError


async def try_login(login: Login, topics: Sequence[str]) -> PublishError | None:
    """Why the broker cannot be used; None if it can. `topics`: what is subscribed to."""
    try:
        await asyncio.to_thread(_reach, login)
    except OSError as error:
        return refusals.unreachable(error, broker=login.broker, ca_file=login.ca_file)
    line = Line(login, topics, asyncio.get_running_loop(), lasting=False)
    line.open()
    try:
        async with asyncio.timeout(2 * login.limit):
            while True:
                told = await line.next()
                if told is None or isinstance(told, PublishError):
                    return told
    except TimeoutError:
        return NotConnected(f"The broker {login.broker} does not answer the login. Is it MQTT?", code="B606")
    finally:
        line.close()


def _reach(login: Login) -> None:
    """TCP, and TLS where it is used. Raises OSError. Blocking."""
    with socket.create_connection((login.host, login.port), login.limit) as plain:
        if login.tls is not None:
            with login.tls.wrap_socket(plain, server_hostname=login.host):
                pass
