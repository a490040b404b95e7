"""What a machine works on: who sets orders, where the context comes from, what its numbers mean, what is scanned."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, model_validator

from config.errors import Problem
from config.kinds import Code, Options, TagRef
from config.units import Duration, between


class OrderOptions(Options):
    """Orders; without this the machine knows none, and all its running counts as production."""

    authority: Literal["mom", "plc", "operator_tag"]
    """Who starts and ends orders: the MOM by command, the PLC, or an operator at a panel of the PLC."""
    tag: TagRef | None = None
    """Tag that holds the order number (authority plc and operator_tag); 0 or empty is no order."""
    operation: TagRef | None = None
    """Tag that holds the operation of the order."""
    quantity: TagRef | None = None
    """Tag that holds the planned quantity."""
    count_without_order: bool = False
    """Running without an order counts as production."""
    changeover: Literal["mode_tag", "command", "order_gap"] = "mode_tag"
    """What a change-over is: a mode tag that says set-up, `context.set` with a mode, or the time from the last piece
    of one order to the first of the next."""
    reattribute: Annotated[Duration, between("0s", "1h")] = 300_000_000
    """How far in the past an order change of the MOM may be dated; pieces are booked again."""

    @model_validator(mode="after")
    def _has_its_tags(self) -> "OrderOptions":
        if self.authority != "mom" and self.tag is None:
            raise Problem(
                "E302", f"'authority: {self.authority}' needs 'tag'", why="the tag holds the order number",
                fix="tag: order", at=("authority",),
            )  # fmt: skip
        for key in ("tag", "operation", "quantity"):
            if self.authority == "mom" and getattr(self, key) is not None:
                raise Problem(
                    "E302", f"'{key}' has no meaning with 'authority: mom'", why="only one may start orders",
                    fix="authority: plc, or leave the tag away", at=(key,),
                )  # fmt: skip
        return self


class ContextOptions(Options):
    """Tags that say what is made, by whom and with what; 0 and empty texts are nothing."""

    product: TagRef | None = None
    """Product number, where no order says it."""
    batch: TagRef | None = None
    """Batch or lot."""
    serial: TagRef | None = None
    """The piece in work."""
    operators: TagRef | None = None
    """Badge numbers, separated by commas or blanks."""
    tool: TagRef | None = None
    """Tool, mould or die."""
    recipe: TagRef | None = None
    """Recipe or program."""


Coded = Literal["order", "operation", "product", "batch", "serial", "operators", "tool", "recipe"]
CodeTable = Annotated[Mapping[Code, str], Field(min_length=1)]
"""PLC number → MOM code; a number that is not named is said in a warning, never guessed."""


class GenealogyOptions(Options):
    """A scanner whose readings link materials, lots and pieces."""

    read: TagRef
    """Tag with the text of the barcode or RFID tag."""
    strobe: TagRef | None = None
    """Tag that rises (or changes, if it is a number) when `read` is complete; without it each new text counts."""
    relation: Literal["consumed_into", "produced", "packed_into", "split", "merged", "relabelled", "removed"]
    """What the reading says."""
    kind: Literal["barcode", "rfid", "plc"] = "barcode"
    """What was read."""
    grade: TagRef | None = None
    """Tag with the print quality of the code."""
    identifies: Literal["lot", "serial", "sublot", "material"] | None = None
    """What the text names; default: the lot of what goes in, the serial number of what comes out."""
    material: str | None = None
    """Code of what is read; what comes out defaults to the product of the context."""
    qty: Annotated[float, Field(gt=0)] | None = None
    """Quantity of a reading."""
    uom: str | None = None
    """Unit of `qty`, UN/ECE Rec. 20; default H87 for pieces."""
    use: Literal["consumed", "produced", "consumable"] | None = None
    """Default: consumed for what goes in, produced for what comes out."""
    station: str | None = None
    """Where it is read; default: the machine."""
    position: str | None = None
    """Place within the station, e.g. a feeder slot."""
    duplicates: Annotated[Duration, between("0s", "1d")] = 10_000_000
    """The same text again within this time is the same reading."""
