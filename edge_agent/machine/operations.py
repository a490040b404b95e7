"""What parsed expressions are made of: closures over the inputs, and what they make of an input that is missing.

Uncertainty: a tag that is missing or BAD makes what depends on it uncertain (`Uncertain` is raised), never false.
`and` and `or` are Kleene's: `false and <bad>` is false for certain, because no value of the input changes it.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeAlias

from drivers.base import Value


class Uncertain(Exception):
    """An input that decides is missing or BAD."""


class Inputs(Protocol):
    """What an expression may see. Every method raises `Uncertain` when it has no good value."""

    def value(self, tag: str) -> Value: ...

    def age(self, tag: str) -> float:
        """Seconds since the tag's last good sample."""

    def unchanged(self, tag: str) -> float:
        """Seconds since the tag's value last changed."""

    def edge(self, tag: str) -> int:
        """1 if the newest sample rose from 0, -1 if it fell to 0, else 0."""

    def average(self, tag: str, seconds: float) -> float:
        """Mean over the last seconds, weighted with time."""

    def revisit(self, seconds: float) -> None:
        """The result may change by the passing of time alone, after so many seconds."""


Evaluate: TypeAlias = Callable[[Inputs], Value]

COMPARE: Mapping[str, Callable[[Value, Value], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
VALUE_FUNCTIONS: Mapping[str, Callable[[Sequence[Value]], Value]] = {
    "abs": lambda values: abs(number(values[0])),
    "min": lambda values: min(number(value) for value in values),
    "max": lambda values: max(number(value) for value in values),
}


def number(value: Value) -> float:
    if isinstance(value, str):
        raise Uncertain(f"{value!r} is no number")
    return value


def constant(value: Value) -> Evaluate:
    return lambda inputs: value


def both(left: Evaluate, right: Evaluate) -> Evaluate:
    def evaluate(inputs: Inputs) -> Value:
        try:
            if not left(inputs):
                return False
        except Uncertain:
            if not right(inputs):
                return False
            raise
        return bool(right(inputs))

    return evaluate


def either(left: Evaluate, right: Evaluate) -> Evaluate:
    def evaluate(inputs: Inputs) -> Value:
        try:
            if left(inputs):
                return True
        except Uncertain:
            if right(inputs):
                return True
            raise
        return bool(right(inputs))

    return evaluate


def compare(op: Callable[[Value, Value], bool], left: Evaluate, right: Evaluate) -> Evaluate:
    def evaluate(inputs: Inputs) -> Value:
        try:
            return op(left(inputs), right(inputs))
        except TypeError as fault:
            raise Uncertain(str(fault)) from fault

    return evaluate


def member(left: Evaluate, items: Sequence[Evaluate]) -> Evaluate:
    def evaluate(inputs: Inputs) -> Value:
        value = left(inputs)
        return any(item(inputs) == value for item in items)

    return evaluate


def arithmetic(op: Callable[[float, float], float], left: Evaluate, right: Evaluate) -> Evaluate:
    def evaluate(inputs: Inputs) -> Value:
        try:
            return op(number(left(inputs)), number(right(inputs)))
        except (ZeroDivisionError, OverflowError) as fault:
            raise Uncertain(str(fault)) from fault

    return evaluate


def tag_function(name: str, tag: str, seconds: float) -> Evaluate:
    if name == "rising":
        return lambda inputs: inputs.edge(tag) > 0
    if name == "falling":
        return lambda inputs: inputs.edge(tag) < 0

    def age(inputs: Inputs) -> Value:
        inputs.revisit(1.0)
        return inputs.age(tag)

    def average(inputs: Inputs) -> Value:
        inputs.revisit(1.0)
        return inputs.average(tag, seconds)

    def changed_within(inputs: Inputs) -> Value:
        left = seconds - inputs.unchanged(tag)
        if left > 0:
            inputs.revisit(left)
        return left > 0

    return {"age": age, "avg": average, "changed_within": changed_within}[name]
