# The config, checked, and what several stages ask of it.
import json
import os
import shlex
import sys
from pathlib import Path

from genclass.config import canonical_json, digest, parse_config, read_config
from genclass.data.class_lists import ClassList
from genclass.errors import GenclassError
from genclass.jobs.rehearsal import rehearsed
from genclass.specs.spec import SCORING_VERSION
from genclass.files import write_atomically
from genclass.miniature import DRAWING_VERSION
from genclass.planning.shard_size import cell_shards, record, shard_sizes
from genclass.reporting.paper import Paper
from genclass.scores.shards import Shard
from genclass.sources import LockFile, Manifest
from snakemake.exceptions import WorkflowError

# Jobs find the python that runs Snakemake, whether or not its environment is activated.
shell.prefix(f"export PATH={shlex.quote(os.path.dirname(sys.executable))}:$PATH; ")

MINIATURE = Path("config/miniature.yaml")

if not workflow.configfiles:

    configfile: MINIATURE


try:
    for file in workflow.configfiles:
        read_config(file)  # Snakemake takes the last of a key that stands there twice
    CONFIG = rehearsed(parse_config(config, " + ".join(map(str, workflow.configfiles))))
    SHARD_SIZES = shard_sizes(CONFIG)
    # What stands in a class list decides over labels and candidates; its path does not say it.
    CLASS_LISTS = {
        labels: ClassList.load(labels).sha256
        for labels in dict.fromkeys(d.labels for d in CONFIG.datasets.values())
    }
    Paper.load().check(CONFIG.report)
except GenclassError as error:
    raise WorkflowError(str(error)) from None

RESULTS = CONFIG.results
LOCK_FILE = str(LockFile.beside(workflow.configfiles[0]).path)
CELLS = CONFIG.cells()
# (one model, other model, dataset) of the gallery, and how many images each way. A rehearsal has no
# networks to ask.
EXPLAINED = {
    (one, other, dataset): images
    for (one, other, dataset), images in CONFIG.report.explained.items()
    if CONFIG.rehearsal is None
    and (one, dataset) in CELLS
    and (other, dataset) in CELLS
}


wildcard_constraints:
    name=r"[a-z0-9][a-z0-9._-]*",
    model=r"[a-z0-9][a-z0-9._-]*",
    dataset=r"[a-z0-9][a-z0-9._-]*",
    checkpoint=r"[a-z0-9][a-z0-9._-]*",
    shard=r"images-\d+-\d+\.trials-\d+-\d+",
    kind="checkpoints|datasets",


def image_list_text(dataset):
    """What of a dataset's section the image list and the candidates depend on."""
    section = CONFIG.datasets[dataset]
    return canonical_json(
        section.model_dump(mode="json")
        | {"title": "", "places": ["-"], "sha256": None, "md5": None, "bytes": None}
        | {"about_bytes": None, "licence": "", "devkit": None, "password": None}
        | {"classes": None, "thumbnails": True}
    )


def scores_folder(model, dataset):
    return f"{RESULTS}/scores/{model}/{dataset}"


def shards_of(model, dataset):
    """The shards that make up a cell: those on disk, and new ones for what is missing."""
    folder = Path(scores_folder(model, dataset))
    existing = [
        Shard.from_name(f.name) for f in folder.glob("images-*.trials-*.safetensors")
    ]
    cell = (model, dataset)
    return cell_shards(CONFIG, cell, CELLS[cell], SHARD_SIZES[cell], existing)


def made_here(wildcards):
    """The file or folder that a rule of this workflow makes, where that is the source."""
    return CONFIG.made_here(getattr(CONFIG, wildcards.kind)[wildcards.name])


def fetched_text(wildcards):
    """What of a checkpoint's or dataset's section the fetched files depend on."""
    section = getattr(CONFIG, wildcards.kind)[wildcards.name].model_dump(mode="json")
    unrelated = {"title": "", "images_per_class": None, "images": 1, "thumbnails": True}
    unrelated |= {"about_bytes": None, "classes": None, "total_images": None}
    return canonical_json(
        section | {k: v for k, v in unrelated.items() if k in section}
    )


def manifest_of(model, part):
    """The manifest of a model's network or encoder."""
    name = getattr(CONFIG.models[model], part).checkpoint
    return f"{RESULTS}/manifests/checkpoints/{name}.json"


def checkpoint_manifest(part):
    """The same, as an input function."""
    return lambda w: manifest_of(w.model, part)


def of_both(kind, suffix):
    """A file of each of the two models, as an input function."""
    return lambda w: [
        f"{RESULTS}/{kind}/{model}/{w.dataset}.{suffix}"
        for model in (w.first, w.second)
    ]


def manifests_of_both(part):
    """The manifests of both networks or encoders, as an input function."""
    return lambda w: [manifest_of(model, part) for model in (w.first, w.second)]


