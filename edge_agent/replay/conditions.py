"""The conditions (alarms) that a timeline's device keeps itself, told as `drivers.opcua.conditions` tells them.

A line says what changed of one, `{condition: guard, severity: 700, text: Guard open}`, then `{condition: guard,
active: false}`; what it does not name stays. After connecting all that are active or not acknowledged are told anew.
A text is told as it is: it stands in a recording.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

FORMS: Final[Mapping[str, type]] = {
    "condition": str,
    "name": str,
    "source": str,
    "text": str,
    "severity": int,
    "active": bool,
    "acked": bool,
    "by": str,
}


def written(value: object) -> str:
    """What a line says of a condition, as text. Raises ValueError."""
    if isinstance(value, str):
        return value
    if not isinstance(value, Mapping) or not isinstance(value.get("condition"), str):
        raise ValueError("a condition is written {condition: guard, severity: 700, text: Guard open}")
    for word, said in value.items():
        form = FORMS.get(str(word))
        if form is None:
            raise ValueError(f"a condition has no {word!r}; it has {', '.join(FORMS)}")
        if not isinstance(said, form) or (isinstance(said, int) and form is int and not _is_severity(said)):
            raise ValueError(f"{word!r} of a condition is {_word(form)}, not {said!r}")
    return json.dumps(dict(value), ensure_ascii=False)


def _is_severity(number: int) -> bool:
    return not isinstance(number, bool) and 1 <= number <= 1000


def _word(form: type) -> str:
    return {str: "a text", bool: "true or false", int: "a number from 1 to 1000"}[form]


class Conditions:
    """Of one tag, over one timeline."""

    def __init__(self) -> None:
        self._known: dict[str, dict[str, Any]] = {}

    def change(self, text: str) -> str:
        """What the device tells of a line's change."""
        try:
            said = json.loads(text)
        except ValueError:
            return text
        if not isinstance(said, dict) or not isinstance(condition := said.get("condition"), str):
            return text
        before = self._known.get(condition, {"name": condition, "severity": 500, "active": True, "acked": False})
        if said.get("active") is True and not before["active"]:
            before = {**before, "acked": False}
        now = {**before, **said}
        now["retain"] = now["active"] or not now["acked"]
        if now["retain"]:
            self._known[condition] = now
        else:
            self._known.pop(condition, None)
        return json.dumps(now, ensure_ascii=False)

    def refresh(self) -> list[str]:
        """What it tells after connecting."""
        held = [json.dumps(one, ensure_ascii=False) for one in self._known.values()]
        return ['{"refresh": "start"}', *held, '{"refresh": "end"}']
