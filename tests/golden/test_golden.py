"""Agreement with the official implementations, and the command that checks it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import check
import pytest
import torch

from genclass.families import ENCODERS, FAMILIES

HERE = Path(__file__).parent

SMALL = [
    ("randar", "randar_tiny"),
    ("llamagen", "llamagen_tiny"),
    ("var", "var_tiny"),
    ("var", "var_tiny_more"),
    ("avarc", "avarc_tiny"),
    ("dit", "dit_tiny"),
    ("sit", "sit_tiny"),
    ("sit_repa", "sit_repa_tiny"),
    ("rar", "rar_tiny"),
    ("maskgit", "maskgit_tiny"),
    ("maskgit", "maskgit_whole_tiny"),
    ("meanflow", "meanflow_tiny"),
    ("meanflow", "meanflow_tiny_8ch"),
    ("randar_dm", "randar_dm_tiny"),
    ("diffusion_schedule", "diffusion_schedule"),
    ("center_crop", "center_crop"),
    ("statistics", "statistics"),
]
FULL = [
    ("randar", "randar_l"),
    ("llamagen", "llamagen_l"),
    ("llamagen_vq", "llamagen_vq_ds16"),
    ("var", "var_d16"),
    ("var", "var_d16_more"),
    ("maskgit_vq", "maskgit_vq_f16"),
    ("dit", "dit_xl2"),
    ("sit", "sit_xl2"),
    ("sit_repa", "sit_repa_xl2"),
    ("rar", "rar_whole_tiny"),  # its tokenizer is the released one
    ("rar", "rar_b"),
    ("rar", "rar_l"),
    ("maskgit", "maskgit_256"),
    ("taming_vqgan", "maskgit_taming_vqgan_f16"),
    ("meanflow", "meanflow_l2"),
    ("meanflow", "meanflow_xl2"),
    ("randar_dm", "randar_dm_l"),
]
RELEASED: dict[str, dict[str, Any]] = {  # the cards' options, where a size was released
    "randar_l": {"architecture": "randar", "size": "L"},
    "randar_xl": {"architecture": "randar", "size": "XL"},
    "llamagen_l": {"architecture": "llamagen", "size": "L"},
    "llamagen_vq_ds16": {"architecture": "llamagen_vq"},
    "var_d16": {"architecture": "var", "size": "d16"},
    "var_vae": {"architecture": "var_vq"},
    "maskgit_vq_f16": {"architecture": "maskgit_vq"},
    "rar_b": {"architecture": "rar", "size": "B"},
    "rar_l": {"architecture": "rar", "size": "L"},
    "rar_xl": {"architecture": "rar", "size": "XL"},
    "rar_xxl": {"architecture": "rar", "size": "XXL"},
    "maskgit_256": {"architecture": "maskgit"},
    "maskgit_512": {"architecture": "maskgit", "grid": 32},
    "maskgit_taming_vqgan_f16": {"architecture": "taming_vqgan"},
    "meanflow_b4": {"architecture": "mean_flow", "size": "B", "patch": 4},
    "meanflow_l2": {"architecture": "mean_flow", "size": "L"},
    "meanflow_xl2": {"architecture": "mean_flow", "size": "XL", "learn_sigma": True},
    "dit_xl2": {"architecture": "dit", "size": "XL"},
    "sit_xl2": {"architecture": "sit", "size": "XL"},
    "sit_repa_xl2": {"architecture": "sit_repa", "size": "XL"},
}


@pytest.mark.parametrize(("family", "name"), SMALL, ids=[name for _, name in SMALL])
def test_small(family: str, name: str) -> None:
    assert check.main([family, str(HERE / f"{name}.json")]) == 0


@pytest.mark.full
@pytest.mark.parametrize(("family", "name"), FULL, ids=[name for _, name in FULL])
def test_full_size(family: str, name: str) -> None:
    assert check.main([family, str(HERE / f"{name}.json")]) == 0


@pytest.mark.parametrize("name", RELEASED)
def test_released_names_and_shapes(name: str) -> None:
    """What `load_state_dict(strict=True)` asks of a released checkpoint."""
    options = RELEASED[name]
    card = (FAMILIES | ENCODERS)[options["architecture"]]
    with torch.device("meta"):
        network = card.model_validate(options | {"checkpoint": "unnamed"}).build()
    ours = {
        key: [list(entry.shape), str(entry.dtype).removeprefix("torch.")]
        for key, entry in network.state_dict().items()
    }
    assert ours == json.loads((HERE / "state_dict" / f"{name}.json").read_text())


def perturbed(golden: Any, key: str, change: float) -> Any:
    """The golden values with the first number under `key` changed."""
    found: list[Any] = [golden]
    while found:
        node = found.pop(0)
        if isinstance(node, dict) and key in node:
            numbers = node[key]
            while isinstance(numbers[0], list):
                numbers = numbers[0]
            numbers[0] += change
            return golden
        found += node.values() if isinstance(node, dict) else node if isinstance(node, list) else []
    raise KeyError(key)


@pytest.mark.parametrize(
    ("family", "name", "key", "change"),
    [
        ("randar", "randar_tiny", "log_likelihood", 0.01),
        ("randar", "randar_tiny", "token_log_probs_first", 0.01),
        ("randar", "randar_tiny", "codes", 1),
        ("randar", "randar_tiny", "log_likelihood", float("nan")),
        ("llamagen", "llamagen_tiny", "token_log_probs_first", 1e-4),
        ("var", "var_tiny_more", "token_log_probs_first", 1e-4),
        ("var", "var_tiny_more", "latent_corner", 5e-5),
        ("var", "var_tiny_more", "fhat_square_sums", 1e-3),
        ("avarc", "avarc_tiny", "kept", 1),
        ("dit", "dit_tiny", "squared_error", 0.2),
        ("dit", "dit_tiny", "output_corner", 0.001),
        ("sit", "sit_tiny", "squared_error", 1e-6),
        ("sit_repa", "sit_repa_tiny", "velocity_corner", 0.001),
        ("rar", "rar_tiny", "token_log_probs_first_order_first_class", 4e-6),
        ("rar", "rar_tiny", "log_likelihood_raster", 2e-4),
        ("maskgit", "maskgit_tiny", "mean_log_prob", 1e-5),
        ("maskgit", "maskgit_tiny", "logits_corner", 1e-5),
        ("maskgit", "maskgit_tiny", "masked_positions", 1),
        ("randar_dm", "randar_dm_tiny", "mean_log_prob", 1e-5),
        ("randar_dm", "randar_dm_tiny", "unmasked", 1),
        ("meanflow", "meanflow_tiny_8ch", "mean_squared_error", 1e-4),
        ("meanflow", "meanflow_tiny", "sum_squared_error", 0.02),
    ],
)
def test_a_wrong_number_is_found(
    family: str,
    name: str,
    key: str,
    change: float,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    golden = json.loads((HERE / f"{name}.json").read_text())
    if "cases" in golden:  # the first will do
        golden["cases"] = dict(list(golden["cases"].items())[:1])
    path = tmp_path / "perturbed.json"
    path.write_text(json.dumps(perturbed(golden, key, change)))
    assert check.main([family, str(path)]) == 1
    assert "FAIL" in capsys.readouterr().out


def test_inputs_follow_from_the_seed(tmp_path: Path) -> None:
    """A file need not store its codes and orders."""
    golden = json.loads((HERE / "randar_tiny.json").read_text())
    del golden["codes"], golden["orders"], golden["token_log_probs_first"]
    path = tmp_path / "bare.json"
    path.write_text(json.dumps(golden))
    assert check.main(["randar", str(path)]) == 0


def test_several_cases_in_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    golden = json.loads((HERE / "sit_tiny.json").read_text())
    steps = golden.pop("steps")
    path = tmp_path / "several.json"
    path.write_text(json.dumps(golden | {"cases": [{"steps": [step]} for step in steps]}))
    assert check.main(["sit", str(path)]) == 0
    path.write_text(json.dumps([golden | {"steps": [step]} for step in steps]))
    assert check.main(["sit", str(path)]) == 0
    assert capsys.readouterr().out.count("case 3: t = 0.731: squared error") == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "usage"),
        (["randar"], "usage"),
        (["rander", "randar_tiny.json"], "unknown family 'rander'"),
        (["randar", "missing.json"], "missing.json: cannot be read"),
        (["randar", "README.md"], "README.md: no golden file of family randar"),
        (["randar", "dit_tiny.json"], "KeyError: 'n_layer'"),
        (["llamagen_vq", "statistics.json"], "KeyError"),
    ],
)
def test_wrong_usage(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*arguments[:1], *(str(HERE / name) for name in arguments[1:])]
    assert check.main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_as_a_command() -> None:
    """From any folder."""
    command = [sys.executable, str(HERE / "check.py"), "randar", str(HERE / "randar_tiny.json")]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr
    assert "largest absolute error" in done.stdout
    assert "largest relative error" in done.stdout
