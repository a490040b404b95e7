"""Where a device is: what `url` says about the transport. Pure."""

from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import parse_qsl, urlsplit

FORMS = "tcp://host[:port], tls://host[:port], rtu+tcp://host[:port] or serial:///dev/ttyUSB0?baud=19200&parity=E"
_PORTS: Mapping[str, int] = {"tcp": 502, "rtu+tcp": 502, "tls": 802}
_SETTINGS = ("baud", "parity", "stop_bits")


class Host(NamedTuple):
    """`scheme` is tcp, tls or rtu+tcp."""

    scheme: str
    name: str
    port: int

    def __str__(self) -> str:
        return f"[{self.name}]:{self.port}" if ":" in self.name else f"{self.name}:{self.port}"


class Port(NamedTuple):
    """A serial port; 8 data bits, as RTU has. `parity` is N, E or O."""

    path: str
    baud: int = 19200
    parity: str = "E"
    stop_bits: int = 1

    @property
    def character(self) -> float:
        """Seconds that one takes on the line."""
        return (1 + 8 + (self.parity != "N") + self.stop_bits) / self.baud

    def __str__(self) -> str:
        return self.path


def parse(url: str) -> Host | Port:
    """Raises ValueError, saying what is wrong."""
    try:
        parts = urlsplit(url)
        port = parts.port if parts.scheme in _PORTS else None
    except ValueError as error:
        raise ValueError(f"a Modbus address is {FORMS}: {error}") from None
    if parts.scheme == "serial":
        return _serial(parts.netloc or parts.path, parts.query)
    if parts.scheme not in _PORTS or not parts.hostname or port == 0:
        raise ValueError(f"a Modbus address is {FORMS}")
    if parts.path or parts.query or parts.username is not None:
        raise ValueError(f"nothing comes after host and port: a Modbus address is {FORMS}")
    return Host(parts.scheme, parts.hostname, port or _PORTS[parts.scheme])


def _serial(path: str, query: str) -> Port:
    """`serial:///dev/ttyUSB0` or, on Windows, `serial://COM3`."""
    if not path.strip("/"):
        raise ValueError("a serial address names the port: serial:///dev/ttyUSB0, or serial://COM3 on Windows")
    given: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in _SETTINGS:
            raise ValueError(f"a serial line has no setting {name!r}, only {', '.join(_SETTINGS)}")
        if name in given:
            raise ValueError(f"{name!r} is given twice")
        given[name] = value
    baud, parity, stop_bits = given.get("baud", "19200"), given.get("parity", "E"), given.get("stop_bits", "1")
    if not (baud.isdecimal() and 300 <= int(baud) <= 4_000_000):
        raise ValueError(f"baud={baud} is no speed of a serial line: 300 to 4000000")
    if parity not in ("N", "E", "O"):
        raise ValueError(f"parity={parity} is none of N, E and O")
    if stop_bits not in ("1", "2"):
        raise ValueError(f"stop_bits={stop_bits} is neither 1 nor 2")
    return Port(path, int(baud), parity, int(stop_bits))
