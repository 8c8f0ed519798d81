"""RAR, MaskGIT, MeanFlow and masked RandAR: released files as they are, and the official way."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from genclass.config import ScoredModel, model_type
from genclass.errors import GenclassError
from genclass.families import ENCODERS, FAMILIES
from genclass.scorers.draws import Draws
from genclass.scorers.scorer import Scorer
from genclass.scorers.spread import spread
from tests.support import small_families
from tests.support.small_networks import awakened

CPU = torch.device("cpu")
DRAWS = Draws(seed=3, dataset="digits", image_id="digit-1/7.png")
IMAGE = Image.fromarray(np.random.default_rng(1).integers(0, 256, (9, 8, 3), dtype=np.uint8))
CLASSES = torch.arange(small_families.CLASSES)


def scorer_of(folder: Path, architecture: str, **options: Any) -> Any:
    """`options`: of the small one's classifier."""
    section = small_families.section(architecture)
    section["classifier"] |= options
    system = model_type(architecture, ScoredModel).model_validate(section).system
    return system.load(small_families.write_weights(system, folder), CPU)


@pytest.mark.parametrize("architecture", [name for name in FAMILIES if FAMILIES[name].benched])
def test_scores_are_those_of_the_plain_way_and_of_the_official(
    architecture: str, tmp_path: Path
) -> None:
    scorer: Scorer = scorer_of(tmp_path, architecture)
    family = scorer.system.family
    plain, official = family.plain(), family.official()
    assert plain is not None
    prepared = scorer.prepare(IMAGE, DRAWS)
    for trial in range(min(3, scorer.system.trial.limit or 3)):
        with torch.inference_mode():
            ours = scorer.score([prepared] * len(CLASSES), [trial] * len(CLASSES), CLASSES)
            for theirs in filter(None, (plain, official)):
                torch.testing.assert_close(ours, theirs(scorer, prepared, trial, CLASSES))
        assert ours.std() > 1e-3


def test_masks_of_an_image_differ_by_level_and_trial(tmp_path: Path) -> None:
    scorer = scorer_of(tmp_path, "maskgit", levels=5, schedule="linear")
    masks = [scorer.mask(DRAWS, trial) for trial in range(200)]
    hidden = torch.stack(masks).float().mean(dim=1)
    for place, level in enumerate(spread(5)):  # trials begin with the middle one, and come again
        assert float(hidden[place::5].mean()) == pytest.approx((level + 1) / 6, abs=0.06)
    assert not torch.equal(masks[0], masks[5])
    assert all(mask.any() for mask in masks)
    assert torch.equal(
        masks[3], scorer_of(tmp_path, "maskgit", levels=5, schedule="linear").mask(DRAWS, 3)
    )


def test_visible_tokens_follow_the_level(tmp_path: Path) -> None:
    scorer = scorer_of(tmp_path, "randar_masked", levels=4)
    counts = [scorer.order(DRAWS, trial)[1] for trial in range(8)]
    assert counts == [[2, 6, 10, 14][level] for level in spread(4)] * 2
    orders = [tuple(scorer.order(DRAWS, trial)[0].tolist()) for trial in range(8)]
    assert len(set(orders)) == 8
    # As the any-order scorer draws them.
    assert orders[3] == tuple(DRAWS.permutation(16, 3).tolist())


def test_what_mean_flow_is_held_against(tmp_path: Path) -> None:
    """- weight ||u(z, r, t) - (noise - x)||^2."""
    for start, clamped, time, mixed in (("zero", False, 0.25, 0.25), ("time", True, 0.01, 0.05)):
        scorer = scorer_of(
            tmp_path, "mean_flow", step_size=20, start=start, legacy_clamped_time=clamped
        )
        prepared = scorer.prepare(IMAGE, DRAWS)
        trial = scorer.timesteps.index(round(1000 * time))
        x, noise = prepared.encoded, DRAWS.normal((1, 4, 4, 4), "noise", trial)
        z = (1 - mixed) * x + mixed * noise
        r = 0.0 if start == "zero" else time
        with torch.inference_mode():
            found = scorer.score([prepared], [trial], torch.tensor([2]))
            u = scorer.network.predict(z, time, torch.tensor([2]), r)
        expected = -((1 - mixed) ** 2) * (u - (noise - x)).square().sum()
        assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_released_maskgit_is_found_beside_its_optimizer(tmp_path: Path) -> None:
    card = small_families.system_of("maskgit").family
    weights = awakened(card.build()).state_dict()
    state = {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": []}
    content = {"iter": 5, "global_epoch": 2, "model_state_dict": weights}
    torch.save(content | {"optimizer_state_dict": state}, tmp_path / "released.pth")
    loaded = card.loaded({"network": tmp_path / "released.pth"}, CPU)
    assert torch.equal(loaded.state_dict()["tok_emb.weight"], weights["tok_emb.weight"])


def test_a_released_vqgan_is_loaded_without_its_loss(tmp_path: Path) -> None:
    system = small_families.system_of("maskgit")
    assert isinstance(system.encoder, ENCODERS["taming_vqgan"])
    weights = awakened(system.encoder.build()).state_dict()
    loss = {"loss.discriminator.main.0.weight": torch.ones(3)}
    torch.save({"epoch": 3, "state_dict": weights | loss}, tmp_path / "last.ckpt")
    loaded = system.encoder.loaded({"network": tmp_path / "last.ckpt"}, CPU)
    assert torch.equal(loaded.state_dict()["quant_conv.weight"], weights["quant_conv.weight"])
    torch.save(weights | {"other.weight": torch.ones(3)}, tmp_path / "other.pt")
    with pytest.raises(GenclassError, match=r"has an unknown other\.weight"):
        system.encoder.loaded({"network": tmp_path / "other.pt"}, CPU)


@pytest.mark.parametrize("doubled", [False, True])
def test_the_channels_of_mean_flow_are_read_off_its_file(tmp_path: Path, doubled: bool) -> None:
    card = small_families.system_of("mean_flow").family
    sized = card.model_copy(update={"learn_sigma": doubled})
    torch.save({"ema": awakened(sized.build()).state_dict()}, tmp_path / "w.pt")
    files = {"network": tmp_path / "w.pt"}
    network: Any = card.loaded(files, CPU)
    assert network.config.learn_sigma == doubled
    other = card.model_copy(update={"learn_sigma": not doubled})
    with pytest.raises(GenclassError, match="correct the size in the config, or the file"):
        other.loaded(files, CPU)
    torch.save({"final_layer.linear.weight": torch.ones(7, 16)}, tmp_path / "w.pt")
    with pytest.raises(GenclassError, match=r"w\.pt: final_layer\.linear\.weight has 7 rows"):
        card.loaded(files, CPU)
