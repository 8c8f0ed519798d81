"""config.yaml: what is accepted, and the line that each wrong thing gets."""

import copy
from pathlib import Path
from typing import Any

import pytest

from genclass.config import (
    Archive,
    Content,
    Extent,
    ScoredModel,
    Selection,
    load_config,
    parse_config,
    read_config,
)
from genclass.config.config import config_type
from genclass.errors import GenclassError
from genclass.section import Section
from tests.support.small_config import SMALL

REPOSITORY = Path(__file__).parents[2]


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
            {"kind": "fixed", "rounds": [[1, 3], [2, 5]]},
            'c.yaml: \'models.ours.strategy\' is {"kind": "fixed", "rounds": [[1, 3], [2, 5]]}: '
            "value error, each [trials, keep] needs more trials and fewer classes than the one "
            "before it",
        ),
        (
            "models/ours/strategy",
            {"kind": "fixed", "parts": [[3, 5]]},
            "c.yaml: models.ours.strategy.parts: one order of randar has no parts: use rounds",
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
            "c.yaml: 'models.ours.network.size' is 'M': known: B, L, XL",
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
            "models/ours/encoder",
            {"architecture": "autoencoder_kl", "checkpoint": "weights"},
            "c.yaml: 'models.ours.encoder.architecture' is 'autoencoder_kl': known: llamagen_vq, "
            "maskgit_vq",
        ),
        ("models/ours/encoder", None, "c.yaml: 'models.ours.encoder' is missing: add it"),
        (
            "models/ours/network/architecture",
            None,
            "c.yaml: 'models.ours.network' needs the key architecture",
        ),
        (
            "evaluations/0/images",
            8,
            "c.yaml: evaluations: 8 images of digits, which has only 7: lower images",
        ),
        (
            "datasets/digits/places",
            ["ftp://a.org/x"],
            "c.yaml: datasets.digits.places: 'ftp://a.org/x' is no place to fetch from: write "
            "https://..., hf://[datasets/]owner/name[@revision]/path (or a pattern with *), "
            "gdrive://FILE_ID, gdrive://FOLDER_ID/path or file:path",
        ),
        (
            "datasets/digits/layout",
            "imagenet_c",
            "c.yaml: datasets.digits: `corruption:` and `severity:` go with the layout imagenet_c, "
            "and it needs both: the layout is 'imagenet_c'",
        ),
        (
            "models/ours/classifier",
            {"step_size": 4},
            "c.yaml: unknown key 'models.ours.classifier.step_size': known: augmentation, dtype, "
            "latent_noise, orders",
        ),
        (
            "models/ours/classifier",
            {"orders": "raster"},
            "c.yaml: models.ours: 20 orders on digits, but it has only 1 different: lower trials",
        ),
    ],
)
def test_wrong_configs_get_one_clear_line(path: str, value: Any, message: str) -> None:
    with pytest.raises(GenclassError) as caught:
        parse_config(changed(path, value), "c.yaml")
    assert str(caught.value) == message


def test_names_that_could_reach_a_shell_are_refused() -> None:
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
    with pytest.raises(GenclassError, match="cannot read the config: Is a directory"):
        load_config(tmp_path)
    (tmp_path / "image.yaml").write_bytes(b"\x89PNG\r\n")
    with pytest.raises(GenclassError, match=r"image\.yaml: not YAML: 'utf-8' codec can't decode"):
        load_config(tmp_path / "image.yaml")
    (tmp_path / "date.yaml").write_text("results: 2026-13-45\n")
    with pytest.raises(GenclassError, match=r"date\.yaml: not YAML: month must be in 1\.\.12"):
        load_config(tmp_path / "date.yaml")


