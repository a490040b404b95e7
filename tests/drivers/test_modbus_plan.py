from hypothesis import given
from hypothesis import strategies as st

from drivers.modbus.addresses import Table
from drivers.modbus.plan import Field, Limits, halves, plan


def field(start: int, size: int = 1, table: Table = Table.HOLDING) -> Field:
    return Field(f"{table.word}{start}", table, start, size)


def spans(requests) -> list[tuple[int, int]]:
    return [(request.start, request.length) for request in requests]


def test_a_thousand_neighbours_are_eight_requests():
    requests = plan([field(n) for n in range(1000)], Limits())
    assert spans(requests) == [(n, 125) for n in range(0, 1000, 125)]


def test_a_gap_is_read_over_up_to_its_limit():
    assert spans(plan([field(0), field(9)], Limits(max_gap=8))) == [(0, 10)]
    assert spans(plan([field(0), field(10)], Limits(max_gap=8))) == [(0, 1), (10, 1)]


def test_a_value_that_does_not_fit_starts_the_next_request():
    requests = plan([*(field(n) for n in range(124)), field(124, 2)], Limits())
    assert spans(requests) == [(0, 124), (124, 2)]


def test_a_bit_gap_and_limit_count_sixteen_to_a_register():
    coils = [field(n, table=Table.COIL) for n in (0, 129, 300)]
    assert spans(plan(coils, Limits(max_gap=8))) == [(0, 130), (300, 1)]
    far = [field(n, table=Table.COIL) for n in range(0, 4000, 100)]
    assert spans(plan(far, Limits())) == [(0, 1901), (2000, 1901)]


def test_one_tag_per_request_is_just_that():
    assert spans(plan([field(0), field(1)], Limits(one_tag_per_request=True))) == [(0, 1), (1, 1)]


def test_no_request_spans_a_cut():
    fields = [field(n) for n in range(6)]
    assert spans(plan(fields, Limits(), frozenset({(Table.HOLDING, 2), (Table.INPUT, 4)}))) == [(0, 2), (2, 4)]


TABLES = st.sampled_from(list(Table))


@st.composite
def tag_lists(draw) -> list[Field]:
    places = draw(st.lists(st.tuples(TABLES, st.integers(0, 400), st.integers(1, 4)), max_size=60))
    return [Field(f"t{n}", table, start, 1 if table.bits else size) for n, (table, start, size) in enumerate(places)]


limits = st.builds(Limits, st.integers(4, 125), st.integers(0, 20), st.booleans())
cuts = st.frozensets(st.tuples(TABLES, st.integers(0, 404)), max_size=5)


@given(tag_lists(), limits, cuts)
def test_every_tag_is_in_exactly_one_request_and_whole(fields, limits, cuts):
    requests = plan(fields, limits, cuts)
    assert sorted(f for request in requests for f in request.fields) == sorted(fields, key=lambda f: f)
    for request in requests:
        for each in request.fields:
            assert each.table is request.table
            assert request.start <= each.start
            assert each.end <= request.start + request.length


@given(tag_lists(), limits, cuts)
def test_no_request_is_longer_or_wider_than_allowed(fields, limits, cuts):
    for request in plan(fields, limits, cuts):
        scale = 16 if request.table.bits else 1
        assert request.length <= min(limits.max_registers * scale, 2000)
        assert request.start == min(each.start for each in request.fields)
        assert request.start + request.length == max(each.end for each in request.fields)
        if limits.one_tag_per_request:
            assert len(request.fields) == 1
        end = request.start
        for each in request.fields:
            assert each.start - end <= limits.max_gap * scale
            end = max(end, each.end)
        if len(request.fields) > 1:
            assert not any(t is request.table and request.start < n < end for t, n in cuts)


@given(tag_lists(), limits)
def test_halves_of_a_request_have_all_its_tags_whole(fields, limits):
    for request in plan(fields, limits):
        if len(request.fields) > 1:
            first, second = halves(request)
            assert first.fields + second.fields == request.fields
            for half in (first, second):
                assert all(half.start <= each.start and each.end <= half.start + half.length for each in half.fields)


@given(tag_lists(), limits)
def test_the_order_of_the_tags_does_not_matter(fields, limits):
    assert plan(fields, limits) == plan(fields[::-1], limits)
