"""Compare genclass with the official implementations' golden values.

    python tests/golden/check.py FAMILY FILE

Prints the error of every quantity and the largest; exits 0 within the tolerances of README.md,
1 outside them, 2 for an unknown family or a file that is no golden file of it. Any file of a
family will do, whatever its seed and sizes.
"""

import functools
import hashlib
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import recipe
import torch

Golden = Any  # what a golden file's JSON holds


@dataclass(frozen=True)
class Comparison:
    """One quantity beside its golden values. Either tolerance is enough for an element."""

    name: str
    absolute: float  # largest error over the elements
    relative: float
    within: bool
    allowed: str

    @classmethod
    def of(
        cls, name: str, ours: Any, golden: Any, absolute: float = 0.0, relative: float = 0.0
    ) -> "Comparison":
        a, b = np.asarray(ours, dtype=np.float64), np.asarray(golden, dtype=np.float64)
        if a.shape != b.shape:
            raise ValueError(f"{name}: the file has shape {b.shape}, the network gives {a.shape}")
        error = np.abs(a - b)
        # A NaN anywhere compares as outside.
        within = bool(np.all(error <= np.maximum(absolute, relative * np.abs(b))))
        with np.errstate(divide="ignore", invalid="ignore"):
            fractions = np.where(error == 0, 0.0, error / np.abs(b))
        allowed = [f"{absolute:g} absolute"] * (absolute > 0)
        allowed += [f"{relative:g} relative"] * (relative > 0)
        return cls(
            name,
            float(error.max(initial=0)),
            float(fractions.max(initial=0)),
            within,
            " or ".join(allowed) or "none",
        )

    @classmethod
    def of_codes(cls, name: str, ours: torch.Tensor, golden: list[int]) -> "Comparison":
        """Codes may differ in 1 % of places, where two are equally near."""
        if ours.numel() != len(golden):
            raise ValueError(f"{name}: the file has {len(golden)}, the network {ours.numel()}")
        differing = float((ours.flatten() != torch.tensor(golden)).double().mean())
        return cls(f"{name} differing", differing, differing, differing <= 0.01, "0.01 of them")

    @classmethod
    def of_bytes(cls, name: str, ours: bytes, sha256: str) -> "Comparison":
        equal = hashlib.sha256(ours).hexdigest() == sha256
        return cls(name, float(not equal), float(not equal), equal, "equal bytes")


def log_likelihoods(name: str, ours: Any, golden: Any) -> Comparison:
    return Comparison.of(name, ours, golden, absolute=1e-3, relative=1e-5)


def corner(name: str, ours: torch.Tensor, golden: Any) -> Comparison:
    """The first channels and 2 x 2 pixels of images [b, channels, h, w] or of one of them."""
    values = np.asarray(golden)
    ours = ours if values.ndim == 4 else ours.squeeze(0)
    places = tuple(slice(0, length) for length in values.shape)
    return Comparison.of(name, ours[places].numpy(), values, absolute=1e-4, relative=1e-4)


def llama_fields(golden: Golden) -> dict[str, int]:
    shape = golden["config"]
    return {
        "layers": shape["n_layer"],
        "heads": shape["n_head"],
        "width": shape["dim"],
        "vocabulary": shape["vocab_size"],
        "grid": math.isqrt(shape["block_size"]),
        "classes": shape["num_classes"],
    }


def randar(golden: Golden) -> Iterator[Comparison]:
    from genclass.models.randar import RandAR, RandARConfig

    config = RandARConfig(**llama_fields(golden))
    network = recipe.filled(lambda: RandAR(config), golden.get("salt", ""))
    random = np.random.RandomState(golden["seed"])
    drawn_codes = random.randint(0, config.vocabulary, config.tokens)
    drawn_orders = [random.permutation(config.tokens) for _ in golden["log_likelihood"]]
    # Where a file stores them, the stored ones count.
    codes = torch.tensor(golden.get("codes", drawn_codes))
    orders = torch.tensor(np.asarray(golden.get("orders", drawn_orders)))
    classes = torch.tensor(golden["classes"])
    token_log_probs = torch.stack(
        [network.token_log_probs(codes, order, classes) for order in orders]
    )  # [orders, classes, tokens]
    if "token_log_probs_first" in golden:
        yield log_likelihoods(
            "token log-probabilities", token_log_probs[0, 0], golden["token_log_probs_first"]
        )
    yield log_likelihoods(
        "log-likelihood", token_log_probs.double().sum(dim=-1), golden["log_likelihood"]
    )


def llamagen(golden: Golden) -> Iterator[Comparison]:
    from genclass.models.llamagen import LlamaGen, LlamaGenConfig

    config = LlamaGenConfig(**llama_fields(golden))
    network = recipe.filled(lambda: LlamaGen(config), golden.get("salt", ""))
    drawn = np.random.RandomState(golden["seed"]).randint(0, config.vocabulary, config.tokens)
    codes, classes = torch.tensor(golden.get("codes", drawn)), torch.tensor(golden["classes"])
    token_log_probs = network.token_log_probs(codes, classes)
    if "token_log_probs_first" in golden:
        yield Comparison.of(
            "token log-probabilities",
            token_log_probs[0],
            golden["token_log_probs_first"],
            absolute=1e-5,
        )
    yield Comparison.of(
        "log-likelihood",
        token_log_probs.double().sum(dim=-1),
        golden["log_likelihood"],
        relative=2e-7,
    )


