"""Settings out of YAML: strict, typed, and with messages that show the way out."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from guiju.errors import ConfigError
from guiju.settings import apply_overrides, from_mapping, load_yaml, to_mapping


@dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float = 0.5
    names: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Outer:
    steps: int
    kind: Literal["cosine", "flat"] = "cosine"
    place: Path | None = None
    inner: Inner = field(default_factory=Inner)
    many: tuple[Inner, ...] = ()
    table: dict[str, float] = field(default_factory=dict)


def test_settings_survive_the_way_out_and_back():
    settings = from_mapping(
        Outer, {"steps": 3, "place": "a/b", "inner": {"rate": 1, "names": ["x"]}, "table": {"a": 2}}
    )
    assert settings == Outer(steps=3, place=Path("a/b"), inner=Inner(rate=1.0, names=("x",)), table={"a": 2.0})
    assert from_mapping(Outer, to_mapping(settings)) == settings


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"step": 3}, "step is not a setting; did you mean steps?"),
        ({}, "steps is missing"),
        ({"steps": "3"}, "steps is '3'; it must be a whole number"),
        ({"steps": True}, "steps is True; it must be a whole number"),
        ({"steps": 1, "kind": "linear"}, "kind is 'linear'; it may be 'cosine' or 'flat'"),
        ({"steps": 1, "inner": {"rate": "1e-6"}}, "inner.rate is '1e-6'; it must be a number .*1.0e-6"),
        ({"steps": 1, "inner": {"rate": float("nan")}}, "inner.rate is nan"),
        ({"steps": 1, "many": [{"names": "x"}]}, r"many\[0\].names is 'x'; it must be a list"),
        ({"steps": 1, "inner": 3}, "inner must hold settings, not 3"),
    ],
)
def test_a_wrong_value_is_named_with_its_place_and_the_way_out(data, message):
    with pytest.raises(ConfigError, match=message):
        from_mapping(Outer, data)


def test_an_override_reaches_a_nested_setting_and_leaves_the_rest_alone():
    data = {"training": {"steps": 5, "seed": 1}}
    assert apply_overrides(data, ["training.steps=9", "new.key=[a, b]"]) == {
        "training": {"steps": 9, "seed": 1},
        "new": {"key": ["a", "b"]},
    }
    assert data == {"training": {"steps": 5, "seed": 1}}
    for wrong in ["training.steps", "=3", "training..x=1", "training.steps.x=1", "a=[1"]:
        with pytest.raises(ConfigError, match="--set"):
            apply_overrides(data, [wrong])


def test_a_recipe_that_cannot_be_read_says_why(tmp_path):
    with pytest.raises(ConfigError, match="does not exist"):
        load_yaml(tmp_path / "none.yaml")
    for content, message in [
        (b"a: 1\na: 2\n", "stands twice"),
        (b"- a\n", "must hold"),
        (b"a: [1\n", "not valid YAML"),
        (b"\xff\xfe", "UTF-8"),
        (b"a: !!python/object/apply:os.system [ls]\n", "not valid YAML"),
    ]:
        (tmp_path / "r.yaml").write_bytes(content)
        with pytest.raises(ConfigError, match=message):
            load_yaml(tmp_path / "r.yaml")
