# The config, checked, and what several stages ask of it.
import json
import os
import shlex
import sys
from pathlib import Path

from genclass.config import (
    Archive,
    Content,
    ScoredModel,
    Selection,
    Training,
    parse_config,
    read_config,
)
from genclass.text import canonical_json, digest
from genclass.analysis.accuracy import MEASURED
from genclass.data.class_lists import ClassList
from genclass.errors import GenclassError
from genclass.jobs.rehearsal import rehearsed
from genclass.families import PLUGINS, plugin_of
from genclass.files import check_writable, write_atomically
from genclass.jobs.run_lock import release_dead, sign
from genclass.jobs.wake_up import wake_once
from genclass.miniature import DRAWING_VERSION
from genclass.planning.allotment import allotted
from genclass.planning.shard_size import cell_shards, record, shard_sizes
from genclass.reporting.assumed import assumed_accuracies
from genclass.reporting.paper import Paper
from genclass.reporting.statements import Statements
from genclass.planning.work import candidate_count
from genclass.scores.shards import PATTERN, Shard
from genclass.sources import LockFile, Manifest
from snakemake.exceptions import WorkflowError

MINIATURE = Path("config/miniature.yaml")

if not workflow.configfiles:

    configfile: MINIATURE


try:
    for file in workflow.configfiles:
        read_config(file)  # Snakemake takes the last of a key that stands there twice
    ASKED = rehearsed(parse_config(config, " + ".join(map(str, workflow.configfiles))))
    CONFIG = allotted(ASKED)  # in a run of hours, the images that they buy
    SHARD_SIZES = shard_sizes(CONFIG)
    # What stands in a class list decides over labels and candidates; its path does not say it.
    CLASS_LISTS = {
        labels: ClassList.load(labels).sha256
        for labels in dict.fromkeys(d.labels for d in CONFIG.datasets.values())
    }
    PAPER = Paper.load()
    PAPER.check(CONFIG.report)
except GenclassError as error:
    raise WorkflowError(str(error)) from None

# Jobs find the python that runs Snakemake, whether or not its environment is activated, and the
# families that the config's plugins define.
shell.prefix(
    f"export PATH={shlex.quote(os.path.dirname(sys.executable))}:$PATH"
    f" {PLUGINS}={shlex.quote(json.dumps(CONFIG.plugins))}; "
)
# What decides over the files that are fetched.
CONTENTS = {"checkpoints": Content, "datasets": Archive}

# Of what everything waits for, and of what brings a cell to its end: before any shard.
FIRST = 2000

RESULTS = CONFIG.results
RUN = CONFIG.run
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
# What the report reads: what of it is deleted is made again, whatever else is there.
REPORTED = [
    path(model, dataset)
    for model, dataset in CELLS
    for path in (RUN.metrics, RUN.predictions, RUN.record)
] + [RUN.explained(one, other, dataset) for one, other, dataset in EXPLAINED]


wildcard_constraints:
    name=r"[a-z0-9][a-z0-9._-]*",
    model=r"[a-z0-9][a-z0-9._-]*",
    dataset=r"[a-z0-9][a-z0-9._-]*",
    checkpoint=r"[a-z0-9][a-z0-9._-]*",
    shard=PATTERN,
    kind="checkpoints|datasets",


def shards_of(model, dataset):
    """The shards that make up a cell: those on disk, and new ones for what is missing."""
    files = RUN.scores(model, dataset).glob("images-*.safetensors")
    existing = [Shard.from_name(file.name) for file in files]
    cell = (model, dataset)
    return cell_shards(CONFIG, cell, SHARD_SIZES[cell], existing)


def made_here(wildcards):
    """The file or folder that a rule of this workflow makes, where that is the source."""
    return CONFIG.made_here(getattr(CONFIG, wildcards.kind)[wildcards.name])


def manifests_of(model):
    """The manifests of all checkpoints of a model, in the order of its parts."""
    names = CONFIG.models[model].system.checkpoints.values()
    return [RUN.manifest("checkpoints", name) for name in names]


def checkpoint_manifests(wildcards):
    """The same, as an input function."""
    return manifests_of(wildcards.model)


def of_both(path):
    """A file of each of the two models, as an input function."""
    return lambda w: [path(model, w.dataset) for model in (w.first, w.second)]


def budget_of_race(model, dataset):
    """On which a race depends; exhaustive scores are the same for any."""
    return CELLS[model, dataset].trials if CONFIG.models[model].races else 1


