"""What people complained of elsewhere, and the tests that hold it here."""

import ast
import re
from pathlib import Path

import pytest

from drivers.simulated.options import SimulatedDevice
from edge_agent.health import DeviceHealth, Link
from edge_agent.inspection import device_status

ROOT = Path(__file__).parents[1]
ELSEWHERE = re.compile(r"""(?:src|href|url|import|fetch)\s*[=(]?\s*["'(]?(?:https?:)?//""")
"""What a browser would get from another place."""
COMPLAINTS = {
    "a configuration is checked before the service starts (telegraf#5507, #15726)": [
        "tests/cli/test_check_commands.py::test_a_fault_of_the_configuration_is_exit_78_with_its_place",
        "tests/e2e/test_bad_input.py::test_twenty_broken_configurations_are_refused_with_their_place",
        "tests/cli/test_check.py::test_an_untrusted_server_and_then_each_bad_tag_of_it_is_named_with_its_line_and_its_mend",
    ],
    "an error has a place (esphome#5354)": [
        "tests/config/test_faults_golden.py::test_a_broken_configuration_is_explained_like_this",
        "tests/cli/test_broken_files.py::test_two_hundred_slips_of_the_hand_are_told_with_their_place",
    ],
    "one bad node does not stop the rest (telegraf#13296, #8632)": [
        "tests/contracts/test_driver_contract.py::test_a_bad_tag_is_bad_and_the_others_go_on",
        "tests/e2e/test_bad_input.py::test_one_bad_device_or_tag_is_named_and_the_others_go_on",
        "tests/cli/test_check.py::test_a_device_that_is_not_there_does_not_hide_the_others",
    ],
    "never connected over dead data (node-red-contrib-iiot-opcua#240, thingsboard-gateway#389)": [
        "tests/test_complaints.py::test_a_connected_device_whose_data_are_old_is_stale",
        "tests/drivers/test_opcua_driver.py::test_a_server_that_says_nothing_is_lost_although_the_socket_is_up",
    ],
    "never an error as a value (home-assistant/core#51103)": [
        "tests/drivers/test_opcua_values.py::test_a_bad_status_leaves_no_value_and_its_name_as_the_detail",
        "tests/drivers/test_modbus_registers.py::test_what_is_no_number_and_what_is_refused_are_readings_without_a_value",
    ],
    "silent loss is made visible (telegraf#5536, thingsboard-gateway#959)": [
        "tests/delivery/test_bounds.py::test_with_drop_oldest_storing_goes_on_for_ever_and_every_hole_is_named",
        "tests/delivery/test_bounds.py::test_measurements_go_before_production_and_are_declared",
    ],
    "30 to 100 identical machines (node-red-contrib-s7#88, thingsboard-gateway#1118)": [
        "tests/config/test_written_once.py::test_fifty_machines_come_of_one_template_and_a_list",
        "tests/config/test_written_once.py::test_fifty_machines_come_of_a_list_of_ten_lines",
    ],
    "Modbus addresses that count from 0 or from 1 (pymodbus#1350, mbpoll#51)": [
        "tests/drivers/test_modbus_options.py::test_a_wire_address_that_looks_like_a_manual_number_draws_a_warning",
        "tests/cli/test_check.py::test_registers_that_are_not_there_busy_or_implausible_are_named",
    ],
    "certificates that land in rejected (node-opcua#1090)": [
        "tests/drivers/test_opcua_security.py::test_a_rejected_certificate_is_stored_and_moving_it_is_enough_to_trust_it",
        "tests/cli/test_upkeep.py::test_a_server_is_trusted_by_file_or_by_thumbprint",
    ],
    "endpoint names that cannot be resolved (gopcua#494)": [
        "tests/drivers/test_opcua_press.py::test_a_server_that_announces_a_name_nobody_can_resolve_is_read_all_the_same",
        "tests/cli/test_discover.py::test_an_opc_ua_server_is_told_with_its_security_logins_and_certificate",
    ],
    "no pip and no CDN at run time (thingsboard-gateway#1075, #1532)": [
        "tests/test_complaints.py::test_nothing_is_installed_or_fetched_at_run_time",
        "tests/test_wheel.py::test_the_wheel_holds_the_four_packages_with_their_data_and_nothing_else",
    ],
    "something to see before a value changes (MQTT-Explorer#1109)": [
        "tests/delivery/test_retained.py::test_they_are_published_after_each_connect_before_the_backlog",
        "tests/contracts/test_publisher_contract.py::test_a_retained_message_is_there_for_who_comes_later",
    ],
}
"""Complaint → the tests that would fail if it were true here."""


@pytest.mark.parametrize("complaint", COMPLAINTS)
def test_a_complaint_has_its_tests(complaint: str) -> None:
    for test in COMPLAINTS[complaint]:
        file, _, name = test.partition("::")
        tree = ast.parse((ROOT / file).read_text("utf-8"))
        found = [node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        assert name in found, test


def test_a_connected_device_whose_data_are_old_is_stale() -> None:
    options = SimulatedDevice.model_validate({"driver": "simulated", "tags": {"a": {"kind": "constant", "value": 1}}})
    health = DeviceHealth(link=Link.UP, since=0, last_good_at=0)
    assert device_status(options, health, 3_900_000)["status"] == "UP"
    assert device_status(options, health, 4_100_000)["status"] == "STALE"
    health.link = Link.DOWN
    assert device_status(options, health, 4_100_000)["status"] == "DOWN"


def test_nothing_is_installed_or_fetched_at_run_time() -> None:
    words = ('"pip"', "ensurepip", "urllib.request", "http.client", "cdn.", "import requests")
    for folder in ("edge_agent", "drivers", "buffer", "config"):
        for file in (ROOT / folder).rglob("*"):
            if file.suffix in (".py", ".html", ".js", ".css"):
                text = file.read_text("utf-8")
                assert not [word for word in words if word in text], file
                assert file.suffix == ".py" or not ELSEWHERE.search(text), file