def llamagen_vq(golden: Golden) -> Iterator[Comparison]:
    from genclass.models.llamagen_vq import LlamaGenVQ, LlamaGenVQConfig

    fields = {
        "ch": "channels",
        "ch_mult": "multipliers",
        "encoder_ch_mult": "multipliers",
        "decoder_ch_mult": "multipliers",
        "num_res_blocks": "residual_blocks",
        "z_channels": "latent",
        "codebook_size": "codebook",
        "codebook_embed_dim": "code_width",
    }
    config = LlamaGenVQConfig(**translated(golden.get("config", {}), fields))
    network = recipe.filled(lambda: LlamaGenVQ(config), golden.get("salt", ""))
    yield from autoencoder(network, golden, lowest=-1.0)


def maskgit_vq(golden: Golden) -> Iterator[Comparison]:
    from genclass.models.maskgit_vq import MaskGITVQ, MaskGITVQConfig

    fields = {
        "hidden_channels": "channels",
        "channel_mult": "multipliers",
        "num_res_blocks": "residual_blocks",
        "z_channels": "latent",
        "num_embeddings": "codebook",
    }
    config = MaskGITVQConfig(**translated(golden.get("config", {}), fields))
    network = recipe.filled(lambda: MaskGITVQ(config), golden.get("salt", ""))
    yield from autoencoder(network, golden, lowest=0.0)


def autoencoder(network: Any, case: Golden, lowest: float) -> Iterator[Comparison]:
    """Latent, codes and decoded image of one case; images reach from `lowest` to 1."""
    seed = case["seed"] if "seed" in case else case["image_seed"]
    size = case["size"] if "size" in case else case["image_size"]
    image = torch.from_numpy(recipe.image(seed, size))[None]
    image = lowest + (1 - lowest) * (image + 1) / 2
    with torch.no_grad():
        latent = network.encode(image)
        codes = network.quantize(latent)
        if "latent_shape" in case:
            yield Comparison.of("latent shape", latent.shape, case["latent_shape"])
        yield corner("latent corner", latent, case["latent_corner"])
        total = float(latent.abs().sum())
        if "latent_abs_sum" in case:
            yield Comparison.of("latent magnitudes", total, case["latent_abs_sum"], relative=1e-4)
        if "latent_sum" in case:  # may be near zero by cancellation
            yield Comparison.of("latent sum", float(latent.sum()), case["latent_sum"], 1e-4 * total)
        yield Comparison.of_codes("codes", codes, case["codes"])
        if "decoded_corner" in case:  # of the golden codes: a tie must not show here again
            decoded = network.decode(torch.tensor(case["codes"]).view_as(codes))
            yield corner("decoded corner", decoded, case["decoded_corner"])


def var_networks(golden: Golden) -> tuple[Any, Any]:
    """The tokenizer and the transformer of a case."""
    parts = ("vae", "var", "salt", "added_after_filling")
    return filled_var_networks(json.dumps({part: golden.get(part) for part in parts}))


@functools.lru_cache(maxsize=1)  # cases of one file often differ in their images only
def filled_var_networks(case: str) -> tuple[Any, Any]:
    from genclass.models.var import VAR, VARConfig
    from genclass.models.var_vq import VARVQ, VARVQConfig

    golden = json.loads(case)
    tokenizer_shape, shape, salt = golden["vae"], golden["var"], golden["salt"] or ""
    tokenizer_config = VARVQConfig(
        channels=tokenizer_shape["ch"],
        codebook=tokenizer_shape["vocab_size"],
        code_width=tokenizer_shape["z_channels"],
        sides=tuple(tokenizer_shape["v_patch_nums"]),
    )
    config = VARConfig(
        layers=shape["depth"],
        heads=shape["num_heads"],
        width=shape["embed_dim"],
        vocabulary=tokenizer_shape["vocab_size"],
        code_width=tokenizer_shape["z_channels"],
        classes=shape["num_classes"],
        sides=tuple(shape["patch_nums"]),
        shared_modulation=shape["shared_aln"],
    )
    tokenizer = recipe.filled(lambda: VARVQ(tokenizer_config), salt + "vae:")
    network = recipe.filled(lambda: VAR(config), salt)
    for name, added in (golden["added_after_filling"] or {}).items():
        network.state_dict()[name].add_(added)
    return tokenizer, network


@torch.no_grad()
def var(golden: Golden) -> Iterator[Comparison]:
    tokenizer, network = var_networks(golden)
    config = network.config
    size = golden["image_size"]
    latent = tokenizer.encode(torch.from_numpy(recipe.image(golden["image_seed"], size))[None])
    if "latent_corner" in golden:
        yield from var_latent(golden, tokenizer, latent)
    codes = tokenizer.quantize(latent)
    yield Comparison.of("codes", codes[0], golden["codes"])
    # What follows is of the golden codes: a tie must not show here again.
    codes = torch.tensor(golden["codes"])[None]
    inputs = tokenizer.quantize.inputs(codes)
    if "teacher_input_rows" in golden:
        yield from var_inputs(golden, tokenizer, codes, inputs)
    classes = torch.tensor(golden["classes"])
    with_null = torch.cat([classes, torch.tensor([config.classes])])
    token_log_probs = network.token_log_probs(codes[0], inputs[0], with_null)
    tokens = 2e-5 if config.width > 512 else 5e-6
    for name, row in (("first", 0), ("last_class", len(classes) - 1)):
        if (key := f"token_log_probs_{name}") in golden:
            yield Comparison.of(key, token_log_probs[row], golden[key], absolute=tokens)
    if "logits_corner" in golden:
        logits = network(inputs, classes[:1])[0]
        for place, values in golden["logits_corner"].items():
            yield Comparison.of(
                f"logits at place {place}", logits[int(place), :4], values, absolute=5e-6
            )
    running = token_log_probs.double().cumsum(dim=1)
    likelihoods = {"log_likelihood": running[:-1, -1], "log_likelihood_null": running[-1, -1]}
    for name, ours in likelihoods.items():
        if name in golden:
            yield Comparison.of(name, ours, golden[name], relative=2e-7)
    for scale, (end, values) in enumerate(
        zip(config.ends, golden["log_likelihood_first_scales"], strict=True), start=1
    ):
        # Scored alone, not cut from the whole.
        alone = network.token_log_probs(codes[0, :end], inputs[0, : end - 1], classes)
        yield Comparison.of(
            f"log_likelihood of {scale} scales", alone.double().sum(dim=1), values, relative=1e-6
        )


