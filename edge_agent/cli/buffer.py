"""`edge-agent buffer`: what waits, what was sent, what was refused; through the running agent, or the file alone."""

import json
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from edge_agent.cli.buffer_source import SLOW, asking, buffer_of, drained_in, messages, purged
from edge_agent.cli.command import Section, command
from edge_agent.cli.exits import ExitCode, Stop
from edge_agent.cli.loading import File, load
from edge_agent.cli.ui import Ui
from edge_agent.cli.words import counted


class State(StrEnum):
    WAITING = "waiting"
    SENT = "sent"
    DEAD = "dead"


class Kept(StrEnum):
    SENT = "sent"
    DEAD = "dead"


BIG = 50_000
"""So many messages take long enough to say how far it has come."""
StateOption = Annotated[State, typer.Option("--state", help="Which messages.")]
Stream = Annotated[str | None, typer.Option("--stream", metavar="NAME", help="Of one stream, e.g. press-1.p.")]
Kind = Annotated[str | None, typer.Option("--type", metavar="TYPE", help="Of one type or family, e.g. downtime.")]
Count = Annotated[int, typer.Option("-n", min=1, metavar="N", help="At most so many.")]
Force = Annotated[bool, typer.Option("--force", help="Write over a file that exists.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do it; without this it is only said what would go.")]


