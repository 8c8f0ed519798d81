"""What precision does to answers: the full-size networks in bfloat16 and TF32 beside float32.

    python -m tests.support.precision        # the table of docs/performance.md; needs a GPU

Weights are random, at the scale of the golden files' recipe; images are noise. Differences are
those of two classes' scores in one trial, as a common offset decides nothing.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from genclass.families import System
from genclass.jobs.worker import device_name
from genclass.planning.bench import benched
from genclass.scorers.draws import Draws
from genclass.scorers.fitting import score_image

NETWORKS = {"randar L", "dit XL"}
# Name -> (the scorer's dtype, TF32, weights rounded to bfloat16 first).
PRECISIONS = {
    "float32": ("float32", False, False),
    "TF32": ("float32", True, False),
    "TF32, weights rounded to bfloat16": ("float32", True, True),
    "bfloat16": ("bfloat16", False, False),
}
BATCH = 50  # classes at once


def compared(
    system: System, device: torch.device, images: int, trials: int, classes: int
) -> Iterator[str]:
    """Rows of the table, a precision each."""
    torch.manual_seed(1)
    with device:
        network = _filled(system.family.build())
        encoder = system.encoder.build() if system.encoder else None
    expected = None
    for name, (dtype, tf32, rounded) in PRECISIONS.items():
        options = system.options.model_copy(update={"dtype": dtype})
        weights = copy.deepcopy(network)
        if rounded:
            weights = weights.bfloat16().float()
        make = system.family.scorer()
        scorer = make(replace(system, options=options), weights, copy.deepcopy(encoder), device)
        found, seconds = [], 0.0
        for index in range(images):
            pixels = np.random.default_rng(index).integers(0, 256, (system.image_size,) * 2 + (3,))
            image = Image.fromarray(pixels.astype(np.uint8))
            prepared = scorer.prepare(image, Draws(0, "precision", str(index)))
            torch.backends.cuda.matmul.allow_tf32 = tf32  # never of the tokenizer
            start = time.perf_counter()
            scores, _ = score_image(scorer, prepared, range(trials), torch.arange(classes), BATCH)
            seconds += time.perf_counter() - start
            torch.backends.cuda.matmul.allow_tf32 = False
            found.append(torch.from_numpy(scores).double())
        scores_found = torch.stack(found)
        if expected is None:
            expected = scores_found
        yield f"| {name} | {_differences(expected, scores_found)} | {seconds:.1f} |"
        del scorer, weights


def _filled(network: nn.Module) -> nn.Module:
    """By the scale of the golden recipe: matrices keep the size of what they multiply."""
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            normal = torch.randn_like(value)
            if value.ndim > 1:
                value.copy_(normal / np.sqrt(np.prod(value.shape[1:])))
            else:
                value.copy_(0.1 * normal + float(name.endswith("weight")))
    return network.eval()


def _differences(expected: Tensor, found: Tensor) -> str:
    """Both float64 [images, trials, classes]."""

    def centred(scores: Tensor) -> Tensor:
        return scores - scores.mean(dim=-1, keepdim=True)

    def pairs(scores: Tensor) -> Tensor:
        upper = torch.triu_indices(scores.shape[-1], scores.shape[-1], 1)
        return scores[..., upper[0]] - scores[..., upper[1]]

    images, trials, _ = expected.shape
    reference = centred(expected)
    rms = float((2 * (centred(found) - reference).pow(2).mean()).sqrt())
    about = (reference - reference.mean(dim=1, keepdim=True)).pow(2).sum(dim=1) / (trials - 1)
    noise = float((2 * about.mean()).sqrt())
    otherwise = pairs(expected) * pairs(found) < 0
    clear = pairs(expected).abs() > noise / 10
    of_one = int((expected.argmax(dim=-1) != found.argmax(dim=-1)).sum())
    of_all = int((expected.mean(dim=1).argmax(-1) != found.mean(dim=1).argmax(-1)).sum())
    return (
        f"{rms:.3g} | {noise:.3g} | {otherwise.double().mean():.3%} "
        f"| {otherwise[clear].double().mean():.4%} | {of_one} of {images * trials} "
        f"| {of_all} of {images}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=6)
    parser.add_argument("--trials", type=int, default=4)
    parser.add_argument("--classes", type=int, default=100)
    arguments = parser.parse_args()
    device = torch.device("cuda")
    print(f"{device_name(device)}, torch {torch.__version__}")
    print(
        "| precision | rms | noise of one trial | pairs decided otherwise "
        "| with a margin over a tenth of the noise | answers of one trial | of all | s |"
    )
    for system in benched("float32"):
        name = f"{system.family.architecture} {system.family.size_name}"
        if name in NETWORKS:
            print(name, flush=True)
            with torch.inference_mode():
                for row in compared(
                    system, device, arguments.images, arguments.trials, arguments.classes
                ):
                    print(row, flush=True)


if __name__ == "__main__":
    main()
