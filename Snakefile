# genclass: "Revisiting Autoregressive Models for Generative Image Classification", reproduced.
#
#   snakemake                              the miniature (config/miniature.yaml)
#   snakemake --configfile config.yaml     the paper
#
# profiles/default is used by itself; add --profile profiles/slurm on a cluster.
from snakemake.utils import min_version

min_version("9.27")


include: "rules/common.smk"
include: "rules/miniature.smk"


if CONFIG.rehearsal is None:

    include: "rules/fetch.smk"
    include: "rules/prepare.smk"
    include: "rules/evaluate.smk"
    include: "rules/explain.smk"

else:

    ASSUMED = assumed_accuracies(ASKED, PAPER, Statements.load(PAPER))

    include: "rules/rehearsal.smk"


include: "rules/specify.smk"
include: "rules/merge.smk"
include: "rules/report.smk"


rule all:
    default_target: True
    input:
        RUN.page,
        # Named here, too: a report that was rendered after a failure does not stand for them.
        REPORTED,
    message:
        "All of it is there"


rule measured:
    input:
        RUN.config,  # for the page, should something fail
        [RUN.metrics(model, dataset) for model, dataset in CELLS],
    message:
        "All that was allotted is measured"


onerror:
    # The report renders from what exists; what failed is marked as missing in it.
    shell("python workflow_scripts/report.py --results {RESULTS:q} || true")
    record_failures()
