"""Alarms and conditions of a server (Part 9) as readings of a tag of type `conditions`: which fields are asked for,
and what an event says, as text.

The text is a JSON object, the same for every driver that has such a tag:
    {"condition", "branch"?, "event", "name", "source", "text", "severity", "active", "acked", "retain", "since"?,
     "by"?}
`since` is when it became active, UTC µs; `by` who acknowledged it. `{"refresh": "start"}` and `{"refresh": "end"}`
stand around the conditions that the server holds when it is asked for all of them, after connecting.
"""

import json
import re
from collections.abc import Sequence
from typing import Any

from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds

from drivers.base import Quality, Reading
from drivers.opcua import binary
from drivers.opcua.session import node_id
from drivers.opcua.values import micros

_BASE, _CONDITION, _ACKNOWLEDGEABLE, _ALARM = 2041, 2782, 2881, 2915
_REFRESH_START, _REFRESH_END, _REFRESH_REQUIRED = 2787, 2788, 2789
_FIELDS: tuple[tuple[int, tuple[str, ...]], ...] = (
    (_BASE, ("EventType",)),
    (_BASE, ("EventId",)),
    (_BASE, ("SourceName",)),
    (_BASE, ("Time",)),
    (_BASE, ("Message",)),
    (_BASE, ("Severity",)),
    (_CONDITION, ()),
    (_CONDITION, ("ConditionName",)),
    (_CONDITION, ("BranchId",)),
    (_CONDITION, ("Retain",)),
    (_CONDITION, ("EnabledState", "Id")),
    (_CONDITION, ("ClientUserId",)),
    (_ACKNOWLEDGEABLE, ("AckedState", "Id")),
    (_ALARM, ("ActiveState", "Id")),
    (_ALARM, ("ActiveState", "TransitionTime")),
)
"""(type that has the field, way to it); no way is the condition itself."""
_INDEX = re.compile(r"^\d+:")
"""Some servers name the source as a qualified name, with the index of its namespace, which moves."""
_QUEUE = 10_000
_LONGEST = 500


def item(node: ua.NodeId, handle: int) -> ua.MonitoredItemCreateRequest:
    """All events of a notifier with the fields of conditions. What is no condition is left out here: few servers know
    the filter that would do it there."""
    chosen = ua.EventFilter()
    for kind, way in _FIELDS:
        clause = ua.SimpleAttributeOperand()
        clause.TypeDefinitionId = node_id(kind, 0)
        clause.BrowsePath = [ua.QualifiedName(name, 0) for name in way]
        clause.AttributeId = AttributeIds.Value if way else AttributeIds.NodeId
        chosen.SelectClauses.append(clause)
    request = ua.MonitoredItemCreateRequest()
    request.ItemToMonitor.NodeId = node
    request.ItemToMonitor.AttributeId = AttributeIds.EventNotifier
    request.MonitoringMode = ua.MonitoringMode.Reporting
    wanted = request.RequestedParameters
    wanted.ClientHandle, wanted.SamplingInterval, wanted.QueueSize = handle, 0.0, _QUEUE
    wanted.DiscardOldest = True
    wanted.Filter = chosen
    return request


def asks_again(fields: Sequence[binary.Field]) -> bool:
    """Whether the event says that all conditions must be asked for anew."""
    return len(fields) == len(_FIELDS) and _number_of(fields[0]) == _REFRESH_REQUIRED


def reading(tag: str, fields: Sequence[binary.Field], namespaces: Sequence[str]) -> Reading | None:
    """An event of a condition; None for every other one."""
    if len(fields) != len(_FIELDS):
        return None
    (
        kind,
        event,
        source,
        time,
        message,
        severity,
        condition,
        name,
        branch,
        retain,
        enabled,
        by,
        acked,
        active,
        since,
    ) = fields
    at = micros(time[1]) if time[0] == binary.DATE_TIME else None
    which = _number_of(kind)
    if which in (_REFRESH_START, _REFRESH_END):
        return _told(tag, {"refresh": "start" if which == _REFRESH_START else "end"}, at)
    if condition[0] != 17:
        return None
    retained = bool(retain[1])
    is_active = bool(active[1]) if active[0] == binary.BOOLEAN else retained
    said = {
        "condition": _name(condition[1], namespaces),
        "branch": None if branch[0] != 17 or _is_null(branch[1]) else _name(branch[1], namespaces),
        "event": event[1].hex() if isinstance(event[1], bytes) else None,
        "name": _text(name),
        "source": _INDEX.sub("", _text(source) or "") or None,
        "text": _text(message),
        "severity": min(1000, max(1, severity[1])) if isinstance(severity[1], int) else 500,
        "active": is_active and (enabled[0] != binary.BOOLEAN or bool(enabled[1])),
        "acked": bool(acked[1]) if acked[0] == binary.BOOLEAN else True,
        "retain": retained,
        "since": micros(since[1]) if since[0] == binary.DATE_TIME else None,
        "by": _text(by) or None,
    }
    return _told(tag, {key: value for key, value in said.items() if value is not None}, at)


def _told(tag: str, said: dict[str, Any], at: int | None) -> Reading:
    return Reading(tag, json.dumps(said, ensure_ascii=False, separators=(",", ":")), Quality.GOOD, at)


def _text(field: binary.Field) -> str | None:
    kind, value = field
    known = kind in (binary.STRING, binary.LOCALIZED_TEXT) and isinstance(value, bytes)
    return value.decode("utf-8", "replace")[:_LONGEST] if known else None


def _number_of(field: binary.Field) -> int | None:
    """The number of a node of namespace 0."""
    if field[0] != 17:
        return None
    namespace, identifier = binary.node_id_of(field[1], 0)
    return identifier if namespace == 0 and isinstance(identifier, int) else None


def _is_null(data: bytes) -> bool:
    return binary.node_id_of(data, 0)[1] in (0, "", b"")


def _name(data: bytes, namespaces: Sequence[str]) -> str:
    """A node id with the URI of its namespace: indices move."""
    namespace, identifier = binary.node_id_of(data, 0)
    kind = {int: "i", str: "s", bytes: "b"}.get(type(identifier), "g")
    text = identifier.hex() if isinstance(identifier, bytes) else str(identifier)
    uri = namespaces[namespace] if namespace < len(namespaces) else str(namespace)
    return f"{kind}={text}" if namespace == 0 else f"nsu={uri};{kind}={text}"
