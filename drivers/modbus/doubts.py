"""What is wrong with a Modbus tag, for a person: a refusal, or a number that no machine has. Pure."""

from collections.abc import Sequence

from drivers.looking import Doubt
from drivers.modbus.decodings import Decoding, decodings, plausible
from drivers.modbus.encoding import Encoding
from drivers.modbus.faults import WRONG_ADDRESS, exception
from drivers.modbus.options import ModbusTag

_NO_FUNCTION = 1


def refused(tag: ModbusTag, code: int) -> Doubt:
    """The unit answers the tag's address with this exception."""
    table, number = tag.address
    last = number + tag.registers - 1
    where = f"{table.word} {number}" if last == number else f"{table.word} {number} to {last}"
    if code == _NO_FUNCTION:
        what, fix = (
            f"the unit has no {table.word} table at all: {exception(code)}",
            "another table of the same manual",
        )
        return Doubt("C532", what, fix)
    if code in WRONG_ADDRESS:
        fix = "edge-agent browse shows what there is"
        if tag.reference is None:
            fix += f"; if {number} counts from 1, as manuals do, write reference: '{_manual(tag)}'"
        return Doubt("C532", f"the unit has no {where}: {exception(code)}", fix)
    fix = "nothing here if it is rare; pause, one_tag_per_request or a longer scan spare a device that is often busy"
    return Doubt("C533", f"the unit does not give {where} now, and the value is kept BAD: {exception(code)}", fix)


def _manual(tag: ModbusTag) -> str:
    """The reference of a manual that counts from 1 and names the number that is written."""
    table, number = tag.address
    return f"{table.digit}{number:04d}" if number < 10_000 else f"{table.digit}{number:05d}"


def implausible(encoding: Encoding, registers: Sequence[int]) -> Doubt:
    """A float that is no measurement; with the ways to read the same registers in which it is one."""
    if not encoding.kind.startswith("float"):
        return Doubt()
    found = decodings(registers)
    own = next((one for one in found if (one.type, one.word_order, one.byte_order) == tuple(encoding[:3])), None)
    if own is None or plausible(own.type, own.value):
        return Doubt()
    shown = "no number" if own.value is None else f"{own.value:.7g}"
    others = [f"{one.value:.7g} with {_unlike(own, one)}" for one in found if one.plausible and one.type == own.type]
    what = f"{shown} is hardly a measured value (registers {' '.join(f'{one:04X}' for one in registers)})"
    return Doubt("C534", what, " or ".join(others) or f"in no order it is one: is it a {own.type}?")


def _unlike(one: Decoding, other: Decoding) -> str:
    orders = {"word_order": one.word_order == other.word_order, "byte_order": one.byte_order == other.byte_order}
    return ", ".join(f"{name}: {getattr(other, name)}" for name, same in orders.items() if not same)
