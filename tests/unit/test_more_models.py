"""RAR, MaskGIT with its VQGAN, MeanFlow, and RandAR that predicts all hidden tokens at once."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from genclass.families import dit, maskgit, rar
from genclass.models import tokens
from genclass.models.maskgit import MaskGIT, MaskGITConfig
from genclass.models.meanflow import MeanFlow, MeanFlowConfig, fitted
from genclass.models.randar import RandAR, RandARConfig
from genclass.models.rar import RAR, RARConfig
from genclass.models.taming_vqgan import TamingVQGAN, TamingVQGANConfig, without_loss
from tests.support.small_networks import awakened

RAR_ = RARConfig(layers=3, heads=4, width=64, hidden=160, vocabulary=96, grid=4, classes=7)
MASKGIT = MaskGITConfig(layers=3, heads=4, width=64, hidden=160, vocabulary=96, grid=4, classes=7)
MEANFLOW = MeanFlowConfig(layers=2, heads=4, width=48, latent_size=8, classes=7)
RANDAR = RandARConfig(layers=3, heads=4, width=64, vocabulary=96, grid=4, classes=7)
VQGAN = TamingVQGANConfig(channels=32, multipliers=(1, 2), codebook=64, latent=16, code_width=8)
CLASSES = torch.tensor([3, 0, 6, 7, 3])  # the null class, too


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def images(count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Codes, orders and masks of 16 tokens, each [count, 16]."""
    codes = torch.randint(96, (count, 16))
    orders = torch.stack([torch.randperm(16) for _ in range(count)])
    return codes, orders, torch.rand(count, 16) < 0.5


@pytest.fixture(scope="module")
def rar_network() -> RAR:
    network: RAR = awakened(RAR(RAR_))
    return network


@pytest.fixture(scope="module")
def maskgit_network() -> MaskGIT:
    network: MaskGIT = awakened(MaskGIT(MASKGIT))
    return network


@pytest.fixture(scope="module")
def randar_network() -> RandAR:
    network: RandAR = awakened(RandAR(RANDAR))
    return network


class TestRAR:
    def test_scoring_agrees_with_the_logits(self, rar_network: RAR) -> None:
        (codes,), (order,), _ = images(1)
        classes = torch.arange(8)
        with torch.no_grad():
            logits = rar_network(codes.expand(8, -1), order.expand(8, -1), classes)
        targets = codes[order].expand(8, -1).unsqueeze(-1)
        expected = logits.log_softmax(dim=-1).gather(2, targets).squeeze(-1)
        torch.testing.assert_close(rar_network.token_log_probs(codes, order, classes), expected)

    def test_every_sequence_may_have_its_own_order(self, rar_network: RAR) -> None:
        codes, orders, _ = images(5)
        together = rar_network.token_log_probs_batch(codes, orders, CLASSES)
        alone = [
            rar_network.token_log_probs(*sequence, one.view(1))
            for *sequence, one in zip(codes, orders, CLASSES, strict=True)
        ]
        torch.testing.assert_close(together, torch.cat(alone))

    def test_the_head_in_chunks(self, rar_network: RAR, monkeypatch: pytest.MonkeyPatch) -> None:
        (codes,), (order,), _ = images(1)
        whole = rar_network.token_log_probs(codes, order, CLASSES)
        monkeypatch.setattr(tokens, "LOGITS_AT_ONCE", 2 * 16 * RAR_.vocabulary)
        torch.testing.assert_close(rar_network.token_log_probs(codes, order, CLASSES), whole)

    def test_a_token_changes_nothing_decoded_before_it(self, rar_network: RAR) -> None:
        (codes,), (order,), _ = images(1)
        before = rar_network.token_log_probs(codes, order, CLASSES)
        for step in (0, 5, 15):
            changed = codes.clone()
            changed[order[step]] = (changed[order[step]] + 1) % RAR_.vocabulary
            after = rar_network.token_log_probs(changed, order, CLASSES)
            torch.testing.assert_close(after[:, :step], before[:, :step])
            assert (after[:, step:] != before[:, step:]).all()

    def test_places_still_to_come_change_only_what_is_told_of_them(self, rar_network: RAR) -> None:
        (codes,), (order,), _ = images(1)
        other = torch.cat([order[:6], order[6:].flip(0)])
        before, after = (
            rar_network.token_log_probs(codes, each, CLASSES) for each in (order, other)
        )
        torch.testing.assert_close(after[:, :6], before[:, :6])
        assert (after[:, 6] != before[:, 6]).all()

    def test_first_tokens_alone_are_the_beginning_of_the_whole(self, rar_network: RAR) -> None:
        (codes,), (order,), _ = images(1)
        whole = rar_network.token_log_probs(codes, order, CLASSES)
        for count in (1, 6):
            first = rar_network.token_log_probs(codes, order[:count], CLASSES)
            torch.testing.assert_close(first, whole[:, :count])

    def test_bfloat16_is_near(self, rar_network: RAR) -> None:
        (codes,), (order,), _ = images(1)
        exact = rar_network.token_log_probs(codes, order, CLASSES)
        coarse = copy.deepcopy(rar_network).to(torch.bfloat16)
        rounded = coarse.token_log_probs(codes, order, CLASSES)
        assert exact.dtype == rounded.dtype == torch.float32
        torch.testing.assert_close(rounded, exact, atol=0.15, rtol=0)

    def test_sequences_that_do_not_fit(self, rar_network: RAR) -> None:
        (codes,), (order,), _ = images(1)
        with pytest.raises(ValueError, match="the same 1 to 16 tokens"):
            rar_network.token_log_probs(codes, order.repeat(2), CLASSES)
        with pytest.raises(ValueError, match="1 images, 1 orders, 5 classes"):
            rar_network.token_log_probs_batch(codes[None], order[None], CLASSES)