def register(app: typer.Typer) -> None:
    group = typer.Typer(
        name="buffer", no_args_is_help=True, rich_markup_mode=None, rich_help_panel=Section.KEEP.value
    )

    @group.callback()
    def about() -> None:
        """What is stored: waiting for the broker, sent and kept, or refused for ever."""

    @command(group, section=Section.KEEP, examples=["edge-agent buffer stats", "edge-agent buffer stats -o json"])
    def stats(ui: Ui, file: File = None) -> None:
        """How much waits, how old it is, and how long until it is full or sent."""
        loaded = load(ui, file)
        ask, agent = asking(loaded)
        drained = None if agent is None else drained_in(agent)
        buffer = None if agent is None else buffer_of(agent)
        told = _told(ask("stats"), buffer, drained, loaded.config.buffer.max_size)
        ui.result(told if ui.json else "\n".join(_stats(told)))

    @command(
        group,
        section=Section.KEEP,
        name="list",
        examples=["edge-agent buffer list -n 20", "edge-agent buffer list --state dead"],
    )
    def list_(
        ui: Ui,
        file: File = None,
        state: StateOption = State.WAITING,
        stream: Stream = None,
        kind: Kind = None,
        count: Count = 50,
    ) -> None:
        """Messages in the order in which they were stored, one a line."""
        ask, _ = asking(load(ui, file))
        for row in messages(ask, count, state=state.value, stream=stream, kind=kind):
            ui.result(_listed(row) if ui.json else _line(row))

    @command(
        group,
        section=Section.KEEP,
        examples=["edge-agent buffer show mlu4idc09c7x.18423", "edge-agent buffer show mlu4idc09c7x.7 -o json"],
    )
    def show(
        ui: Ui, event: Annotated[str, typer.Argument(metavar="ID", help="Id of the event.")], file: File = None
    ) -> None:
        """One event as it was stored, byte for byte what is sent."""
        ask, _ = asking(load(ui, file))
        epoch, _, number = event.rpartition(".")
        if not epoch or not number.isdigit():
            raise Stop(ExitCode.USAGE, f"{event} is no id of an event", hints=["it looks like mlu4idc09c7x.18423"])
        found = ask("one", epoch=epoch, seq=int(number))
        if not found:
            raise Stop(
                ExitCode.PROBLEM, f"there is no event {event} in the buffer: never made here, or sent and gone"
            )
        for row in found:
            body = json.loads(row["body"]) if row["body"] else None
            ui.result(
                {**_listed(row), "event": body}
                if ui.json
                else f"{_line(row)}\n{json.dumps(body, indent=2, ensure_ascii=False)}"
            )

    @command(
        group,
        section=Section.KEEP,
        examples=["edge-agent buffer export events.jsonl", "edge-agent buffer export events.db --state sent"],
    )
    def export(
        ui: Ui,
        target: Annotated[Path, typer.Argument(metavar="TARGET", help="FILE.jsonl, or FILE.db for SQLite.")],
        file: File = None,
        state: StateOption = State.WAITING,
        stream: Stream = None,
        kind: Kind = None,
        force: Force = False,
    ) -> None:
        """Copy messages into a file: JSON Lines of events, or a SQLite database with a table of them."""
        from sqlite3 import Error as SqliteError

        if target.exists() and not force:
            raise Stop(ExitCode.WILL_NOT_OVERWRITE, f"{target} exists", hints=["--force writes over it"])
        ask, _ = asking(load(ui, file))
        rows = messages(ask, None, state=state.value, stream=stream, kind=kind, bodies=True)
        part = target.with_name(f"{target.name}.part")
        part.unlink(missing_ok=True)
        write = _to_sqlite if target.suffix in (".db", ".sqlite", ".sqlite3") else _to_lines
        try:
            count = write(part, _counted(ui, rows, "events written"))
            part.replace(target)
        except (OSError, SqliteError) as error:
            why = (error.strerror if isinstance(error, OSError) else None) or error
            raise Stop(ExitCode.TRY_AGAIN, f"cannot write {target}: {why}") from None
        finally:
            part.unlink(missing_ok=True)
        ui.result(
            {"ok": True, "file": str(target), "events": count}
            if ui.json
            else f"{counted(count, 'event')} in {target}"
        )

    @command(
        group,
        section=Section.KEEP,
        examples=[
            "edge-agent buffer replay press-1.p 100 200",
            "edge-agent buffer replay press-1.p 1 500 --epoch mlu4idc09c7x",
        ],
    )
    def replay(
        ui: Ui,
        stream: Annotated[str, typer.Argument(metavar="STREAM", help="E.g. press-1.p.")],
        first: Annotated[int, typer.Argument(min=1, metavar="FIRST", help="First number.")],
        last: Annotated[int, typer.Argument(min=1, metavar="LAST", help="Last number.")],
        file: File = None,
        epoch: Annotated[str | None, typer.Option("--epoch", help="Default: that of now.")] = None,
    ) -> None:
        """Let the running agent send a range again: the same bytes, marked as sent again (replay: true). It goes
        behind what waits, and ends when the broker has it; Ctrl-C ends it before."""
        from edge_agent.cli.running import client, reached

        agent = client(ui, file, answer_time=SLOW)
        sent, waiting, at, gone = 0, 0, first - 1, list[list[int]]()

        def follow() -> None:
            nonlocal sent, waiting, at
            for line in agent.stream("buffer_replay", stream=stream, epoch=epoch, first=first, last=last):
                told = line["item"]
                if "lost" in told:
                    break
                sent, waiting, at = sent + told["sent"], waiting + told["waiting"], told["last"]
                gone.extend(told["unavailable"])
                if at < last:
                    ui.note(f"{counted(sent, 'event')} sent again, up to number {at}")

        reached(follow)
        if at < last:
            done = f"{counted(sent, 'event')} sent again, up to number {at}: " if sent else ""
            text = f"{done}the agent has no connection to the broker"
            raise Stop(ExitCode.TRY_AGAIN, text, hints=["edge-agent status says why"])
        if not sent and not waiting:
            raise Stop(ExitCode.PROBLEM, f"nothing is kept of {stream} from {first} to {last}")
        if ui.json:
            ui.result({"ok": True, "sent": sent, "waiting": waiting, "unavailable": gone})
            return
        ui.result(f"{counted(sent, 'event')} sent again")
        if waiting:
            ui.result(f"  {waiting} wait to be sent for the first time, and go when it is their turn")
        for begin, end in gone[:20]:
            ui.result(f"  not kept: {begin}" if begin == end else f"  not kept: {begin} to {end}")

    @command(group, section=Section.KEEP, examples=["edge-agent buffer verify", "edge-agent buffer verify -o json"])
    def verify(ui: Ui, file: File = None) -> None:
        """Hold every stored message against its checksum; exit code 3 if one is not as it was written."""
        ask, agent = asking(load(ui, file))
        rows, after, bad = 0, 0, list[int]()
        while True:
            page = ask("check", after=after)
            if page["rows"] == 0:
                break
            rows, after = rows + page["rows"], page["position"]
            bad += page["bad"]
            if rows % BIG == 0:
                ui.note(f"{counted(rows, 'message')} looked at, {len(bad)} damaged")
        if agent is None and rows > BIG:
            ui.note("now the file as a whole; a minute for each 10 GB or so")
        faults = ask("whole") if agent is None else []
        if ui.json:
            ui.result({"ok": not bad and not faults, "messages": rows, "damaged": bad, "file": faults})
        else:
            ui.result(f"{counted(rows, 'message')}, {len(bad)} damaged")
            for text in [*(f"position {position} is not as it was written" for position in bad[:20]), *faults]:
                ui.result(f"  {text}")
        if bad or faults:
            raise Stop(ExitCode.PROBLEM)

    @command(
        group,
        section=Section.KEEP,
        examples=["edge-agent buffer purge --state dead", "edge-agent buffer purge --state sent --yes"],
    )
    def purge(
        ui: Ui,
        file: File = None,
        state: Annotated[Kept, typer.Option("--state", help="Dead letters, or sent ones that are kept.")] = Kept.DEAD,
        yes: Yes = False,
    ) -> None:
        """Remove dead letters or sent messages for ever; what still waits is never removed by hand."""
        loaded = load(ui, file)
        ask, agent = asking(loaded)
        count = ask("stats")[state.value]
        removed = 0
        if yes:
            for gone in purged(loaded, agent, state.value):
                removed += gone
                if removed < count:
                    ui.note(f"{removed} of {count} messages removed")
        if ui.json:
            ui.result({"ok": True, "state": state.value, "there": count, "removed": removed})
        else:
            ui.result(
                f"{counted(removed, 'message')} removed"
                if yes
                else f"{counted(count, 'message')} would go; do it with --yes"
            )

    app.add_typer(group)


