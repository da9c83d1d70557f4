"""The rule by which a change is kept or reverted, on figures made for it."""

from __future__ import annotations

import pytest

from guiju.errors import ConfigError
from guiju.settings import from_mapping
from guiju.tasks import load_battery
from guiju.tasks.battery import BatteryLine, BatteryRow, BatteryRule, BatterySettings, _compared, judge
from guiju.tasks.comparing import Comparison
from guiju.tasks.estimates import Difference, Estimate


def line(low: float, high: float, rule: BatteryRule, metric: str = "accuracy", task: str = "sentiment") -> BatteryLine:
    change = Difference((low + high) / 2, low, high, 100)
    found = Comparison(task, 100, 0, {metric: Estimate(0.5, 0.4, 0.6, 100)}, {}, {metric: change}, metric)
    return _compared(BatteryLine(task, "en", metric), found, rule)


@pytest.mark.parametrize(
    ("intervals", "undecided", "verdict"),
    [
        ([(-0.01, 0.03), (0.0, 0.1)], "revert", "keep"),
        ([(-0.01, 0.03), (-0.2, -0.05)], "keep", "revert"),
        ([(-0.05, 0.03)], "revert", "revert"),
        ([(-0.05, 0.03)], "keep", "keep"),
        ([(-0.02, 0.03)], "revert", "keep"),
        ([], "keep", "not-assessed"),
    ],
)
def test_a_change_is_kept_where_nothing_is_lost_and_reverted_where_something_is(intervals, undecided, verdict):
    rule = BatteryRule(largest_loss=0.02, when_undecided=undecided)
    assert judge([line(low, high, rule) for low, high in intervals], rule)[0] == verdict


def test_a_bound_is_a_share_of_a_metrics_scale_and_may_be_a_tasks_own():
    rule = BatteryRule(largest_loss=0.02, losses={"code": 0.2})
    assert line(-1.5, 1.0, rule, "chrf++", "translation").verdict == "kept"
    assert line(-9.0, -3.0, rule, "chrf++", "translation").verdict == "lost"
    assert line(-0.15, -0.05, rule, "pass@1", "code").verdict == "kept"


def test_a_set_that_could_not_be_compared_is_told():
    rule = BatteryRule()
    verdict, why = judge([line(0, 0.1, rule), BatteryLine("code", "zh", "pass@1", why="no data")], rule)
    assert (verdict, why) == ("keep", "no set lost more than the rule bears; 1 sets could not be compared")


def test_guijus_own_battery_has_five_tasks_in_both_languages():
    rows = {(row.task, row.language) for row in load_battery().rows}
    assert len(rows) == 10
    assert len({task for task, _ in rows}) == 5


def test_a_battery_that_cannot_be_is_refused():
    row = {"task": "code", "language": "en", "data": "x"}
    for data, message in (
        ({"rows": []}, "rows is empty"),
        ({"rows": [row, row]}, "each task may stand once"),
        ({"rows": [{**row, "task": "poetry"}]}, "there is no task 'poetry'"),
        ({"rows": [row], "rule": {"losses": {"poetry": 0.1}}}, "there is no task 'poetry'"),
    ):
        with pytest.raises(ConfigError, match=message):
            from_mapping(BatterySettings, data)
    assert BatteryRow(task="code", language="en", data="x").name == "code-en"