class TestMaskGIT:
    def test_scoring_agrees_with_the_logits(self, maskgit_network: MaskGIT) -> None:
        (codes,), _, (masked,) = images(1)
        classes = torch.arange(8)
        with torch.no_grad():
            logits = maskgit_network(codes.expand(8, -1), masked.expand(8, -1), classes)
        assert logits.shape == (8, 16, 97)  # the mask token's column, too
        targets = codes.expand(8, -1).unsqueeze(-1)
        expected = logits.log_softmax(dim=-1).gather(2, targets).squeeze(-1)
        found = maskgit_network.token_log_probs(codes, masked, classes)
        torch.testing.assert_close(found, expected)

    def test_every_sequence_may_have_its_own_mask(self, maskgit_network: MaskGIT) -> None:
        codes, _, masked = images(5)
        together = maskgit_network.token_log_probs_batch(codes, masked, CLASSES)
        alone = [
            maskgit_network.token_log_probs(*sequence, one.view(1))
            for *sequence, one in zip(codes, masked, CLASSES, strict=True)
        ]
        torch.testing.assert_close(together, torch.cat(alone))

    def test_the_head_in_chunks(
        self, maskgit_network: MaskGIT, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (codes,), _, (masked,) = images(1)
        whole = maskgit_network.token_log_probs(codes, masked, CLASSES)
        monkeypatch.setattr(tokens, "LOGITS_AT_ONCE", 2 * 16 * 97)
        torch.testing.assert_close(maskgit_network.token_log_probs(codes, masked, CLASSES), whole)

    def test_what_is_masked_is_not_seen(self, maskgit_network: MaskGIT) -> None:
        (codes,), _, (masked,) = images(1)
        before = maskgit_network.token_log_probs(codes, masked, CLASSES)
        hidden, seen = (int(places.nonzero()[0]) for places in (masked, ~masked))
        for place, others_change in ((hidden, False), (seen, True)):
            changed = codes.clone()
            changed[place] = (changed[place] + 1) % MASKGIT.vocabulary
            after = maskgit_network.token_log_probs(changed, masked, CLASSES)
            others = torch.arange(16) != place
            assert (after[:, place] != before[:, place]).all()
            assert bool((after[:, others] != before[:, others]).all()) == others_change

    def test_logits_are_not_rounded_to_bfloat16(self, maskgit_network: MaskGIT) -> None:
        (codes,), _, (masked,) = images(1)
        coarse = copy.deepcopy(maskgit_network).to(torch.bfloat16)
        with torch.no_grad():
            coarse.bias.zero_()
            logits = coarse(codes[None], masked[None], CLASSES[:1])
        assert logits.dtype == torch.float32
        assert (logits != logits.bfloat16().float()).float().mean() > 0.5
        exact = maskgit_network.token_log_probs(codes, masked, CLASSES)
        coarse = copy.deepcopy(maskgit_network).to(torch.bfloat16)
        rounded = coarse.token_log_probs(codes, masked, CLASSES)
        torch.testing.assert_close(rounded, exact, atol=0.3, rtol=0)

    def test_sequences_that_do_not_fit(self, maskgit_network: MaskGIT) -> None:
        (codes,), _, (masked,) = images(1)
        with pytest.raises(ValueError, match="must have 16 tokens"):
            maskgit_network.token_log_probs(codes[:9], masked[:9], CLASSES)
        with pytest.raises(ValueError, match="1 images, 1 masks, 5 classes"):
            maskgit_network.token_log_probs_batch(codes[None], masked[None], CLASSES)


@pytest.mark.parametrize("config", [RARConfig, MaskGITConfig])
def test_impossible_sizes(config: Any) -> None:
    possible = {"layers": 1, "heads": 4, "width": 32, "hidden": 64}
    with pytest.raises(ValueError, match="at least 1"):
        config(**possible | {"hidden": 0})
    with pytest.raises(ValueError, match="multiple of heads 5"):
        config(**possible | {"heads": 5})


class TestTamingVQGAN:
    def test_finds_the_nearest(self) -> None:
        tokenizer = awakened(TamingVQGAN(VQGAN))
        latent = torch.randn(2, 8, 5, 6)
        points = latent.permute(0, 2, 3, 1).flatten(0, 2)
        expected = torch.cdist(points, tokenizer.quantize.embedding.weight).argmin(dim=1)
        assert torch.equal(tokenizer.quantize(latent), expected.view(2, 5, 6))

    def test_image_to_codes_to_image(self) -> None:
        tokenizer = awakened(TamingVQGAN(VQGAN))
        codes = tokenizer.quantize(tokenizer.encode(torch.rand(2, 3, 8, 12)))
        assert codes.shape == (2, 4, 6)
        assert tokenizer.decode(codes).shape == (2, 3, 8, 12)
        with pytest.raises(ValueError, match="9 x 12"):
            tokenizer.encode(torch.rand(2, 3, 9, 12))

    def test_a_released_file_loads_without_its_loss(self) -> None:
        tokenizer = TamingVQGAN(VQGAN)
        released = tokenizer.state_dict() | {"loss.discriminator.main.0.weight": torch.ones(3)}
        TamingVQGAN(VQGAN).load_state_dict(without_loss(released), strict=True)

    def test_impossible_sizes(self) -> None:
        with pytest.raises(ValueError, match=r"Taming VQGAN: channels 48 .* multiple of 32"):
            TamingVQGANConfig(channels=48)


class TestMeanFlow:
    def test_without_a_start_the_velocity_is_instantaneous(self) -> None:
        network = awakened(MeanFlow(MEANFLOW))
        x, t, classes = torch.randn(3, 4, 8, 8), torch.tensor([0.1, 0.5, 0.9]), torch.arange(3)
        at_t = network.predict(x, t, classes)
        torch.testing.assert_close(at_t, network.predict(x, t, classes, r=t))
        averaged = network.predict(x, t, classes, r=0.0)
        assert (averaged - at_t).abs().amin(dim=(1, 2, 3)).all()

    def test_one_latent_under_many_classes(self) -> None:
        network = awakened(MeanFlow(MEANFLOW))
        x, classes = torch.randn(1, 4, 8, 8), torch.arange(8)
        many = network.predict_classes(x, 0.6, classes, 0.2)
        alone = [network.predict(x, 0.6, one.view(1), torch.tensor([0.2])) for one in classes]
        torch.testing.assert_close(many, torch.cat(alone))
        with pytest.raises(ValueError, match="one noised latent"):
            network.predict_classes(x.expand(2, -1, -1, -1), 0.6, classes)

    def test_the_derivative_is_that_of_a_small_step(self) -> None:
        network = awakened(MeanFlow(MEANFLOW))
        x, direction = torch.randn(2, 2, 4, 8, 8).unbind()
        classes = torch.tensor([1, 5])
        with torch.inference_mode():  # as scorers run
            u, derivative = network.predict_with_derivative(x, 0.7, classes, 0.2, direction)
        step = 1e-2
        ahead, behind = (
            network.predict(x + h * direction, 0.7 + h, classes, 0.2) for h in (step, -step)
        )
        torch.testing.assert_close(u, network.predict(x, 0.7, classes, 0.2))
        torch.testing.assert_close(derivative, (ahead - behind) / (2 * step), atol=0.02, rtol=0.02)

    @pytest.mark.parametrize("learn_sigma", [False, True])
    def test_channels_are_read_off_the_checkpoint(self, learn_sigma: bool) -> None:
        config = MeanFlowConfig(1, 1, 4, patch=4, latent_size=8, learn_sigma=learn_sigma)
        weights = MeanFlow(config).state_dict()
        undecided = MeanFlowConfig(1, 1, 4, patch=4, latent_size=8, learn_sigma=not learn_sigma)
        assert fitted(undecided, weights) == config
        with pytest.raises(ValueError, match=r"final_layer\.linear\.weight has 0 rows"):
            fitted(undecided, {})

    def test_training_starts_at_zero_and_reaches_every_weight(self) -> None:
        network = MeanFlow(MEANFLOW)
        x, classes = torch.randn(2, 4, 8, 8), torch.tensor([0, 7])
        assert not network(x, 0.5, classes).any()
        awakened(network).train()
        network(x, 0.5, classes, 0.1).square().sum().backward()
        assert all(weight.grad is not None for weight in network.parameters())


class TestHiddenTokens:
    """RandAR predicting all hidden tokens from the visible ones."""

    @pytest.mark.parametrize("visible", [0, 5, 15])
    def test_the_first_hidden_token_is_the_next_one(
        self, randar_network: RandAR, visible: int
    ) -> None:
        (codes,), (order,), _ = images(1)
        in_turn = randar_network.token_log_probs(codes, order, CLASSES)
        hidden = randar_network.hidden_log_probs(codes, order, visible, CLASSES)
        assert hidden.shape == (5, 16 - visible)
        torch.testing.assert_close(hidden[:, 0], in_turn[:, visible])

    def test_every_hidden_token_is_predicted_from_the_visible_ones_alone(
        self, randar_network: RandAR
    ) -> None:
        (codes,), (order,), _ = images(1)
        hidden = randar_network.hidden_log_probs(codes, order, 6, CLASSES)
        for later in range(6, 16):  # as if it came first
            turned = order.clone()
            turned[[6, later]] = order[[later, 6]]
            alone = randar_network.token_log_probs(codes, turned[:7], CLASSES)
            torch.testing.assert_close(hidden[:, later - 6], alone[:, 6])

    def test_every_sequence_may_have_its_own_order(self, randar_network: RandAR) -> None:
        codes, orders, _ = images(5)
        together = randar_network.hidden_log_probs_batch(codes, orders, 6, CLASSES)
        alone = [
            randar_network.hidden_log_probs(image, order, 6, one.view(1))
            for image, order, one in zip(codes, orders, CLASSES, strict=True)
        ]
        torch.testing.assert_close(together, torch.cat(alone))

    def test_something_must_be_hidden(self, randar_network: RandAR) -> None:
        (codes,), (order,), _ = images(1)
        for visible in (-1, 16):
            with pytest.raises(ValueError, match="0 to 15 tokens may be visible"):
                randar_network.hidden_log_probs(codes, order, visible, CLASSES)
        with pytest.raises(ValueError, match="1 images, 1 orders, 5 classes"):
            randar_network.hidden_log_probs_batch(codes[None], order[None], 3, CLASSES)


def millions(network: nn.Module) -> float:
    return sum(entry.numel() for entry in network.state_dict().values()) / 1e6


def test_published_numbers_of_parameters() -> None:
    with torch.device("meta"):
        for size, published in (("B", 260.9), ("L", 461.7), ("XL", 955.4), ("XXL", 1498.5)):
            assert millions(RAR(RARConfig(**rar.SIZES[size].model_dump()))) == pytest.approx(
                published, abs=0.05
            )
        network = MaskGIT(MaskGITConfig(**maskgit.SIZES["B"].model_dump()))
        assert millions(network) == pytest.approx(174.161, abs=0.0005)
        assert millions(TamingVQGAN()) == pytest.approx(72.142, abs=0.0005)
        for size, patch, learn_sigma, published in (
            ("B", 4, False, 131.2),
            ("L", 2, False, 459.4),
            ("XL", 2, True, 676.8),
        ):
            config = MeanFlowConfig(
                **dit.SIZES[size].model_dump(), patch=patch, learn_sigma=learn_sigma
            )
            assert millions(MeanFlow(config)) == pytest.approx(published, abs=0.05)