def _counted(ui: Ui, rows: Iterator[dict[str, Any]], words: str) -> Iterator[dict[str, Any]]:
    for number, row in enumerate(rows, 1):
        if number % 10_000 == 0:
            ui.note(f"{number} {words}")
        yield row


def _told(
    stats: Mapping[str, Any], buffer: Mapping[str, Any] | None, drained: float | None, max_size: int
) -> dict[str, Any]:
    from buffer.outbox import Lane
    from edge_agent.clock import rfc3339

    lanes = {
        lane.name.lower(): {"rows": stats["waiting"][lane], "bytes": stats["waiting_bytes"][lane]} for lane in Lane
    }
    size = stats["pages"] * stats["page_bytes"]
    return {
        "running": buffer is not None,
        "epoch": stats["epoch"],
        "waiting": lanes,
        "sent": stats["sent"],
        "dead": stats["dead"],
        "oldest_at": None if stats["oldest_at"] is None else rfc3339(stats["oldest_at"]),
        "bytes": size,
        "max_bytes": max_size,
        "fill": round(size / max_size, 4),
        "full_in_s": None if buffer is None else buffer["full_in_s"],
        "drained_in_s": drained,
    }


def _stats(told: Mapping[str, Any]) -> list[str]:
    from edge_agent.cli.words import local, size, span, table

    lines = [
        f"buffer   {size(told['bytes'])} of {size(told['max_bytes'])} ({told['fill']:.0%}), epoch {told['epoch']}, "
        f"the agent {'runs' if told['running'] else 'does not run'}",
        *table([[lane, f"{one['rows']} waiting", size(one["bytes"])] for lane, one in told["waiting"].items()]),
        f"  {told['sent']} sent and kept, {told['dead']} refused for ever",
    ]
    if told["oldest_at"] is not None:
        lines.append(f"  the oldest waits since {local(told['oldest_at'])}")
    if told["full_in_s"] is not None:
        lines.append(f"  full in {span(told['full_in_s'])} if it goes on like this")
    if told["drained_in_s"]:
        lines.append(f"  sent in {span(told['drained_in_s'])} at the pace of the last second")
    return lines


def _listed(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row without its body, with its event's id and readable names."""
    from buffer.outbox import Lane
    from edge_agent.clock import rfc3339

    known = {key: value for key, value in row.items() if key not in ("body", "lane", "recorded_at")}
    lane = None if row["lane"] is None else Lane(row["lane"]).name.lower()
    at = None if row["recorded_at"] is None else rfc3339(row["recorded_at"])
    return {"id": f"{row['epoch']}.{row['seq']}", **known, "lane": lane, "recorded_at": at}


def _line(row: Mapping[str, Any]) -> str:
    """`2026-03-02 09:14:07 +08:00  press-1.p  mlu4idc09c7x.18423  state.changed  812 B  waiting`."""
    from edge_agent.cli.words import local, size

    at = "unknown" if row["recorded_at"] is None else local(row["recorded_at"])
    why = f"  {row['reason']}" if row["reason"] else ""
    name = f"{row['epoch']}.{row['seq']}"
    return f"{at}  {row['stream']!s:<14} {name:<22} {row['type']!s:<20} {size(row['size']):>9}  {row['state']}{why}"


def _to_lines(path: Path, rows: Iterator[dict[str, Any]]) -> int:
    count = 0
    with path.open("w", encoding="utf-8") as lines:
        for row in rows:
            if row["body"] is not None:
                lines.write(f"{row['body']}\n")
                count += 1
    return count


def _to_sqlite(path: Path, rows: Iterator[dict[str, Any]]) -> int:
    """A table `events` with the envelope in columns and `data` as JSON, for sqlite-utils and Datasette."""
    from sqlite_utils import Database

    def records() -> Iterator[dict[str, Any]]:
        for row in rows:
            if row["body"] is None:
                continue
            event = json.loads(row["body"])
            data = json.dumps(event.pop("data", None), ensure_ascii=False)
            yield {**event, "topic": row["topic"], "state": row["state"], "data": data}

    db = Database(path)
    try:
        db.table("events").insert_all(records(), pk=("source", "id"), alter=True, batch_size=500)
        count: int = db.table("events").count if "events" in db.table_names() else 0
    finally:
        db.close()
    return count
