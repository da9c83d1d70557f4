from __future__ import annotations

import json
import math
import subprocess
import sys

import pytest

from guiju.compute import (
    DEVICES,
    GRIDS,
    Actual,
    calibrate,
    describe_comparison,
    describe_plan,
    find_device,
    find_grid,
    forecast_against_actual,
    parameters,
    plan_from_counts,
    plan_training,
    training_flops,
)
from guiju.errors import ConfigError
from guiju.model import gpt2_config

SHAPE = gpt2_config(vocab_size=101, context=32, width=24, layers=2, heads=3)


def test_planning_and_metering_load_no_torch():
    code = "import sys, guiju.compute; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("model", "params", "tokens", "published", "tolerance"),
    [
        ("GPT-3 175B, arXiv:2005.14165 table D.1", 174_600e6, 300e9, 3.14e23, 0.01),
        ("GPT-3 13B, arXiv:2005.14165 table D.1", 12_850e6, 300e9, 2.31e22, 0.01),
        ("GPT-3 Small, arXiv:2005.14165 table D.1", 125e6, 300e9, 2.25e20, 0.01),
        ("Chinchilla 70B, arXiv:2203.15556", 70e9, 1.4e12, 5.76e23, 0.03),
        ("Llama 3 405B, arXiv:2407.21783", 405e9, 15.6e12, 3.8e25, 0.01),
    ],
)
def test_flops_agree_with_those_that_were_published(model, params, tokens, published, tolerance):
    assert plan_from_counts(params, tokens, "a100").flops == pytest.approx(published, rel=tolerance)


# Model, parameters, tokens, published device hours, kilograms of CO2. Llama 2: arXiv:2307.09288, table 2;
# Llama 65B: arXiv:2302.13971, table 15. Both state PUE 1.1, 400 W and (Llama) 0.385 kg a kWh.
PUBLISHED = [
    ("Llama 2 7B", 6.738e9, 2e12, 184_320, 31_220),
    ("Llama 2 13B", 13.016e9, 2e12, 368_640, 62_440),
    ("Llama 2 70B", 68.977e9, 2e12, 1_720_320, 291_420),
    ("Llama 65B", 65.286e9, 1.4e12, 1_022_362, 173_000),
]


@pytest.mark.parametrize(("model", "params", "tokens", "hours", "co2"), PUBLISHED)
def test_hours_lie_near_the_published_ones_at_the_utilization_that_is_assumed(model, params, tokens, hours, co2):
    plan = plan_from_counts(params, tokens, "a100", 2048, utilization=0.4)
    assert plan.gpu_hours == pytest.approx(hours, rel=0.21)  # they reached 0.38 to 0.48
    assert plan.seconds == pytest.approx(plan.gpu_hours * 3600 / 2048)


@pytest.mark.parametrize(("model", "params", "tokens", "hours", "co2"), PUBLISHED)
def test_co2_of_the_published_hours_is_the_published_co2(model, params, tokens, hours, co2, monkeypatch):
    from guiju.compute import carbon

    monkeypatch.setattr(carbon, "GRIDS", (carbon.Grid("US", 0.385, 2022, "as in the papers"),))
    reached = 6 * params * tokens / (hours * 3600 * find_device("a100").peak_flops)
    plan = plan_from_counts(params, tokens, "a100", utilization=reached, pue=1.1, grid="US")
    assert plan.gpu_hours == pytest.approx(hours)
    assert plan.energy_kwh == pytest.approx(hours * 0.4 * 1.1)
    assert plan.co2_kg == pytest.approx(co2, rel=0.002)


def test_the_json_has_what_is_relied_on_and_calls_itself_an_estimate():
    plan = plan_from_counts(7e9, 2e12, "A100", 8).to_json()
    wanted = {"flops", "gpu_hours", "memory_bytes", "energy_kwh", "co2_kg", "cost", "estimate", "assumptions"}
    assert wanted <= json.loads(json.dumps(plan, allow_nan=False)).keys()
    assert plan["estimate"] is True
    assert plan["cost"] is None
    assert plan["assumptions"]
    assert plan_from_counts(7e9, 2e12, "a100", 8, price_per_hour=2).cost == pytest.approx(2 * plan["gpu_hours"])


