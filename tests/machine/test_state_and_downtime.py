from tests.machine.stories import config, some, story


def test_an_open_guard_is_a_microstop_with_its_reason():
    given = [
        {"at": "0s", "status": 2, "fault": 0, "total": 100},
        {"at": "10s", "status": 8, "fault": 12},
        {"at": "40s", "status": 2, "fault": 0, "total": 101},
    ]

    events = story(config(), given, 60)

    assert some(events, "type", "time") == [
        ("state.changed", 0),
        ("state.changed", 10),
        ("downtime.started", 10),
        ("production.counted", 40),
        ("state.changed", 40),
        ("downtime.ended", 40),
    ]
    started, ended = events[2], events[5]
    assert started["downtime_id"] == ended["downtime_id"] == f"dt-mlu4idc09c7x.{started['seq']}" == events[1]["story"]
    assert started["category"] == "operator"
    assert (ended["class"], ended["duration_s"], ended["rev"]) == ("microstop", 30, 2)
    assert (ended["reason"].code, ended["reason"].text, ended["reason"].source) == ("12", "Guard open", "plc")
    assert ended["parts_during"] == 0
    assert events[3]["delta"] == {"total": 1}
    assert [event["seq"] for event in events] == [1, 2, 3, 4, 5, 6]
