"""config.yaml: what is accepted, and the line that each wrong thing gets."""

import copy
from typing import Any

import pytest

from genclass.config import load_config, parse_config
from genclass.errors import GenclassError

SMALL: dict[str, Any] = {
    "results": "results/small",
    "checkpoints": {"weights": {"places": ["file:w.pt"], "licence": "MIT"}},
    "datasets": {
        "digits": {"title": "Digits", "places": ["file:d"], "licence": "MIT", "images": 7}
    },
    "models": {
        "ours": {
            "title": "Ours",
            "network": {"architecture": "randar", "checkpoint": "weights", "size": "L"},
            "encoder": {"architecture": "llamagen_vq", "checkpoint": "weights"},
            "classifier": {"method": "any_order"},
            "trials": 20,
        }
    },
    "evaluations": [{"models": ["ours"], "datasets": ["digits"]}],
    "report": {
        "title": "Small",
        "tables": {
            "main": {
                "kind": "accuracy",
                "title": "Main",
                "rows": [{"model": "ours"}],
                "columns": ["digits"],
            }
        },
    },
}


def changed(path: str, value: Any) -> dict[str, Any]:
    raw = copy.deepcopy(SMALL)
    *parents, last = path.split("/")
    section: Any = raw
    for parent in parents:
        section = section[int(parent)] if isinstance(section, list) else section[parent]
    if value is None:
        del section[last]
    else:
        section[int(last) if isinstance(section, list) else last] = value
    return raw


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            "models/ours/strategy",
            {"kind": "race"},
            "c.yaml: 'models.ours.strategy.kind' is 'race': did you mean 'racing'?",
        ),
        (
            "models/ours/strategy",
            {"kind": "racing", "first_tokens": 256},
            "c.yaml: models.ours.strategy.first_tokens is 256: an order has 256: take fewer",
        ),
        (
            "models/ours/strategy",
            {"kind": "racing", "first_tokens": 64, "noise": {"scale": 3, "freedom": 9}},
            "c.yaml: models.ours.strategy.noise.first_tokens is missing: add the scale and freedom "
            "of the first 64 tokens, or leave `noise` out, and a pilot measures both",
        ),
        (
            "models/ours/strategy",
            {"kind": "fixed", "rounds": [[1, 3], [2, 5]]},
            "c.yaml: 'models.ours.strategy.rounds' is [[1, 3], [2, 5]]: value error, each [trials, "
            "keep] needs more trials and fewer classes than the one before it",
        ),
        ("sede", 3, "c.yaml: unknown key 'sede': did you mean 'seed'?"),
        ("models/ours/trial", 3, "c.yaml: unknown key 'models.ours.trial': did you mean 'trials'?"),
        (
            "models/ours/network/sizes",
            "L",
            "c.yaml: unknown key 'models.ours.network.sizes': did you mean 'size'?",
        ),
        ("models/ours/network", None, "c.yaml: 'models.ours.network' is missing: add it"),
        (
            "models/ours/network/architecture",
            "rander",
            "c.yaml: 'models.ours.network.architecture' is 'rander': did you mean 'randar'?",
        ),
        (
            "models/ours/network/size",
            "M",
            "c.yaml: 'models.ours.network.size' is \"M\": input should be 'B', 'L' or 'XL'",
        ),
        (
            "models/ours/network/size",
            {"layers": 2, "heads": 2},
            "c.yaml: 'models.ours.network.size.width' is missing: add it",
        ),
        (
            "models/ours/trials",
            0,
            "c.yaml: 'models.ours.trials' is 0: input should be greater than or equal to 1",
        ),
        (
            "models/ours/network/checkpoint",
            "weight",
            "c.yaml: models.ours.network: unknown checkpoint 'weight': did you mean 'weights'?",
        ),
        (
            "evaluations/0/models",
            ["our"],
            "c.yaml: evaluations.0.models: unknown model 'our': did you mean 'ours'?",
        ),
        (
            "evaluations/0/datasets",
            ["imagenet"],
            "c.yaml: evaluations.0.datasets: unknown dataset 'imagenet': known: digits",
        ),
        (
            "report/tables/main/columns",
            ["digit"],
            "c.yaml: report.tables.main: unknown dataset 'digit': did you mean 'digits'?",
        ),
        (
            "checkpoints/weights/sha256",
            "12ab",
            "c.yaml: 'checkpoints.weights.sha256' is '12ab': a sha256 has 64 hexadecimal digits, "
            "in small letters",
        ),
        (
            "datasets/digits/places",
            ["ftp://a.org/x"],
            "c.yaml: datasets.digits.places: 'ftp://a.org/x' is no place to fetch from: write "
            "https://..., hf://[datasets/]owner/name[@revision]/path, gdrive://FILE_ID, "
            "gdrive://FOLDER_ID/path or file:path",
        ),
        (
            "datasets/digits/layout",
            "imagenet_c",
            "c.yaml: datasets.digits: `corruption:` and `severity:` go with the layout imagenet_c, "
            "and it needs both: the layout is 'imagenet_c'",
        ),
        (
            "models/ours/classifier",
            {"method": "flow"},
            "c.yaml: models.ours.classifier.method is 'flow': a randar network is scored by "
            "'any_order'",
        ),
        (
            "models/ours/classifier/orders",
            "raster",
            "c.yaml: models.ours: 20 trials on digits, but its classifier has only 1 different: "
            "lower trials",
        ),
    ],
)
def test_wrong_configs_get_one_clear_line(path: str, value: Any, message: str) -> None:
    with pytest.raises(GenclassError) as caught:
        parse_config(changed(path, value), "c.yaml")
    assert str(caught.value) == message


def test_a_names_that_could_reach_a_shell_are_refused() -> None:
    raw = changed("models/a; rm -rf", SMALL["models"]["ours"])
    with pytest.raises(GenclassError, match="is 'a; rm -rf': a name has small letters"):
        parse_config(raw, "c.yaml")


def test_files_that_are_no_config(tmp_path) -> None:
    with pytest.raises(GenclassError, match=r"gone\.yaml: cannot read the config: No such file"):
        load_config(tmp_path / "gone.yaml")
    (tmp_path / "broken.yaml").write_text("models: [1,\n")
    with pytest.raises(GenclassError, match=r"broken\.yaml: not YAML: .*line 2"):
        load_config(tmp_path / "broken.yaml")
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(GenclassError, match="a config is a mapping"):
        load_config(tmp_path / "list.yaml")


def test_a_cell_has_the_largest_budget_that_is_asked_of_it() -> None:
    raw = changed("evaluations/0/trials", 8)
    raw["evaluations"].append({"models": ["ours"], "datasets": ["digits"]})
    assert parse_config(raw, "c.yaml").cells() == {("ours", "digits"): 20}


def test_the_diffusion_grid_bounds_the_budget() -> None:
    raw = changed(
        "models/ours/network", {"architecture": "dit", "checkpoint": "weights", "size": "XL"}
    )
    raw["models"]["ours"]["encoder"] = {"architecture": "autoencoder_kl", "checkpoint": "weights"}
    raw["models"]["ours"]["classifier"] = {"method": "diffusion", "step_size": 300}
    raw["models"]["ours"]["trials"] = 3  # 150, 450, 750; 1050 is beyond the schedule
    assert parse_config(raw, "c.yaml").models["ours"].classifier.trial_limit == 3
    raw["models"]["ours"]["trials"] = 4
    with pytest.raises(GenclassError, match="has only 3 different: lower trials"):
        parse_config(raw, "c.yaml")
