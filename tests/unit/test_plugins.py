"""Families from outside: files of the user's, installed packages; and the face that they see."""

import copy
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from jsonschema import Draft202012Validator
from safetensors.torch import save_file

import genclass
from genclass.config import Config, parse_config, parse_model, schema
from genclass.errors import GenclassError
from genclass.families import FAMILIES, PLUGINS, load_plugins
from genclass.files import sha256_of
from genclass.jobs.rehearsal import make_image_list, make_manifest, make_scores
from genclass.planning.plan import plan
from genclass.planning.rates import Rate, Rates
from genclass.scores.score_file import ScoreFile
from genclass.scores.shards import Shard
from genclass.specs.dataset import scored_dataset
from genclass.specs.spec import specify
from genclass.text import canonical_json
from tests.support.families import CARD, write_card
from tests.support.setting import CLASSES, IMAGES, Setting
from tests.support.small_config import SMALL

REPOSITORY = Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures("registry")


def config_of(*plugins: Path, **model: Any) -> dict[str, Any]:
    """A raw config whose one model is of the family `small`."""
    raw = copy.deepcopy(SMALL) | {"plugins": list(map(str, plugins))}
    raw["datasets"]["digits"]["labels"] = "digits"
    raw["models"]["ours"] = {
        "title": "Ours",
        "network": {"architecture": "small", "checkpoint": "weights", "classes": 10},
        "trials": 20,
    } | model
    return raw


def parse(*plugins: Path, **model: Any) -> Config:
    return parse_config(config_of(*plugins, **model), "c.yaml")


def test_a_family_of_the_users_is_a_section_as_any_other(tmp_path: Path) -> None:
    plugin = write_card(tmp_path / "mine.py")
    system = parse(plugin, classifier={"sharpness": 2.0}).models["ours"].system
    assert (system.role, system.trial.noun, system.likelihood) == ("other", "draw", False)
    assert system.work.score == 10
    assert system.checkpoints == {"network": "weights"}
    with pytest.raises(GenclassError, match=r"classifier.sharp': did you mean 'sharpness'\?"):
        parse(plugin, classifier={"sharp": 1})
    with pytest.raises(GenclassError, match="is 'smal': did you mean 'small'"):
        parse(plugin, network={"architecture": "smal", "checkpoint": "weights"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "plugin FILE: cannot be read: No such file or directory"),
        ("import nothing_of_the_kind", "plugin FILE: fails on import: ModuleNotFoundError: No mo"),
        ("def f(:", "plugin FILE: fails on import: SyntaxError: invalid syntax"),
        ("1 / 0", "plugin FILE: fails on import: ZeroDivisionError: division by zero"),
        ("x = 1", "plugin FILE: defines no family: a subclass of genclass.Family is needed"),
        (
            "from genclass import Family",
            "plugin FILE: defines no family: a subclass of genclass.Family is needed",
        ),
        (
            CARD.replace('"small"', '"randar"'),
            "plugin FILE: 'randar' is the name of a family of genclass: choose another",
        ),
        (
            CARD.replace('Literal["small"]', "str"),
            'plugin FILE: Small needs `architecture: Literal["a_name"]`, the name by which a c',
        ),
        (
            CARD.replace('"other"', '"king"'),
            "models.ours: family small: unknown role 'king': one of: raster, next-scale,",
        ),
    ],
)
def test_what_is_wrong_with_a_plugin_is_one_line(
    tmp_path: Path, text: str | None, message: str
) -> None:
    plugin = tmp_path / "mine.py"
    if text is not None:
        plugin.write_text(text)
    with pytest.raises(GenclassError) as caught:
        parse(plugin)
    assert str(caught.value).startswith("c.yaml: " + message.replace("FILE", str(plugin)))
    assert "\n" not in str(caught.value)


def test_an_encoder_that_there_is_not_is_one_line(tmp_path: Path) -> None:
    text = CARD.replace("likelihood =", 'encoders = ("vae",)\n    likelihood =')
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(GenclassError, match="family Small: unknown encoder 'vae': known: autoenc"):
        parse(tmp_path / "mine.py")


def test_two_plugins_do_not_claim_one_name(tmp_path: Path) -> None:
    first, second = (write_card(tmp_path / name) for name in ("a.py", "b.py"))
    with pytest.raises(GenclassError) as caught:
        parse(first, second)
    assert str(caught.value) == (
        f"c.yaml: plugin {second}: 'small' is the name of a family of plugin {first}: choose "
        f"another"
    )


def test_the_specs_of_a_plugin_hold_its_sha256(tmp_path: Path) -> None:
    plugin = write_card(tmp_path / "mine.py")

    def specified() -> tuple[str | None, str]:
        config = parse(plugin)
        dataset, model = config.datasets["digits"], config.models["ours"]
        manifest = make_manifest("checkpoints", "weights", config.checkpoints["weights"])
        images = make_image_list("digits", dataset, 10, 1)
        scored = scored_dataset("digits", dataset, images, None)
        spec = specify(model, scored, {"network": manifest.sha256}, seed=1, trials=20)
        return spec.plugin, spec.sha256

    before = specified()
    assert before == specified()
    assert before[0] == sha256_of(plugin)
    plugin.write_text(CARD + "# a thought\n")
    after = specified()
    assert after[0] == sha256_of(plugin) != before[0]
    assert after[1] != before[1]


def gaussians(folder: Path) -> Setting:
    """The example, as a plugin in this folder, with random weights."""
    plugin = Path(shutil.copy(REPOSITORY / "examples/gaussians.py", folder))
    load_plugins([plugin])
    section = {"architecture": "gaussians", "checkpoint": "w", "classes": CLASSES, "rank": 2}
    model = parse_model(canonical_json({"network": section, "image_size": 8}))
    weights = folder / "gaussians.safetensors"
    save_file(model.network.build().state_dict(), weights)
    plain = Setting.create(folder)
    return replace(plain, model=model, files={"network": weights})


