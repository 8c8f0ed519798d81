"""What a job must not import: each is a fresh process, and there are hundreds of them."""

import importlib
import subprocess
import sys

import pytest

from tests.support.project import REPOSITORY

NETWORK = {"httpx", "huggingface_hub", "gdown", "requests"}
# "genclass.config.config" and what it imports: the whole config, which few jobs read.
CONFIG = {"genclass.config.config", "genclass.config.loading", "yaml"}
HEAVY = {"torch", "pandas", "pyarrow", "scipy", "sklearn"} | NETWORK


def imported(*command: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *command],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip() for line in lines}


@pytest.mark.parametrize(
    ("script", "unused"),
    [
        ("fetch", HEAVY | CONFIG | {"numpy", "PIL"}),
        ("specify", HEAVY | CONFIG | {"numpy", "PIL"}),
        ("prepare", HEAVY | CONFIG),
        ("merge", HEAVY | CONFIG | {"PIL"}),
        ("measure", {"torch", "scipy", "PIL"} | NETWORK | CONFIG),
        ("configure", HEAVY | {"numpy", "PIL"}),
        ("evaluate", HEAVY | CONFIG | {"numpy", "PIL"}),  # before its GPUs are right
        ("explain", HEAVY | CONFIG),
    ],
)
def test_a_job_imports_what_it_uses(script: str, unused: set[str]) -> None:
    modules = imported(f"workflow_scripts/{script}.py", "--help")
    assert "genclass.scripting" in modules
    assert not unused & modules


def test_scoring_imports_torch_and_numpy_alone() -> None:
    networks = "from genclass.models import autoencoder_kl, dit, llamagen_vq, randar"
    scorers = "from genclass.scorers import ordered, timestep"
    modules = imported("-c", f"import genclass.jobs.evaluate; {networks}; {scorers}")
    assert {"torch", "numpy"} <= modules
    others = {"diffusers", "transformers", "pandas", "scipy", "sklearn", "torch._dynamo"}
    assert not (others | NETWORK | CONFIG) & modules


def test_cards_need_no_torch() -> None:
    modules = imported("-c", "import genclass.families")
    assert "genclass.families.dit" in modules
    assert not {"torch", "numpy", "transformers"} & modules


@pytest.mark.parametrize("module", ["genclass", "genclass.config", "genclass.sources"])
def test_every_name_is_there(module: str) -> None:
    package = importlib.import_module(module)
    for name in package.__all__:
        assert getattr(package, name) is not None
    with pytest.raises(AttributeError, match="'nothing'"):
        getattr(package, "nothing")  # noqa: B009
