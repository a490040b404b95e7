"""Counts that people declare through the MOM, and their reversal (event model §6).

`move_from: good` says that pieces already counted as good are not: the total stays. Otherwise the pieces are new.
They are booked to the order that is named, also if its run has ended, or to the open one.
"""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from edge_agent.commands.done import Done
from edge_agent.commands.envelope import Command, Refused
from edge_agent.commands.order_effects import ordering
from edge_agent.commands.parameters import Declare, Reverse
from edge_agent.events.types import GenealogyLinked, Material
from edge_agent.machine import counters
from edge_agent.machine.archive import result_key
from edge_agent.machine.claims import without_order
from edge_agent.machine.counters import Order
from edge_agent.machine.orders import Run
from edge_agent.machine.out import added

if TYPE_CHECKING:
    from edge_agent.machine.step import Step


def declare(step: "Step", asked: Declare, command: Command) -> Done:
    part, state = ordering(step)
    name = asked.counter or part.group
    if name not in step.groups:
        raise Refused("not_found", f"there is no counter {name}")
    step.flush()
    earlier = _run(step, asked.order_id, state.run)
    run = earlier or state.run
    delta: dict[str, int] = {asked.class_: asked.qty}
    if asked.move_from == "none":
        delta = {"total": asked.qty, **delta}
    elif asked.class_ == "good":
        raise Refused("invalid", "good parts cannot be moved from good")
    else:
        _good(step, name, asked.qty, earlier)
        delta = {"good": -asked.qty, **delta}
    _book(step, name, delta, earlier, "declared", asked.reason, asked.qty)
    if asked.serials and asked.class_ != "rework":
        product = (step.ctx or {}).get("product") if run is None else run.job.product
        pieces = tuple(
            Material(serial=serial, material=product if isinstance(product, str) else None, qty=1, uom="H87")
            for serial in asked.serials
        )
        link = (
            GenealogyLinked(relation="removed", inputs=pieces, station=step.plan.name)
            if asked.class_ == "scrap"
            else GenealogyLinked(relation="produced", outputs=pieces, station=step.plan.name)
        )
        step.production(step.now.wall, link, ctx=earlier.ctx if earlier is not None else None)
    undo = {"counter": name, "delta": delta, "run": run.id if run is not None else None}
    return Done({"counter": name, "delta": delta}, json.dumps(undo))


def reverse(step: "Step", asked: Reverse, command: Command) -> Done:
    key = result_key(command.source, asked.command_id)
    known = step.archive.results.get(key)
    if known is None or known.status != "done":
        raise Refused("not_found", f"there is no command {asked.command_id} that was carried out")
    if known.undo is None:
        raise Refused("invalid", f"{known.name} cannot be undone")
    if known.reversed:
        raise Refused("conflict", f"{asked.command_id} has been undone already")
    undo = json.loads(known.undo)
    name, delta = undo["counter"], {member: -n for member, n in undo["delta"].items()}
    if name not in step.groups:
        raise Refused("not_found", f"there is no counter {name} any more")
    run = ordering(step)[1].run
    earlier = None
    if undo["run"] is not None and (run is None or run.id != undo["run"]):
        earlier = next((past for past in step.archive.runs if past.id == undo["run"]), None)
        if earlier is None:
            raise Refused("too_old", f"order run {undo['run']} is not kept any more")
    elif undo["run"] is None and run is not None:
        earlier = Run("", run.job, run.started, verified=False, story="", ctx=without_order(step.ctx))
    step.flush()
    _book(step, name, delta, earlier, "correction", None, 0)
    results = {**step.archive.results, key: known._replace(reversed=True)}
    step.archive = step.archive._replace(results=results)
    return Done({"command_id": asked.command_id, "counter": name, "delta": delta})


def _run(step: "Step", order_id: str | None, run: Run | None) -> Run | None:
    """The ended run of the order that is named; None if the open one is meant, or no order at all."""
    if order_id is None or (run is not None and run.job.order_id == order_id):
        return None
    for past in step.archive.runs:
        if past.job.order_id == order_id:
            return past
    raise Refused("not_found", f"order {order_id} has no run here that is still kept")


def _good(step: "Step", name: str, qty: int, earlier: Run | None) -> None:
    """So many good parts must have been counted."""
    options = step.plan.options.counters[name]
    if "good" not in step.plan.counters[name] and counters.derived(options) != "good":
        raise Refused("invalid", f"counter {name} knows no good parts, so none can be moved; leave move_from away")
    totals = earlier.totals if earlier is not None else step.order_totals
    known = (totals or {}).get(name, {}) if totals is not None else step.groups[name].totals
    if known.get("good", 0) < qty:
        raise Refused("out_of_range", f"{known.get('good', 0)} good parts have been counted, not {qty}")


def _book(
    step: "Step", name: str, delta: dict[str, int], earlier: Run | None, cause: str, reason: str | None, qty: int
) -> None:
    order = None
    if earlier is not None:
        totals = added(earlier.totals, name, delta)
        order = Order(totals[name] if earlier.id else None, earlier.ctx)
        runs = tuple(past._replace(totals=totals) if past.id == earlier.id else past for past in step.archive.runs)
        step.archive = step.archive._replace(runs=runs)
    scrapped: Mapping[str, str | int] = {"code": reason or "", "qty": qty}
    reasons = (scrapped,) if reason is not None else None
    group = counters.declare(step.groups[name], name, delta, step.out, cause, step.now, order=order, reasons=reasons)
    step.groups = {**step.groups, name: group}
