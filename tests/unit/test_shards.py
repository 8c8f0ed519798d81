"""Shards: names, and plans that cover the budget exactly whatever exists already."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genclass.errors import GenclassError
from genclass.scores.shards import Shard, plan_shards


def test_names_hold_first_and_last_of_both_ranges() -> None:
    shard = Shard(0, 50, 0, 20)
    assert shard.name == "images-00000-00049.trials-000-019"
    assert Shard.from_name(shard.name + ".safetensors") == shard
    assert Shard.from_name(Shard(99_950, 100_001, 0, 1000).name).image_stop == 100_001


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("images-0-9", "names no shard: expected images-00000-00049.trials-000-019"),
        ("images-00009-00000.trials-000-019", "a range ends before it starts"),
    ],
)
def test_wrong_names(name: str, message: str) -> None:
    with pytest.raises(GenclassError, match=message):
        Shard.from_name(name)


def coverage(shards: list[Shard], images: int, trials: int) -> np.ndarray:
    count = np.zeros((images, trials), dtype=int)
    for shard in shards:
        count[shard.image_start : shard.image_stop, shard.trial_start : shard.trial_stop] += 1
    return count


def test_growing_the_budget_runs_only_the_new_trials() -> None:
    old = plan_shards(100, 20, 50)
    new = plan_shards(100, 40, 50, existing=old)
    assert set(old) <= set(new)
    assert set(new) - set(old) == {Shard(0, 50, 20, 40), Shard(50, 100, 20, 40)}


def test_other_shard_sizes_find_the_old_shards() -> None:
    old = plan_shards(100, 20, 25)
    assert plan_shards(100, 20, 50, existing=old) == old


def test_a_smaller_budget_needs_nothing_new() -> None:
    old = plan_shards(100, 20, 50)
    assert plan_shards(100, 8, 50, existing=old) == old


shards = st.builds(
    lambda i, n, t, k: Shard(i, i + n, t, t + k),
    st.integers(0, 40), st.integers(1, 30), st.integers(0, 12), st.integers(1, 12),
)  # fmt: skip


@given(
    images=st.integers(1, 50),
    trials=st.integers(1, 14),
    image_step=st.integers(1, 60),
    trial_step=st.none() | st.integers(1, 20),
    existing=st.lists(shards, max_size=8),
    data=st.data(),
)
def test_a_plan_covers_exactly_and_is_stable_while_it_is_carried_out(
    images, trials, image_step, trial_step, existing, data
) -> None:
    plan = plan_shards(images, trials, image_step, trial_step, existing)
    assert (coverage(plan, images, trials) == 1).all()
    done = data.draw(st.lists(st.sampled_from(plan), unique=True))
    again = plan_shards(images, trials, image_step, trial_step, [*existing, *done])
    assert again == plan


def test_a_race_has_a_name_of_its_own() -> None:
    race = Shard(100, 1100, 0, 20, race=True)
    assert race.name == "images-00100-01099.race-020"
    assert Shard.from_name(f"{race.name}.safetensors") == race
    assert Shard(100, 1100, 0, 20) != race


def test_races_begin_where_exhaustive_scores_end() -> None:
    first = plan_shards(250, 20, 100, first=30, race=True)
    assert [(s.image_start, s.image_stop) for s in first] == [(30, 100), (100, 200), (200, 250)]
    assert all(shard.race for shard in first)
    # More exhaustive scores: what raced before is kept, also where it begins too early.
    assert plan_shards(250, 20, 100, existing=first, first=120, race=True) == first[1:]
    # Fewer: what is missing now races.
    more = plan_shards(250, 20, 100, existing=first, first=10, race=True)
    assert more == [Shard(10, 30, 0, 20, race=True), *first]
