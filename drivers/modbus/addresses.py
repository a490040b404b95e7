"""Where a value is: the four Modbus tables and the two ways people count in them.

On the wire addresses count from 0 within a table. Manuals print *references* that count from 1 and carry the
table in their first digit: 30101 or 300101 is input register 100, 40201 or 400201 is holding register 200.
"""

from enum import Enum
from typing import NamedTuple

LAST = 0xFFFF
"""The highest address of a table."""


class Table(Enum):
    """The four tables with the function code that reads them and the digit that marks their references."""

    COIL = ("coil", 1, "0")
    DISCRETE = ("discrete", 2, "1")
    HOLDING = ("holding", 3, "4")
    INPUT = ("input", 4, "3")

    def __init__(self, word: str, function: int, digit: str) -> None:
        self.word = word
        self.function = function
        self.digit = digit

    @property
    def bits(self) -> bool:
        """Whether an address is one bit; otherwise it is a register of 16."""
        return self in (Table.COIL, Table.DISCRETE)


class Address(NamedTuple):
    table: Table
    number: int
    """From 0, as on the wire."""


def parse_reference(reference: int | str) -> Address:
    """A manual's number to a table and wire address. Raises ValueError.

    Five digits reach 9999 values of a table, six digits all 65536. Coils start with 0, so they are text in YAML.
    """
    text = str(reference)
    if not (text.isascii() and text.isdigit() and len(text) in (5, 6)):
        raise ValueError("a reference has 5 or 6 digits, e.g. 30101 or 400201")
    number = int(text[1:])
    for table in Table:
        if table.digit == text[0]:
            if not 1 <= number <= LAST + 1:
                raise ValueError(
                    f"{text} is outside the table: references count from {text[0]}{'1':0>{len(text) - 1}}"
                )
            return Address(table, number - 1)
    raise ValueError(f"{text} is in no table: the first digit is 0 coil, 1 discrete, 3 input or 4 holding")


def manual_number(table: Table, number: int) -> Address | None:
    """The address that `holding: 40201` most likely means, when the number looks like one out of a manual."""
    text = str(number)
    looks_so = table.digit != "0" and len(text) == 5 and text[0] == table.digit and text[1:] != "0000"
    return parse_reference(text) if looks_so else None
