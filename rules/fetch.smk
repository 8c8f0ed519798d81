# Checkpoints and datasets: downloaded once, verified, and described by a manifest.


rule fetch:
    input:
        made_here,
    output:
        RUN.manifest("{kind}", "{name}"),
    log:
        RUN.log("fetch", "{kind}", "{name}"),
    benchmark:
        RUN.benchmark("fetch", "{kind}", "{name}")
    priority: FIRST
    localrule: True
    conda:
        "../environment.yaml"
    resources:
        # Not params: from where and to where changes nothing that depends on it.
        section=lambda w: getattr(CONFIG, w.kind)[w.name].model_dump_json(),
        downloads=CONFIG.downloads,
        lock=LOCK_FILE,
        offline="--offline" if CONFIG.offline else "",
    params:
        content=lambda w: getattr(CONFIG, w.kind)[w.name].text_of(CONTENTS[w.kind]),
    message:
        "Fetch {wildcards.kind}/{wildcards.name}"
    shell:
        "python workflow_scripts/fetch.py --kind {wildcards.kind:q} --name {wildcards.name:q}"
        " --section {resources.section:q} --downloads {resources.downloads:q} --lock {resources.lock:q}"
        " --manifest {output:q} {resources.offline} > {log:q} 2>&1"
