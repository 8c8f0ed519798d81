"""Specs: exactly what changes a cell's numbers; and why they are computed anew."""

import copy
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from genclass.config import Config, load_config, parse_config
from genclass.errors import GenclassError
from genclass.families import ENCODERS, FAMILIES, ROLES
from genclass.families.encoders import AutoencoderKL
from genclass.families.randar import OrderedScoring, RandAR
from genclass.jobs.rehearsal import make_image_list, make_manifest, make_scores
from genclass.scores.shards import Shard
from genclass.specs.cells import specs_of
from genclass.specs.spec import Spec
from genclass.specs.why import Change, shown, why
from genclass.text import digest
from tests.support.made_up import CONFIGS, REPOSITORY, digests, made_up_specs
from tests.support.small_config import SMALL

MINIATURE = REPOSITORY / "config/miniature.yaml"
RECORDED = json.loads((REPOSITORY / "tests/golden/specs.json").read_text())
SHARD = Shard(0, 3, 0, 20)


@pytest.mark.parametrize("config", CONFIGS)
def test_specs_are_those_that_are_recorded(config: str) -> None:
    assert digests(config) == RECORDED[config], (
        "these cells would be computed anew: raise a family's version if that is right, and write "
        "them again: python -m tests.support.made_up > tests/golden/specs.json"
    )


def different(changed: Config) -> set[str]:
    """The models of the miniature whose specs are others than they were."""
    before, after = RECORDED["miniature"], made_up_specs(changed)
    assert before.keys() == after.keys()
    return {name for name in before if before[name] != after[name].sha256}


RANDARS = {"randar", "randar-racing", "randar-in-raster-order", "randar-raster"}


class MoreScoring(OrderedScoring):
    temperature: float = 1.0


class MoreRandAR(RandAR):
    Options = MoreScoring
    drop_path: float = 0.0
    norms: list[int] = [1, 2]


def test_a_new_option_with_a_default_changes_no_spec(registry: None, tmp_path: Path) -> None:
    FAMILIES["randar"] = MoreRandAR
    assert different(load_config(MINIATURE)) == set()
    (tmp_path / "more.yaml").write_text("models: {randar: {classifier: {temperature: 2}}}")
    assert different(load_config(MINIATURE, tmp_path / "more.yaml")) == {"randar"}
    (tmp_path / "more.yaml").write_text("models: {randar-raster: {network: {drop_path: 0.5}}}")
    assert different(load_config(MINIATURE, tmp_path / "more.yaml")) == {"randar-raster"}


class RaisedRandAR(RandAR):
    version = RandAR.version + 1


class RaisedAutoencoder(AutoencoderKL):
    version = AutoencoderKL.version + 1


def test_a_raised_version_changes_the_specs_of_its_family_only(registry: None) -> None:
    FAMILIES["randar"] = RaisedRandAR
    assert different(load_config(MINIATURE)) == RANDARS
    FAMILIES["randar"] = RandAR
    ENCODERS["autoencoder_kl"] = RaisedAutoencoder
    assert different(load_config(MINIATURE)) == {"dit", "sit"}


def test_what_stands_at_its_default_may_be_spelled_out(tmp_path: Path) -> None:
    (tmp_path / "spelled.yaml").write_text(
        "models: {randar: {classifier: {orders: random, dtype: float32, latent_noise: 0.0}, "
        "strategy: {kind: exhaustive}}, randar-racing: {strategy: {first_trials: 1}}}"
    )
    assert different(load_config(MINIATURE, tmp_path / "spelled.yaml")) == set()


def test_a_race_depends_on_its_budget_and_exhaustive_scores_do_not(tmp_path: Path) -> None:
    (tmp_path / "more.yaml").write_text(
        "models: {randar: {trials: 30}, randar-racing: {trials: 30}}"
    )
    assert different(load_config(MINIATURE, tmp_path / "more.yaml")) == {"randar-racing"}