def var_latent(golden: Golden, tokenizer: Any, latent: torch.Tensor) -> Iterator[Comparison]:
    values = np.asarray(golden["latent_corner"])
    places = tuple(slice(0, length) for length in values.shape)
    # The file's own rounding: in float64 the same network is up to 1.7e-6 away from it.
    yield Comparison.of("latent corner", latent[0][places], values, absolute=5e-6)
    total = float(latent.double().abs().sum())
    yield Comparison.of(
        "latent sum", latent.double().sum(), golden["latent_sum"], absolute=1e-6 * total
    )
    yield Comparison.of(
        "latent square sum",
        latent.double().square().sum(),
        golden["latent_square_sum"],
        relative=1e-6,
    )
    yield Comparison.of("phi index", tokenizer.quantize.quant_resi.serving, golden["phi_index"])


def var_inputs(
    golden: Golden, tokenizer: Any, codes: torch.Tensor, inputs: torch.Tensor
) -> Iterator[Comparison]:
    yield Comparison.of("teacher input shape", inputs.shape, golden["teacher_input_shape"])
    for row, values in golden["teacher_input_rows"].items():
        yield Comparison.of(
            f"teacher input row {row}", inputs[0, int(row), :4], values, absolute=1e-6
        )
    yield Comparison.of(
        "teacher input square sum",
        inputs.double().square().sum(),
        golden["teacher_input_square_sum"],
        relative=1e-6,
    )
    known = list(tokenizer.quantize.latents(codes))
    yield Comparison.of(
        "f_hat square sums",
        [float(latent.double().square().sum()) for latent in known],
        golden["fhat_square_sums"],
        relative=1e-6,
    )
    for name, ours, key, absolute in (
        ("f_hat corner", known[-1], "fhat_last_corner", 1e-6),
        ("decoded corner", tokenizer.decode(codes), "decoded_corner", 3e-5),
    ):
        values = np.asarray(golden[key])
        places = tuple(slice(0, length) for length in values.shape)
        yield Comparison.of(name, ours[0][places], values, absolute=absolute)


@dataclass(frozen=True)
class Stage:
    """One of A-VARC+'s stages: how many of its candidates it keeps, on how many samples, scales."""

    keep: int
    samples: int  # the clean one counts: 1 is no noise at all
    scales: int  # the first ones, of which the log p are summed


@dataclass(frozen=True)
class GoldenDraws:
    """The script's noise in place of an image's own draws: [samples - 1, *shape]."""

    noise: torch.Tensor

    def normal(self, shape: tuple[int, ...], purpose: str, trial: int) -> torch.Tensor:
        return self.noise[trial - 1]


def next_scale_scorer(golden: Golden, tokenizer: Any, network: Any) -> Any:
    from genclass.families import System
    from genclass.families.encoders import VARVQ
    from genclass.families.var import VAR, NextScaleScoring
    from genclass.scorers.next_scale import NextScaleScorer

    size, shape = {"layers": 1, "heads": 1, "width": 1}, {"sides": list(network.config.sides)}
    system = System(
        VAR(architecture="var", checkpoint="unnamed", size=size, **shape),
        VARVQ(architecture="var_vq", checkpoint="unnamed", **shape),
        NextScaleScoring(noise_deviation=golden["sigma"]),
        golden["image_size"],
    )
    return NextScaleScorer(system, network, tokenizer, torch.device("cpu"))