def test_memory_is_sixteen_bytes_a_parameter_and_says_how_many_devices_it_takes():
    plan = plan_from_counts(7e9, 1e9, "a100", 1)
    assert plan.memory_bytes == sum(plan.memory.values()) == 112 * 10**9
    assert (plan.devices_needed, plan.fits) == (2, False)
    assert plan_from_counts(7e9, 1e9, "a100", 2).fits
    assert plan_from_counts(1, 1, "t4").devices_needed == 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"params": 0}, "params is 0"),
        ({"params": -7e9}, "params is -7"),
        ({"params": math.nan}, "params is nan"),
        ({"tokens": math.inf}, "tokens is inf"),
        ({"tokens": -1}, "tokens is -1"),
        ({"params": 1e200, "tokens": 1e200}, "beyond what can be computed"),
        ({"device": "h1000"}, r"device is 'h1000'.*Did you mean h100"),
        ({"device": ""}, "which the table does not hold"),
        ({"count": 0}, "count is 0"),
        ({"count": 1.5}, "count is 1.5"),
        ({"count": True}, "count is True"),
        ({"utilization": 0}, "utilization is 0"),
        ({"utilization": 1.01}, "utilization is 1.01"),
        ({"utilization": math.nan}, "utilization is nan"),
        ({"pue": 0.9}, "pue is 0.9"),
        ({"price_per_hour": -1}, "price_per_hour is -1"),
        ({"grid": "XX"}, "grid is 'XX'"),
    ],
)
def test_a_figure_that_cannot_be_is_refused(wrong, message):
    with pytest.raises(ConfigError, match=message):
        plan_from_counts(**{"params": 7e9, "tokens": 2e12, "device": "a100", **wrong})


def test_every_device_and_grid_is_found_has_a_source_and_lies_in_a_sane_range():
    for device in DEVICES:
        assert find_device(device.name.upper()) is device
        assert device.source
        assert 1e10 < device.peak_flops / device.watts < 4e12
        assert 1e9 < device.memory_bytes < 1e12
    assert find_device(" RTX 4090 ").name == "rtx4090"
    for grid in GRIDS:
        assert find_grid(grid.code.lower()) is grid
        assert 0.01 < grid.kg_per_kwh < 1
        assert 2020 <= grid.year <= 2026
        assert grid.source
    assert len({device.name for device in DEVICES}) == len(DEVICES)
    assert len({grid.code for grid in GRIDS}) == len(GRIDS)


def test_a_recipes_plan_counts_each_pass_and_takes_its_time_from_the_calibration():
    ticks = iter([0, 5, 5, 6, 6, 9, 9, 11])  # the first step takes 5 s, the others 1, 3 and 2
    calibration = calibrate(lambda: None, clock=lambda: next(ticks))
    assert (calibration.first_s, calibration.step_s, calibration.spread) == (5, 2, 0.5)
    plan = plan_training(
        SHAPE, steps=10, batch=3, length=17, accumulate=2, calibration=calibration, cores=2, price_per_hour=36
    )
    assert plan.parameters == parameters(SHAPE).total
    assert plan.tokens == 10 * 2 * 3 * 17
    assert plan.flops == 20 * training_flops(SHAPE, 3, 17).total
    assert plan.seconds == 5 + 9 * 2
    assert plan.energy_kwh == pytest.approx(23 * 2 * 10 / 3.6e6)
    assert plan.cost == pytest.approx(23 / 100)
    assert plan.fits is None
    assert plan_training(SHAPE, steps=1, batch=1, length=8, peak_flops=1e9, memory_available=1).fits is False


def test_without_a_calibration_the_machines_peak_tells_the_time():
    plan = plan_training(SHAPE, steps=7, batch=3, length=17, peak_flops=1e9, utilization=0.5)
    assert plan.seconds == pytest.approx(7 * training_flops(SHAPE, 3, 17).total / 5e8)
    with pytest.raises(ConfigError, match="nothing to tell the time by"):
        plan_training(SHAPE, steps=7, batch=3, length=17)
    with pytest.raises(ConfigError, match="at least one step must be timed"):
        calibrate(lambda: None, repeats=0)


def test_the_forecast_stands_beside_what_it_took():
    plan = plan_training(SHAPE, steps=7, batch=3, length=17, peak_flops=1e9)
    rows = forecast_against_actual(plan, Actual(seconds=plan.seconds * 2, flops=plan.flops, memory_bytes=None))
    by_name = {row.what: row for row in rows}
    assert by_name["time"].ratio == pytest.approx(2)
    assert by_name["flops"].ratio == 1
    assert by_name["memory"].ratio is None
    assert by_name["cost"].forecast is None
    text = describe_comparison(rows)
    assert "2.00" in text
    assert len(text.splitlines()) == 7


def test_the_text_names_each_figure_and_each_assumption():
    plan = plan_from_counts(7e9, 2e12, "a100", 4, price_per_hour=10, currency="CNY")
    text = describe_plan(plan)
    for part in ("7,000,000,000", "8.4e+22", "4 x a100", "112 GB", "fits", "estimate", "CNY", *plan.assumptions):
        assert part in text
