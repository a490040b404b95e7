"""What an error of pydantic means, in the words of the configuration."""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from config import units
from config.errors import Problem, did_you_mean, listed, nearest
from config.source import is_secret, mask

_NEEDS = {
    "string": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "model": "a mapping (name: value)",
    "dict": "a mapping (name: value)",
    "mapping": "a mapping (name: value)",
    "tuple": "a list",
    "list": "a list",
    "set": "a list",
    "none": "nothing",
    "model_attributes": "a mapping (name: value)",
}
_TYPE_ERROR = re.compile(r"(\w+?)_(?:type|parsing(?:_size)?|from_float|required)|is_(?:instance|subclass)_of")
_LIMITS = {
    "greater_than": ("gt", "more than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
    "multiple_of": ("multiple_of", "a multiple of"),
}
_CODE = re.compile(r"[A-Z]\d{3}")


def needed(kind: str) -> str | None:
    """What a type error asks for; None if the error is of another kind."""
    found = _TYPE_ERROR.fullmatch(kind)
    return None if found is None else _NEEDS.get(found[1] or "", "another kind of value")


def setting(path: Sequence[Any]) -> str:
    """The value's name in a sentence."""
    if not path:
        return "the file"
    last = path[-1]
    if len(path) > 1 and path[-2] in ("map", "reasons"):
        return f"{last} in '{path[-2]}'"
    if isinstance(last, int) and len(path) > 1:
        return f"entry {last + 1} of '{path[-2]}'"
    return f"'{last}'"


def shown(path: Sequence[Any], value: Any) -> str:
    """The value as a message may quote it: short, on one line, without secrets."""
    if any(is_secret(step) for step in path):
        return "the secret"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "nothing"
    text = {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)
    text = " ".join(mask(text if len(text) <= 60 else text[:57] + "…").splitlines())
    return f"'{text}'" if isinstance(value, str) else text


def unknown(path: Sequence[Any], known: Collection[str], *, driver: str = "", owners: Sequence[str] = ()) -> Problem:
    """A key that no setting has; `owners` are other drivers that know it."""
    name = path[-1]
    if any(is_secret(step) for step in path[:-1]):
        return Problem("E301", "this is not a setting of a secret", why=f"allowed: {listed(known)}")
    if owners and driver:
        return Problem("E303", f"'{name}' cannot be used on {driver}", why=f"it belongs to {listed(owners)}")
    near = did_you_mean(name, known)
    why = "" if near or not known else f"allowed: {listed(sorted(known), 20)}"
    return Problem("E301", f"'{name}' is not a setting here", why=why, fix=near)


def missing(name: Any, path: Sequence[Any]) -> Problem:
    """A key that must be there."""
    where = f" in {setting(path)}" if path else ""
    return Problem("E306", f"'{name}' is missing{where}", fix=f"write {name}: …")


def of_type(kinds: Collection[str], path: Sequence[Any], value: Any) -> Problem:
    """A value of the wrong kind; `kinds` is what would have been right."""
    wanted = list(dict.fromkeys(kinds))
    name = setting(path)
    if value is None:
        return Problem("E307", f"{name} has no value", why=f"it needs {' or '.join(wanted)}")
    has = shown(path, value)
    if isinstance(value, str) and has != "the secret":
        has += " is text"
    elif isinstance(value, int | float) and not isinstance(value, bool):
        has += " is a number"
    fix = ""
    if "text" in wanted and isinstance(value, bool | int | float):
        fix = f"put it in quotes: {_quoted(value)}"
    elif "true or false" in wanted and isinstance(value, str | int):
        word = str(value).lower()
        said = "true" if word in ("yes", "on", "y", "1") else "false" if word in ("no", "off", "n", "0") else ""
        fix = f"write {said}" if said else ""
    elif "a list" in wanted and isinstance(value, str | int | float) and "\n" not in str(value):
        fix = f"write [{value}]"
    elif isinstance(value, str) and re.fullmatch(r"[-+]?\d+(\.\d+)?", value):
        fix = f"write {value} without quotes"
    elif isinstance(value, dict | list) and has != "the secret":
        has = f"it is {has}"
    return Problem("E307", f"{name} needs {' or '.join(wanted)}", why=has if has != "the secret" else "", fix=fix)


def _quoted(value: bool | int | float) -> str:
    return f"'{str(value).lower() if isinstance(value, bool) else value}'"


def allowed_words(expected: str) -> list[str]:
    """The words in pydantic's text `'a', 'b' or 'c'`."""
    return re.findall(r"'([^']*)'", expected) or [expected.lower() if expected in ("True", "False") else expected]


def not_allowed(words: Sequence[str], path: Sequence[Any], value: Any) -> Problem:
    """A word that is none of the allowed ones."""
    what = f"{shown(path, value)} is not allowed for {setting(path)}"
    return Problem("E301", what, why=f"allowed: {listed(words, 20)}", fix=did_you_mean(value, words))


def bad_name(value: Any, raw: str) -> Problem:
    """A name that cannot become a topic level."""
    better = re.sub(r"[^A-Za-z0-9_-]+", "-", raw).strip("-")
    fix = f"write {better}" if better else ""
    if not isinstance(value, str):
        fix = f"write '{raw}' in quotes, or a word"
    why = "a name becomes a topic level: letters, digits, - and _"
    return Problem("E309", f"{shown((), raw)} cannot be a name", why=why, fix=fix)


def beyond(kind: str, context: Mapping[str, Any], path: Sequence[Any], value: Any) -> Problem:
    """A number, duration, size or rate that is too small or too large."""
    name, words = _LIMITS[kind]
    limit = units.like(value, context[name]) if isinstance(value, str) else context[name]
    return Problem("E309", f"{setting(path)} must be {words} {limit}", why=f"it is {value}")


def meaning(kind: str, message: str, context: Mapping[str, Any], path: Sequence[Any], value: Any) -> Problem:
    """The problem behind one error; unknown and missing keys and unions are the caller's."""
    if "error" in context and isinstance(context["error"], BaseException):
        return Problem.of(context["error"], "E301")
    if _CODE.fullmatch(kind):
        why, fix = str(context.get("why", "")), str(context.get("fix", ""))
        return Problem(kind, message, why=why, fix=fix, at=context.get("at", ()))
    if kind in ("literal_error", "enum"):
        return not_allowed(allowed_words(str(context.get("expected", ""))), path, value)
    if (wanted := needed(kind)) is not None:
        return of_type([wanted], path, value)
    if kind in _LIMITS:
        return beyond(kind, context, path, value)
    if kind == "string_pattern_mismatch" and "A-Za-z0-9_-" in str(context.get("pattern", "")):
        return bad_name(value, str(value))
    if kind == "finite_number":
        return Problem("E309", f"{setting(path)} must be an ordinary number")
    if kind in ("too_short", "string_too_short"):
        return Problem("E309", f"{setting(path)} needs at least {context.get('min_length', 1)}", why="it has fewer")
    if kind in ("too_long", "string_too_long"):
        return Problem("E309", f"{setting(path)} has room for {context.get('max_length')} at most")
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        words = allowed_words(str(context.get("expected_tags", "")))
        found = nearest(str(context.get("tag", "")), words)
        fix = f"did you mean '{found}'?" if found else ""
        return Problem("E301", f"{setting(path)} must be one of several kinds", why=listed(words), fix=fix)
    return Problem("E301", f"{setting(path)} is not allowed", why=message)
