"""The arithmetic of masked scoring and of MeanFlow's scores, and the order of levels."""

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from genclass.families.randar import visible_counts
from genclass.models.meanflow import MeanFlow, MeanFlowConfig
from genclass.scorers.masked import draw_mask, masking_ratios, mean_over_masked
from genclass.scorers.mean_flow import (
    Guidance,
    Interval,
    interval_start,
    mean_flow_loss,
    mean_flow_noising,
)
from genclass.scorers.spread import level_of, spread
from genclass.scorers.timestep import Noising, timesteps
from tests.support.small_networks import awakened


@pytest.fixture
def network() -> Any:
    torch.manual_seed(0)
    return awakened(MeanFlow(MeanFlowConfig(2, 4, 48, latent_size=8, classes=7)))


class TestSpread:
    @pytest.mark.parametrize("count", [1, 2, 7, 10, 64, 100])
    def test_each_place_once_and_every_prefix_spread(self, count: int) -> None:
        order = spread(count)
        assert sorted(order) == list(range(count))
        for budget in range(1, count + 1):
            places = sorted(order[:budget])
            # No stretch without a trial is longer than two even steps, rounding aside.
            gaps = [b - a for a, b in pairwise([-1, *places, count])]
            assert max(gaps) <= 2 * count / (budget + 1) + 2

    def test_a_larger_budget_begins_with_the_smaller(self) -> None:
        levels = [level_of(trial, 10) for trial in range(30)]
        assert levels[:10] == levels[10:20] == levels[20:] == list(spread(10))
        assert levels[0] == 5  # the middle first

    def test_timesteps_go_the_same_way(self) -> None:
        assert timesteps(50) == [25 + 50 * place for place in spread(20)]


class TestMasks:
    def test_ratios_of_training(self) -> None:
        ratios = masking_ratios(100)
        assert len(ratios) == 100
        assert ratios == sorted(ratios, reverse=True)
        assert ratios[-1] == pytest.approx(0.09, abs=0.001)  # the least of the default schedule
        assert masking_ratios(3, "linear") == [0.25, 0.5, 0.75]
        assert masking_ratios(3, "square") == [0.0625, 0.25, 0.5625]
        assert masking_ratios(1, "cosine") == pytest.approx([math.sqrt(0.5)])
        assert masking_ratios(1, "arccos") == pytest.approx([2 / 3])

    def test_wrong_levels(self) -> None:
        with pytest.raises(ValueError, match="at least 1 masking ratio"):
            masking_ratios(0)
        with pytest.raises(ValueError, match="no masking schedule 'cubic'"):
            masking_ratios(3, "cubic")  # type: ignore[arg-type]

    def test_a_mask_is_never_empty(self) -> None:
        least = masking_ratios(100, "square")[0]
        generator = np.random.default_rng(0)
        counts = [int(draw_mask(generator, 256, least).sum()) for _ in range(50)]
        assert min(counts) == 1
        # As likely in every place, though most masks of this ratio come out empty.
        sums = torch.stack([draw_mask(generator, 4, 0.01) for _ in range(400)]).sum(dim=0)
        assert sums.min() > 60

    def test_a_mask_follows_its_ratio_and_its_draw(self) -> None:
        masks = [draw_mask(np.random.default_rng(3), 10_000, ratio) for ratio in (0.3, 0.3, 0.8)]
        assert torch.equal(masks[0], masks[1])
        assert float(masks[0].float().mean()) == pytest.approx(0.3, abs=0.02)
        assert (masks[2] | ~masks[0]).all()  # the same draw, a larger ratio: nested
        with pytest.raises(ValueError, match="with probability 0"):
            draw_mask(np.random.default_rng(0), 4, 0)

    def test_the_mean_is_over_what_is_masked(self) -> None:
        log_probs = torch.tensor([[-1.0, -2.0, -9.0], [-4.0, -2.0, -9.0]])
        masked = torch.tensor([True, True, False])
        assert mean_over_masked(log_probs, masked).tolist() == [-1.5, -3.0]
        each = torch.tensor([[True, False, False], [False, True, True]])
        assert mean_over_masked(log_probs, each).tolist() == [-1.0, -5.5]

    def test_visible_counts_are_the_official_ones(self) -> None:
        official = [12, 38, 64, 89, 115, 140, 166, 192, 217, 243]
        assert visible_counts(256, 10) == official
        assert visible_counts(16, 5) == [1, 4, 8, 11, 14]
        for levels in range(1, 40):
            counts = visible_counts(16, levels)
            assert len(counts) == levels
            assert 0 <= min(counts) <= max(counts) < 16  # something is hidden


