"""Image classifiers of transformers: the library's own answers, off the files of the hub."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import save_file

from genclass.data.class_lists import ClassList
from genclass.errors import GenclassError
from genclass.families import System
from genclass.families.card import Scoring
from genclass.families.image_classifier import SIZES, ImageClassifier
from genclass.scorers.draws import Draws
from tests.support.small_networks import counting_necessary

CPU = torch.device("cpu")
DRAWS = Draws(1, "photos", "a")
PHOTO = Image.fromarray(np.random.default_rng(0).integers(0, 256, (61, 47, 3), dtype=np.uint8))
NAMES = [entry.name for entry in ClassList.load("digits").entries]

# As the hub has them: Google's ViT squashes the whole image, DINOv2 crops it.
PREPROCESSING = {
    "vit": {
        "do_normalize": True,
        "do_resize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "resample": 2,
        "size": 16,
    },
    "dinov2": {
        "crop_size": {"height": 16, "width": 16},
        "do_center_crop": True,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.485, 0.456, 0.406],
        "image_processor_type": "BitImageProcessor",
        "image_std": [0.229, 0.224, 0.225],
        "resample": 3,
        "rescale_factor": 0.00392156862745098,
        "size": {"shortest_edge": 20},
    },
}
CONFIGURATION = {
    "vit": {"intermediate_size": 64, "image_size": 16},
    "dinov2": {"mlp_ratio": 4, "image_size": 32, "use_swiglu_ffn": True},
}


@pytest.fixture(params=["vit", "dinov2"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def files_of(kind: str, folder: Path, **more: Any) -> tuple[dict[str, Path], Any]:
    """The three files of a tiny random model, and the model."""
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(
        kind,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        id2label={i: f"{name.replace('_', ' ')}, another name" for i, name in enumerate(NAMES)},
        **{"patch_size": 4} | CONFIGURATION[kind] | more,
    )
    model = transformers.AutoModelForImageClassification.from_config(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSING[kind]))
    return {
        "network": folder / "model.safetensors",
        "configuration": folder / "config.json",
        "preprocessing": folder / "preprocessor_config.json",
    }, model


def system(image_size: int = 16, **more: Any) -> System:
    options: dict[str, Any] = {
        "architecture": "image_classifier",
        "checkpoint": "x",
        "configuration": "x-config",
        "preprocessing": "x-preprocessing",
        "size": {"layers": 2, "heads": 2, "width": 16},
        "patch": 4,
        "grid": 4,
        "classes": 10,
        "labels": "digits",
    }
    return System(ImageClassifier(**options | more), None, Scoring(), image_size)


def test_scores_are_the_librarys_own(kind: str, tmp_path: Path) -> None:
    files, model = files_of(kind, tmp_path)
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
    with torch.no_grad():
        logits = model(**processor(PHOTO, return_tensors="pt")).logits
    scorer = system().load(files, CPU)
    prepared = scorer.prepare(PHOTO, DRAWS)
    found = scorer.score([prepared] * 3, [0] * 3, torch.tensor([7, 0, 2]))
    torch.testing.assert_close(found, logits.log_softmax(dim=1)[0, [7, 0, 2]])


def test_preprocessing_is_pillows(kind: str, tmp_path: Path) -> None:
    """Written out: no library's default can change it unseen."""
    files, _ = files_of(kind, tmp_path)
    scorer: Any = system().load(files, CPU)
    if kind == "vit":
        crop = PHOTO.resize((16, 16), Image.Resampling.BILINEAR)
    else:
        crop = PHOTO.resize((20, int(20 * 61 / 47)), Image.Resampling.BICUBIC)
        crop = crop.crop((2, 4, 18, 20))
    told = PREPROCESSING[kind]
    pixels = np.asarray(crop, dtype=np.float32) / 255
    expected = (pixels - np.array(told["image_mean"])) / np.array(told["image_std"])
    found = scorer.preprocessing(PHOTO).permute(1, 2, 0)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_names_of_older_checkpoints(kind: str, tmp_path: Path) -> None:
    """What is on the hub was written by the fourth version of the library."""
    files, model = files_of(kind, tmp_path)
    renamed = {"q_proj": "attention.query", "k_proj": "attention.key", "v_proj": "attention.value"}
    renamed["o_proj"] = "output.dense"
    weights = {}
    for key, value in model.state_dict().items():
        for new, old in renamed.items():
            key = key.replace(f"attention.{new}", f"attention.{old}")
        if kind == "vit":
            key = key.replace("vit.layers", "vit.encoder.layer")
            key = key.replace("mlp.fc1", "intermediate.dense").replace("mlp.fc2", "output.dense")
        key = key.replace("mlp.down_proj", "mlp.weights_out")
        if "mlp.up_proj" in key:
            continue
        if "mlp.gate_proj" in key:
            up = model.state_dict()[key.replace("gate_proj", "up_proj")]
            key, value = key.replace("gate_proj", "weights_in"), torch.cat([value, up])
        weights[key] = value.contiguous()
    save_file(weights, files["network"])
    scorer = system().load(files, CPU)
    files_of(kind, tmp_path)
    other = system().load(files, CPU)
    found, expected = (s.prepare(PHOTO, DRAWS).encoded for s in (scorer, other))
    torch.testing.assert_close(found, expected)


