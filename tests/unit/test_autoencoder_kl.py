"""The autoencoder of latent diffusion, against the one of diffusers that it stands for."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL as Theirs
from torch import Tensor

from genclass.models.autoencoder_kl import AutoencoderKL, AutoencoderKLConfig, posterior
from genclass.models.objectives import variational
from tests.support.small_networks import awakened

RELEASED = AutoencoderKLConfig()
SMALL = AutoencoderKLConfig(channels=(32, 64), residual_blocks=1, groups=8)


def theirs(config: AutoencoderKLConfig) -> Any:
    levels = len(config.channels)
    return Theirs(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=config.channels,
        layers_per_block=config.residual_blocks,
        latent_channels=config.latent_channels,
        norm_num_groups=config.groups,
    )


@pytest.fixture(scope="module", params=[RELEASED, SMALL], ids=["released", "small"])
def both(request: pytest.FixtureRequest) -> Iterator[tuple[AutoencoderKL, Any]]:
    """Ours and theirs, both with weights drawn from one seed."""
    networks = []
    for build in (AutoencoderKL, theirs):
        torch.manual_seed(0)
        networks.append(build(request.param))
    yield networks[0], networks[1]


def pixels(count: int, side: int) -> Tensor:
    return torch.rand(count, 3, side, side) * 2 - 1


def test_a_seed_gives_the_same_weights_under_the_same_names(both: Any) -> None:
    ours, oracle = (network.state_dict() for network in both)
    assert ours.keys() == oracle.keys()
    for name, weight in ours.items():
        assert torch.equal(weight, oracle[name]), name


def test_posterior_and_image_of_the_same_weights(both: Any) -> None:
    ours, oracle = both
    awakened(ours)
    oracle.load_state_dict(ours.state_dict())
    oracle.eval()
    images = pixels(2, 64)
    with torch.no_grad():
        mean, deviation = posterior(ours, images)
        expected = oracle.encode(images).latent_dist
        torch.testing.assert_close(mean, expected.mean, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(deviation, expected.std, atol=1e-6, rtol=1e-5)
        decoded = oracle.decode(mean).sample
        torch.testing.assert_close(ours.decode(mean), decoded, atol=1e-5, rtol=1e-4)
    assert mean.shape == (2, 4, 64 // ours.stride, 64 // ours.stride)
    assert mean.std() > 0.1


def test_log_variances_beyond_their_range_are_clamped() -> None:
    ours, oracle = AutoencoderKL(SMALL), theirs(SMALL)
    with torch.no_grad():
        ours.quant_conv.bias[4:] = torch.tensor([-99.0, 99.0, -31.0, 21.0])
        oracle.load_state_dict(ours.state_dict())
        images = pixels(1, 8)
        _, deviation = posterior(ours, images)
        torch.testing.assert_close(deviation, oracle.encode(images).latent_dist.std)


def test_the_objective_is_reconstruction_and_divergence() -> None:
    ours, oracle, images = AutoencoderKL(SMALL), theirs(SMALL), pixels(20, 8)
    oracle.load_state_dict(ours.state_dict())
    torch.manual_seed(1)
    loss = variational(ours, images, batch=6)()
    torch.manual_seed(1)
    batch = images[torch.randint(20, (6,))]
    found = oracle.encode(batch).latent_dist
    reconstruction = oracle.decode(found.sample()).sample
    expected = (reconstruction - batch).square().mean() + 1e-5 * found.kl().mean()
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"channels": ()}, "at least 1"),
        ({"residual_blocks": 0}, "at least 1"),
        ({"channels": (32, 48)}, "channels 48 must be a multiple of groups 32"),
    ],
)
def test_impossible_sizes(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AutoencoderKLConfig(**wrong)