class TestMeanFlow:
    def test_what_the_network_is_told(self) -> None:
        zero = mean_flow_noising(0.3, "zero")
        assert isinstance(zero, Noising)
        assert (zero.time, zero.start, zero.noise) == (0.3, 0.0, 0.3)
        assert zero.signal == pytest.approx(0.7)
        assert zero.weight == pytest.approx(0.49)  # the error of the implied noise
        assert mean_flow_noising(0.3, "time").start == 0.3
        assert mean_flow_noising(0.3, "time", "velocity").weight == 1
        assert mean_flow_noising(0.3, "time", "x0").weight == pytest.approx(0.09)

    def test_the_weight_is_that_of_the_implied_noise(self) -> None:
        torch.manual_seed(0)
        x, noise, u = torch.randn(3, 50, dtype=torch.float64)
        step = mean_flow_noising(0.3, "zero")
        z = step.signal * x + step.noise * noise
        implied = (z - step.signal * (z - step.time * u)) / step.time
        expected = (implied - noise) ** 2
        torch.testing.assert_close(step.weight * (u - (noise - x)) ** 2, expected)

    @pytest.mark.parametrize(("time", "mixed"), [(0.025, 0.05), (0.5, 0.5), (0.975, 0.95)])
    def test_the_legacy_clamp_is_hidden_from_the_network(self, time: float, mixed: float) -> None:
        legacy = mean_flow_noising(time, "time", legacy_clamped_time=True)
        assert (legacy.time, legacy.start) == (time, time)
        assert (legacy.noise, legacy.signal) == (mixed, 1 - mixed)
        assert legacy.weight == pytest.approx((1 - mixed) ** 2)

    def test_an_interval_starts_before_it_ends(self) -> None:
        assert interval_start(0.4, uniform=0.75, normal=-5) == 0.4
        assert interval_start(0.4, uniform=0.74, normal=0.4) == 0.4  # sigmoid(0) is later
        assert interval_start(0.9, uniform=0.0, normal=0.4) == 0.5

    def test_without_an_interval_the_loss_is_the_velocity_error(self, network: Any) -> None:
        x, noise = torch.randn(2, 1, 4, 8, 8)
        classes = torch.arange(8)
        loss = mean_flow_loss(network, x, noise, Interval(0.6, 0.6), classes)
        velocity = network.predict_classes(0.4 * x + 0.6 * noise, 0.6, classes)
        torch.testing.assert_close(loss, (velocity - (noise - x)) ** 2)
        longer = mean_flow_loss(network, x, noise, Interval(0.1, 0.6), classes)
        assert not torch.allclose(longer, loss, rtol=0.01)

    def test_guidance_acts_in_its_range_only(self, network: Any) -> None:
        x, noise = torch.randn(2, 1, 4, 8, 8)
        classes = torch.arange(3)
        guidance = Guidance(omega=0.2, kappa=0.92, first=0.3, last=0.8)
        for time, acts in ((0.2, False), (0.3, True), (0.8, True), (0.9, False)):
            plain, guided = (
                mean_flow_loss(network, x, noise, Interval(0.1, time), classes, g)
                for g in (None, guidance)
            )
            assert torch.equal(plain, guided) != acts
        interval = Interval(0.1, 0.5)
        unguided = mean_flow_loss(network, x, noise, interval, classes, Guidance())
        assert torch.equal(unguided, mean_flow_loss(network, x, noise, interval, classes))