def in_even_steps(wildcards):
    """Cells grow evenly: of a run that is stopped early, all have as large a part."""
    start = Shard.from_name(wildcards.shard).image_start
    return round(1000 * (1 - start / CELLS[wildcards.model, wildcards.dataset].images))


def given(option, value):
    """An option of a script, where there is a value for it."""
    return "" if value is None else f"{option} {shlex.quote(str(value))}"


def megabytes(manifests):
    """Libraries and a GPU's driver, and each checkpoint as file, as weights and as network."""
    manifests = [Path(manifest) for manifest in manifests]
    for manifest in manifests:
        manifest.stat()  # not there yet: Snakemake asks again when it is
    checkpoints = sum(Manifest.read(manifest).bytes for manifest in manifests)
    return 8000 + 3 * checkpoints // 10**6


def host_memory(wildcards, input, attempt):
    return attempt * megabytes(input.checkpoints)


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


def trained_sections(checkpoint):
    """The cards of the network (None for an encoder's checkpoint) and the encoder to train."""
    for model in CONFIG.models.values():
        if model.network.checkpoint == checkpoint:
            return model.network, model.encoder
    for model in CONFIG.models.values():
        if model.encoder and model.encoder.checkpoint == checkpoint:
            return None, model.encoder
    raise WorkflowError(
        f"miniature.training.{checkpoint}: no model uses this checkpoint"
    )


def trained_text(checkpoint):
    """The same as JSON."""
    cards = dict(zip(["network", "encoder"], trained_sections(checkpoint)))
    return canonical_json(
        {
            part: card and card.model_dump(mode="json", exclude_defaults=True)
            for part, card in cards.items()
        }
    )


def encoder_of(wildcards):
    """The checkpoint of the encoder that a network is trained with."""
    network, encoder = trained_sections(wildcards.checkpoint)
    if network is None or encoder is None:
        return []
    (place,) = CONFIG.checkpoints[encoder.checkpoint].places
    return place.removeprefix("file:")


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


def record_reasons():
    """Why each job runs, a line each: Snakemake's own words take many."""
    lines = []
    jobs = [job for job in workflow.dag.needrun_jobs() if job.rule.name != "all"]
    for job in jobs:
        names = " ".join(job.wildcards_dict.values())
        reason = " ".join(str(workflow.dag.reason(job)).split())
        lines.append(f"{job.rule.name} {names}: {reason}"[:200])
    path = RUN.log("reasons")
    write_atomically(path, "".join(f"{line}\n" for line in sorted(lines)))
    logger.info(f"why each of {len(lines)} jobs runs: {path}")


def record_failures():
    """What failed, its error in one line, and its log: `make reproduce` prints it last."""
    from genclass.planning.status import failure_of

    failed = sorted(
        workflow.scheduler.failed, key=lambda job: (job.rule.name, str(job.output))
    )
    lines = [f"{len(failed)} jobs failed:" if len(failed) > 1 else "1 job failed:"]
    for job in failed:
        log = next(iter(job.log), None)
        error = failure_of(Path(log)) if log else None
        lines.append(f"{job.rule.name} {' '.join(job.wildcards_dict.values())}".strip())
        lines.append(
            f"  {error or 'it ended without a word: killed, out of memory or time?'}"
        )
        lines.append(f"  log: {log}")
    if failed:
        write_atomically(RUN.failures, "".join(f"{line}\n" for line in lines))


def start():
    """What is wrong before the first job is one line."""
    if not wake_once(workflow.scheduler):
        logger.warning("Snakemake's scheduler is another one: it may keep a core busy")
    try:
        check_writable(RUN.config)
        # Snakemake's name for the files of its lock, which it holds by now.
        sign(
            getattr(workflow.persistence, "_lockfile", {}).values(),
            workflow.non_local_exec,
        )
        if CONFIG.rehearsal is None:
            check_what_was_fetched()
        if guessed := record(CONFIG):
            logger.info(
                f"target_shard_minutes: not calibrated: {', '.join(guessed)}: shards are as the "
                f"config says; to change that: genclass calibrate {given_configs()}"
            )
        record_reasons()
        if workflow.non_local_exec:
            submit_a_copy_of_the_config()
    except GenclassError as error:
        raise WorkflowError(str(error)) from None


if workflow.is_main_process and "--unlock" not in sys.argv:
    RUN.failures.unlink(missing_ok=True)
    for line in release_dead(
        unlock=f"--unlock --configfile {' '.join(map(str, workflow.configfiles))}"
    ):
        logger.warning(line)


onstart:
    start()
