"""What Modbus failures are called: the one place where they become `DriverError`s and the details of BAD readings."""

import errno
import socket
import ssl
from collections.abc import Collection

from drivers.errors import ConnectionLost, DriverError
from drivers.modbus.endpoint import Host, Port
from drivers.modbus.exchange import Closed, NoAnswer, Unfit
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


_NO_REGISTER = ("C532", "there is no such register")
_BUSY = ("C533", "it is read again at the next scan")
_MEANS = {2: _NO_REGISTER, 3: _NO_REGISTER, 5: _BUSY, 6: _BUSY}


def exception(code: int) -> str:
    """An exception code in words."""
    return f"{_EXCEPTIONS.get(code, 'unknown exception')} (exception {code})"


def detail(code: int) -> str:
    """An exception code as the detail of a BAD reading, with the code of its page if there is one."""
    return f"{exception(code)}: {', '.join(_MEANS[code])}" if code in _MEANS else exception(code)


def translate(name: str, device: ModbusDevice, error: Exception, answered: Collection[int]) -> ConnectionLost:
    """What went wrong between us and the device; `answered` are the units heard on the same connection before."""
    where = device.endpoint if name == device.url else f"{name} ({device.endpoint})"
    native = f"{type(error).__name__}: {error}".rstrip(": ")
    seconds = f"{device.timeout / 1_000_000:g} s"
    if isinstance(device.place, Port) and not isinstance(error, NoAnswer | Closed | Unfit | TimeoutError):
        return _port(where, error, native)
    match error:
        case NoAnswer():
            return unit_silent(name, device, answered, native)
        case Closed():
            text = f"{where} closed the connection. Does the device allow another connection, and this unit?"
            return ConnectionLost(text, code="C502", reason="session_lost", native=native)
        case Unfit():
            text = (
                f"An answer of {where} does not fit the question: {error}. "
                "Does a Modbus device answer there, and is it tcp:// or rtu+tcp://?"
            )
            return ConnectionLost(text, code="C502", reason="exception", native=native)
        case ConnectionRefusedError():
            text = f"Cannot connect to {where}: nothing listens there. Is the Modbus server enabled on the PLC?"
            return ConnectionLost(text, code="C501", reason="refused", native=native)
        case ssl.SSLCertVerificationError():
            text = (
                f"The certificate of {where} is not trusted: {error.verify_message}. "
                "Put the authority that signed it into 'ca_file'; the name in it must be the one in 'url'."
            )
            return ConnectionLost(text, code="C511", reason="auth", native=native)
        case ssl.SSLError():
            text = (
                f"No TLS connection with {where}: {getattr(error, 'reason', None) or error}. Is this a TLS port, and "
                "does the device want a certificate of the agent ('cert_file', 'key_file')?"
            )
            return ConnectionLost(text, code="C511", reason="auth", native=native)
        case FileNotFoundError() | PermissionError() if device.tls is not None:
            files = ", ".join(filter(None, device.tls[:3]))
            text = f"Cannot connect to {where}: a certificate or key cannot be read: {error.strerror} ({files})."
            return ConnectionLost(text, code="C509", reason="auth", native=native)
        case socket.gaierror():
            text = (
                f"Cannot connect to {where}: the name cannot be resolved. "
                "Check the spelling and the name server, or write the IP address."
            )
            return ConnectionLost(text, code="C503", reason="exception", native=native)
        case TimeoutError():
            port = "" if device.tls is None else ", and is it a TLS port"
            text = (
                f"Cannot connect to {where}: no answer within {seconds}. Is the PLC on, and the address right{port}?"
            )
            return ConnectionLost(text, code="C502", reason="timeout", native=native)
    text = f"Cannot connect to {where}: {getattr(error, 'strerror', None) or error}. Is the PLC in the same network?"
    return ConnectionLost(text, code="C502", reason="exception", native=native)


def _port(where: str, error: Exception, native: str) -> ConnectionLost:
    """A serial port cannot be opened or has gone."""
    number = getattr(error, "errno", None)
    if isinstance(error, ImportError):
        what = "serial lines need the package pyserial. Install it: pip install 'edge-agent[serial]'"
    elif number == errno.ENOENT:
        what = "there is no such port. Is the adapter plugged in?"
    elif number == errno.EACCES:
        what = "no permission. Add the agent's user to the group of the port (often dialout)"
    elif number in (errno.EBUSY, errno.EAGAIN):
        what = "another program uses the port, or another device of this file names it with other settings"
    else:
        what = f"{error}. Is the adapter plugged in?"
    return ConnectionLost(f"Cannot open {where}: {what}", code="C501", reason="refused", native=native)


def unit_silent(name: str, device: ModbusDevice, answered: Collection[int], native: str) -> ConnectionLost:
    """The connection stands and this unit does not answer on it."""
    others = sorted(set(answered) - {device.unit})
    but = f", but unit {others[0]} does" if others else ""
    text = (
        f"{name}: unit {device.unit} at {device.endpoint} does not answer within "
        f"{device.timeout / 1_000_000:g} s{but}. Is the unit number right, and the unit on?"
    )
    if isinstance(device.place, Host) and device.place.scheme == "rtu+tcp" and not others:
        text += " Is the converter set to pass frames on? One that is a Modbus gateway has tcp:// in 'url'."
    return ConnectionLost(text, code="C531", reason="timeout", native=native)


def not_connected(name: str) -> DriverError:
    return ConnectionLost(f"{name} is not connected", code="C502", reason="session_lost")
