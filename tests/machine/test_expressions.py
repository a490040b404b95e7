import pytest

from edge_agent.machine.expressions import ExpressionError, names, parse
from edge_agent.machine.operations import Uncertain


class Known:
    """Inputs with fixed answers; a tag that is not in `values` is missing."""

    def __init__(self, **values):
        self.values = {name.replace("__", "-").replace("_of_", "/"): value for name, value in values.items()}
        self.revisits = []

    def value(self, tag):
        if tag not in self.values:
            raise Uncertain(tag)
        return self.values[tag]

    def age(self, tag):
        return 12.5

    def unchanged(self, tag):
        return self.value(tag)

    def edge(self, tag):
        return self.value(tag)

    def average(self, tag, seconds):
        return self.value(tag) / seconds

    def revisit(self, seconds):
        self.revisits.append(seconds)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1 + 2 * 3", 7),
        ("(1 + 2) * 3", 9),
        ("-a + 10 % 4", -3),
        ("a / 2 - b / 2", 1.5),
        ("a == 5 and b == 2", True),
        ("a == 5 and not b == 2", False),
        ("not a > 3 or b < 3", True),
        ("1 < b <= 2 < a", True),
        ("1 < b < 2 < a", False),
        ("a in [1, 5]", True),
        ("a not in (1, 5)", False),
        ("s == 'on' and s != \"off\"", True),
        ("on == true", True),
        ("abs(b - a) + min(a, b, 1) + max(a, b)", 9),
        ("age(a) > 12", True),
        ("changed_within(a, 6)", True),
        ("changed_within(a, 5)", False),
        ("rising(on)", True),
        ("falling(on)", False),
        ("avg(a, 10) == 0.5", True),
        ("main-valve + 1", 8),
        ("meter/kwh - a", 95),
        ("`and` > 3", True),
        ("`2nd-valve` == 3", True),
        ("1.5e1 == 15", True),
    ],
)
def test_an_expression_means_what_it_says(text, value):
    known = Known(a=5, b=2, on=True, s="on", main__valve=7, meter_of_kwh=100)
    known.values |= {"and": 4, "2nd-valve": 3}

    assert parse(text).evaluate(known) == value


@pytest.mark.parametrize(
    "text", ["lost", "not lost", "lost > 3", "on and lost", "off or lost", "lost + 1 > 0", "a < s"]
)
def test_a_missing_input_that_decides_makes_the_whole_uncertain(text):
    with pytest.raises(Uncertain):
        parse(text).holds(Known(on=True, off=False, a=1, s="text"))


@pytest.mark.parametrize(
    ("text", "value"), [("off and lost", False), ("lost and off", False), ("on or lost", True), ("lost or on", True)]
)
def test_a_missing_input_that_cannot_change_the_result_does_not_matter(text, value):
    assert parse(text).holds(Known(on=True, off=False)) is value


def test_a_division_by_zero_is_uncertain():
    with pytest.raises(Uncertain):
        parse("1 / a > 0").holds(Known(a=0))


@pytest.mark.parametrize(
    ("text", "offset", "part"),
    [
        ("burner = 1", 7, "=="),
        ("burner and", 10, "expected"),
        ("(burner", 7, "')'"),
        ("burner )", 7, "not expected"),
        ("eval(burner)", 0, "no function 'eval'"),
        ("age(3)", 4, "name of a tag"),
        ("avg(a, b)", 7, "seconds"),
        ("2nd > 1", 0, "backticks"),
        ("a in 3", 5, "list"),
        ("a.b", 1, "no meaning"),
        ("'open", 0, "never closed"),
        ("a and not", 9, "expected"),
        ("", 0, "expected"),
        ("(" * 60 + "a" + ")" * 60, 40, "deep"),
        ("not " * 60 + "a", 164, "deep"),
        ("-" * 60 + "a", 41, "deep"),
        ("a + " * 600 + "a", 2000, "2000"),
        ("abs(a, b)", 0, "one value"),
    ],
)
def test_a_faulty_expression_is_refused_with_its_place(text, offset, part):
    with pytest.raises(ExpressionError) as caught:
        names(text)

    assert part in str(caught.value)
    assert caught.value.offset == offset


def test_names_are_the_tags_as_written():
    assert names("burner and temp > 150 and not meter/kwh-2 in [1, 2] or age(door-1) > `3`") == {
        "burner",
        "temp",
        "meter/kwh-2",
        "door-1",
        "3",
    }


def test_what_depends_on_time_says_when_to_look_again():
    known = Known(a=2)

    parse("changed_within(a, 6)").evaluate(known)

    assert known.revisits == [4]
