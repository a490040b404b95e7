from typing import Any

import pytest

from drivers.modbus.options import ModbusDevice
from edge_agent.replay.samples import SampleFault, parse
from edge_agent.replay.timeline import Reader, TimelineFault

TYPES = {"status": "int16", "press-1/total": "uint16", "temp": "float32", "order": "string", "on": "bool"}


def type_of(tag: str) -> str:
    if tag not in TYPES:
        raise ValueError(f"no tag {tag!r}")
    return TYPES[tag]


def lines(text: str, **options: bool) -> list[dict[str, Any]]:
    return [sample.line for sample in parse(text, type_of, **options)]


def test_rows_of_one_moment_are_one_line() -> None:
    text = "at,tag,value\n0s,status,2\n0s,press-1/total,100\n12.5s,status,8\n"
    assert lines(text) == [{"at": "0s", "status": 2, "press-1/total": 100}, {"at": "12.5s", "status": 8}]


def test_a_tag_that_comes_twice_in_one_moment_is_two_lines() -> None:
    assert lines("at,tag,value\n0s,status,2\n0s,status,3\n") == [{"at": "0s", "status": 2}, {"at": "0s", "status": 3}]


def test_the_tags_type_decides_what_a_text_means() -> None:
    text = "at,tag,value\n0s,temp,20.5\n1s,order,0012\n2s,on,true\n3s,temp,-1e3\n"
    assert [list(line.values())[1] for line in lines(text)] == [20.5, "0012", True, -1000.0]


def test_quality_and_source_time_are_of_one_row_alone() -> None:
    text = "at,tag,value,quality,source_at\n0s,status,2,,\n0s,temp,20,uncertain,\n0s,on,,bad,\n1s,temp,5,good,0.5s\n"
    assert lines(text) == [
        {"at": "0s", "status": 2},
        {"at": "0s", "quality": "uncertain", "tags": ["temp"], "temp": 20},
        {"at": "0s", "quality": "bad", "tags": ["on"]},
        {"at": "1s", "temp": 5, "source_at": "0.5s"},
    ]


def test_a_file_from_a_spreadsheet_with_semicolons_and_decimal_commas_is_read() -> None:
    assert lines("at;tag;value\r\n0s;temp;20,5\r\n") == [{"at": "0s", "temp": 20.5}]


def test_what_happens_to_devices_can_stand_in_csv() -> None:
    assert lines("at,tag,value\n5s,device,lost\n6s,device,back\n") == [
        {"at": "5s", "device": "lost"},
        {"at": "6s", "device": "back"},
    ]


@pytest.mark.parametrize("tag", ["history", "entries", "quality"])
def test_a_tag_with_the_name_of_a_word_of_lines_keeps_its_values(tag: str) -> None:
    device = ModbusDevice.model_validate(
        {"driver": "modbus", "url": "tcp://127.0.0.1", "tags": {tag: {"holding": 1, "type": "uint16"}}}
    )
    reader = Reader({"press": device}, "press", 0)
    samples = parse(f"at,tag,value\n0s,{tag},1\n1s,{tag},0\n", lambda _: "uint16")
    assert [line.values for line in reader.read(sample.line for sample in samples)] == [
        {("press", tag): 1},
        {("press", tag): 0},
    ]
    with pytest.raises(TimelineFault):
        reader.read([{"at": "0s", tag: 0}])


def test_json_lines_are_lines_as_they_are() -> None:
    text = '{"at": "0s", "status": 2}\n\n{"at": "1s", "device": "lost"}\n'
    assert lines(text) == [{"at": "0s", "status": 2}, {"at": "1s", "device": "lost"}]


@pytest.mark.parametrize(
    ("text", "number", "said"),
    [
        ("", 1, "the first line must be"),
        ("time,tag,value\n", 1, "the first line must be at,tag,value"),
        ("at,tag,value\n0s,status,x\n", 2, "'x' is not a value of type int16"),
        ("at,tag,value\n0s,status,\n", 2, "'' is not a value"),
        ("at,tag,value\n0s,status,2\n1s,statsu,2\n", 3, "no tag 'statsu'"),
        ("at,tag,value\n,status,2\n", 2, "must not be empty"),
        ("at,tag,value\n0s,status,2,good,1s,x\n", 2, "6 values"),
        ('{"at": "0s"\n', 1, "is not JSON"),
        ("{" + '"a":[' * 100_000, 1, "is not JSON"),
        ('{"at": "0s"}\n[1]\n', 2, "not a JSON object"),
        ('{"at": "0s", "a": 1, "a": 2}\n', 1, "written twice"),
        ('at,tag,value\n0s,"status,2\n', 2, "cannot be read"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(text: str, number: int, said: str) -> None:
    with pytest.raises(SampleFault, match=said) as caught:
        lines(text)
    assert caught.value.number == number
