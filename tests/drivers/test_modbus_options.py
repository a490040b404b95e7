import pytest
from pydantic import ValidationError

from drivers.modbus.addresses import Address, Table, parse_reference
from drivers.modbus.options import ModbusDevice


def device(tag: dict[str, object] | None = None, **options: object) -> ModbusDevice:
    return ModbusDevice.model_validate({"url": "tcp://10.0.0.7", "tags": {"t": tag or {"holding": 1}}, **options})


def faults(tag: dict[str, object] | None = None, **options: object) -> list[tuple[str, str]]:
    with pytest.raises(ValidationError) as raised:
        device(tag, **options)
    return [(error["type"], error["msg"]) for error in raised.value.errors()]


@pytest.mark.parametrize(
    ("reference", "table", "number"),
    [
        (30101, Table.INPUT, 100),
        (400201, Table.HOLDING, 200),
        (40001, Table.HOLDING, 0),
        (465536, Table.HOLDING, 65535),
        (10001, Table.DISCRETE, 0),
        ("00005", Table.COIL, 4),
        ("000005", Table.COIL, 4),
    ],
)
def test_a_reference_counts_from_one_and_names_its_table(reference, table, number):
    assert parse_reference(reference) == Address(table, number)
    assert device({"reference": reference}).tags["t"].address == (table, number)


@pytest.mark.parametrize("reference", [40000, 400000, 465537, 20001, 50001, 5, 4000001, "4x001"])
def test_a_number_that_is_no_reference_is_refused(reference):
    with pytest.raises(ValueError, match=r"reference|table"):
        parse_reference(reference)
    assert faults({"reference": reference})[0][0] == "E302"


@pytest.mark.parametrize("tag", [{"type": "int16"}, {"holding": 1, "coil": 2}, {"input": 0, "reference": 30001}])
def test_a_tag_has_exactly_one_address(tag):
    ((code, message),) = faults(tag)
    assert code == "E302"
    assert "exactly one of coil, discrete, holding, input or reference" in message


@pytest.mark.parametrize(
    "tag",
    [
        {"coil": 1, "type": "int16"},
        {"coil": 1, "bit": 0},
        {"holding": 1, "bit": 3, "type": "int16"},
        {"holding": 1, "type": "float32", "mask": 3},
        {"holding": 1, "mask": 0x10000},
        {"holding": 1, "type": "string"},
        {"holding": 1, "length": 4},
        {"holding": 1, "type": "string", "length": 4, "scale": 2},
        {"coil": 1, "deadband": 2},
        {"holding": 65535, "type": "int32"},
    ],
)
def test_what_makes_no_sense_together_is_refused(tag):
    assert [code for code, _ in faults(tag)] == ["E301"]


@pytest.mark.parametrize(
    "url", ["10.0.0.7", "tcp://", "http://10.0.0.7", "tcp://10.0.0.7:99999", "tcp://10.0.0.7/x", "tcp://h:0"]
)
def test_an_address_that_is_none_is_refused(url):
    assert [code for code, _ in faults(url=url)] == ["E301"]


def test_a_value_must_fit_in_one_request():
    assert faults({"holding": 1, "type": "float64"}, max_registers=2)[0][0] == "E301"


def test_the_endpoint_has_the_port_that_is_used():
    assert device().endpoint == "10.0.0.7:502"
    assert device(url="tcp://[fe80::1]:1502").endpoint == "[fe80::1]:1502"
    assert device(url="tls://oven").endpoint == "oven:802"


def test_types_have_defaults():
    assert device({"coil": 1}).value_type("t") == "bool"
    assert device({"holding": 1}).value_type("t") == "uint16"
    assert device({"holding": 1, "bit": 3}).value_type("t") == "bool"
    assert device({"holding": 1, "type": "float32"}).value_type("t") == "float32"


def test_a_wire_address_that_looks_like_a_manual_number_draws_a_warning():
    ((code, path, message, fix),) = device({"holding": 40201}).warnings()
    assert (code, path) == ("W304", ("tags", "t", "holding"))
    assert "40201" in message
    assert "reference: 40201" in fix
    assert "wire address 200" in fix


@pytest.mark.parametrize("tag", [{"holding": 200}, {"reference": 40201}, {"input": 40201}, {"coil": 40201}])
def test_other_addresses_draw_no_warning(tag):
    assert device(tag).warnings() == []
