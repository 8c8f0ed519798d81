"""The miniature: its digits are always the same, and its networks load as released ones do."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from genclass.config import Config, load_config
from genclass.data.class_lists import ClassList
from genclass.data.images import to_tensor
from genclass.errors import GenclassError
from genclass.files import sha256_of
from genclass.miniature import DRAWING_VERSION
from genclass.miniature.digits import TEST_SETS, draw_digits
from genclass.miniature.training import train_network
from genclass.scorers.draws import Draws
from genclass.sources.checkpoints import load_checkpoint

CPU = torch.device("cpu")
CONFIG_FILE = Path(__file__).parents[2] / "config" / "miniature.yaml"

# Of names and pixels, by DRAWING_VERSION: raise the version in genclass/miniature/__init__.py when
# the drawing changes, and record the new digest here.
DRAWINGS = {1: "70d3ca41336066eeb695c901375c311bc765a072eca219ccc0d1840b787b0e27"}

ENCODERS = {"vq": "vq.pt", "vae": "vae.safetensors", "var-vq": "var-vq.pt"}
NETWORKS = {  # and the encoder that each is trained with; None: it reads pixels
    "randar": "vq.pt",
    "randar-raster": "vq.pt",
    "dit": "vae.safetensors",
    "sit": "vae.safetensors",
    "var": "var-vq.pt",
    "vit": None,
}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("miniature") / "datasets"
    draw_digits(folder)
    return folder


@pytest.fixture(scope="module")
def config() -> Config:
    return load_config(CONFIG_FILE)


@pytest.fixture(scope="module")
def trained(drawn: Path, config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every checkpoint of the miniature, after three steps of training."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for name in (*ENCODERS, *NETWORKS):
        train_three_steps(name, config, drawn, folder, folder)
    return folder


def train_three_steps(
    name: str, config: Config, drawn: Path, encoders: Path, destination: Path, seed: int = 0
) -> Path:
    assert config.miniature
    few = config.miniature.training[name].model_copy(update={"steps": 3, "batch": 16})
    model = next(
        model for model in config.models.values() if name in model.system.checkpoints.values()
    )
    path = destination / ENCODERS.get(name, f"{name}.pt")
    tokenizer = NETWORKS.get(name)
    train_network(
        network=None if name in ENCODERS else model.network,
        encoder=model.encoder,
        training=few,
        seed=seed,
        images=drawn / "train",
        encoder_checkpoint=encoders / tokenizer if tokenizer else None,
        destination=path,
    )
    return path


def files_of(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*.png"))


def test_the_drawing_has_not_changed(drawn: Path) -> None:
    digest = hashlib.sha256()
    for name in files_of(drawn):
        digest.update(name.encode())
        digest.update(np.asarray(Image.open(drawn / name)).tobytes())
    assert digest.hexdigest() == DRAWINGS[DRAWING_VERSION], "raise DRAWING_VERSION and record it"


def test_drawing_again_replaces_the_folder(drawn: Path, tmp_path: Path) -> None:
    again = tmp_path / "datasets"
    (again / "train" / "left-over").mkdir(parents=True)
    draw_digits(again)
    assert files_of(again) == files_of(drawn)
    assert not (again / "train" / "left-over").exists()
    assert all((again / n).read_bytes() == (drawn / n).read_bytes() for n in files_of(again)[::50])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["datasets"]


def test_no_digit_is_both_trained_on_and_tested(drawn: Path) -> None:
    train, clean = files_of(drawn / "train"), files_of(drawn / "digits")
    assert not set(train) & set(clean)
    assert (len(train), len(clean)) == (1397, 400)
    for name in TEST_SETS:  # the shifted sets show the same test digits
        assert set(files_of(drawn / name)) <= set(clean), name


def test_sets_are_as_the_config_says(drawn: Path, config: Config) -> None:
    assert set(config.datasets) == set(TEST_SETS)
    known = set(ClassList.load("digits").by_folder)
    for name, dataset in config.datasets.items():
        assert len(files_of(drawn / name)) == dataset.images, name
        folders = {path.name for path in (drawn / name).iterdir()}
        assert folders == known or dataset.candidates == "present", name
    four = {path.name for path in (drawn / "digits-four").iterdir()}
    assert four == {"digit-1", "digit-3", "digit-8", "digit-9"}


def test_every_shift_changes_the_images(drawn: Path) -> None:
    def pixels(name: str, file: str) -> np.ndarray:
        return np.asarray(Image.open(drawn / name / file)).astype(int)

    changes = {
        name: [abs(pixels(name, f) - pixels("digits", f)).mean() for f in files_of(drawn / name)]
        for name in TEST_SETS
        if name != "digits"
    }
    for name, changed in changes.items():
        assert min(changed) > 2, name
    noise = [np.mean(changes[f"digits-noise-{level}"]) for level in (1, 2, 3)]
    assert noise == sorted(noise)


@pytest.mark.parametrize("name", [*ENCODERS, *NETWORKS])
def test_checkpoints_load_strictly(trained: Path, config: Config, name: str) -> None:
    model = next(
        model for model in config.models.values() if name in model.system.checkpoints.values()
    )
    card = model.encoder if name in ENCODERS else model.network
    assert card is not None
    module = card.build()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    load_checkpoint(module, trained / ENCODERS.get(name, f"{name}.pt"))
    after = module.state_dict()
    assert all(torch.isfinite(weight).all() for weight in module.parameters())
    assert any(not torch.equal(before[key], after[key]) for key in after)


def test_the_tokenizer_lies_where_the_released_file_has_it(trained: Path) -> None:
    assert set(torch.load(trained / "vq.pt", weights_only=True)) == {"model"}
    assert "tok_embeddings.weight" in torch.load(trained / "randar.pt", weights_only=True)


@pytest.mark.parametrize("name", ["vq", "vae", "var-vq", "randar", "sit", "var", "vit"])
def test_training_is_a_function_of_the_seed(
    trained: Path, config: Config, drawn: Path, tmp_path: Path, name: str
) -> None:
    expected = sha256_of(trained / ENCODERS.get(name, f"{name}.pt"))
    torch.rand(7)  # the state of the global generator does not matter
    again = train_three_steps(name, config, drawn, trained, tmp_path)
    assert sha256_of(again) == expected
    other = train_three_steps(name, config, drawn, trained, tmp_path, seed=1)
    assert sha256_of(other) != expected


@pytest.mark.parametrize("name", ["var", "vit"])
def test_what_is_trained_is_what_is_scored(
    trained: Path, config: Config, drawn: Path, name: str
) -> None:
    """Of a batch of one image the loss is minus its score, of a token or of the class."""
    model = config.models[name]
    files = {"network": trained / f"{name}.pt", "encoder": trained / "var-vq.pt"}
    scorer = model.system.load({part: files[part] for part in model.system.checkpoints}, CPU)
    file, label = drawn / "train" / files_of(drawn / "train")[-1], 9
    image = Image.open(file).convert("RGB")
    network: Any = scorer.network
    loss = model.network.objective(
        network,
        getattr(scorer, "encoder", None),
        to_tensor(image).unsqueeze(0),
        torch.tensor([label]),
        config.miniature.training[name],
    )
    prepared = scorer.prepare(image, Draws(0, "digits", "any"))
    score = scorer.score([prepared], [0], torch.tensor([label])).item()
    terms = network.config.tokens if name == "var" else 1
    assert loss().item() == pytest.approx(-score / terms, rel=1e-4)


@pytest.mark.parametrize(("name", "whole"), [("dit", 1000), ("sit", 1)])
def test_a_batch_sees_timesteps_of_every_part(config: Config, name: str, whole: int) -> None:
    """One from each of as many equal parts as the batch has images."""
    assert config.miniature
    model = config.models[name]
    assert model.encoder
    network, seen = model.network.build(), []
    predict = network.predict
    network.predict = lambda x, t, classes: seen.append(t) or predict(x, t, classes)
    loss = model.network.objective(
        network,
        model.encoder.build(),
        torch.zeros(2, 3, 8, 8),
        torch.tensor([0, 1]),
        config.miniature.training[name].model_copy(update={"batch": 20}),
    )
    for _ in range(3):
        loss()
    parts = torch.stack(seen).double() / whole * 20
    assert torch.equal(parts.floor().long(), torch.arange(20).expand(3, -1))
    assert not torch.equal(seen[0], seen[1])


def test_orders_make_two_different_networks(trained: Path) -> None:
    random = torch.load(trained / "randar.pt", weights_only=True)
    raster = torch.load(trained / "randar-raster.pt", weights_only=True)
    assert random.keys() == raster.keys()
    assert not torch.equal(random["output.weight"], raster["output.weight"])


def test_no_digits_is_one_clear_line(config: Config, tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    with pytest.raises(GenclassError, match="there are no digits: rerun the workflow"):
        train_three_steps("vq", config, tmp_path, tmp_path, tmp_path)
    assert not (tmp_path / "vq.pt").exists()


def test_digits_that_cannot_be_written_are_one_line(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(GenclassError, match=r"cannot draw the digits: .*file"):
        draw_digits(tmp_path / "file" / "datasets")
