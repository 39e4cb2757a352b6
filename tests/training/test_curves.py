"""Values of a recipe, looked up in blocks."""

import numpy as np
import pytest

from cyclr import OneCycle, Recipe
from cyclr.training.curves import Curves
from small_runs import RECIPE


def test_every_step_has_the_recipes_values_across_blocks() -> None:
    curves = Curves(RECIPE)
    for step in (0, 5, 59, 1023, 1024, 1025, 5000, 3):
        assert curves.at(step) == pytest.approx(RECIPE.values(step), rel=1e-12)


def test_where_a_run_begins_makes_no_difference_in_any_bit() -> None:
    recipe = Recipe(lr=OneCycle(max_lr=0.1, total_steps=3000, anneal="cosine"), total_steps=3000)
    whole = Curves(recipe)
    all_of_it = [whole.at(step)["lr"] for step in range(3000)]
    for begin in np.random.default_rng(0).integers(0, 3000, 20):
        cut = Curves(recipe)
        assert [cut.at(step)["lr"] for step in range(begin, 3000)] == all_of_it[begin:]
