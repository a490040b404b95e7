"""What Modbus failures are called: the one place where they become `DriverError`s and the details of BAD readings."""

import socket
from collections.abc import Collection

from drivers.errors import ConnectionLost, DriverError
from drivers.modbus.mbap import Closed, NoAnswer, Unfit
from drivers.modbus.options import ModbusDevice

WRONG_ADDRESS = frozenset({2, 3})
"""Exceptions that are about what was asked for: less of it may succeed."""
NOBODY_THERE = frozenset({10, 11})
"""Exceptions by which a gateway says that the unit behind it does not answer."""
_EXCEPTIONS = {
    1: "illegal function",
    2: "illegal data address",
    3: "illegal data value",
    4: "device failure",
    5: "accepted but not done yet",
    6: "device busy",
    7: "refused",
    8: "memory parity error",
    10: "gateway has no path to the unit",
    11: "unit does not answer the gateway",
}


def detail(code: int) -> str:
    """An exception code as the detail of a BAD reading."""
    return f"{_EXCEPTIONS.get(code, 'unknown exception')} (exception {code})"


def translate(name: str, device: ModbusDevice, error: Exception, answered: Collection[int]) -> ConnectionLost:
    """What went wrong between us and the device; `answered` are the units heard on the same connection before."""
    where, native = f"{name} ({device.endpoint})", f"{type(error).__name__}: {error}".rstrip(": ")
    seconds = f"{device.timeout / 1_000_000:g} s"
    match error:
        case NoAnswer():
            return unit_silent(name, device, answered, native)
        case Closed():
            text = f"{where} closed the connection. Does the device allow another connection, and this unit?"
            return ConnectionLost(text, code="C502", reason="session_lost", native=native)
        case Unfit():
            text = f"An answer of {where} does not fit the question: {error}. The connection is opened anew."
            return ConnectionLost(text, code="C502", reason="exception", native=native)
        case ConnectionRefusedError():
            text = f"Cannot connect to {where}: nothing listens there. Is the Modbus server enabled on the PLC?"
            return ConnectionLost(text, code="C501", reason="refused", native=native)
        case socket.gaierror():
            text = (
                f"Cannot connect to {where}: the name {device.host} cannot be resolved. "
                "Check the spelling and the name server, or write the IP address."
            )
            return ConnectionLost(text, code="C503", reason="exception", native=native)
        case TimeoutError():
            text = f"Cannot connect to {where}: no answer within {seconds}. Is the PLC on, and the address right?"
            return ConnectionLost(text, code="C502", reason="timeout", native=native)
    text = f"Cannot connect to {where}: {getattr(error, 'strerror', None) or error}. Is the PLC in the same network?"
    return ConnectionLost(text, code="C502", reason="exception", native=native)


def unit_silent(name: str, device: ModbusDevice, answered: Collection[int], native: str) -> ConnectionLost:
    """The connection stands and this unit does not answer on it."""
    others = sorted(set(answered) - {device.unit})
    but = f", but unit {others[0]} does" if others else ""
    text = (
        f"{name}: unit {device.unit} at {device.endpoint} does not answer within "
        f"{device.timeout / 1_000_000:g} s{but}. Is the unit number right, and the unit on?"
    )
    return ConnectionLost(text, code="C531", reason="timeout", native=native)


def not_connected(name: str) -> DriverError:
    return ConnectionLost(f"{name} is not connected", code="C502", reason="session_lost")
