"""VAR, its tokenizer and A-VARC+: what the golden files do not show. Small, random weights."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from genclass.families.var import SIZES
from genclass.models import tokens
from genclass.models.var import VAR, VARConfig
from genclass.models.var_vq import VARVQ, VARVQConfig
from genclass.racing.engine import EntryScorer, race
from genclass.racing.schedule import Fixed, ranking
from genclass.scorers import next_scale
from genclass.scorers.draws import Draws
from genclass.scorers.next_scale import NextScaleScorer
from genclass.scorers.scorer import Prepared
from tests.support import small_families
from tests.support.small_networks import awakened

SIDES = (1, 2, 3, 5)
ENDS = (1, 5, 14, 39)
CONFIG = VARConfig(3, 4, 64, vocabulary=48, code_width=8, classes=7, sides=SIDES)
VQ = VARVQConfig(channels=32, multipliers=(1, 2), codebook=48, code_width=8, sides=SIDES)
VAR_512_SIDES = (1, 2, 3, 4, 6, 9, 13, 18, 24, 32)  # of the release for 512 pixels


@pytest.fixture(scope="module", params=[False, True], ids=["own", "shared"])
def network(request: pytest.FixtureRequest) -> VAR:
    torch.manual_seed(0)
    config = VARConfig(**vars(CONFIG) | {"shared_modulation": request.param})
    network: VAR = awakened(VAR(config))
    return network


@pytest.fixture(scope="module")
def tokenizer() -> VARVQ:
    torch.manual_seed(1)
    tokenizer: VARVQ = awakened(VARVQ(VQ))
    return tokenizer


@pytest.fixture(scope="module")
def latents() -> Tensor:
    """Of five images."""
    return torch.randn(5, 8, 5, 5, generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="module")
def images(tokenizer: VARVQ, latents: Tensor) -> next_scale.Tokens:
    """Five images' codes and inputs, of all scales."""
    with torch.no_grad():
        codes = tokenizer.quantize(latents)
        return next_scale.Tokens(codes, tokenizer.quantize.inputs(codes))


