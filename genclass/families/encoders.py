"""Encoders: tokenizers and the autoencoder of latent diffusion."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from genclass.families.card import Encoder
from genclass.families.operations import ResidualEncoder, convolution, linear
from genclass.section import PositiveInt

if TYPE_CHECKING:
    from torch import Tensor, nn

SIDES = [1, 2, 3, 4, 5, 6, 8, 10, 13, 16]  # of VAR's token maps of an image of 256 pixels


class LlamaGenVQ(Encoder):
    """LlamaGen's VQ tokenizer, which RandAR reads, too."""

    architecture: Literal["llamagen_vq"]
    channels: PositiveInt = 128
    multipliers: list[PositiveInt] = [1, 1, 2, 2, 4]
    residual_blocks: PositiveInt = 2
    latent: PositiveInt = 256
    codebook: PositiveInt = 16384
    code_width: PositiveInt = 8

    def network(self) -> nn.Module:
        from genclass.models.llamagen_vq import LlamaGenVQ as Network
        from genclass.models.llamagen_vq import LlamaGenVQConfig

        sizes = self.model_dump(exclude={*Encoder.model_fields, "multipliers"})
        return Network(LlamaGenVQConfig(**sizes, multipliers=tuple(self.multipliers)))

    def released(self, weights: dict[str, Tensor]) -> Mapping[str, Any]:
        return {"model": weights}

    def objective(
        self, network: Any, encoder: Any, pixels: Tensor, labels: Tensor, training: Any
    ) -> Callable[[], Tensor]:
        from genclass.models.objectives import vector_quantised

        return vector_quantised(network, pixels, training.batch, training.steps)

    def operations(self, image_size: int) -> int:
        positions = (image_size // 2 ** (len(self.multipliers) - 1)) ** 2
        encoding = ResidualEncoder(
            [self.channels * multiplier for multiplier in self.multipliers],
            self.residual_blocks,
            self.latent,
            attention_in_last=True,
        ).operations(image_size)
        codes = linear(self.latent, self.code_width) + linear(self.code_width, self.codebook)
        return encoding + positions * codes


class MaskGITVQ(Encoder):
    """MaskGIT's VQ tokenizer as open-muse has it, which RAR reads, too."""

    architecture: Literal["maskgit_vq"]
    channels: PositiveInt = 128
    multipliers: list[PositiveInt] = [1, 1, 2, 2, 4]
    residual_blocks: PositiveInt = 2
    latent: PositiveInt = 256
    codebook: PositiveInt = 1024

    def network(self) -> nn.Module:
        from genclass.models.maskgit_vq import MaskGITVQ as Network
        from genclass.models.maskgit_vq import MaskGITVQConfig

        sizes = self.model_dump(exclude={*Encoder.model_fields, "multipliers"})
        return Network(MaskGITVQConfig(**sizes, multipliers=tuple(self.multipliers)))

    def operations(self, image_size: int) -> int:
        positions = (image_size // 2 ** (len(self.multipliers) - 1)) ** 2
        encoding = ResidualEncoder(
            [self.channels * multiplier for multiplier in self.multipliers],
            self.residual_blocks,
            self.latent,
            halving=False,
            middle_blocks=self.residual_blocks,
            middle_attention=False,
            shortcut_of_output=True,
            last_kernel=1,
        ).operations(image_size)
        return encoding + positions * linear(self.latent, self.codebook)


class TamingVQGAN(Encoder):
    """The VQGAN of Taming Transformers, MaskGIT's tokenizer in Maskgit-pytorch."""

    architecture: Literal["taming_vqgan"]
    channels: PositiveInt = 128
    multipliers: list[PositiveInt] = [1, 1, 2, 2, 4]
    residual_blocks: PositiveInt = 2
    latent: PositiveInt = 256
    codebook: PositiveInt = 1024
    code_width: PositiveInt = 256

    def network(self) -> nn.Module:
        from genclass.models.taming_vqgan import TamingVQGAN as Network
        from genclass.models.taming_vqgan import TamingVQGANConfig

        sizes = self.model_dump(exclude={*Encoder.model_fields, "multipliers"})
        return Network(TamingVQGANConfig(**sizes, multipliers=tuple(self.multipliers)))

    def own(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        from genclass.models.taming_vqgan import without_loss

        return without_loss(weights)

    def operations(self, image_size: int) -> int:
        positions = (image_size // 2 ** (len(self.multipliers) - 1)) ** 2
        encoding = ResidualEncoder(
            [self.channels * multiplier for multiplier in self.multipliers],
            self.residual_blocks,
            self.latent,
            attention_in_last=True,
        ).operations(image_size)
        codes = linear(self.latent, self.code_width) + linear(self.code_width, self.codebook)
        return encoding + positions * codes


class VARVQ(Encoder):
    """VAR's multi-scale VQ tokenizer."""

    architecture: Literal["var_vq"]
    channels: PositiveInt = 160
    multipliers: list[PositiveInt] = [1, 1, 2, 2, 4]
    residual_blocks: PositiveInt = 2
    codebook: PositiveInt = 4096
    code_width: PositiveInt = 32
    sides: list[PositiveInt] = SIDES

    def network(self) -> nn.Module:
        from genclass.models.var_vq import VARVQ as Network
        from genclass.models.var_vq import VARVQConfig

        sizes = self.model_dump(exclude={*Encoder.model_fields, "multipliers", "sides"})
        return Network(
            VARVQConfig(**sizes, multipliers=tuple(self.multipliers), sides=tuple(self.sides))
        )

    def objective(
        self, network: Any, encoder: Any, pixels: Tensor, labels: Tensor, training: Any
    ) -> Callable[[], Tensor]:
        from genclass.models.objectives import vector_quantised

        return vector_quantised(network, pixels, training.batch, training.steps)

    def operations(self, image_size: int) -> int:
        """With the codes of all scales and what the network reads of them."""
        encoding = ResidualEncoder(
            [self.channels * multiplier for multiplier in self.multipliers],
            self.residual_blocks,
            self.code_width,
            attention_in_last=True,
        ).operations(image_size)
        nearest = sum(side**2 for side in self.sides) * linear(self.code_width, self.codebook)
        # The latent's own, then one a scale to subtract its codes, and one to add them again (the
        # last scale's enter nothing).
        refinements = (
            2 * len(self.sides) * convolution(self.code_width, self.code_width, 3, self.sides[-1])
        )
        return encoding + nearest + refinements


class AutoencoderKL(Encoder):
    """The autoencoder of latent diffusion, in diffusers' layout."""

    architecture: Literal["autoencoder_kl"]
    channels: list[PositiveInt] = [128, 256, 512, 512]  # one level each, the last keeps its size
    residual_blocks: PositiveInt = 2
    latent_channels: PositiveInt = 4
    groups: PositiveInt = 32
    scaling: float = 0.18215

    def network(self) -> nn.Module:
        from genclass.models.autoencoder_kl import AutoencoderKL as Network
        from genclass.models.autoencoder_kl import AutoencoderKLConfig

        sizes = self.model_dump(exclude={*Encoder.model_fields, "channels"})
        return Network(AutoencoderKLConfig(**sizes, channels=tuple(self.channels)))

    def objective(
        self, network: Any, encoder: Any, pixels: Tensor, labels: Tensor, training: Any
    ) -> Callable[[], Tensor]:
        from genclass.models.objectives import variational

        return variational(network, pixels, training.batch)

    def operations(self, image_size: int) -> int:
        side = image_size // 2 ** (len(self.channels) - 1)
        moments = 2 * self.latent_channels
        encoding = ResidualEncoder(self.channels, self.residual_blocks, moments)
        return encoding.operations(image_size) + convolution(moments, moments, 1, side)