def test_a_key_that_stands_twice_is_said_and_a_merged_one_may_be_overridden(tmp_path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\nc: {<<: [*a, {y: 4}], <<: *a}\n")
    with pytest.raises(GenclassError, match=r"c\.yaml: line 3: '<<' stands in line 3 already"):
        read_config(file)
    file.write_text("a: &a {x: 1, y: 2}\nb: &b {<<: *a, x: 3}\nc: {<<: [*b, *a], y: 4}\n")
    assert read_config(file)["c"] == {"x": 3, "y": 4}
    file.write_text("models:\n  ours: {trials: 1}\n  theirs: {trials: 1}\n  ours: {trials: 2}\n")
    with pytest.raises(GenclassError) as caught:
        read_config(file)
    assert str(caught.value) == (
        f"{file}: line 4: 'ours' stands in line 2 already: rename or remove one"
    )


@pytest.mark.parametrize("results", ["", "/", "a/", "~/a", "$HOME/a", "a/{model}"])
def test_results_are_a_path_that_is_written_out(results: str) -> None:
    with pytest.raises(GenclassError, match="write the folder's path out, without '~', "):
        parse_config(SMALL | {"results": results}, "c.yaml")
    for good in ("r", "/r", "/scratch/a b/r~1", "../r"):
        assert parse_config(SMALL | {"results": good}, "c.yaml").results == good


def test_what_the_miniature_makes_lies_in_its_results(tmp_path) -> None:
    (tmp_path / "other.yaml").write_text("results: elsewhere\n")
    files = (REPOSITORY / "config/miniature.yaml", tmp_path / "other.yaml")
    with pytest.raises(GenclassError) as caught:
        load_config(*files)
    assert str(caught.value) == (
        f"{files[0]} + {files[1]}: checkpoints.vq.places: the workflow makes this file, in "
        f"`results`: write file:elsewhere/... there, and in the datasets that it draws"
    )
    (tmp_path / "other.yaml").write_text("results: elsewhere\nrehearsal: 0.5\n")
    load_config(*files)  # a rehearsal makes none of them


def test_a_cell_has_the_largest_extent_that_is_asked_of_it() -> None:
    raw = changed("evaluations/0/trials", 8)
    assert parse_config(raw, "c.yaml").cells() == {("ours", "digits"): Extent(7, 8, 7)}
    raw["evaluations"].append({"models": ["ours"], "datasets": ["digits"], "images": 3})
    assert parse_config(raw, "c.yaml").cells() == {("ours", "digits"): Extent(7, 20, 7)}
    raw["evaluations"][0]["images"] = 2
    assert parse_config(raw, "c.yaml").cells() == {("ours", "digits"): Extent(3, 20, 3)}


def test_the_diffusion_grid_bounds_the_budget() -> None:
    raw = changed(
        "models/ours/network", {"architecture": "dit", "checkpoint": "weights", "size": "XL"}
    )
    raw["models"]["ours"]["encoder"] = {"architecture": "autoencoder_kl", "checkpoint": "weights"}
    raw["models"]["ours"]["classifier"] = {"step_size": 300}
    raw["models"]["ours"]["trials"] = 3  # 150, 450, 750; 1050 is beyond the schedule
    assert parse_config(raw, "c.yaml").models["ours"].system.trial.limit == 3
    raw["models"]["ours"]["trials"] = 4
    with pytest.raises(GenclassError, match=r"4 timesteps on .*has only 3 different: lower trials"):
        parse_config(raw, "c.yaml")


# Sections are cut by what depends on their keys.

CUTS: dict[str, tuple[type[Section], str, dict[str, Any], dict[str, Any]]] = {
    "a dataset's files": (
        Archive,
        "datasets/digits",
        {
            "title": "New",
            "places": ["file:elsewhere"],
            "licence": "CC0",
            "bytes": 5,
            "about_bytes": 5,
            "thumbnails": False,
            "classes": 4,
            "exhaustive": 2,
            "images": 6,
            "images_per_class": 2,
            "total_images": 9,
            "labels": "digits",
            "candidates": "present",
        },
        {
            "sha256": "a" * 64,
            "md5": "a" * 32,
            "layout": "objectnet",
            "corruption": "gaussian_noise",
            "severity": 2,
            "devkit": {"places": ["file:x"], "licence": "MIT", "md5": "b" * 32},
            "password": "word",
        },
    ),
    "a dataset's images": (
        Selection,
        "datasets/digits",
        {
            "title": "New",
            "places": ["file:elsewhere"],
            "licence": "CC0",
            "bytes": 5,
            "about_bytes": 5,
            "thumbnails": False,
            "classes": 4,
            "exhaustive": 2,
            "sha256": "a" * 64,
            "md5": "a" * 32,
            "password": "word",
            "devkit": {"places": ["file:x"], "licence": "MIT", "md5": "b" * 32},
        },
        {
            "images": 6,
            "images_per_class": 2,
            "total_images": 9,
            "labels": "digits",
            "candidates": "present",
            "layout": "objectnet",
            "corruption": "gaussian_noise",
            "severity": 2,
        },
    ),
    "a checkpoint's bytes": (
        Content,
        "checkpoints/weights",
        {"places": ["file:elsewhere"], "licence": "CC0", "bytes": 5, "about_bytes": 5},
        {"sha256": "a" * 64, "md5": "a" * 32},
    ),
    "a model's scores": (
        ScoredModel,
        "models/ours",
        {
            "title": "New",
            "group": "g",
            "trials": 3,
            "images_per_shard": 2,
            "class_batch": 1,
            "race_share": 0.5,
        },
        {
            "network": {"architecture": "randar", "checkpoint": "weights", "size": "XL"},
            "encoder": {"architecture": "maskgit_vq", "checkpoint": "weights"},
            "classifier": {"orders": "constant"},
            "strategy": {"kind": "racing"},
            "image_size": 128,
        },
    ),
}


@pytest.mark.parametrize("cut", CUTS)
def test_a_cut_of_a_section_holds_exactly_the_keys_that_decide(cut: str) -> None:
    part, path, shown, deciding = CUTS[cut]
    kind, name = path.split("/")

    def cut_of(changes: dict[str, Any]) -> tuple[str, type[Section]]:
        raw = copy.deepcopy(SMALL)
        raw[kind][name] |= changes
        section = getattr(config_type().model_validate(raw), kind)[name]
        return section.text_of(part), type(section)

    text, whole = cut_of({})
    assert {*shown, *deciding} == set(whole.model_fields), "a key is in neither list"
    for key, value in shown.items():
        assert cut_of({key: value})[0] == text, key
    for key, value in deciding.items():
        assert cut_of({key: value})[0] != text, key
    defaults = {key: whole.model_fields[key].default for key in deciding}
    spelled_out = {k: v for k, v in defaults.items() if v is None or isinstance(v, str | int)}
    assert cut_of(spelled_out)[0] == text  # what stands at its default is left out


def test_what_is_shown_of_a_devkit_does_not_decide() -> None:
    devkit = {"places": ["file:x"], "licence": "MIT", "md5": "b" * 32}

    def text(**changes: Any) -> str:
        raw = changed("datasets/digits/devkit", devkit | changes)
        return parse_config(raw, "c.yaml").datasets["digits"].text_of(Archive)

    assert text() == text(places=["file:y"], licence="CC0")
    assert text() != text(md5="c" * 32)


def test_what_only_says_how_a_machine_works_is_not_reported() -> None:
    reported = parse_config(SMALL, "c.yaml").reported()
    for key, value in {"downloads": "x", "offline": True, "device": "cpu"}.items():
        assert parse_config(SMALL | {key: value}, "c.yaml").reported() == reported
    for key, value in {"class_batch": 1, "images_per_shard": 3}.items():
        assert parse_config(changed(f"models/ours/{key}", value), "c.yaml").reported() == reported
    raw = changed("datasets/digits/licence", "CC0")
    assert parse_config(raw, "c.yaml").reported() != reported


@pytest.mark.parametrize("name", ["claims", "claims-2", "efficiency-races", "calibration"])
def test_a_table_with_the_name_of_one_of_the_reports_own_is_refused(name: str) -> None:
    config = copy.deepcopy(SMALL)
    tables = config["report"]["tables"]
    tables[name] = next(iter(tables.values()))
    with pytest.raises(GenclassError, match=rf"report\.tables\.{name}: .*choose another"):
        parse_config(config, "c.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "a0: &a0 [1, 1]\n"
            + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 60)),
            r"its aliases \(\*name\) multiply to more than 1,000,000 values",
        ),
        ("a: &a [*a]\n", "holds itself"),
        ("[" * 100_000, "line 1: nested more than 50 deep"),
        ("a: " + "{b: " * 60 + "1" + "}" * 60, "nested more than 50 deep"),
        ('a: 1\nb: "x\\0y"\n', "line 2: a text with a NUL character"),
    ],
)
def test_yaml_that_is_no_config_is_refused_at_once(tmp_path, text: str, message: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(GenclassError, match=message):
        load_config(path)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("evaluations/0/images", 100_000_000, "less than or equal to 10000000"),
        ("evaluations/0/trials", 100_000_000, "less than or equal to 10000"),
        ("results", "a" * 300, "results: .* has a name of more than 255 bytes"),
        ("evaluations/0/models", ["m" * 300], "100 at most"),
    ],
)
def test_sizes_beyond_reason_are_refused(path: str, value: Any, message: str) -> None:
    with pytest.raises(GenclassError, match=message) as raised:
        parse_config(changed(path, value), "c.yaml")
    assert len(str(raised.value)) < 250
