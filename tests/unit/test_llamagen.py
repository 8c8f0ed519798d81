"""LlamaGen: what its golden files do not show. Small, with random weights."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from genclass.families.llamagen import SIZES
from genclass.models import tokens
from genclass.models.llamagen import LlamaGen, LlamaGenConfig
from tests.support.small_networks import awakened

CONFIG = LlamaGenConfig(layers=3, heads=4, width=64, vocabulary=96, grid=4, classes=7)


@pytest.fixture(scope="module")
def network() -> LlamaGen:
    torch.manual_seed(0)
    network: LlamaGen = awakened(LlamaGen(CONFIG))
    return network


@pytest.fixture(scope="module")
def codes() -> Tensor:
    """Of five images, [5, tokens]."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(CONFIG.vocabulary, (5, CONFIG.tokens), generator=generator)


def test_scoring_agrees_with_the_logits(network: LlamaGen, codes: Tensor) -> None:
    classes = torch.arange(8)  # the null class, too
    with torch.no_grad():
        logits = network(codes[:1].expand(8, -1), classes)
    assert logits.softmax(dim=-1).sum(dim=-1) == pytest.approx(torch.ones(8, 16), abs=1e-5)
    expected = logits.log_softmax(dim=-1).gather(2, codes[:1].expand(8, -1).unsqueeze(-1))
    torch.testing.assert_close(network.token_log_probs(codes[0], classes), expected.squeeze(-1))


def test_probabilities_of_a_token_add_to_one(network: LlamaGen, codes: Tensor) -> None:
    """Over all codes in its place: of the first, which only the class precedes, and of the last."""
    for place in (0, CONFIG.tokens - 1):
        images = codes[:1].repeat(CONFIG.vocabulary, 1)
        images[:, place] = torch.arange(CONFIG.vocabulary)
        classes = torch.full((CONFIG.vocabulary,), 3)
        log_probs = network.token_log_probs_batch(images, classes)[:, place]
        assert float(log_probs.exp().sum()) == pytest.approx(1, abs=1e-5)


def test_a_score_is_independent_of_its_batch(network: LlamaGen, codes: Tensor) -> None:
    classes = torch.tensor([3, 0, 6, 7, 3])
    together = network.token_log_probs_batch(codes, classes)
    alone = [
        network.token_log_probs(image, one.view(1))
        for image, one in zip(codes, classes, strict=True)
    ]
    torch.testing.assert_close(together, torch.cat(alone))


def test_the_head_in_chunks(
    network: LlamaGen, codes: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = network.token_log_probs(codes[0], torch.arange(3))
    monkeypatch.setattr(tokens, "LOGITS_AT_ONCE", 7 * CONFIG.vocabulary)
    torch.testing.assert_close(network.token_log_probs(codes[0], torch.arange(3)), whole)


def test_a_token_changes_nothing_before_it(network: LlamaGen, codes: Tensor) -> None:
    before = network.token_log_probs(codes[0], torch.arange(3))
    for place in (0, 5, CONFIG.tokens - 1):
        changed = codes[0].clone()
        changed[place] = (changed[place] + 1) % CONFIG.vocabulary
        after = network.token_log_probs(changed, torch.arange(3))
        torch.testing.assert_close(after[:, :place], before[:, :place])
        assert (after[:, place:] != before[:, place:]).all()


def test_first_tokens_alone_are_the_beginning_of_the_whole(
    network: LlamaGen, codes: Tensor
) -> None:
    whole = network.token_log_probs(codes[0], torch.arange(3))
    for count in (1, 6):
        first = network.token_log_probs(codes[0, :count], torch.arange(3))
        torch.testing.assert_close(first, whole[:, :count])


def test_bfloat16_is_near(network: LlamaGen, codes: Tensor) -> None:
    exact = network.token_log_probs(codes[0], torch.arange(7))
    coarse = copy.deepcopy(network).to(torch.bfloat16)
    rounded = coarse.token_log_probs(codes[0], torch.arange(7))
    assert exact.dtype == rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, exact, atol=0.1, rtol=0)


def test_training_starts_from_ignorance_and_reaches_every_weight(codes: Tensor) -> None:
    network = LlamaGen(CONFIG)
    assert not network(codes[:2], torch.tensor([0, 7])).any()
    awakened(network).train()
    network(codes[:2], torch.tensor([0, 7])).logsumexp(-1).sum().backward()
    assert all(weight.grad is not None for weight in network.parameters())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"layers": 0}, "LlamaGen: every size must be at least 1"),
        ({"width": 40}, "multiple of 4 x heads = 16"),
        ({"dropout": 1.0}, "dropout"),
    ],
)
def test_impossible_sizes(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LlamaGenConfig(**{"layers": 1, "heads": 4, "width": 32} | wrong)


def test_sequences_that_do_not_fit(network: LlamaGen, codes: Tensor) -> None:
    with pytest.raises(ValueError, match="the first 1 to 16 of an image, got 32"):
        network.token_log_probs(codes[0].repeat(2), torch.arange(3))
    with pytest.raises(ValueError, match="1 images, 3 classes"):
        network.token_log_probs_batch(codes[:1], torch.arange(3))


def test_released_parameter_counts() -> None:
    for size, millions in (
        ("B", 110.9),
        ("L", 342.9),
        ("XL", 774.7),
        ("XXL", 1411.0),
        ("3B", 3096.7),
    ):
        with torch.device("meta"):
            network = LlamaGen(LlamaGenConfig(**SIZES[size].model_dump()))
        count = sum(parameter.numel() for parameter in network.parameters())
        assert count / 1e6 == pytest.approx(millions, abs=0.05)