@torch.inference_mode()
def avarc(golden: Golden) -> Iterator[Comparison]:
    from genclass.scorers.next_scale import Encoded
    from genclass.scorers.scorer import Prepared

    tokenizer, network = var_networks(golden)
    scorer = next_scale_scorer(golden, tokenizer, network)
    stages = [
        Stage(*each)
        for each in zip(
            golden["num_candidate_list"],
            golden["num_sample_list"],
            golden["num_scale_list"],
            strict=True,
        )
    ]
    latents = [
        tokenizer.encode(torch.from_numpy(recipe.image(seed, golden["image_size"]))[None])[0]
        for seed in golden["image_seeds"]
    ]
    calls = avarc_noise(golden, latents[0].shape, stages)
    if golden["noise_calls"]:
        yield Comparison.of(
            "noise",
            [noise.flatten()[:4].tolist() for noise in calls.values()],
            [call["first4"] for call in golden["noise_calls"]],
            absolute=1e-6,
        )
    together = golden["images_per_batch"]

    def prepared(image: int, stage: int) -> Prepared:
        noise = calls.get((image // together, stage), torch.empty(0))
        encoded = Encoded(latents[image], scorer.tokenize(latents[image]))
        draws: Any = GoldenDraws(noise[image % together :: together])
        return Prepared(None, draws, encoded)  # type: ignore[arg-type]

    for case in golden["codes_of_samples"]:
        codes = scorer.tokens(prepared(case["image"], case["stage"] or 0), case["sample"]).codes
        yield Comparison.of(
            f"codes of image {case['image']}, stage {case['stage']}, sample {case['sample']}",
            [*codes[:6], *codes[-6:], codes.sum()],
            [*case["first6"], *case["last6"], case["sum"]],
        )
    for image, expected in enumerate(golden["images"]):
        candidates = torch.tensor(golden["classes"])
        for number, (stage, theirs) in enumerate(zip(stages, expected["stages"], strict=True)):
            own = prepared(image, number)
            count = len(candidates)
            of_samples = [
                scorer.score([own] * count, [sample] * count, candidates, stage.scales).double()
                for sample in range(stage.samples)
            ]
            scores = torch.stack(of_samples).mean(dim=0)
            kept = candidates[scores.argsort(descending=True, stable=True)[: stage.keep]]
            name = f"image {image}, stage {number + 1}"
            yield Comparison.of(f"{name}: candidates", candidates, theirs["candidates"])
            yield Comparison.of(f"{name}: score", scores, theirs["log_likelihood"], relative=5e-7)
            yield Comparison.of(f"{name}: kept", kept, theirs["kept"])
            candidates = kept
        yield Comparison.of(f"image {image}: prediction", candidates, [expected["prediction"]])


def avarc_noise(
    golden: Golden, shape: torch.Size, stages: list[Stage]
) -> dict[tuple[int, int], torch.Tensor]:
    """The script's noise by (batch of images, stage): [(samples - 1) x images, *shape]."""
    together = golden["images_per_batch"]
    batches = len(golden["image_seeds"]) // together
    random = np.random.RandomState(golden["noise"].get("noise_seed"))
    generator = torch.Generator().manual_seed(0)
    torch.empty((), dtype=torch.int64).random_(generator=generator)  # the loader's draw
    drawn = {}
    for batch in range(batches):
        count = len(golden["classes"])
        for index, stage in enumerate(stages):
            if stage.samples > 1:
                wanted = ((stage.samples - 1) * together, *shape)
                drawn[batch, index] = (
                    torch.from_numpy(random.standard_normal(wanted).astype(np.float32))
                    if "noise_seed" in golden["noise"]
                    else torch.randn(wanted, generator=generator)
                )
            # Every forward pass draws the dropout of its rows' classes, at a rate of zero, too.
            rows = count * stage.samples * together
            while rows > 0:
                torch.rand(min(rows, golden["batch_size"]), generator=generator)
                rows -= golden["batch_size"]
            count = min(count, stage.keep)
    return drawn


def dit(golden: Golden) -> Iterator[Comparison]:
    from genclass.models.dit import DiT, DiTConfig

    alphas_cumprod = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    network = recipe.filled(
        lambda: DiT(DiTConfig(**transformer_fields(golden))), golden.get("salt", "")
    )
    x, noise, classes = latent_inputs(golden)
    for step in golden["steps"]:
        kept = float(alphas_cumprod[step["t"]])
        noised = math.sqrt(kept) * x + math.sqrt(1 - kept) * noise
        estimate = network.predict_classes(noised, step["t"], classes)
        yield squared_errors(step, noise, estimate)
        if "output_corner" in step:
            with torch.no_grad():
                outputs = network(noised, step["t"], classes)
            yield corner(f"t = {step['t']}: output corner", outputs, step["output_corner"])


def sit(golden: Golden) -> Iterator[Comparison]:
    from genclass.models.sit import SiT, SiTConfig

    network = recipe.filled(
        lambda: SiT(SiTConfig(**transformer_fields(golden))), golden.get("salt", "")
    )
    x, noise, classes = latent_inputs(golden)
    for step in golden["steps"]:
        t = step["t"]
        noised = t * x + (1 - t) * noise
        velocity = network.predict_classes(noised, t, classes)
        yield squared_errors(step, noise, noised - t * velocity)
        yield from velocity_corners(step, velocity)


def sit_repa(golden: Golden) -> Iterator[Comparison]:
    from genclass.models.sit import SiT, SiTConfig

    shape = golden["config"]
    config = SiTConfig(
        **transformer_fields(golden) | {"learn_sigma": False},
        aligned_to=tuple(shape["z_dims"]),
        projector_width=shape["projector_dim"],
    )
    network = recipe.filled(lambda: SiT(config), golden.get("salt", ""))
    x, noise, classes = latent_inputs(golden)
    for step in golden["steps"]:
        t = step["t"]
        noised = (1 - t) * x + t * noise
        velocity = network.predict_classes(noised, t, classes)
        yield squared_errors(step, noise, noised + (1 - t) * velocity)
        yield from velocity_corners(step, velocity)


def transformer_fields(golden: Golden) -> dict[str, Any]:
    shape = golden["config"]
    return {
        "layers": shape["depth"],
        "heads": shape["num_heads"],
        "width": shape["hidden_size"],
        "patch": shape["patch_size"],
        "latent_size": shape["input_size"],
        "channels": shape["in_channels"],
        "classes": shape["num_classes"],
        "learn_sigma": shape.get("learn_sigma", True),
    }


def latent_inputs(golden: Golden) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Latent and noise [1, channels, s, s], classes [c]."""
    channels, side = golden["config"]["in_channels"], golden["config"]["input_size"]
    random = np.random.RandomState(golden["seed"])
    x, noise = (
        torch.from_numpy(random.standard_normal((1, channels, side, side)).astype(np.float32))
        for _ in range(2)
    )
    return x, noise, torch.tensor(golden["classes"])


def squared_errors(step: Golden, noise: torch.Tensor, estimate: torch.Tensor) -> Comparison:
    ours = (noise - estimate).double().square().sum(dim=(1, 2, 3))
    return Comparison.of(
        f"t = {step['t']}: squared error", ours, step["squared_error"], relative=1e-4
    )


def velocity_corners(step: Golden, velocity: torch.Tensor) -> Iterator[Comparison]:
    for name in {"output_corner", "velocity_corner"} & step.keys():
        yield corner(f"t = {step['t']}: velocity corner", velocity, step[name])


# The families of networks_more: their tolerances are tighter, as looser ones hide mistakes.


def image_codes(golden: Golden, vocabulary: int, tokens: int) -> tuple[torch.Tensor, Any]:
    """Codes [n] in raster order and the random state they leave; stored ones count."""
    random = np.random.RandomState(golden["seed"])
    drawn = random.randint(0, vocabulary, tokens)
    return torch.tensor(golden.get("codes", drawn)), random


def photo_pixels(golden: Golden) -> torch.Tensor:
    """The photo's centre crop, [1, 3, size, size] in [-1, 1]."""
    from PIL import Image

    from genclass.data.images import center_crop as crop
    from genclass.data.images import to_tensor

    shape = golden["photo"]
    photo = Image.fromarray(recipe.photo(shape["seed"], shape["height"], shape["width"]))
    return to_tensor(crop(photo, shape["image_size"])).unsqueeze(0)


def exact_codes(ours: torch.Tensor, golden: list[int], name: str = "") -> Comparison:
    return Comparison.of(f"{name}codes", ours.flatten(), golden)


def likelihoods(name: str, ours: torch.Tensor, golden: Any) -> Comparison:
    """Of token log-probabilities, summed here: [.., tokens] against [..]."""
    return Comparison.of(name, ours.double().sum(dim=-1), golden, relative=1e-6)


def built(architecture: str, **options: Any) -> Any:
    """The network of a card with these options, as training starts with it."""
    from genclass.families import ENCODERS, FAMILIES, UNNAMED

    card = (FAMILIES | ENCODERS)[architecture]
    section = {"architecture": architecture, "checkpoint": UNNAMED, **options}
    return card.model_validate(section).build()


class StandIn(torch.nn.Module):
    """An encoder that is asked for its sizes only: the golden codes or latents are given."""

    def __init__(self, stride: int, codebook: int = 0) -> None:
        super().__init__()
        self.stride = stride
        self.config = SimpleNamespace(stride=stride, codebook=codebook)


def scorer_of(
    network: Any, architecture: str, image_size: int, encoder: Any, **options: Any
) -> Any:
    """The scorer of a family around a network, with these options of its classifier."""
    from genclass.families import FAMILIES, UNNAMED, System

    card = FAMILIES[architecture]
    # Of the network there are sizes already; those of the section are asked by nobody.
    family = card.model_construct(architecture=architecture, checkpoint=UNNAMED)
    system = System(family, None, card.Options.model_validate(options), image_size)
    return family.scorer()(system, network, encoder, torch.device("cpu"))


def given(encoded: torch.Tensor, **draws: Callable[..., Any]) -> Any:
    """An image that was encoded, with draws of the official script in place of its own."""
    from genclass.scorers.scorer import Prepared

    named: Any = SimpleNamespace(**draws)
    return Prepared(None, named, encoded)  # type: ignore[arg-type]


def scores_of(scorer: Any, prepared: Any, trial: int, classes: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        scores: torch.Tensor = scorer.score(
            [prepared] * len(classes), [trial] * len(classes), classes
        )
    return scores.double()


def rar(golden: Golden) -> Iterator[Comparison]:
    shape = golden["config"]
    build = functools.partial(
        built,
        "rar",
        size={
            "layers": shape["num_hidden_layers"],
            "heads": shape["num_attention_heads"],
            "width": shape["hidden_size"],
            "hidden": shape["intermediate_size"],
        },
        vocabulary=shape["codebook_size"],
        grid=math.isqrt(shape["image_seq_len"]),
        classes=shape["condition_num_classes"],
    )
    network = recipe.filled(build, golden.get("salt", ""))
    config = network.config
    classes, null = torch.tensor(golden["classes"]), torch.tensor([config.classes])
    raster = torch.arange(config.tokens)
    if "photo" in golden:
        tokenizer = recipe.filled(lambda: built("maskgit_vq"), golden["tokenizer_salt"])
        with torch.no_grad():
            latent = tokenizer.encode((photo_pixels(golden) + 1) / 2)
            yield exact_codes(tokenizer.quantize(latent), golden["codes"])
        codes = torch.tensor(golden["codes"])
        generator = torch.Generator().manual_seed(golden["generator_seed"])
        drawn = [torch.randperm(config.tokens, generator=generator) for _ in range(2)]
        yield Comparison.of("orders", torch.stack(drawn), golden["orders_random"])
        used = {"raster": [raster] * 2, "random": drawn, "const_random": drawn[:1] * 2}
        for name, expected in golden["log_likelihood"].items():
            ours = torch.stack([network.token_log_probs(codes, o, classes) for o in used[name]])
            yield likelihoods(f"log-likelihood, {name}", ours, expected)
        return
    codes, random = image_codes(golden, config.vocabulary, config.tokens)
    permutations = [random.permutation(config.tokens) for _ in golden["log_likelihood"]]
    orders = torch.tensor(np.asarray(golden.get("orders", permutations)))
    in_raster = network.token_log_probs(codes, raster, classes)
    in_order = torch.stack([network.token_log_probs(codes, o, classes) for o in orders])
    # Narrow networks err less, and hide less.
    absolute = 2e-6 if config.width <= 64 else 5e-6 if config.width <= 768 else 1e-5
    for name, ours in (("raster", in_raster[0]), ("first_order", in_order[0, 0])):
        key = f"token_log_probs_{name}_first_class"
        yield Comparison.of(f"token log-probabilities, {name}", ours, golden[key], absolute)
    yield likelihoods("log-likelihood, raster", in_raster, golden["log_likelihood_raster"])
    yield likelihoods("log-likelihood", in_order, golden["log_likelihood"])
    yield likelihoods(
        "log-likelihood, null class",
        network.token_log_probs(codes, raster, null)[0],
        golden["log_likelihood_raster_null_class"],
    )
    for name, order in (("raster", raster), ("first_order", orders[0])):
        with torch.no_grad():
            logits = network(codes[None], order[None], classes[:1])[0, :2, :4]
        yield Comparison.of(f"logits, {name}", logits, golden["logits_corner"][name], 2e-5)


def maskgit(golden: Golden) -> Iterator[Comparison]:
    from genclass.scorers.spread import spread

    shape = golden["config"]
    build = functools.partial(
        built,
        "maskgit",
        size={
            "layers": shape["depth"],
            "heads": shape["heads"],
            "width": shape["hidden_dim"],
            "hidden": shape["mlp_dim"],
        },
        vocabulary=shape["codebook_size"],
        grid=shape["img_size"] // 16,
        classes=shape["nclass"],
    )
    network = recipe.filled(build, golden.get("salt", ""))
    config = network.config
    classes, null = torch.tensor(golden["classes"]), torch.tensor([config.classes])
    if "photo" in golden:
        vqgan = recipe.filled(lambda: taming(golden["vqgan"]), golden["vqgan_salt"])
        with torch.no_grad():
            yield exact_codes(vqgan.quantize(vqgan.encode(photo_pixels(golden))), golden["codes"])
        codes = torch.tensor(golden["codes"])
    else:
        codes, _ = image_codes(golden, config.vocabulary, config.tokens)
    levels = golden["n_masks"]
    scorer = scorer_of(
        network,
        "maskgit",
        shape["img_size"],
        StandIn(16, config.vocabulary),
        levels=levels,
        schedule=golden["mask_mode"],
    )
    if "masking_ratios" in golden:
        yield Comparison.of(
            "masking ratios", scorer.ratios, golden["masking_ratios"], relative=1e-6
        )
    generator = torch.Generator().manual_seed(golden["generator_seed"])
    drawn = [torch.rand(config.tokens, generator=generator).numpy() for _ in range(levels)]
    # The script goes through the levels in turn, the scorer in spread order.
    prepared = given(
        codes,
        generator=lambda purpose, trial: SimpleNamespace(
            random=lambda tokens, dtype: drawn[spread(levels)[trial]]
        ),
    )
    trials = [spread(levels).index(level) for level in range(levels)]
    masks = [scorer.mask(prepared.draws, trial) for trial in trials]
    for number, (mask, positions) in enumerate(zip(masks, golden["masked_positions"], strict=True)):
        yield Comparison.of(f"mask {number}", mask.nonzero().flatten(), positions)
    means = [scores_of(scorer, prepared, trial, classes) for trial in trials]
    yield Comparison.of(
        "mean log-probability", torch.stack(means), golden["mean_log_prob"], relative=1e-6
    )
    if "logits_corner" not in golden:
        return
    mask = masks[golden["corner_of_mask"]]
    for name, label in (("logits_corner", classes[:1]), ("logits_corner_dropped_label", null)):
        with torch.no_grad():
            logits = network(codes[None], mask[None], label)
        yield Comparison.of("logits shape", logits.shape, golden["logits_shape"])
        yield Comparison.of(name, logits[0, :3, -5:], golden[name], absolute=5e-6)


def taming(shape: Golden) -> Any:
    fields = {
        "ch": "channels",
        "ch_mult": "multipliers",
        "num_res_blocks": "residual_blocks",
        "z_channels": "latent",
        "n_embed": "codebook",
        "embed_dim": "code_width",
    }
    return built("taming_vqgan", **translated(shape | shape["ddconfig"], fields))


def taming_vqgan(golden: Golden) -> Iterator[Comparison]:
    network = recipe.filled(lambda: taming(golden["config"]), golden["salt"])
    for number, case in enumerate(golden["images"]):
        image = torch.from_numpy(recipe.image(case["image_seed"], case["image_size"]))[None]
        with torch.no_grad():
            latent = network.encode(image)
            codes = network.quantize(latent)
            decoded = network.decode(torch.tensor(case["codes"]).view_as(codes))
        name = f"image {number}: "
        yield Comparison.of(name + "latent shape", latent.shape, case["latent_shape"])
        yield close_corner(name + "latent corner", latent, case["latent_corner"], 1e-5)
        total = float(latent.double().abs().sum())
        yield Comparison.of(
            name + "latent sum", float(latent.double().sum()), case["latent_sum"], 1e-6 * total
        )
        yield Comparison.of(
            name + "latent magnitudes", total, case["latent_abs_sum"], relative=1e-6
        )
        yield exact_codes(codes, case["codes"], name)
        points = latent.flatten(2).mT[0].double()
        distances = torch.cdist(points, network.quantize.embedding.weight.detach().double())
        nearest = distances.topk(2, largest=False).values
        gap = float((nearest[:, 1] - nearest[:, 0]).min())
        yield Comparison.of(name + "least gap", gap, case["least_gap_of_distances"], 5e-5)
        yield close_corner(name + "decoded corner", decoded, case["decoded_corner"], 1e-5)
        yield Comparison.of(
            name + "decoded magnitudes",
            float(decoded.double().abs().sum()),
            case["decoded_abs_sum"],
            relative=1e-5,  # the golden sum itself is a float32 one
        )


def close_corner(name: str, ours: torch.Tensor, golden: Any, absolute: float) -> Comparison:
    """The first channels and pixels of one image [1, channels, h, w]."""
    values = np.asarray(golden)
    places = tuple(slice(0, length) for length in values.shape)
    return Comparison.of(name, ours[0][places].numpy(), values, absolute=absolute)


def randar_dm(golden: Golden) -> Iterator[Comparison]:
    from genclass.scorers.spread import spread

    fields = llama_fields(golden)
    size = {name: fields.pop(name) for name in ("layers", "heads", "width")}
    network = recipe.filled(
        lambda: built("randar_masked", size=size, **fields), golden.get("salt", "")
    )
    config = network.config
    codes, random = image_codes(golden, config.vocabulary, config.tokens)
    permutations = [random.permutation(config.tokens) for _ in golden["mean_log_prob"]]
    orders = torch.tensor(np.asarray(golden.get("orders", permutations)))
    classes, levels = torch.tensor(golden["classes"]), golden["n_trials"]
    encoder = StandIn(16, config.vocabulary)
    scorer = scorer_of(network, "randar_masked", 16 * config.grid, encoder, levels=levels)
    yield Comparison.of("visible tokens", scorer.counts, golden["unmasked"])
    # The script goes through the levels in turn, the scorer in spread order.
    prepared = given(codes, permutation=lambda tokens, trial: orders[spread(levels)[trial]])
    trials = [spread(levels).index(level) for level in range(levels)]
    for name, trial in (("first", trials[0]), ("last", trials[-1])):
        _, log_probs = scorer.hidden_log_probs(prepared, trial, classes[:1])
        key = f"token_log_probs_{name}_trial_first_class"
        yield Comparison.of(
            f"token log-probabilities, {name} trial", log_probs[0], golden[key], 1e-5
        )
    means = torch.stack([scores_of(scorer, prepared, trial, classes) for trial in trials])
    yield Comparison.of("mean log-probability", means, golden["mean_log_prob"], relative=1e-6)


def meanflow(golden: Golden) -> Iterator[Comparison]:
    from genclass.scorers.mean_flow import Guidance, Interval, interval_start, mean_flow_loss

    shape = golden["config"]
    fields = transformer_fields(golden)
    doubled = shape.get("out_channels", shape["in_channels"]) == 2 * shape["in_channels"]
    fields["learn_sigma"] = doubled
    size = {name: fields.pop(name) for name in ("layers", "heads", "width")}
    network = recipe.filled(lambda: built("mean_flow", size=size, **fields), golden.get("salt", ""))
    config = network.config
    classes, null = torch.tensor(golden["classes"]), torch.tensor([config.classes])
    times = golden["timesteps"]
    random = np.random.RandomState(golden["seed"])
    size = (1, config.channels, config.latent_size, config.latent_size)
    x, *noises = (
        torch.from_numpy(random.standard_normal(size).astype(np.float32))
        for _ in range(1 + len(times))
    )
    for name, score in golden["scores"].items():
        errors = []
        generator = torch.Generator().manual_seed(42)
        for number, (time, noise) in enumerate(zip(times, noises, strict=True)):
            if name.startswith("meanflow_loss"):
                uniform = float(torch.rand((), generator=generator))
                normal = float(torch.randn((), generator=generator)) if uniform < 0.75 else 0.0
                start = interval_start(time, uniform, normal)
                yield Comparison.of(f"{name}, t = {time}: r", start, score["r"][number], 1e-7)
                guidance = Guidance(score["cfg_omega"], score["cfg_kappa"], *score["cfg_t"])
                interval = Interval(start, time, legacy_clamped_time=True)
                found = mean_flow_loss(network, x, noise, interval, classes, guidance)
                errors.append(found.double().sum(dim=(1, 2, 3)))
            else:
                instantaneous = name == "instantaneous_r_equals_t"
                scorer = scorer_of(
                    network,
                    "mean_flow",
                    8 * config.latent_size,
                    StandIn(8),
                    step_size=golden["step_size"],
                    start="time" if instantaneous else "zero",
                    legacy_clamped_time=instantaneous,
                )
                prepared = given(x, normal=functools.partial(lambda n, *_: n, noise))
                trial = scorer.timesteps.index(round(1000 * time))
                # The script's score is a mean, where the scorer's is a sum.
                errors.append(-scores_of(scorer, prepared, trial, classes) / x.numel())
        key = "sum_squared_error" if name.startswith("meanflow_loss") else "mean_squared_error"
        yield Comparison.of(name, torch.stack(errors), score[key], relative=1e-5)
    for output in golden["outputs_noise0"]:
        r, t, label = output["r"], output["t"], torch.tensor([output["class"]])
        noised = (1 - t) * x + t * noises[0]
        u = network.predict_classes(noised, t, label, r)
        name = f"r = {r}, t = {t}: output "
        yield close_corner(name + "corner", u, output["u_corner"], 2e-5)
        of_null = network.predict_classes(noised, t, null, r)
        for what, ours, key in (
            ("magnitudes", u, "u_abs_sum"),
            ("magnitudes of the null class", of_null, "u_abs_sum_null_class"),
        ):
            total = float(ours.double().abs().sum())
            yield Comparison.of(name + what, total, output[key], relative=1e-6)


def diffusion_schedule(golden: Golden) -> Iterator[Comparison]:
    from genclass.models.objectives import linear_schedule

    names = ("sqrt_alphas_cumprod", "sqrt_one_minus_alphas_cumprod")
    for name, ours in zip(names, linear_schedule(), strict=True):
        yield Comparison.of(name, ours[golden["t"]], golden[name], relative=1e-6)


def center_crop(golden: Golden) -> Iterator[Comparison]:
    from PIL import Image

    from genclass.data.images import center_crop as crop

    photo = recipe.photo(golden["seed"], golden["height"], golden["width"])
    pixels = np.asarray(crop(Image.fromarray(photo), golden["size"]))
    yield Comparison.of("shape", pixels.shape, golden["shape"])
    if "corner" in golden:
        yield Comparison.of("corner", pixels[:2, :2], golden["corner"])
    yield Comparison.of_bytes("bytes differing", pixels.tobytes(), golden["sha256"])


def statistics(golden: Golden) -> Iterator[Comparison]:
    from genclass.analysis.accuracy import judge

    images, trials, classes = (golden[f"n_{name}"] for name in ("images", "trials", "classes"))
    random = np.random.RandomState(golden["seed"])
    scores = (random.standard_normal((images, trials, classes)) * 3 - 100).astype(np.float32)
    class_ids = random.permutation(1000)[:classes]
    targets = random.randint(0, classes, images)
    scores[np.arange(images), :, targets] += 2
    right: dict[tuple[int, str], Any] = {}
    for judged in judge(scores, class_ids, class_ids[targets]):
        key = judged.budget, judged.aggregation
        right[key] = right.get(key, 0) + judged.right.sum(axis=0)
    for budget, rows in golden["accuracy_per_budget"].items():
        for aggregation, row in zip(("mean_log_p", "mean_softmax", "logsumexp"), rows, strict=True):
            yield Comparison.of(
                f"budget {budget}, {aggregation}",
                right[int(budget), aggregation] / images,
                row,
                absolute=1e-6,
            )


FAMILIES: dict[str, Callable[[Golden], Iterable[Comparison]]] = {
    "randar": randar,
    "llamagen": llamagen,
    "llamagen_vq": llamagen_vq,
    "maskgit_vq": maskgit_vq,
    "var": var,
    "avarc": avarc,
    "dit": dit,
    "sit": sit,
    "sit_repa": sit_repa,
    "rar": rar,
    "maskgit": maskgit,
    "taming_vqgan": taming_vqgan,
    "randar_dm": randar_dm,
    "meanflow": meanflow,
    "diffusion_schedule": diffusion_schedule,
    "center_crop": center_crop,
    "statistics": statistics,
}


def as_cases(golden: Golden) -> list[Golden]:
    """A file holds one case, a list of them, or what they share and a list, or the named ones,
    under `cases`.
    """
    if isinstance(golden, dict) and "cases" in golden:
        cases = golden["cases"]
        return [golden | case for case in (cases.values() if isinstance(cases, dict) else cases)]
    return golden if isinstance(golden, list) else [golden]


def translated(shape: dict[str, Any], fields: dict[str, str]) -> dict[str, Any]:
    """Official names of sizes to ours; what else stands there does not change the network."""
    return {
        field: tuple(shape[name]) if isinstance(shape[name], list) else shape[name]
        for name, field in fields.items()
        if name in shape
    }


def compare(family: str, path: Path) -> list[Comparison]:
    """Raises ValueError, in one line, where there is nothing to compare."""
    if family not in FAMILIES:
        raise ValueError(f"unknown family {family!r}; there are {', '.join(FAMILIES)}")
    try:
        cases = as_cases(json.loads(path.read_text()))
        comparisons = [
            replace(found, name=f"case {number}: {found.name}") if len(cases) > 1 else found
            for number, case in enumerate(cases, start=1)
            for found in FAMILIES[family](case)
        ]
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path}: no golden file of family {family}: {type(error).__name__}: {error}"
        ) from error
    if not comparisons:
        raise ValueError(f"{path}: nothing to compare")
    return comparisons


def main(arguments: list[str]) -> int:
    if len(arguments) != 2:
        print("usage: python tests/golden/check.py FAMILY FILE", file=sys.stderr)
        return 2
    try:
        comparisons = compare(arguments[0], Path(arguments[1]))
    except ValueError as error:
        print(f"check.py: {error}".replace("\n", " "), file=sys.stderr)
        return 2
    for found in comparisons:
        verdict = "ok  " if found.within else "FAIL"
        print(
            f"{verdict} {found.name}: absolute {found.absolute:.2e}, "
            f"relative {found.relative:.2e} (allowed: {found.allowed})"
        )
    print(
        f"largest absolute error {max(found.absolute for found in comparisons):.2e}, "
        f"largest relative error {max(found.relative for found in comparisons):.2e}"
    )
    return 0 if all(found.within for found in comparisons) else 1


if __name__ == "__main__":
    sys.path.insert(1, str(Path(__file__).parents[2]))  # genclass, where it is not installed
    raise SystemExit(main(sys.argv[1:]))
