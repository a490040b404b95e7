"""What commands about orders do. The MOM may dispatch anywhere, but start and stop only where it is the authority."""

from typing import TYPE_CHECKING, Any

from edge_agent.clock import Instant, rfc3339
from edge_agent.commands.done import Done
from edge_agent.commands.envelope import Command, Refused
from edge_agent.commands.parameters import OrderDispatch, OrderRevoke, OrderStart, OrderStop, OrderUpdate
from edge_agent.commands.waiting import cancel
from edge_agent.machine.ordering import Ending, Ordering, When, Work
from edge_agent.machine.orders import MAX_JOBS, Job, Run

if TYPE_CHECKING:
    from edge_agent.machine.step import Step

_AUTHORITIES = {"plc": "its PLC", "operator_tag": "the operators at the machine"}


def ordering(step: "Step") -> tuple[Ordering, Work]:
    part = next(part for part in step.team.parts if isinstance(part, Ordering))
    state: Work = step.parts[part.name]
    return part, state


def settled(step: "Step") -> tuple[Ordering, Work]:
    """The same, when all counts that wait have been published and heard."""
    step.flush_for_order()
    step.tell_all()
    return ordering(step)


def put(step: "Step", state: Work) -> None:
    step.parts = {**step.parts, Ordering.name: state}


def dispatch(step: "Step", asked: OrderDispatch, command: Command) -> Done:
    job = Job(**asked.model_dump())
    jobs = [one for one in step.archive.jobs if (one.order_id, one.operation) != (job.order_id, job.operation)]
    if len(jobs) >= MAX_JOBS:
        jobs.remove(_spent(step, jobs))
    step.archive = step.archive._replace(jobs=(*jobs, job))
    return Done({"order_id": job.order_id, "dispatched": len(jobs) + 1})


def _spent(step: "Step", jobs: list[Job]) -> Job:
    """The oldest order in the list that has had its run and does not run now."""
    run = ordering(step)[1].run
    done = {past.job.order_id for past in step.archive.runs} - {run.job.order_id if run is not None else ""}
    for job in jobs:
        if job.order_id in done:
            return job
    raise Refused("unavailable", f"the list holds {MAX_JOBS} orders already; revoke some")


def start(step: "Step", asked: OrderStart, command: Command) -> Done:
    part, state = _authorised(step)
    when = _when(step, part, state, command)
    run = state.run
    if run is not None and run.job.is_for(asked.order_id, asked.operation):
        raise Refused("conflict", f"order {asked.order_id} is running")
    known = next((job for job in step.archive.jobs if job.is_for(asked.order_id, asked.operation)), None)
    if known is not None and known.not_before is not None and known.not_before > when.at.wall:
        raise Refused("conflict", f"the order must not start before {rfc3339(known.not_before)}")
    ending = Ending("suspended")
    if run is not None and asked.mode == "start":
        ending = Ending("completed", part.reason(run, step, "superseded"))
    job = known or Job(asked.order_id, asked.operation)
    with step.hushed():
        state = part.switch(state, job, ending, when, step, verified=known is not None)
        put(step, state)
    assert state.run is not None
    return Done({"order_id": job.order_id, "order_run_id": state.run.id})


def stop(step: "Step", asked: OrderStop, command: Command) -> Done:
    part, state = _authorised(step)
    run = _running(state, asked.order_id)
    when = _when(step, part, state, command)
    reason = part.reason(run, step, "command") if asked.as_ == "completed" else "command"
    with step.hushed():
        put(step, part.switch(state, None, Ending(asked.as_, reason), when, step))
    return Done({"order_id": run.job.order_id, "order_run_id": run.id})


def update(step: "Step", asked: OrderUpdate, command: Command) -> Done:
    part, state = settled(step)
    given: dict[str, Any] = {key: getattr(asked, key) for key in asked.model_fields_set - {"order_id", "operation"}}
    if not given:
        raise Refused("invalid", "nothing to change is given")
    jobs = tuple(
        job._replace(**given) if job.is_for(asked.order_id, asked.operation) else job for job in step.archive.jobs
    )
    run = state.run
    runs = run is not None and run.job.is_for(asked.order_id, asked.operation)
    if jobs == step.archive.jobs and not runs:
        if any(job.is_for(asked.order_id, asked.operation) for job in jobs):
            return Done({"order_id": asked.order_id})
        raise Refused("not_found", f"order {asked.order_id} is neither dispatched nor running")
    step.archive = step.archive._replace(jobs=jobs)
    if run is not None and runs:
        job = run.job._replace(**given)
        if job != run.job:
            what = "quantity" if job.planned_qty != run.job.planned_qty else "relabelled"
            with step.hushed():
                put(step, part.relabel(state, job, what, When(step.now), step))
    return Done({"order_id": asked.order_id})


def revoke(step: "Step", asked: OrderRevoke, command: Command) -> Done:
    run = ordering(step)[1].run
    if run is not None and run.job.is_for(asked.order_id, asked.operation):
        raise Refused("conflict", f"order {asked.order_id} is running; stop it first")
    jobs = tuple(job for job in step.archive.jobs if not job.is_for(asked.order_id, asked.operation))
    gone = len(step.archive.jobs) - len(jobs)
    step.archive = step.archive._replace(jobs=jobs)
    cancelled = cancel(step, asked.order_id, f"order {asked.order_id} was revoked by {command.id}")
    if not gone and not cancelled:
        raise Refused("not_found", f"order {asked.order_id} is not dispatched")
    return Done({"order_id": asked.order_id, "cancelled": cancelled})


def _authorised(step: "Step") -> tuple[Ordering, Work]:
    part, state = settled(step)
    if part.options is None:
        raise Refused("unavailable", "this machine has no orders; write orders: {authority: mom}")
    if part.authority != "mom":
        raise Refused("conflict", f"orders of this machine are set by {_AUTHORITIES[part.authority]}")
    return part, state


def _running(state: Work, order_id: str) -> Run:
    if state.run is None or state.run.job.order_id != order_id:
        raise Refused("not_found", f"order {order_id} is not running")
    return state.run


def _when(step: "Step", part: Ordering, state: Work, command: Command) -> When:
    """When the change took effect: now, or as far back as counts can be booked again."""
    now, at = step.now, command.effective_at
    if at is None or at >= now.wall:
        return When(now)
    if now.wall - at > part.history:
        raise Refused("too_old", f"changes are accepted back to {rfc3339(now.wall - part.history)}")
    since = Instant(at, now.mono - (now.wall - at))
    last = state.run.started if state.run is not None else None
    if last is None and step.archive.runs:
        last = step.archive.runs[0].ended
    if last is not None and since.mono <= last.mono:
        raise Refused("conflict", f"another order change lies after it, at {rfc3339(last.wall)}")
    return When(since)
