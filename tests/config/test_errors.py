"""How faults look, and how a validator names one."""

import pytest

from config import words
from config.errors import ConfigFaults, Fault, Problem, did_you_mean, listed
from config.source import Source, Span, decoded


def shown(text: str, line: int, column: int) -> list[str]:
    """Source line and caret line of a fault."""
    fault = Source("x.yaml", text).fault(Span(line, column, line, column + 1), Problem("E301", "what"))
    return [part[10:] for part in fault.render().splitlines()[1:]]


def test_a_fault_is_rendered_with_its_line_and_a_caret_below_the_value() -> None:
    problem = Problem(
        "E301", "'unit16' is not allowed for 'type'", why="allowed: uint16", fix="did you mean 'uint16'?"
    )
    source = Source("bad.yaml", "a: 1\n  fault: {type: unit16}\n")
    assert source.fault(Span(2, 17, 2, 23), problem, ("a", 1)).render() == (
        "bad.yaml:2:17: error E301: 'unit16' is not allowed for 'type'\n"
        "      2 |   fault: {type: unit16}\n"
        "        |                 ^\n"
        "   why: allowed: uint16\n"
        "   fix: did you mean 'uint16'?"
    )


def test_wide_and_combining_characters_do_not_displace_the_caret() -> None:
    assert shown("冲压: x", 1, 5) == ["冲压: x", "      ^"]
    assert shown("e\u0301: x", 1, 5) == ["e\u0301: x", "   ^"]
    assert shown("ｆｕｌｌ: x", 1, 7)[1] == " " * 10 + "^"


def test_control_characters_of_the_file_do_not_reach_the_terminal() -> None:
    assert shown("a: \x1b[31mred", 1, 4) == ["a: \ufffd[31mred", "   ^"]
    assert shown("a:\tred", 1, 4) == ["a: red", "   ^"]


def test_a_long_line_is_cut_around_the_caret() -> None:
    line, caret = shown("x" * 500 + "!" + "y" * 500, 1, 501)
    assert len(line) == 160
    assert line[0] == line[-1] == "…"
    assert line[caret.index("^")] == "!"


@pytest.mark.parametrize(
    ("line", "masked"),
    [
        ("password: hunter2", "password: ***"),
        ("  mqtt: {password: hunter2, window: 5}", "  mqtt: {password: ***, window: 5}"),
        ("""x: {"password": 'it''s, hunter2', b: 1}""", """x: {"password": ***, b: 1}"""),
        ("password: {hunter2: 5", "password: ***"),
        ("password: [hunter2", "password: ***"),
        ("key_password: hunter2", "key_password: ***"),
        ("TOKEN: hunter2", "TOKEN: ***"),
        ("password: {credential: mqtt}", "password: {credential: mqtt}"),
        ("url: mqtts://plant:hunter2@mom", "url: mqtts://***@mom"),
        ("tokens_made: {holding: 1}", "tokens_made: {holding: 1}"),
    ],
)
def test_a_secret_is_never_shown_even_where_the_file_could_not_be_parsed(line: str, masked: str) -> None:
    assert shown(line, 1, 1)[0] == masked


def test_a_masked_secret_does_not_displace_the_caret_behind_it() -> None:
    assert shown("{password: hunter2hunter2, window: 500}", 1, 36) == [
        "{password: ***, window: 500}",
        " " * 24 + "^",
    ]
    assert shown("{password: hunter2, window: 500}", 1, 15)[1] == " " * 11 + "^"


def test_faults_are_reported_in_the_order_of_the_file() -> None:
    faults = [Fault("a", 2, 1, "E301", "x"), Fault("a", 1, 9, "W110", "y"), Fault("a", 1, 2, "E102", "z")]
    report = ConfigFaults(faults)
    assert [fault.code for fault in report.faults] == ["E102", "W110", "E301"]
    assert [fault.severity for fault in report.faults] == ["error", "warning", "error"]
    assert str(report).splitlines()[0] == "a:1:2: error E102: z"


def test_a_plain_error_may_carry_its_code_why_and_fix_in_its_text() -> None:
    problem = Problem.of(ValueError("E302: one address | why: two given | fix: delete one"), "E301")
    assert (problem.code, problem.what, problem.why, problem.fix) == (
        "E302",
        "one address",
        "two given",
        "delete one",
    )
    assert Problem.of(ValueError("no code"), "E301").code == "E301"
    assert Problem.of(problem, "E999") is problem


@pytest.mark.parametrize(
    ("word", "known", "near"),
    [("wordorder", ["word_order"], "word_order"), ("Running", ["running"], "running"), ("xyz", ["abc"], ""),
     ("micro-stop", ["microstop"], "microstop"), ("max-rate", ["max_rate", "max"], "max_rate"), (7, ["a"], "")],
)  # fmt: skip
def test_a_near_word_is_proposed(word: object, known: list[str], near: str) -> None:
    assert did_you_mean(word, known) == (f"did you mean '{near}'?" if near else "")


def test_long_lists_are_cut() -> None:
    assert listed(range(5), 3) == "0, 1, 2 and 2 more"


def test_bytes_of_another_encoding_are_placed() -> None:
    with pytest.raises(ConfigFaults) as broken:
        decoded("x", "a: 1\nbé: ".encode() + b"\xff")
    fault = broken.value.faults[0]
    assert (fault.line, fault.column, fault.code) == (2, 5, "E106")


def test_a_text_of_many_lines_is_quoted_on_one() -> None:
    assert words.shown(["expect"], "type: a\nuntil: 3s\n") == "'type: a until: 3s'"