@pytest.mark.parametrize("config", CONFIGS.values())
def test_a_spec_holds_all_of_its_model(config: str) -> None:
    """It is read back, and sent to another process, as the model that it was made of."""
    loaded = load_config(REPOSITORY / config)
    for name, spec in made_up_specs(loaded).items():
        model = loaded.models[name]
        for read in (Spec.parse(spec.text, "here"), pickle.loads(pickle.dumps(spec))):
            assert read == spec
            assert read.system.options == model.classifier
            assert read.schedule == model.strategy
            assert read.system.family.settings == model.network.settings
            assert read.system.work == model.system.work
            assert read.system.role in ROLES


def test_files_that_are_no_spec_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "spec.json"
    for content in (b"{", b"\xff", b'{"scoring_version": 1}', b"[]"):
        path.write_bytes(content)
        with pytest.raises(GenclassError, match=r"spec\.json: no spec of this version: delete it"):
            Spec.read(path)
    with pytest.raises(GenclassError, match=r"spec\.json: cannot read the spec: Is a directory"):
        path.unlink()
        path.mkdir()
        Spec.read(path)


def test_options_that_a_family_no_longer_has_are_one_line() -> None:
    spec = made_up_specs(load_config(MINIATURE))["dit"]
    old = Spec.parse(spec.text.replace('"step_size":50', '"steps":50'), "here")
    with pytest.raises(GenclassError, match=r"no model of this version .*: delete it and rerun"):
        _ = old.system
    gone = Spec.parse(spec.text.replace('"dit"', '"did"'), "here")
    with pytest.raises(GenclassError, match="unknown architecture 'did': did you mean 'dit'"):
        _ = gone.system


# Why


def small(folder: Path, **model: Any) -> Config:
    raw = copy.deepcopy(SMALL) | {"results": str(folder)}
    raw["datasets"]["digits"]["labels"] = "digits"
    raw["models"]["ours"]["network"]["classes"] = 10
    raw["models"]["ours"] |= model
    return parse_config(raw, "small")


@pytest.fixture
def scored(tmp_path: Path) -> Config:
    """A cell with its inputs, its spec and one score file."""
    config = small(tmp_path)
    write_inputs(config)
    spec = specs_of(config)["ours", "digits"]
    spec.write(config.run.spec("ours", "digits"))
    images = make_image_list("digits", config.datasets["digits"], 10, config.seed)
    make_scores(spec, SHARD, images, 5, config.run.shard("ours", "digits", SHARD.name))
    return config


def write_inputs(config: Config, seed: int = 42, weights: str = "weights") -> None:
    images = make_image_list("digits", config.datasets["digits"], 10, seed)
    images.write(config.run.image_list("digits"))
    manifest = make_manifest("checkpoints", weights, config.checkpoints["weights"])
    manifest.write(config.run.manifest("checkpoints", "weights"))


def test_nothing_is_said_of_what_is_as_the_config_asks(scored: Config) -> None:
    spec, file = why(scored, "ours", "digits")
    assert (spec.what, file.what) == (
        str(scored.run.spec("ours", "digits")),
        str(scored.run.shard("ours", "digits", SHARD.name)),
    )
    assert spec.reason == file.reason == ""
    assert spec.changes == file.changes == []


OTHERWISE: dict[str, tuple[Callable[[Config], Config], dict[str, tuple[Any, Any]]]] = {
    "an option": (
        lambda c: small(c.run.root, classifier={"latent_noise": 0.1}),
        {"classifier.latent_noise": (None, 0.1)},
    ),
    "the seed": (lambda c: c.model_copy(update={"seed": 1}), {"seed": (42, 1)}),
    "the size": (
        lambda c: small(c.run.root, image_size=128),
        {"image_size": (256, 128)},
    ),
    "a checkpoint": (
        lambda c: write_inputs(c, weights="others") or c,  # type: ignore[func-returns-value]
        {
            f"files.{part}": (digest("rehearsal-weights"), digest("rehearsal-others"))
            for part in ("encoder", "network")
        },
    ),
}


@pytest.mark.parametrize("otherwise", OTHERWISE)
def test_the_keys_that_changed_are_named(scored: Config, otherwise: str) -> None:
    change, expected = OTHERWISE[otherwise]
    verdicts = why(change(scored), "ours", "digits")
    for verdict in verdicts:
        assert verdict.reason
        assert {c.key: (c.old, c.new) for c in verdict.changes} == expected
        assert all(c.meaning for c in verdict.changes)
    assert why(change(scored), "ours", "digits", SHARD.name)[1] == verdicts[1]


