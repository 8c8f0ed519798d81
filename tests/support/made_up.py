"""The specs of a config with made-up checkpoints and images: what the config alone says.

    python -m tests.support.made_up > tests/golden/specs.json

writes the digests that tests/unit/test_specs.py compares. They change when a family's numbers may
change, and by nothing else: every cell that changes is computed anew by everybody.
"""

import json
from pathlib import Path

from genclass.config import Config, load_config
from genclass.jobs.rehearsal import make_image_list, make_manifest
from genclass.planning.work import candidate_count
from genclass.specs.dataset import scored_dataset
from genclass.specs.spec import ScoredDataset, Spec, specify

REPOSITORY = Path(__file__).parents[2]
CONFIGS = {"miniature": "config/miniature.yaml", "paper": "config.yaml"}


def made_up_specs(config: Config) -> dict[str, Spec]:
    """Of every model, on the first dataset that it is evaluated on."""
    specs: dict[str, Spec] = {}
    datasets: dict[str, ScoredDataset] = {}
    for (name, dataset), extent in config.cells().items():
        if name in specs:
            continue
        model, section = config.models[name], config.datasets[dataset]
        if dataset not in datasets:
            classes = candidate_count(dataset, section)
            images = make_image_list(dataset, section, classes, config.seed)
            datasets[dataset] = scored_dataset(dataset, section, images, classes)
        files = {
            part: make_manifest("checkpoints", checkpoint, config.checkpoints[checkpoint]).sha256
            for part, checkpoint in model.system.checkpoints.items()
        }
        specs[name] = specify(model, datasets[dataset], files, config.seed, extent.trials)
    return specs


def digests(config: str) -> dict[str, str]:
    """The sha256 of these specs, of one of CONFIGS."""
    specs = made_up_specs(load_config(REPOSITORY / CONFIGS[config]))
    return {name: spec.sha256 for name, spec in specs.items()}


if __name__ == "__main__":
    print(json.dumps({config: digests(config) for config in CONFIGS}, indent=1))
