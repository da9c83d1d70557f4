from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from guiju.pipeline import read_finetune_recipe, read_recipe

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_of_the_project_is_one(path, monkeypatch):
    monkeypatch.setenv("GUIJU_DATA", "/data")
    tunes = "data" in yaml.safe_load(path.read_text(encoding="utf-8"))
    recipe = (read_finetune_recipe if tunes else read_recipe)(path)
    assert recipe.name == path.stem