def megabytes(manifests):
    """Libraries and a GPU's driver, and each checkpoint as file, as weights and as network."""
    manifests = [Path(manifest) for manifest in manifests]
    for manifest in manifests:
        manifest.stat()  # not there yet: Snakemake asks again when it is
    checkpoints = sum(Manifest.read(manifest).bytes for manifest in manifests)
    return 8000 + 3 * checkpoints // 10**6


def host_memory(wildcards, input, attempt):
    return attempt * megabytes([input.network, input.encoder])


def minutes(wildcards, attempt):
    """More than twice what a shard should take. One that is cut off goes on from where it was."""
    return attempt * (2 * max(60, CONFIG.target_shard_minutes or 0) + 30)


def drawn_sets():
    """The folders of the test sets that are drawn here."""
    places = [place for dataset in CONFIG.datasets.values() for place in dataset.places]
    return [
        p.removeprefix("file:")
        for p in places
        if p.startswith(f"file:{RESULTS}/datasets/")
    ]


def section_json(section):
    return section and section.model_dump(mode="json")


def trained_sections(checkpoint):
    """The sections of the network (None for an encoder's checkpoint) and the encoder to train."""
    for model in CONFIG.models.values():
        if model.network.checkpoint == checkpoint:
            return model.network, model.encoder
    for model in CONFIG.models.values():
        if model.encoder.checkpoint == checkpoint:
            return None, model.encoder
    raise WorkflowError(
        f"miniature.training.{checkpoint}: no model uses this checkpoint"
    )


def encoder_of(wildcards):
    """The checkpoint of the encoder that a network is trained with."""
    network, encoder = trained_sections(wildcards.checkpoint)
    if network is None:
        return []
    (place,) = CONFIG.checkpoints[encoder.checkpoint].places
    return place.removeprefix("file:")


def reported_text():
    """The config without what only says how a machine does the work."""
    machine = {"offline", "downloads", "device", "target_shard_minutes", "shards"}
    config = CONFIG.model_dump(mode="json", exclude=machine)
    for model in config["models"].values():
        del model["class_batch"], model["images_per_shard"]
    return json.dumps(config)  # in its own order: tables and rows stand in it


def scoring_text(model, dataset):
    """What of a model's section its scores on a dataset depend on."""
    section = CONFIG.models[model]
    trials = CELLS[model, dataset] if section.races else 1
    return canonical_json(
        section.model_dump(mode="json")
        | {
            "title": "",
            "group": "",
            "trials": trials,
            "images_per_shard": None,
            "class_batch": 1,
        }
    )


def submit_a_copy_of_the_config():
    """A queued job reads its config when it starts: from now on, from a copy named by its content."""
    text = json.dumps(config)
    copy = Path(RESULTS, "submitted", f"{digest(text)[:16]}.json").absolute()
    write_atomically(copy, text)
    workflow.config_settings.configfiles = [copy]


def given_configs():
    """As options of the command line."""
    return " ".join(f"-c {os.path.relpath(file)}" for file in workflow.configfiles)


def check_what_was_fetched():
    """Of many jobs each would say that a file is gone; said once, before the first of them."""
    dag = workflow.dag
    fetched_now = {file for job in dag.needrun_jobs() for file in job.output}
    manifests = {
        file
        for job in dag.needrun_jobs()
        if job.rule.name in ("prepare", "evaluate", "explain")
        for file in job.input
        if file.startswith(f"{RESULTS}/manifests/") and file not in fetched_now
    }
    gone = [
        m for m in map(Manifest.read, map(Path, manifests)) if not Path(m.path).exists()
    ]
    if gone:
        names = ", ".join(sorted(m.name for m in gone))
        raise WorkflowError(
            f"no longer on disk: {names}: bring it back: genclass fetch {given_configs()}"
        )


def record_rule_graph():
    """For the report, of a run that goes as far as that."""
    from genclass.reporting.rule_graph import (
        RuleGraph,
    )  # takes its time; needed here only

    dependencies = [
        (
            job.rule.name,
            [earlier.rule.name for earlier in workflow.dag.dependencies[job]],
        )
        for job in workflow.dag.jobs
    ]
    if "report" in dict(dependencies):
        RuleGraph.of(dependencies).write(f"{RESULTS}/rule_graph.json")


onstart:
    if CONFIG.rehearsal is None:
        check_what_was_fetched()
    if guessed := record(CONFIG):
        logger.info(
            f"target_shard_minutes: not calibrated: {', '.join(guessed)}: shards are as the config "
            f"says; to change that: genclass calibrate {given_configs()}"
        )
    record_rule_graph()
    if workflow.non_local_exec:
        submit_a_copy_of_the_config()
