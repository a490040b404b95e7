"""Machines written once and used many times: rows of a CSV file, included files, overrides merged by name."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.errors import ConfigFaults
from config.load import Loaded, Origin, load
from drivers.registry import Drivers
from edge_agent.machine.expressions import names

MAIN = """\
version: 1
agent: {id: a}
site: {enterprise: acme, site: sz1, area: stamping}
include: [kinds/press.yaml]
machines_from: {csv: presses.csv, template: press, line: line4, downtime: {microstop: 120s}}
"""
PRESS = """\
templates:
  press:
    vars: [ip, article]
    device:
      driver: modbus
      url: "tcp://${ip}"
      tags:
        run: {coil: 0}
        note: {holding: 3, type: string, length: 4}
    state: {from: run, map: {0: idle, 1: running}}
    downtime: {microstop: 300s, reasons: {7: {text: "${article}"}}}
"""


def written(folder: Path, csv: str | bytes, main: str = MAIN) -> Loaded:
    (folder / "kinds").mkdir()
    (folder / "kinds/press.yaml").write_text(PRESS)
    (folder / "presses.csv").write_bytes(csv if isinstance(csv, bytes) else csv.encode())
    (folder / "line.yaml").write_text(main)
    return load(folder / "line.yaml", Drivers().options(), check_expression=names)


def rows(count: int, delimiter: str = ",") -> str:
    lines = [("name", "ip", "article"), *((f"press-{n}", f"10.0.0.{n}", f"A-{n}") for n in range(1, count + 1))]
    return "".join(f"{delimiter.join(line)}\n" for line in lines)


def test_fifty_machines_come_of_one_template_and_a_list(tmp_path: Path) -> None:
    loaded = written(tmp_path, rows(50))
    assert len(loaded.config.machines) == len(loaded.config.devices) == 50
    assert loaded.config.devices["press-37"].endpoint == "10.0.0.37:502"
    machine = loaded.config.machines["press-37"]
    assert machine.line == "line4"
    assert machine.downtime is not None
    assert machine.downtime.microstop == 120_000_000
    assert machine.downtime.reasons[7].text == "A-37"


def test_fifty_machines_come_of_a_list_of_ten_lines(tmp_path: Path) -> None:
    lines = [f"press-{line}[01-05],10.0.{line}.[9-13],A{line}" for line in range(10)]
    loaded = written(tmp_path, "name,ip,article\n" + "\n".join(lines) + "\n")
    assert len(loaded.config.machines) == 50
    assert list(loaded.config.machines)[:6] == [*(f"press-00{n}" for n in range(1, 6)), "press-101"]
    assert loaded.config.devices["press-304"].endpoint == "10.0.3.12:502"
    origin = loaded.origins["machines.press-304.downtime.reasons.7.text"]
    assert (Path(origin.file).name, origin.line) == ("presses.csv", 5)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("p-[1-3],10.0.0.[1-4],x", "'10.0.0.[1-4]' counts 4, and the name counts 3"),
        ("p-[3-1],10.0.0.1,x", "'p-[3-1]' counts -1, and a row is 1 to 1000 machines"),
        ("p-[1-9999],10.0.0.1,x", "counts 9999, and a row is 1 to 1000 machines"),
    ],
)
def test_ranges_that_do_not_count_alike_are_told(tmp_path: Path, row: str, says: str) -> None:
    with pytest.raises(ConfigFaults) as broken:
        written(tmp_path, f"name,ip,article\n{row}\n")
    (fault,) = (fault for fault in broken.value.faults if fault.severity == "error")
    assert fault.code == "E206"
    assert says in fault.what


def test_every_value_knows_its_file_through_includes_and_lists(tmp_path: Path) -> None:
    origins = written(tmp_path, rows(3)).origins
    place = str(tmp_path / "kinds/press.yaml")
    assert origins["machines.press-2.state.from"] == Origin(place, 10, "press")
    assert origins["machines.press-2.downtime.microstop"] == Origin(str(tmp_path / "line.yaml"), 5)
    assert origins["devices.press-2.url"] == Origin(place, 6, "press")
    assert origins["machines.press-2.downtime.reasons.7.text"] == Origin(str(tmp_path / "presses.csv"), 3)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_list_as_spreadsheets_of_any_country_write_it(tmp_path: Path, delimiter: str) -> None:
    text = delimiter.join(("name", "line", "ip", "article")) + "\r\n"
    text += delimiter.join(("1", "", '"10.0.0.1"', f'"00{delimiter} ""7"""')) + "\r\n"
    text += delimiter.join(("press-2", "line9", "10.0.0.2", "冲压")) + "\r\n" + delimiter * 3 + "\r\n"
    config = written(tmp_path, b"\xef\xbb\xbf" + text.encode()).config
    assert {name: machine.line for name, machine in config.machines.items()} == {"1": "line4", "press-2": "line9"}
    told = [machine.downtime.reasons[7].text for machine in config.machines.values() if machine.downtime]
    assert told == [f'00{delimiter} "7"', "冲压"]


def test_a_list_may_stand_in_an_included_file_beside_others(tmp_path: Path) -> None:
    head = MAIN.partition("machines_from")[0].replace("press.yaml]", "press.yaml, line4.yaml]")
    (tmp_path / "line4.yaml").write_text("machines_from: {csv: presses.csv, template: press, line: line4}\n")
    (tmp_path / "more.csv").write_text("name,ip,article\npress-9,10.0.0.9,x\n")
    more = "machines_from: [{csv: more.csv, template: press, line: line5}]\n"
    config = written(tmp_path, rows(2), head + more).config
    assert {name: machine.line for name, machine in config.machines.items()} == {
        "press-9": "line5", "press-1": "line4", "press-2": "line4",
    }  # fmt: skip


def test_a_list_in_another_encoding_is_told_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(ConfigFaults) as broken:
        written(tmp_path, "name,ip,article\npress-1,10.0.0.1,Größe\n".encode("cp1252"))
    (fault,) = (fault for fault in broken.value.faults if fault.severity == "error")
    assert (fault.file, fault.code, fault.line, fault.column) == (str(tmp_path / "presses.csv"), "E106", 2, 20)


def test_what_a_column_hides_is_not_shown_in_a_fault(tmp_path: Path) -> None:
    with pytest.raises(ConfigFaults) as broken:
        written(tmp_path, "name,ip,article,password\npress 1,10.0.0.1,x,hunter2\n")
    assert "hunter2" not in str(broken.value)
    assert "E309" in str(broken.value)


CELLS = st.sampled_from(
    ["name", "ip", "article", "line", "press-1", "press-[1-3]", "10.0.0.[1-3]", "010", '"a', '"a""b"', '"a"x', "",
     " ", ";", ",", "\t", "[9-1]", "[1-99999]", "${ip}", "1e400", "中文", "'", "#"]
)  # fmt: skip


@given(st.lists(st.lists(CELLS | st.text(max_size=5), max_size=5), max_size=6), st.sampled_from([",", ";", "\t"]))
@settings(max_examples=150, deadline=None)
def test_any_list_is_machines_or_faults_with_places(rows: list[list[str]], delimiter: str) -> None:
    import tempfile

    text = "\n".join(delimiter.join(row) for row in rows)
    with tempfile.TemporaryDirectory() as folder:
        try:
            written(Path(folder), text.encode("utf-8", "surrogatepass"))
        except ConfigFaults as broken:
            lines = text.count("\n") + text.count("\r") + 2
            for fault in broken.faults:
                assert fault.column >= 1
                assert fault.line >= 1
                assert not fault.file.endswith(".csv") or fault.line <= lines + 4
                assert fault.render()
