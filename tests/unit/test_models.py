"""The networks: what the golden files do not show. Small, with random weights."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genclass import families
from genclass.families.operations import attention, linear
from genclass.families.randar import SIZES, llama_layer, randar_operations
from genclass.models import llama, tokens
from genclass.models.dit import DiT, DiTConfig, FeedForward
from genclass.models.llamagen_vq import LlamaGenVQ, LlamaGenVQConfig
from genclass.models.maskgit_vq import MaskGITVQ, MaskGITVQConfig
from genclass.models.randar import RandAR, RandARConfig
from genclass.models.sit import SiT, SiTConfig
from tests.support.small_networks import awakened

on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
on_hopper = pytest.mark.skipif(
    not torch.cuda.is_available() or torch.cuda.get_device_capability()[0] != 9,
    reason="there is no Hopper GPU",
)

RANDAR = RandARConfig(layers=3, heads=4, width=64, vocabulary=96, grid=4, classes=7)
DIT = DiTConfig(layers=2, heads=4, width=48, latent_size=8, classes=7)
LLAMAGEN_VQ = LlamaGenVQConfig(channels=32, multipliers=(1, 2), codebook=64, latent=16)
MASKGIT_VQ = MaskGITVQConfig(channels=32, multipliers=(1, 2), codebook=64, latent=16)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def sequences(count: int, config: RandARConfig = RANDAR) -> tuple[Tensor, Tensor]:
    """Codes and orders, each [count, tokens]."""
    generator = torch.Generator().manual_seed(1)
    codes = torch.randint(config.vocabulary, (count, config.tokens), generator=generator)
    orders = [torch.randperm(config.tokens, generator=generator) for _ in range(count)]
    return codes, torch.stack(orders)


@pytest.fixture(scope="module")
def network() -> RandAR:
    network: RandAR = awakened(RandAR(RANDAR))
    return network


class TestRandAR:
    def test_scoring_agrees_with_the_logits(self, network: RandAR) -> None:
        (codes,), (order,) = sequences(1)
        classes = torch.arange(8)  # the null class, too
        with torch.no_grad():
            logits = network(codes.expand(8, -1), order.expand(8, -1), classes)
        targets = codes[order].expand(8, -1).unsqueeze(-1)
        expected = logits.log_softmax(dim=-1).gather(2, targets).squeeze(-1)
        torch.testing.assert_close(network.token_log_probs(codes, order, classes), expected)

    def test_every_sequence_may_have_its_own_order(self, network: RandAR) -> None:
        codes, orders = sequences(5)
        classes = torch.tensor([3, 0, 6, 7, 3])
        together = network.token_log_probs_batch(codes, orders, classes)
        alone = [
            network.token_log_probs(*sequence, one.view(1))
            for *sequence, one in zip(codes, orders, classes, strict=True)
        ]
        torch.testing.assert_close(together, torch.cat(alone))

    def test_the_head_in_chunks(self, network: RandAR, monkeypatch: pytest.MonkeyPatch) -> None:
        (codes,), (order,) = sequences(1)
        whole = network.token_log_probs(codes, order, torch.arange(3))
        monkeypatch.setattr(tokens, "LOGITS_AT_ONCE", 7 * RANDAR.vocabulary)
        torch.testing.assert_close(network.token_log_probs(codes, order, torch.arange(3)), whole)

    def test_a_token_changes_nothing_decoded_before_it(self, network: RandAR) -> None:
        (codes,), (order,) = sequences(1)
        before = network.token_log_probs(codes, order, torch.arange(3))
        for step in (0, 5, RANDAR.tokens - 1):
            changed = codes.clone()
            changed[order[step]] = (changed[order[step]] + 1) % RANDAR.vocabulary
            after = network.token_log_probs(changed, order, torch.arange(3))
            torch.testing.assert_close(after[:, :step], before[:, :step])
            assert (after[:, step:] != before[:, step:]).all()

    def test_the_rest_of_the_order_changes_nothing_before_it(self, network: RandAR) -> None:
        (codes,), (order,) = sequences(1)
        other = torch.cat([order[:6], order[6:].flip(0)])
        before, after = (
            network.token_log_probs(codes, each, torch.arange(3)) for each in (order, other)
        )
        torch.testing.assert_close(after[:, :6], before[:, :6])
        assert (after[:, 6] != before[:, 6]).all()

    def test_bfloat16_is_near(self, network: RandAR) -> None:
        (codes,), (order,) = sequences(1)
        exact = network.token_log_probs(codes, order, torch.arange(7))
        coarse = copy.deepcopy(network).to(torch.bfloat16)
        rounded = coarse.token_log_probs(codes, order, torch.arange(7))
        assert exact.dtype == rounded.dtype == torch.float32
        torch.testing.assert_close(rounded, exact, atol=0.1, rtol=0)

    def test_training_starts_from_ignorance_and_reaches_every_weight(self) -> None:
        network = RandAR(RANDAR)
        codes, orders = sequences(2)
        logits = network(codes, orders, torch.tensor([0, 7]))
        assert logits.shape == (2, 16, 96)
        assert not logits.any()
        awakened(network).train()
        network(codes, orders, torch.tensor([0, 7])).logsumexp(-1).sum().backward()
        assert all(weight.grad is not None for weight in network.parameters())

    def test_dropout_acts_in_training_only(self) -> None:
        network = awakened(RandAR(RandARConfig(2, 2, 32, 16, 3, 4, dropout=0.5)))
        codes, orders = sequences(1, network.config)
        classes = torch.tensor([1])
        assert torch.equal(network(codes, orders, classes), network(codes, orders, classes))
        network.train()
        assert not torch.equal(network(codes, orders, classes), network(codes, orders, classes))

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"layers": 0}, "at least 1"),
            ({"width": 40}, "multiple of 4 x heads = 16"),
            ({"dropout": 1.0}, "dropout"),
        ],
    )
    def test_impossible_sizes(self, wrong: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            RandARConfig(**{"layers": 1, "heads": 4, "width": 32} | wrong)

    def test_first_tokens_alone_are_the_beginning_of_the_whole(self, network: RandAR) -> None:
        (codes,), (order,) = sequences(1)
        classes = torch.arange(3)
        whole = network.token_log_probs(codes, order, classes)
        first = network.token_log_probs(codes, order[:6], classes)
        assert first == pytest.approx(whole[:, :6], abs=1e-5)

    def test_sequences_that_do_not_fit(self, network: RandAR) -> None:
        (codes,), (order,) = sequences(1)
        with pytest.raises(ValueError, match="the same 1 to 16 tokens"):
            network.token_log_probs(codes, order.repeat(2), torch.arange(3))
        with pytest.raises(ValueError, match="1 images, 1 orders, 3 classes"):
            network.token_log_probs_batch(codes[None], order[None], torch.arange(3))


class TestTokenizers:
    def test_llamagen_finds_the_nearest_direction(self) -> None:
        tokenizer = awakened(LlamaGenVQ(LLAMAGEN_VQ))
        latent = torch.randn(2, 8, 5, 6)
        units = nn.functional.normalize(tokenizer.quantize.embedding.weight, dim=-1)
        points = nn.functional.normalize(latent, dim=1).permute(0, 2, 3, 1).flatten(0, 2)
        expected = torch.cdist(points, units).argmin(dim=1).view(2, 5, 6)
        assert torch.equal(tokenizer.quantize(latent), expected)

    def test_maskgit_finds_the_nearest(self) -> None:
        tokenizer = awakened(MaskGITVQ(MASKGIT_VQ))
        latent = torch.randn(2, 16, 5, 6)
        points = latent.permute(0, 2, 3, 1).flatten(0, 2)
        expected = torch.cdist(points, tokenizer.quantize.embedding.weight).argmin(dim=1)
        assert torch.equal(tokenizer.quantize(latent), expected.view(2, 5, 6))

    @pytest.mark.parametrize(
        "tokenizer", [LlamaGenVQ(LLAMAGEN_VQ), MaskGITVQ(MASKGIT_VQ)], ids=["llamagen", "maskgit"]
    )
    def test_image_to_codes_to_image(self, tokenizer: Any) -> None:
        codes = tokenizer.quantize(tokenizer.encode(torch.rand(2, 3, 8, 12)))
        assert codes.shape == (2, 4, 6)
        assert codes.dtype == torch.int64
        assert tokenizer.decode(codes).shape == (2, 3, 8, 12)
        with pytest.raises(ValueError, match="9 x 12"):
            tokenizer.encode(torch.rand(2, 3, 9, 12))

    def test_codes_are_nearest_to_the_points(self) -> None:
        tokenizer = awakened(LlamaGenVQ(LLAMAGEN_VQ))
        latent = torch.randn(2, 8, 3, 5)
        points, codes = tokenizer.quantize.points(latent), tokenizer.quantize(latent)
        vectors = F.normalize(tokenizer.quantize.embedding.weight, dim=1)
        assert torch.equal(torch.cdist(points, vectors).argmin(dim=1), codes.flatten())

    def test_gradient_passes_the_quantizer(self) -> None:
        tokenizer = awakened(LlamaGenVQ(LLAMAGEN_VQ))
        latent = torch.randn(1, 8, 3, 3, requires_grad=True)
        straight, codes, codebook_loss, commitment_loss = tokenizer.quantize_with_gradient(latent)
        torch.testing.assert_close(straight, tokenizer.quantize.vectors(codes))
        torch.testing.assert_close(
            tokenizer.decode_latent(straight), tokenizer.decode(codes), atol=1e-4, rtol=1e-4
        )
        codebook_loss.backward(retain_graph=True)
        assert latent.grad is None
        assert tokenizer.quantize.embedding.weight.grad.any()
        tokenizer.quantize.embedding.weight.grad = None
        (commitment_loss + straight.sum()).backward()
        assert latent.grad is not None
        assert latent.grad.any()
        assert tokenizer.quantize.embedding.weight.grad is None

    @pytest.mark.parametrize("config", [LlamaGenVQConfig, MaskGITVQConfig])
    def test_impossible_sizes(self, config: Callable[..., Any]) -> None:
        with pytest.raises(ValueError, match="multiple of 32"):
            config(channels=48)
        with pytest.raises(ValueError, match="at least 1"):
            config(multipliers=())


class TestTransformers:
    def test_only_the_noise_is_computed(self) -> None:
        network = awakened(DiT(DIT))
        x, t = torch.randn(3, 4, 8, 8), torch.tensor([3.0, 500.0, 999.0])
        classes = torch.tensor([0, 7, 3])
        outputs = network(x, t, classes)
        assert outputs.shape == (3, 8, 8, 8)
        torch.testing.assert_close(network.predict(x, t, classes), outputs[:, :4])

    def test_one_latent_under_many_classes(self) -> None:
        network = awakened(DiT(DIT))
        x = torch.randn(1, 4, 8, 8)
        many = network.predict_classes(x, 250, torch.arange(7))
        alone = [network.predict(x, torch.tensor([250.0]), one.view(1)) for one in torch.arange(7)]
        torch.testing.assert_close(many, torch.cat(alone))
        with pytest.raises(ValueError, match="one noised latent"):
            network.predict_classes(x.expand(2, -1, -1, -1), 250, torch.arange(7))

    def test_bfloat16_is_near(self) -> None:
        x = torch.randn(1, 4, 8, 8)
        network = awakened(DiT(DIT))
        exact = network.predict_classes(x, 250, torch.arange(7))
        coarse = network.to(torch.bfloat16)
        rounded = coarse.predict_classes(x.to(torch.bfloat16), 250, torch.arange(7))
        assert rounded.dtype == torch.bfloat16
        torch.testing.assert_close(rounded.float(), exact, atol=0.1, rtol=0.05)

    def test_training_starts_at_zero_and_reaches_every_weight(self) -> None:
        network = DiT(DIT)
        x, classes = torch.randn(2, 4, 8, 8), torch.tensor([0, 7])
        assert not network(x, 1, classes).any()
        awakened(network).train()
        network(x, 1, classes).square().sum().backward()
        assert all(weight.grad is not None for weight in network.parameters())

    def test_velocity(self) -> None:
        config = SiTConfig(2, 4, 48, latent_size=8, learn_sigma=False, aligned_to=(16, 24))
        network = awakened(SiT(config))
        x, classes = torch.randn(2, 4, 8, 8), torch.tensor([0, 7])
        velocity = network(x, torch.tensor([0.1, 0.9]), classes)
        assert velocity.shape == x.shape
        assert network.projectors[1][4].out_features == 24
        assert not hasattr(SiT(SiTConfig(1, 1, 4, latent_size=8)), "projectors")

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"heads": 5}, "multiple of heads 5"),
            ({"width": 36, "heads": 9, "patch": 3}, "multiple of patch 3"),
            ({"width": 34, "heads": 2}, "multiple of 4"),
            ({"classes": 0}, "at least 1"),
        ],
    )
    def test_impossible_sizes(self, wrong: dict[str, int], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            DiTConfig(**{"layers": 1, "heads": 4, "width": 48} | wrong)

    def test_latents_that_do_not_fit(self) -> None:
        with pytest.raises(ValueError, match="4, 8, 8"):
            DiT(DIT)(torch.randn(2, 4, 8, 16), 1, torch.arange(2))


def test_published_multiply_accumulates() -> None:
    """Of DiT-XL/2, and of RandAR-L and XL as the official code runs them: 2n + 1 positions."""
    dit = families.FAMILIES["dit"].model_validate(
        {"architecture": "dit", "checkpoint": "dit", "size": "XL"}
    )
    assert dit.work(dit.Options()).score / 2e9 == pytest.approx(119, rel=0.01)
    for size, published in (("L", 176), ("XL", 398)):
        shape, positions = SIZES[size], 513
        attending = attention(positions, positions, shape.width) // 2
        layer = positions * llama_layer(shape.width) + attending
        plain = shape.layers * layer + positions * linear(shape.width, 16384)
        assert plain / 2e9 == pytest.approx(published, rel=0.02)
        assert randar_operations(shape, 16384, 256) < plain


@on_hopper
@pytest.mark.parametrize("shape", [(1, 1, 8), (3, 50, 96), (4, 130, 1024)])
def test_swiglu_in_one_kernel(shape: tuple[int, ...]) -> None:
    """Tiles that x does not fill, and a width that is no multiple of theirs, are as others."""
    config = llama.LlamaConfig(layers=1, heads=1, width=shape[-1])
    with torch.device("cuda"), torch.no_grad():
        torch.manual_seed(0)
        forward = llama.FeedForward(config).bfloat16()
        x, residual = torch.randn(2, *shape, dtype=torch.bfloat16)
        assert llama.fuses(x)
        exact = copy.deepcopy(forward).double()
        wide = x.double()
        inner = F.silu(exact.w1(wide)) * exact.w3(wide)
        found = torch.ops.genclass.swiglu(x, forward.w1.weight, forward.w3.weight)
        assert found.shape == inner.shape
        assert (found - inner).norm() < 3e-3 * inner.norm()
        compiled = torch.compile(forward, dynamic=False)
        outputs = forward(x, residual.clone())
        assert torch.equal(compiled(x, residual.clone()), outputs)
        expected = residual + exact.w2(inner)
        assert (outputs - expected).norm() < 1e-2 * expected.norm()
        narrow = llama.FeedForward(llama.LlamaConfig(layers=1, heads=1, width=12)).bfloat16()
        x, residual = torch.randn(2, 2, 3, 12, dtype=torch.bfloat16)
        assert narrow(x, residual).isfinite().all()


@on_hopper
@pytest.mark.parametrize("sequences", [1, 3], ids=["a-table-for-all", "one-each"])
@pytest.mark.parametrize("positions", [40, 150])
def test_queries_keys_and_values_rotated_in_one_kernel(sequences: int, positions: int) -> None:
    """Tables of any length, though the kernel reads them in runs of 128."""
    heads, head = 8, 64
    with torch.device("cuda"), torch.no_grad():
        torch.manual_seed(0)
        x = torch.randn(3, positions, heads * head, dtype=torch.bfloat16)
        weight = torch.randn(3 * heads * head, heads * head, dtype=torch.bfloat16) / 22
        assert llama.fuses(x)
        orders = torch.stack([torch.randperm(256)[:positions] for _ in range(sequences)])
        cos, sin = llama.rotary_table(orders, 16, head)
        q, k, v = torch.ops.genclass.rotated(x, weight, cos, sin, heads).chunk(3, dim=2)
        exact = (x.double() @ weight.double().T).unflatten(-1, (-1, head)).chunk(3, dim=2)
        turned = [llama.rotate(t.float(), (cos, sin)) for t in exact[:2]]
        apart = [torch.cat([t[..., ::2], t[..., 1::2]], dim=-1) for t in turned]
        for found, expected in zip((q, k, v), (*apart, exact[2]), strict=True):
            assert (found - expected).norm() < 3e-3 * expected.norm()


@on_a_gpu
@pytest.mark.parametrize("prefix", [None, 3])
@pytest.mark.parametrize("last", [False, True])
def test_a_block_that_adds_in_place_is_as_one_that_does_not(prefix: int | None, last: bool) -> None:
    config = llama.LlamaConfig(layers=1, heads=4, width=256)
    with torch.device("cuda"):
        torch.manual_seed(0)
        block = llama.Block(config)
        x = torch.randn(3, 20, 256)
        rotary = llama.rotary_table(torch.randperm(256)[:20].unsqueeze(0), 16, 64)
    learning = block(x, rotary, last, prefix)
    with torch.no_grad():
        scoring = block(x.clone(), rotary, last, prefix)
        torch.testing.assert_close(scoring, learning, atol=1e-4, rtol=1e-4)
        compiled = torch.compile(block, dynamic=False)(x.clone(), rotary, last, prefix)
        torch.testing.assert_close(compiled, learning, atol=1e-4, rtol=1e-4)


@on_a_gpu
def test_gelu_in_the_product_compiled_or_not() -> None:
    with torch.device("cuda"), torch.no_grad():
        torch.manual_seed(0)
        forward = FeedForward(96)
        x = torch.randn(3, 16, 96)
        expected = forward.fc2(F.gelu(forward.fc1(x), approximate="tanh"))
        torch.testing.assert_close(forward(x), expected, atol=1e-5, rtol=1e-5)
        compiled = torch.compile(forward, dynamic=False)
        torch.testing.assert_close(compiled(x), expected, atol=1e-5, rtol=1e-5)