class TestVAR:
    def test_scoring_agrees_with_the_logits(self, network: VAR, images: next_scale.Tokens) -> None:
        classes = torch.arange(8)  # the null class, too
        codes, inputs = images.codes[0], images.inputs[0]
        with torch.no_grad():
            logits = network(inputs.expand(8, -1, -1), classes)
        assert logits.shape == (8, 39, 48)
        expected = logits.log_softmax(dim=-1).gather(2, codes.expand(8, -1).unsqueeze(-1))
        found = network.token_log_probs(codes, inputs, classes)
        torch.testing.assert_close(found, expected.squeeze(-1))

    def test_probabilities_of_the_first_token_add_to_one(self, network: VAR) -> None:
        codes = torch.arange(48).unsqueeze(1)
        found = network.token_log_probs_batch(codes, torch.empty(48, 0, 8), torch.full((48,), 3))
        assert float(found.exp().sum()) == pytest.approx(1, abs=1e-5)

    def test_a_score_is_independent_of_its_batch(
        self, network: VAR, images: next_scale.Tokens
    ) -> None:
        classes = torch.tensor([3, 0, 6, 7, 3])
        together = network.token_log_probs_batch(images.codes, images.inputs, classes)
        alone = [
            network.token_log_probs(*image, one.view(1))
            for *image, one in zip(images.codes, images.inputs, classes, strict=True)
        ]
        torch.testing.assert_close(together, torch.cat(alone))

    def test_first_scales_alone_are_the_beginning_of_the_whole(
        self, network: VAR, images: next_scale.Tokens
    ) -> None:
        codes, inputs, classes = images.codes[0], images.inputs[0], torch.arange(3)
        whole = network.token_log_probs(codes, inputs, classes)
        for end in ENDS:
            first = network.token_log_probs(codes[:end], inputs[: end - 1], classes)
            torch.testing.assert_close(first, whole[:, :end])

    def test_an_input_changes_its_own_scale_and_later_ones_only(
        self, network: VAR, images: next_scale.Tokens
    ) -> None:
        codes, classes = images.codes[0], torch.arange(3)
        before = network.token_log_probs(codes, images.inputs[0], classes)
        changed = images.inputs[0].clone()
        changed[8] += 1  # of place 9, in the midst of the third scale
        after = network.token_log_probs(codes, changed, classes)
        assert torch.equal(after[:, :5], before[:, :5])
        assert (after[:, 5:] != before[:, 5:]).all()

    def test_attention_by_scale_is_attention_under_the_mask(self, network: VAR) -> None:
        attention = network.blocks[0].attn
        x = torch.randn(2, 39, 64)
        bias = torch.cat([attention.q_bias, attention.zero_k_bias, attention.v_bias])
        qkv = nn.functional.linear(x, attention.mat_qkv.weight, bias)
        q, k, v = qkv.view(2, 39, 3, 4, 16).permute(2, 0, 3, 1, 4)
        q, k = (nn.functional.normalize(each, dim=-1) for each in (q, k))
        logits = (q * attention.scale_mul_1H11.exp()) @ k.mT + network.attn_bias_for_masking
        expected = attention.proj((logits.softmax(-1) @ v).transpose(1, 2).flatten(2))
        torch.testing.assert_close(attention(x), expected)

    def test_the_head_in_chunks(
        self, network: VAR, images: next_scale.Tokens, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        image = images.codes[0], images.inputs[0], torch.arange(3)
        whole = network.token_log_probs(*image)
        monkeypatch.setattr(tokens, "LOGITS_AT_ONCE", 7 * CONFIG.vocabulary)
        torch.testing.assert_close(network.token_log_probs(*image), whole)

    def test_bfloat16_is_near(self, network: VAR, images: next_scale.Tokens) -> None:
        image = images.codes[0], images.inputs[0], torch.arange(7)
        exact = network.token_log_probs(*image)
        rounded = copy.deepcopy(network).to(torch.bfloat16).token_log_probs(*image)
        assert exact.dtype == rounded.dtype == torch.float32
        torch.testing.assert_close(rounded, exact, atol=0.2, rtol=0)

    @pytest.mark.parametrize("shared", [False, True])
    def test_training_starts_near_ignorance_and_reaches_every_weight(
        self, shared: bool, images: next_scale.Tokens
    ) -> None:
        network = VAR(VARConfig(**vars(CONFIG) | {"shared_modulation": shared}))
        logits = network(images.inputs, torch.arange(5))
        assert float(logits.detach().abs().max()) < 0.2
        awakened(network).train()
        network(images.inputs, torch.arange(5)).logsumexp(-1).sum().backward()
        assert all(weight.grad is not None for weight in network.parameters())

    def test_sequences_that_do_not_fit(self, network: VAR, images: next_scale.Tokens) -> None:
        codes, inputs = images.codes, images.inputs
        with pytest.raises(ValueError, match="6 tokens end in the midst of a scale"):
            network.token_log_probs(codes[0, :6], inputs[0, :5], torch.arange(3))
        with pytest.raises(ValueError, match="5 codes go with one input fewer, got 5"):
            network.token_log_probs(codes[0, :5], inputs[0, :5], torch.arange(3))
        with pytest.raises(ValueError, match="5 images, 5 images' inputs, 3 classes"):
            network.token_log_probs_batch(codes, inputs, torch.arange(3))

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"layers": 0}, "at least 1"),
            ({"width": 42}, "multiple of heads 4"),
            ({"sides": (1,)}, "two or more and grow"),
            ({"sides": (1, 3, 3)}, "two or more and grow"),
        ],
    )
    def test_impossible_sizes(self, wrong: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            VARConfig(**{"layers": 1, "heads": 4, "width": 32} | wrong)

    @pytest.mark.parametrize(
        ("size", "parameters"),
        [
            ("d16", 310_283_520),
            ("d20", 600_917_136),
            ("d24", 1_033_399_360),
            ("d30", 2_010_020_356),
            ("d36", 2_353_893_904),
        ],
    )
    def test_released_parameter_counts(self, size: str, parameters: int) -> None:
        large = {"sides": VAR_512_SIDES, "shared_modulation": True} if size == "d36" else {}
        with torch.device("meta"):
            network = VAR(VARConfig(**SIZES[size].model_dump(), **large))
        assert sum(parameter.numel() for parameter in network.parameters()) == parameters


class TestTokenizer:
    def test_codes_are_the_nearest_to_what_is_left(self, tokenizer: VARVQ, latents: Tensor) -> None:
        quantizer = tokenizer.quantize
        with torch.no_grad():
            codes = quantizer(latents)
            known = [torch.zeros_like(latents), *quantizer.latents(codes)]
        for scale, (side, begin, end) in enumerate(zip(SIDES, (0, *ENDS), ENDS, strict=False)):
            rest = nn.functional.adaptive_avg_pool2d(latents - known[scale], side)
            distances = torch.cdist(rest.flatten(2).mT, quantizer.embedding.weight)
            assert torch.equal(codes[:, begin:end], distances.argmin(dim=-1))

    def test_first_scales_alone_are_the_beginning_of_the_whole(
        self, tokenizer: VARVQ, latents: Tensor, images: next_scale.Tokens
    ) -> None:
        for scales, end in enumerate(ENDS, start=1):
            codes = tokenizer.quantize(latents, scales)
            assert torch.equal(codes, images.codes[:, :end])
            inputs = tokenizer.quantize.inputs(codes)
            torch.testing.assert_close(inputs, images.inputs[:, : end - 1])

    def test_inputs_are_what_smaller_scales_say(
        self, tokenizer: VARVQ, images: next_scale.Tokens
    ) -> None:
        *_, before_last, _ = tokenizer.quantize.latents(images.codes)
        torch.testing.assert_close(images.inputs[:, 13:], before_last.flatten(2).mT)
        changed = images.codes.clone()
        changed[:, 14:] = (changed[:, 14:] + 1) % 48  # the last scale enters nothing
        assert torch.equal(tokenizer.quantize.inputs(changed), images.inputs)

    def test_which_convolution_serves_which_scale(self) -> None:
        with torch.device("meta"):
            released = VARVQ()
        assert released.quantize.quant_resi.serving == (0, 0, 1, 1, 1, 2, 2, 3, 3, 3)

    def test_image_to_codes_to_image(self, tokenizer: VARVQ) -> None:
        codes = tokenizer.quantize(tokenizer.encode(torch.rand(2, 3, 10, 10) * 2 - 1))
        assert codes.shape == (2, 39)
        assert codes.dtype == torch.int64
        for end in ENDS:
            decoded = tokenizer.decode(codes[:, :end])
            assert decoded.shape == (2, 3, 10, 10)
            assert float(decoded.detach().abs().max()) <= 1

    def test_codes_are_nearest_to_the_points(self, tokenizer: VARVQ, latents: Tensor) -> None:
        points, codes = tokenizer.quantize.points(latents), tokenizer.quantize(latents)
        distances = torch.cdist(points, tokenizer.quantize.embedding.weight)
        by_scale = distances.argmin(dim=1).split([len(latents) * side**2 for side in SIDES])
        nearest = torch.cat([part.view(len(latents), -1) for part in by_scale], dim=1)
        assert torch.equal(nearest, codes)

    def test_gradient_passes_the_quantizer(self) -> None:
        tokenizer = awakened(VARVQ(VQ))
        latent = torch.randn(1, 8, 5, 5, requires_grad=True)
        straight, codes, codebook_loss, commitment_loss = tokenizer.quantize_with_gradient(latent)
        torch.testing.assert_close(
            tokenizer.decode_latent(straight).clamp(-1, 1), tokenizer.decode(codes)
        )
        codebook_loss.backward(retain_graph=True)
        assert latent.grad is None
        assert tokenizer.quantize.embedding.weight.grad.any()
        tokenizer.quantize.embedding.weight.grad = None
        (commitment_loss + straight.sum()).backward()
        assert latent.grad is not None
        assert latent.grad.any()
        assert tokenizer.quantize.embedding.weight.grad is None

    def test_what_does_not_fit(self, tokenizer: VARVQ) -> None:
        with pytest.raises(ValueError, match="10 x 12 pixels is not 10 x 10"):
            tokenizer.encode(torch.rand(1, 3, 10, 12))
        with pytest.raises(ValueError, match="4 x 4 does not fit the last token map's side, 5"):
            tokenizer.quantize(torch.rand(1, 8, 4, 4))
        with pytest.raises(ValueError, match="7 codes end in the midst of a scale"):
            tokenizer.quantize.inputs(torch.zeros(1, 7, dtype=torch.long))
        with pytest.raises(ValueError, match="multiple of 32"):
            VARVQConfig(channels=48)
        with pytest.raises(ValueError, match="at least 1"):
            VARVQConfig(multipliers=())


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> NextScaleScorer:
    scorer = small_families.load("var", tmp_path_factory.mktemp("var"), "samples")
    assert isinstance(scorer, NextScaleScorer)
    return scorer


@pytest.fixture(scope="module")
def prepared(scorer: NextScaleScorer) -> Prepared:
    pixels = np.random.default_rng(3).integers(0, 256, (20, 26, 3), dtype=np.uint8)
    return scorer.prepare(Image.fromarray(pixels), Draws(1, "noise", "a"))


class TestSamples:
    """A-VARC+: samples of an image as trials, the first scales as parts."""

    def test_the_first_is_the_image_and_the_others_are_quantised_anew(
        self, scorer: NextScaleScorer, prepared: Prepared
    ) -> None:
        latent = prepared.encoded.latent
        noise = prepared.draws.normal(tuple(latent.shape), "latent_noise", 2)
        with torch.inference_mode():
            for trial, expected in ((0, latent), (2, latent + 0.5 * noise)):
                codes = scorer.encoder.quantize(expected.unsqueeze(0))[0]
                assert torch.equal(scorer.tokens(prepared, trial).codes, codes)
                part = scorer.tokens(prepared, trial, scales=2)
                assert torch.equal(part.codes, codes[:5])
                whole = scorer.tokens(prepared, trial).inputs
                torch.testing.assert_close(part.inputs, whole[:4])

    def test_a_fixed_strategy_with_parts_is_its_schedule(
        self, scorer: NextScaleScorer, prepared: Prepared
    ) -> None:
        """The script's lists 4,2,1 / 1,1,3 / 2,3,3: candidates kept, samples, scales."""
        candidates = torch.arange(small_families.CLASSES)
        for keep, samples, scales in ((4, 1, 2), (2, 1, 3), (1, 3, 3)):
            with torch.inference_mode():
                scores = [
                    scorer.score(
                        [prepared] * len(candidates), [trial] * len(candidates), candidates, scales
                    )
                    for trial in range(samples)
                ]
            mean = torch.stack(scores).double().mean(dim=0)
            candidates = candidates[mean.argsort(descending=True, stable=True)[:keep]]
        schedule = Fixed(((1, 2),), pruning=((2, 4),))
        (raced,) = race(
            EntryScorer(scorer, 4), [prepared], range(small_families.CLASSES), 3, schedule
        )
        assert (~np.isnan(raced.scores)).sum(axis=1).tolist() == [4, 2, 2]
        assert ranking(raced.scores[None])[0, 0] == int(candidates)

    def test_evidence_keeps_its_sum_and_its_place(self) -> None:
        ratios = torch.randn(14)
        assert float(next_scale.evidence_map(ratios, SIDES).sum()) == pytest.approx(
            float(ratios.sum()), abs=1e-5
        )
        corner = torch.zeros(39)
        corner[2] = 1.0  # second scale, first row, second column
        found = next_scale.evidence_map(corner, SIDES)
        assert float(found[:, :2].abs().sum() + found[3:].abs().sum()) == 0
        assert float(found[0, 4]) == pytest.approx(4 / 25)
        assert float(found[2, 2]) == pytest.approx(1 / 25)
