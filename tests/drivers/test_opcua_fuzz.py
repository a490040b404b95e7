"""Broken bytes from a server: read or refused, never a crash, and nothing is kept of them.

The short form runs a few thousand of each; `make torture` a million.
"""

import asyncio
import gc
import logging
import os
import random
import struct
import sys
from datetime import UTC, datetime

import pytest
from asyncua import ua
from asyncua.crypto.security_policies import SecurityPolicyNone
from asyncua.ua.ua_binary import struct_to_binary

from drivers.base import Quality, Reading
from drivers.opcua import binary
from drivers.opcua.options import OpcuaTag
from drivers.opcua.session import _Protocol
from drivers.opcua.values import TagValues
from tests.drivers.test_modbus_torture import lateness_of_a_good_device
from tests.drivers.test_opcua_binary import OTHERS, SCALARS
from tests.drivers.test_opcua_driver import Wire
from tests.servers_opcua import publish_response, republish_response

LONG = "EDGE_AGENT_FRAMES" in os.environ
FRAMES = int(os.environ.get("EDGE_AGENT_FRAMES", "10000")) // 2
"""Of answers, and of chunks."""
GROWTH = 8 << 20
"""Bytes by which the process may have grown at the end: what the allocator keeps, not what is kept of frames."""

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def mutated(data: bytes, chance: random.Random) -> bytes:
    """One to three changes: a bit, a byte, a length, a piece cut out or doubled, an end too early."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 3)):
        place = chance.randrange(len(changed)) if changed else 0
        kind = chance.randrange(6)
        if not changed:
            return b""
        if kind == 0:
            changed[place] ^= 1 << chance.randrange(8)
        elif kind == 1:
            changed[place] = chance.randrange(256)
        elif kind == 2:
            extreme = chance.choice((0, 1, -1, 0x7FFFFFFF, -0x80000000, 65536))
            changed[place : place + 4] = struct.pack("<i", extreme)
        elif kind == 3:
            del changed[place : place + chance.randint(1, 16)]
        elif kind == 4:
            changed[place:place] = changed[place : place + chance.randint(1, 16)]
        else:
            del changed[place:]
    return bytes(changed)


def messages() -> list[bytes]:
    plain = [ua.Variant(1, kind) for kind, _ in SCALARS[1:9]] + [ua.Variant(1.5, kind) for kind, _ in SCALARS[9:]]
    values = [ua.DataValue(variant, SourceTimestamp=NOON) for variant in (*plain, *OTHERS)]
    same = [ua.DataValue(ua.Variant(float(n), ua.VariantType.Double), SourceTimestamp=NOON) for n in range(40)]
    read = ua.ReadResponse()
    read.Results = values
    return [
        publish_response(*values),
        publish_response(*same),
        publish_response(status=0x800A0000),
        republish_response(*values),
        struct_to_binary(read),
    ]


@pytest.mark.torture
@pytest.mark.timeout(7200 if LONG else 120)
def test_a_mutated_answer_is_read_or_refused() -> None:
    chance = random.Random(4)
    whole = messages()
    tags = [
        TagValues("t", OpcuaTag(node="i=1", type=kind))  # type: ignore[arg-type]  # one of the words
        for kind in ("bool", "int16", "uint32", "float64", "string")
    ]
    read = refused = 0
    before = 0
    for number in range(FRAMES):
        if number == FRAMES // 5:
            gc.collect()
            before = resident()
        data = mutated(chance.choice(whole), chance)
        try:
            for decode in (
                lambda data=data: binary.publish_response(data).items,
                lambda data=data: binary.republish_response(data, 7).items,
                lambda data=data: binary.read_response(data)[1],
                lambda data=data: [item for _, _, items in binary.history_response(data)[1] for item in items],
            ):
                try:
                    items = decode()
                except binary.Malformed:
                    refused += 1
                    continue
                read += 1
                for item in items:
                    check(chance.choice(tags).read(item))
        except Exception as error:
            raise AssertionError(f"frame {number}: {data.hex()}") from error
    gc.collect()
    assert read > FRAMES / 20
    assert refused > FRAMES / 2
    assert resident() - before < GROWTH


def check(reading: Reading | None) -> None:
    assert reading is None or (reading.value is None) == (reading.quality is Quality.BAD)


def chunks(body: bytes, size: int) -> bytes:
    """A message of the channel in chunks of at most `size` bytes of it."""
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(
        b"MSG"
        + (b"F" if number == len(parts) - 1 else b"C")
        + struct.pack("<IIIII", 24 + len(part), 0, 0, number + 1, 1)
        + part
        for number, part in enumerate(parts)
    )


@pytest.mark.torture
@pytest.mark.timeout(7200 if LONG else 120)
async def test_mutated_chunks_end_at_most_their_connection(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL + 1)  # a log line of each would be kept by the test runner
    chance = random.Random(5)
    whole = [chunks(body, size) for body in messages() for size in (60, 700, 8000)]
    errors: list[BaseException] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: errors.append(context["exception"]))
    before = 0
    neighbour = asyncio.create_task(lateness_of_a_good_device())
    for number in range(FRAMES):
        await asyncio.sleep(0)  # noqa: TID251 - the other device's turn
        if number == FRAMES // 5:
            gc.collect()
            before = resident()
        protocol = _Protocol(1.0, SecurityPolicyNone())
        protocol.connection_made(Wire())  # type: ignore[arg-type]  # as much of one as is used
        answer = loop.create_future()
        protocol._callbackmap[1] = answer
        data = mutated(chance.choice(whole), chance)
        cut = chance.randrange(len(data) + 1)
        for part in (data[:cut], data[cut:]):
            try:
                protocol.data_received(part)
            except Exception as error:  # asyncio would end this connection, and no other
                raise AssertionError(f"frame {number}: {data.hex()}") from error
        assert len(protocol._gate) <= 70_000
        if answer.done():
            answer.exception()
    gc.collect()
    assert resident() - before < GROWTH
    assert errors == []
    neighbour.cancel()
    late = sorted(await neighbour)
    p99 = late[int(len(late) * 0.99)]
    sys.stdout.write(f"{FRAMES} damaged messages; another device's p99 lateness {p99 * 1000:.1f} ms\n")
    assert p99 < (0.1 if LONG else 1)