def test_the_example_scores_images_in_any_division(tmp_path: Path) -> None:
    setting = gaussians(tmp_path)
    whole = ScoreFile.read(setting.run(Shard(0, IMAGES, 0, 4)))
    part = ScoreFile.read(setting.run(Shard(2, 4, 1, 3), class_batch=1))
    np.testing.assert_allclose(part.scores, whole.scores[2:4, 1:3], rtol=1e-5)
    assert whole.header.forward_passes == IMAGES * 4 * 4
    assert not np.allclose(whole.scores[:, 0], whole.scores[:, 1])


def test_a_plugin_that_changes_while_a_job_waits_is_refused(tmp_path: Path) -> None:
    setting = gaussians(tmp_path)
    job = setting.job(Shard(0, 2, 0, 2))
    plugin = tmp_path / "gaussians.py"
    plugin.write_text(plugin.read_text() + "# another thought\n")
    load_plugins([plugin])  # as the job does when it starts
    with pytest.raises(GenclassError) as caught:
        setting.run(job.shard, job.spec)
    assert str(caught.value) == (
        f"the plugin of 'gaussians' is {sha256_of(plugin)[:12]}, but this job was planned with "
        f"{(job.spec.plugin or '')[:12]}: rerun the workflow"
    )


def test_the_schema_lets_architectures_through_that_it_does_not_know() -> None:
    editor = Draft202012Validator(json.loads(schema()))
    unknown = config_of(Path("mine.py"), classifier={"sharpness": 2})
    assert not list(editor.iter_errors(unknown))
    assert not list(editor.iter_errors(SMALL))
    wrong = copy.deepcopy(SMALL)
    wrong["models"]["ours"]["classifier"] = {"sharpness": 2}
    assert list(editor.iter_errors(wrong))


# A family that scores all classes in one pass


JUDGE = CARD.replace("score=10, image=3", "score=0, image=100").replace(
    '"other"', '"discriminative"'
)


def test_who_scores_all_classes_in_one_pass_is_charged_one(tmp_path: Path) -> None:
    (tmp_path / "judge.py").write_text(JUDGE)
    config = parse(tmp_path / "judge.py", trials=1)
    model, dataset = config.models["ours"], config.datasets["digits"]
    rates = Rates("A device", "made up", {"ours": Rate(1.0, 3.0, 0.0)})
    [cell] = plan(config.model_copy(update={"results": str(tmp_path)}), rates).cells
    assert (cell.passes, cell.flops, cell.seconds) == (7, 700, 21)
    images = make_image_list("digits", dataset, 10, 1)
    manifest = make_manifest("checkpoints", "weights", config.checkpoints["weights"])
    scored = scored_dataset("digits", dataset, images, None)
    spec = specify(model, scored, {"network": manifest.sha256}, seed=1, trials=1)
    make_scores(spec, Shard(0, 7, 0, 1), images, 5, tmp_path / "scores")
    header = ScoreFile.read(tmp_path / "scores").header
    assert (header.forward_passes, header.flops) == (7, 700)
    with pytest.raises(GenclassError, match="scores all classes in one pass: there is nothing to"):
        parse(tmp_path / "judge.py", strategy={"kind": "racing"})


# Installed packages


def install(folder: Path, entry: str) -> None:
    """As a package installer would, into a folder of PYTHONPATH."""
    info = folder / "outside-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: outside\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[genclass.families]\nmine = {entry}\n")


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python with the package of that folder installed."""
    paths = os.pathsep.join([str(folder), str(REPOSITORY)])
    return subprocess.run(
        [sys.executable, *arguments],
        env={k: v for k, v in os.environ.items() if k != PLUGINS} | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )


def write_config(folder: Path) -> str:
    """A config with the family `small`."""
    path = folder / "c.yaml"
    path.write_text(yaml.safe_dump(config_of()))
    return str(path)


def test_an_installed_package_offers_a_family_by_an_entry_point(tmp_path: Path) -> None:
    write_card(tmp_path / "outside.py")
    install(tmp_path, "outside:Small")
    code = "import sys, genclass; print(genclass.load_config(sys.argv[1]).models['ours'].network)"
    done = python(tmp_path, "-c", code, write_config(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "architecture='small'" in done.stdout


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("outside:Smal", "entry point outside:Smal of genclass.families: fails: AttributeError: "),
        ("outside:Taken", "package outside: 'randar' is the name of a family of genclass: choose"),
    ],
)
def test_a_package_whose_family_cannot_be_is_one_line(
    tmp_path: Path, entry: str, message: str
) -> None:
    write_card(tmp_path / "outside.py", small="randar", Small="Taken")
    install(tmp_path, entry)
    done = python(tmp_path, "-m", "genclass", "plan", "-c", write_config(tmp_path))
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


# The public face


def test_the_public_face_is_there_and_light() -> None:
    for name in genclass.__all__:
        assert getattr(genclass, name) is not None
    code = "import sys, genclass; assert not {'torch', 'pandas', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_examples_config_is_one() -> None:
    files = (REPOSITORY / "config/miniature.yaml", REPOSITORY / "examples/gaussians.yaml")
    plugin = str(REPOSITORY / "examples/gaussians.py")
    given = genclass.config.read_config(files[1])
    assert given["plugins"] == ["examples/gaussians.py"]
    load_plugins([plugin])
    assert "gaussians" in FAMILIES