def test_one_pass_is_charged() -> None:
    work = system().work
    assert work.score == 0
    assert work.passes(images=7, scores=70) == 7
    assert work.operations(images=7, scores=70) == 7 * work.image


@pytest.mark.parametrize(
    ("kind", "size", "patch", "more"),
    [
        ("vit", "L", 16, {"intermediate_size": 4096, "image_size": 224}),
        ("dinov2", "L", 14, {"mlp_ratio": 4, "image_size": 518}),
        ("dinov2", "XL", 14, {"mlp_ratio": 4, "image_size": 518, "use_swiglu_ffn": True}),
    ],
)
def test_work_of_released_sizes(kind: str, size: str, patch: int, more: dict[str, Any]) -> None:
    shape = SIZES[size]
    config = transformers.AutoConfig.for_model(
        kind,
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        patch_size=patch,
        num_labels=1000,
        **more,
    )
    with torch.device("meta"), torch.inference_mode():
        model = transformers.AutoModelForImageClassification.from_config(config).eval()
        with counting_necessary() as counted:
            model(torch.empty(1, 3, 224, 224))
    card = ImageClassifier(
        architecture="image_classifier", checkpoint="x", size=size, patch=patch, grid=224 // patch
    )
    assert counted() == pytest.approx(card.work(Scoring()).image, rel=0.001)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": {"layers": 3, "heads": 2, "width": 16}}, "num_hidden_layers is 2, but network"),
        ({"classes": 9}, "num_labels is 10, but network.classes says 9"),
        ({"patch": 2}, "patch_size is 4, but network.patch says 2"),
        ({"labels": "imagenet"}, r"class 0 is '.*', in the class list imagenet it is 'tench'"),
    ],
)
def test_files_of_another_network(changes: Any, message: str, tmp_path: Path) -> None:
    files, _ = files_of("vit", tmp_path)
    with pytest.raises(GenclassError, match=message):
        system(**changes).load(files, CPU)


def test_classes_in_another_order(tmp_path: Path) -> None:
    files, _ = files_of("vit", tmp_path)
    told = json.loads(files["configuration"].read_text())
    names = list(told["id2label"].values())
    told["id2label"] = {str(i): name for i, name in enumerate(names[1:] + names[:1])}
    files["configuration"].write_text(json.dumps(told))
    with pytest.raises(GenclassError, match="and 9 more differ: name a list in their order"):
        system().load(files, CPU)
    system(labels=None).load(files, CPU)


def test_what_does_not_fit(tmp_path: Path) -> None:
    files, _ = files_of("vit", tmp_path)
    with pytest.raises(GenclassError, match=r"image_size is 20, but the preprocessing .* 16 x 16"):
        system(image_size=20).load(files, CPU)
    other = tmp_path / "other"
    with pytest.raises(GenclassError, match=r"no checkpoint of this ViT.*: .*expected"):
        system().load(files | {"network": files_of("vit", other, patch_size=2)[0]["network"]}, CPU)
    for part, content, message in (
        ("preprocessing", "[]", "no configuration of an image processor"),
        ("configuration", '{"model_type": "bert"}', "no configuration of an image classifier"),
        ("configuration", "{", "Expecting"),
    ):
        wrong = tmp_path / f"{part}.json"
        wrong.write_text(content)
        with pytest.raises(GenclassError, match=f"{part}.json: .*{message}") as raised:
            system().load(files | {part: wrong}, CPU)
        assert "\n" not in str(raised.value)
