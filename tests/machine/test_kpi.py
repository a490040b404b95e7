"""The arithmetic of the key figures: the worked example of the event model to the digit, and its laws."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.clock import SECOND
from edge_agent.machine.kpi import Buckets, Made, Stops, bucket, coverage, figures, total

PRI = 20 * SECOND
ONE = (Made("BRKT-4411", PRI, pq=900, gq=873, sq=18, rq=9),)
TWO = (Made("P20", 20 * SECOND, pq=450, gq=440), Made("P30", 30 * SECOND, pq=300, gq=294))


def shift(*, apt=19_800, unknown=0):
    seconds = {"apt": apt, "aust": 1_800, "adet": 2_700, "adot": 900, "planned": 3_600, "unknown": unknown}
    return Buckets(**{name: value * SECOND for name, value in seconds.items()})


STOPS = Stops(begun=17, microstops=11, failures=3, micro=600 * SECOND, repair=1_500 * SECOND)


def shown(kpi, *names):
    return [round(kpi[name] * 100, 2) for name in names]


def test_the_worked_example_to_the_digit():
    buckets = shift()

    kpi = figures(buckets, ONE, STOPS)

    assert (buckets.pot, buckets.pbt) == (28_800 * SECOND, 25_200 * SECOND)
    assert coverage(buckets) == 1.0
    assert shown(kpi, "availability", "effectiveness", "quality_ratio", "oee") == [78.57, 90.91, 97.0, 69.29]
    assert shown(kpi, "nee") == [75.58]
    assert shown(kpi, "technical_efficiency", "utilization_efficiency") == [88.0, 81.48]
    assert shown(kpi, "allocation_efficiency", "setup_rate") == [96.43, 8.33]
    assert shown(kpi, "scrap_ratio", "rework_ratio") == [2.0, 1.0]
    assert (kpi["mttr_s"], kpi["mtbf_s"]) == (500, 7_200)
    assert kpi["oee"] == pytest.approx(20 * 873 / 25_200, abs=1e-15)
    assert "quality_ratio_plain" not in kpi


def test_micro_stops_as_performance_loss_leave_oee_as_it_is():
    kpi = figures(shift(), ONE, STOPS, policy="performance")

    assert shown(kpi, "availability", "effectiveness", "oee") == [80.95, 88.24, 69.29]
    assert kpi["availability"] * kpi["effectiveness"] * kpi["quality_ratio"] == pytest.approx(kpi["oee"])


def test_two_products_are_weighted_by_their_planned_run_time():
    kpi = figures(shift(), TWO, STOPS)

    assert shown(kpi, "effectiveness", "quality_ratio", "oee") == [90.91, 97.89, 69.92]
    assert kpi["quality_ratio_plain"] == 734 / 750


def test_with_production_time_unknown_oee_stays_and_its_factors_are_left_out():
    buckets = shift(apt=18_000, unknown=1_800)

    kpi = figures(buckets, ONE, STOPS)

    assert round(coverage(buckets), 3) == 0.929
    assert shown(kpi, "oee", "quality_ratio") == [69.29, 97.0]
    assert not kpi.keys() & {"availability", "effectiveness", "nee", "technical_efficiency", "mttr_s", "mtbf_s"}


def test_a_coverage_of_98_percent_is_enough():
    assert "availability" in figures(Buckets(apt=98, unknown=2), ONE, Stops())
    assert "availability" not in figures(Buckets(apt=979, unknown=21), ONE, Stops())


def test_an_effectiveness_above_one_is_reported_not_clipped():
    kpi = figures(Buckets(apt=900 * SECOND), (Made(None, PRI, pq=90, gq=90),), Stops())

    assert kpi["effectiveness"] == 2.0


def test_a_ratio_is_absent_when_an_input_is_missing():
    assert figures(Buckets(), (), Stops()) == {}
    no_pri = figures(shift(), (Made(None, None, pq=900, gq=873),), STOPS)
    assert "quality_ratio" in no_pri
    assert not no_pri.keys() & {"effectiveness", "oee", "nee", "scrap_ratio"}
    only_total = figures(shift(), (Made(None, PRI, pq=900),), STOPS)
    assert "effectiveness" in only_total
    assert not only_total.keys() & {"quality_ratio", "oee", "nee"}
    one_pri_of_two = figures(shift(), (Made("a", PRI, 5, 5), Made("b", None, 5, 5)), STOPS)
    assert one_pri_of_two["quality_ratio_plain"] == 1
    assert not one_pri_of_two.keys() & {"quality_ratio", "effectiveness", "oee"}
    pieces_lost = figures(shift(), ONE, STOPS, whole_count=False)
    assert not pieces_lost.keys() & {"effectiveness", "oee", "nee"}


def test_nothing_made_is_an_oee_of_zero_and_no_quality():
    kpi = figures(shift(), (Made(None, PRI, pq=0, gq=0),), Stops())

    assert (kpi["oee"], kpi["effectiveness"]) == (0, 0)
    assert not kpi.keys() & {"quality_ratio", "nee", "mttr_s"}


def test_the_throughput_of_an_order_is_per_hour_of_its_execution():
    kpi = figures(shift(), ONE, STOPS, execution=28_800 * SECOND)

    assert kpi["throughput_per_h"] == 112.5


@pytest.mark.parametrize(
    ("state", "mode", "conditions", "expected"),
    [
        ("running", "production", {}, "apt"),
        ("running", "production", {"planned": True}, "apt"),
        ("running", "production", {"on": False}, "apt"),
        ("running", "production", {"order": False}, "adot"),
        ("running", "manual", {}, "adet"),
        ("running", "unknown", {}, "unknown"),
        ("idle", "setup", {}, "aust"),
        ("setup", "production", {"order": False}, "aust"),
        ("setup", "production", {"planned": True}, "planned"),
        ("fault", "production", {"order": None}, "adet"),
        ("fault", "production", {"order": True}, "adet"),
        ("starved", "production", {"order": False}, "adot"),
        ("fault", "production", {"on": False}, None),
        ("fault", "production", {"on": False, "order": True, "active": True}, "adet"),
        ("unknown", "production", {}, "unknown"),
        ("unknown", "production", {"planned": True}, "planned"),
        ("unknown", "production", {"on": False}, None),
    ],
)
def test_time_goes_into_the_bucket(state, mode, conditions, expected):
    known = {"order": None, "active": False, "on": True, "planned": False, **conditions}

    assert bucket(state, mode, **known) == expected


COUNTS = st.integers(0, 10_000)
MADE = st.lists(
    st.tuples(st.integers(1, 10**9), COUNTS, COUNTS, COUNTS).map(lambda n: Made("p", n[0], sum(n[1:]), *n[1:])),
    min_size=1,
    max_size=4,
)
TIMES = st.builds(Buckets, *[st.integers(0, 10**11)] * 6)


@given(TIMES, MADE, st.integers(0, 10**11))
def test_oee_is_the_product_of_its_factors_under_both_policies(buckets, made, micro):
    stops = Stops(1, 1, 0, min(micro, buckets.adet))
    books = [figures(buckets, made, stops, policy=policy) for policy in ("availability", "performance")]

    assert books[0].get("oee") == books[1].get("oee")
    for kpi in books:
        if {"availability", "effectiveness", "quality_ratio"} <= kpi.keys():
            product = kpi["availability"] * kpi["effectiveness"] * kpi["quality_ratio"]
            assert product == pytest.approx(kpi["oee"], rel=1e-9)


@given(TIMES, MADE)
def test_the_buckets_tile_the_planned_operation_time(buckets, made):
    assert buckets.pot == buckets.pbt + buckets.planned
    assert buckets.pbt == buckets.apt + buckets.aust + buckets.adet + buckets.adot + buckets.unknown
    assert total(made, "pq") == total(made, "gq") + total(made, "sq") + total(made, "rq")
