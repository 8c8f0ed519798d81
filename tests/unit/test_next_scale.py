"""VAR, its tokenizer and A-VARC+: what the golden files do not show. Small, random weights."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from genclass.models import flops_ar, sizes, tokens
from genclass.models.var import VAR, VARConfig
from genclass.models.var_vq import VARVQ, VARVQConfig
from genclass.scorers import next_scale
from genclass.scorers.stages import SCHEDULES, Stage, candidates, check_stages, passes
from tests.small_networks import awakened, counting

SIDES = (1, 2, 3, 5)
ENDS = (1, 5, 14, 39)
CONFIG = VARConfig(3, 4, 64, vocabulary=48, code_width=8, classes=7, sides=SIDES)
VQ = VARVQConfig(channels=32, multipliers=(1, 2), codebook=48, code_width=8, sides=SIDES)
SHAPE = (CONFIG.layers, CONFIG.heads, CONFIG.width, CONFIG.vocabulary, CONFIG.code_width)


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
        return next_scale.tokenize(tokenizer.quantize, latents)


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
        large = {"sides": sizes.VAR_SIDES[512], "shared_modulation": True} if size == "d36" else {}
        with torch.device("meta"):
            network = VAR(VARConfig(**sizes.VAR[size], **large))
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
            part = next_scale.tokenize(tokenizer.quantize, latents, scales)
            assert torch.equal(part.codes, images.codes[:, :end])
            torch.testing.assert_close(part.inputs, images.inputs[:, : end - 1])

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


class TestStages:
    def test_each_stage_scores_what_the_one_before_kept(self) -> None:
        stages = (Stage(3, 1, 1), Stage(2, 1, 2), Stage(1, 1, 4))
        given = {0: [0, 5, 1, 5, 4, 2], 1: [0, 7, 7], 2: [1, 2]}
        found = next_scale.run_stages(
            stages,
            torch.arange(10, 16),
            lambda index, stage, some: torch.tensor(given[index], dtype=torch.float64),
        )
        # Among equals, the one that ranked higher before.
        assert [each.kept.tolist() for each in found] == [[11, 13, 14], [13, 14], [14]]
        assert found[1].candidates.tolist() == [11, 13, 14]
        assert found[2].scores.tolist() == [1, 2]

    def test_more_kept_than_there_are(self) -> None:
        stages = (Stage(9, 1, 1), Stage(1, 3, 2))
        found = next_scale.run_stages(
            stages, torch.arange(4), lambda index, stage, some: -some.double()
        )
        assert found[0].kept.tolist() == [0, 1, 2, 3]
        assert candidates(stages, 4) == [4, 4]
        assert passes(stages, 4) == [(4, 1), (12, 2)]

    def test_the_mean_of_the_samples_log_likelihoods(
        self, tokenizer: VARVQ, latents: Tensor
    ) -> None:
        network = awakened(VAR(CONFIG))
        noise = torch.randn(2, 8, 5, 5)
        several = next_scale.samples(latents[0], noise, sigma=0.5)
        assert torch.equal(several[0], latents[0])
        torch.testing.assert_close(several[1:] - latents[0], 0.5 * noise)
        tokens = next_scale.tokenize(tokenizer.quantize, several, scales=3)
        found = next_scale.log_likelihoods(network, tokens, torch.arange(7), class_batch=3)
        assert found.dtype == torch.float64
        expected = [
            network.token_log_probs(codes, inputs, torch.arange(7)).double().sum(dim=1)
            for codes, inputs in zip(tokens.codes, tokens.inputs, strict=True)
        ]
        torch.testing.assert_close(found, sum(expected) / 3)

    @pytest.mark.parametrize(
        ("stages", "message"),
        [
            ((), "at least one stage"),
            ((Stage(2, 1, 4),), r"fall to 1 in the last, got \[2\]"),
            ((Stage(2, 1, 4), Stage(3, 1, 4), Stage(1, 1, 4)), "fall to 1"),
            ((Stage(1, 1, 5),), "stage 1: it must keep .* 1 to 4 scales"),
            ((Stage(2, 0, 1), Stage(1, 1, 4)), "stage 1"),
        ],
    )
    def test_impossible_schedules(self, stages: tuple[Stage, ...], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            check_stages(stages, 4)

    def test_named_schedules(self) -> None:
        for stages in SCHEDULES.values():
            check_stages(stages, 10)
        assert passes(SCHEDULES["readme"], 100) == [(100, 6), (10, 10), (9, 10)]

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


class TestWork:
    @pytest.mark.parametrize("scales", [1, 3, 4])
    def test_var(self, network: VAR, images: next_scale.Tokens, scales: int) -> None:
        end, shared = ENDS[scales - 1], network.config.shared_modulation
        image = images.codes[0, :end], images.inputs[0, : end - 1]
        with counting() as counter:
            network.token_log_probs(*image, torch.tensor([0]))
        counted = flops_ar.var_flops(*SHAPE, SIDES[:scales], shared_modulation=shared)
        assert counter.get_total_flops() == pytest.approx(counted, rel=0.01)

    def test_a_mask_costs_more(self) -> None:
        necessary = flops_ar.var_flops(*SHAPE, SIDES)
        assert necessary < flops_ar.var_flops(*SHAPE, SIDES, square_attention=True)

    @pytest.mark.parametrize("scales", [2, None])
    def test_tokenizer(self, tokenizer: VARVQ, scales: int | None) -> None:
        with counting() as counter, torch.no_grad():
            latent = tokenizer.encode(torch.randn(1, 3, 10, 10))
            next_scale.tokenize(tokenizer.quantize, latent, scales)
        expected = flops_ar.var_vq_flops(32, (1, 2), 2, 48, 8, SIDES, scales)
        assert counter.get_total_flops() == pytest.approx(expected, rel=0.01)
