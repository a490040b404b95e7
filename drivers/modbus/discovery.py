"""What a stranger at an address answers as a Modbus device: its units, their tables, and what they call themselves.

One connection at a time, for many devices allow no other; a unit that is silent may cost it, and then the next unit
gets a new one. A silent unit of a line without frames of its own (RTU) is asked twice: a frame is lost more easily
there, and a libmodbus server takes what follows a question to another unit for that one's answer. Only reading
functions and Read Device Identification (function 43, type 14) are asked.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from drivers.looking import Answered, Asking
from drivers.modbus.addresses import Table
from drivers.modbus.endpoint import Host
from drivers.modbus.exchange import ANY, Answer, Closed, Connection, Medium, NoAnswer, Question, Unfit, question
from drivers.modbus.faults import NOBODY_THERE, exception, translate
from drivers.modbus.lines import medium
from drivers.modbus.options import ModbusDevice
from drivers.modbus.plan import Field, Request
from drivers.ticker import pause

UNITS = (1, 255, 0, *range(2, 11))
"""Asked unless others are named: 1, 255 and 0 are where a device without a gateway answers."""
_IDENTIFY, _BASIC, _REGULAR = 43, 1, 2
_OBJECTS = {
    0: "vendor", 1: "product", 2: "revision", 3: "vendor_url", 4: "product_name", 5: "model", 6: "application",
}  # fmt: skip
_AGAIN = 0.1
"""Seconds after which a closed connection is tried once more."""
_MOST_PARTS = 8
"""Requests for one identification."""


async def discover(url: str, asking: Asking) -> Answered | None:
    """See `drivers.looking.Discoverer`."""
    insecure = {"insecure": True} if url.startswith("tls:") else {}
    given = {"driver": "modbus", "url": url, "timeout": f"{round(asking.limit * 1000)}ms", "tags": {}}
    device = ModbusDevice.model_validate(given | insecure)
    line = _Asked(medium(device.place, device.tls), asking.limit)
    framed = isinstance(device.place, Host) and device.place.scheme != "rtu+tcp"
    units: list[dict[str, Any]] = []
    try:
        await line.open()
        for unit in asking.units or UNITS:
            asking.told(f"{device.endpoint} unit {unit}")
            found = await _unit(line, unit)
            if found is None and not framed:
                found = await _unit(line, unit)
            if found is not None:
                identity = await _identity(line, unit) if framed else {}
                units.append({"unit": unit, "tables": found, "identity": identity})
            elif line.strange:
                return None
    except (OSError, ImportError) as error:
        raise translate(url, device, error, ()) from error
    finally:
        line.close()
    return Answered("modbus", {"url": url, "units": units}) if units else None


class _Asked:
    """A connection that is opened again when a question has cost it."""

    def __init__(self, over: Medium, limit: float) -> None:
        self._medium = over
        self._limit = limit
        self._connection: Connection | None = None
        self._answered = False
        self.strange = False
        """What came back, before anything else, was no Modbus."""

    async def open(self) -> Connection:
        """Raises OSError, and TimeoutError."""
        if self._connection is None or not self._connection.is_open:
            async with asyncio.timeout(self._limit):
                self._connection = await self._medium.open()
        return self._connection

    async def ask(self, asked: Question) -> Answer | None:
        """The answer; None for silence, and for a connection that was closed over it twice: a device that allows
        only one may not have noticed yet that the one before has gone."""
        try:
            (answer,) = await self._once(asked)
        except NoAnswer:
            return None
        except Closed:
            await pause(_AGAIN)
            try:
                (answer,) = await self._once(asked)
            except (NoAnswer, Closed, Unfit):
                return None
        except Unfit:
            self.strange = not self._answered
            return None
        self._answered = True
        return answer

    async def _once(self, asked: Question) -> list[Answer]:
        connection = await self.open()
        return await connection.ask([asked], self._limit)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()


async def _unit(line: _Asked, unit: int) -> dict[str, str] | None:
    """What a unit says to a read of the first address of each table; None if there is no such unit."""
    found: dict[str, str] = {}
    for table in (Table.HOLDING, Table.INPUT, Table.COIL, Table.DISCRETE):
        asked = question(unit, Request(table, 0, 1, (Field("", table, 0, 1),)))
        answer = await line.ask(asked)
        if isinstance(answer, int) and answer in NOBODY_THERE:
            return None
        if answer is None and not found:
            return None
        said = "no answer" if answer is None else exception(answer) if isinstance(answer, int) else "answers"
        found[table.word] = said
    return found


async def _identity(line: _Asked, unit: int) -> Mapping[str, str]:
    """What the device calls itself; empty if it does not say."""
    told: dict[str, str] = {}
    level, first = _BASIC, 0
    for _ in range(_MOST_PARTS):
        answer = await line.ask(Question(unit, bytes([_IDENTIFY, 14, level, first]), ANY))
        parsed = objects(answer) if isinstance(answer, bytes) else None
        if parsed is None:
            break
        conformity, following, found = parsed
        told |= {_OBJECTS.get(number, f"object_{number}"): text for number, text in found.items()}
        if following:
            first = following
        elif level == _BASIC and conformity & 0x7F >= _REGULAR:
            level, first = _REGULAR, 0
        else:
            break
    return told


def objects(data: bytes) -> tuple[int, int, dict[int, str]] | None:
    """(conformity level, the object to ask for next or 0, texts by object) of an answer behind its function code;
    None if it is none (Modbus Application Protocol 1.1b3, 6.21)."""
    if len(data) < 6 or data[0] != 14:
        return None
    conformity, more, following, count = data[2:6]
    found: dict[int, str] = {}
    at = 6
    for _ in range(count):
        if at + 2 > len(data) or at + 2 + data[at + 1] > len(data):
            return None
        text = data[at + 2 : at + 2 + data[at + 1]].decode("utf-8", "replace")
        found[data[at]] = "".join(char if char.isprintable() else " " for char in text).strip()
        at += 2 + data[at + 1]
    return conformity, following if more else 0, found
