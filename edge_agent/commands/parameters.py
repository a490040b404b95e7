"""The parameters of each command, as the MOM sends them in `data` (event model §6).

Unknown ones are refused: a command must not be carried out without what it says that is not understood here.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from config.states import Category
from config.units import duration
from edge_agent.clock import SECOND, parse_rfc3339
from edge_agent.commands.envelope import LONGEST, Refused
from edge_agent.machine.calendar import MomCalendar

Text = Annotated[str, Field(min_length=1, max_length=200)]
Quantity = Annotated[int | float, Field(gt=0, le=1 << 53, allow_inf_nan=False)]
Word = Annotated[str, Field(max_length=200)]
"""An empty one takes a key away."""


def _time(value: object) -> int:
    if not isinstance(value, str):
        raise ValueError("a time is written like 2026-03-02T00:00:00Z")
    return parse_rfc3339(value)


Time = Annotated[int, BeforeValidator(_time)]
"""RFC 3339, held as UTC µs."""


def _span(value: object) -> object:
    if isinstance(value, str):
        return duration(value)
    return round(value * SECOND) if isinstance(value, int | float) and not isinstance(value, bool) else value


Span = Annotated[int, BeforeValidator(_span), Field(gt=0, le=366 * 86_400 * SECOND)]
"""Seconds, or a duration such as `8h`; held as µs."""


class Parameters(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


P = TypeVar("P", bound=BaseModel)


def checked(kind: type[P], params: Mapping[str, Any]) -> P:
    """Raises Refused."""
    try:
        return kind.model_validate(dict(params))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(step) for step in first["loc"])
        raise Refused("invalid", (f"{where}: {first['msg']}" if where else first["msg"])[:LONGEST]) from error


class OrderDispatch(Parameters):
    order_id: Text
    operation: Text | None = None
    product: Text | None = None
    planned_qty: Quantity | None = None
    uom: Text | None = None
    ideal_cycle_s: Quantity | None = None
    batch: Text | None = None
    recipe: Text | None = None
    not_before: Time | None = None
    priority: int | None = None


class OrderStart(Parameters):
    order_id: Text
    operation: Text | None = None
    mode: Literal["switch", "start"] = "start"


class OrderStop(Parameters):
    order_id: Text
    as_: Annotated[Literal["completed", "suspended", "aborted"], Field(alias="as")]


class OrderUpdate(OrderDispatch):
    """What is given is changed; `order_id` and `operation` name the order."""


class OrderRevoke(Parameters):
    order_id: Text
    operation: Text | None = None


def _category(value: str) -> str:
    return Category(value).value


class AssignReason(Parameters):
    downtime_id: Text
    code: Text
    text: Text | None = None
    category: Annotated[str, AfterValidator(_category)] | None = None
    planned: Literal["planned", "unplanned", "undecided"] | None = None
    segment: Annotated[int, Field(ge=0)] | None = None


class Split(Parameters):
    downtime_id: Text
    at: Time


class Declare(Parameters):
    order_id: Text | None = None
    class_: Annotated[Literal["good", "scrap", "rework"], Field(alias="class")]
    qty: Annotated[int, Field(gt=0, le=10_000_000)]
    reason: Text | None = None
    move_from: Literal["good", "none"] = "none"
    serials: Annotated[tuple[Text, ...], Field(max_length=200)] = ()
    counter: Text | None = None

    @model_validator(mode="before")
    @classmethod
    def _lists(cls, data: Any) -> Any:
        serials = data.get("serials")
        return {**data, "serials": tuple(serials)} if isinstance(serials, list) else data


class Reverse(Parameters):
    command_id: Text


class ContextSet(Parameters):
    """An empty text or list takes a key away."""

    batch: Word | None = None
    serial: Word | None = None
    operators: Annotated[tuple[Text, ...], Field(max_length=50)] | None = None
    tool: Word | None = None
    recipe: Word | None = None
    mode: Literal["production", "setup", "maintenance", "manual", "test"] | None = None
    ttl: Span | None = None

    @model_validator(mode="before")
    @classmethod
    def _lists(cls, data: Any) -> Any:
        operators = data.get("operators")
        if isinstance(operators, str):
            operators = [operators] if operators else []
        return {**data, "operators": tuple(operators)} if isinstance(operators, list) else data


class CalendarSet(MomCalendar):
    """Shifts, breaks and planned maintenance as in `calendar:`; with none of them the configured calendar holds."""


class AlarmAck(Parameters):
    alarm_id: Text
    comment: Word | None = None