def test_a_race_makes_a_new_spec_and_leaves_exhaustive_scores_as_they_are(scored: Config) -> None:
    races = small(scored.run.root, strategy={"kind": "racing", "delta": 0.2})
    spec, file = why(races, "ours", "digits")
    assert {c.key: (c.old, c.new) for c in spec.changes} == {
        "budget": (None, 20),
        "strategy.delta": (None, 0.2),
        "strategy.kind": (None, "racing"),
    }
    assert not file.reason


def test_another_order_of_the_images_is_named(scored: Config) -> None:
    write_inputs(scored, seed=1)
    [change] = why(scored, "ours", "digits")[0].changes
    assert change.key == "image_list"
    assert "images that are evaluated" in change.meaning


def test_the_version_of_a_family_is_named(scored: Config, registry: None) -> None:
    FAMILIES["randar"] = RaisedRandAR
    [change] = why(small(scored.run.root), "ours", "digits")[1].changes
    assert (change.key, change.old) == ("versions.randar", RandAR.version)
    assert change.new == RaisedRandAR.version


def test_every_key_of_a_spec_has_a_meaning() -> None:
    assert all(Change(f"{name}.a", 1, 2).meaning for name in Spec.model_fields)


def test_what_is_missing_damaged_or_older_is_told_apart(scored: Config) -> None:
    path = scored.run.shard("ours", "digits", SHARD.name)
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    assert "damaged" in why(scored, "ours", "digits")[1].reason
    path.write_bytes(whole)
    save_file(load_file(path), path, {"genclass": "{}", "image_ids": "[]"})
    assert "older version of genclass" in why(scored, "ours", "digits")[1].reason
    scored.run.spec("ours", "digits").write_text('{"scoring_version": 1}')
    assert "no spec of this version" in why(scored, "ours", "digits")[0].reason
    path.unlink()
    scored.run.spec("ours", "digits").unlink()
    verdicts = why(scored, "ours", "digits", SHARD.name)
    assert [verdict.reason for verdict in verdicts] == [
        "not there yet: the rule specify makes it",
        "not there yet: the rule evaluate makes it",
    ]


def test_cells_that_there_are_not_are_one_line(scored: Config) -> None:
    with pytest.raises(GenclassError, match="no 'our on digits': did you mean 'ours on digits'"):
        why(scored, "our", "digits")
    scored.run.image_list("digits").unlink()
    with pytest.raises(GenclassError, match=r"first time: \S+/images/digits.csv is not there yet"):
        why(scored, "ours", "digits")


def test_values_are_shown_shortly() -> None:
    assert shown(None) == "(default)"
    assert shown([1, 2]) == "[1, 2]"
    assert shown(np.arange(100).tolist()).endswith("...")
    assert len(shown("a" * 64)) == 60


def test_a_race_scores_its_first_images_as_the_same_model_without_a_race() -> None:
    specs = made_up_specs(load_config(MINIATURE))
    race, whole = specs["randar-racing"], specs["randar"]
    assert race.sha256 != whole.sha256  # both are known before
    assert race.exhaustive.text == whole.text
    assert whole.exhaustive is whole
    assert race.of(Shard(0, 5, 0, 20)).sha256 == whole.sha256
    assert race.of(Shard(5, 9, 0, 20, race=True)) == race


def test_without_races_the_paper_is_that_of_the_first_images() -> None:
    raced = made_up_specs(load_config(REPOSITORY / "config.yaml"))
    every = load_config(REPOSITORY / "config.yaml", REPOSITORY / "config/exhaustive.yaml")
    assert {name for name, model in every.models.items() if model.races} == {"a-varc"}
    assert all(e.exhaustive == e.images for (m, _), e in every.cells().items() if m != "a-varc")
    for name, spec in made_up_specs(every).items():
        assert spec.sha256 == raced[name].of(Shard(0, 1, 0, 1, race=name == "a-varc")).sha256
