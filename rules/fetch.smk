# Checkpoints and datasets: downloaded once, verified, and described by a manifest.


rule fetch:
    input:
        made_here,
    output:
        f"{RESULTS}/manifests/{{kind}}/{{name}}.json",
    log:
        f"{RESULTS}/logs/fetch/{{kind}}/{{name}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/fetch/{{kind}}/{{name}}.tsv"
    localrule: True
    conda:
        "../environment.yaml"
    resources:
        # Not params: where a download goes changes nothing that depends on it.
        downloads=CONFIG.downloads,
        lock=LOCK_FILE,
        offline="--offline" if CONFIG.offline else "",
    params:
        section=fetched_text,
    message:
        "Fetch {wildcards.kind}/{wildcards.name}"
    shell:
        "python workflow_scripts/fetch.py --kind {wildcards.kind:q} --name {wildcards.name:q}"
        " --section {params.section:q} --downloads {resources.downloads:q} --lock {resources.lock:q}"
        " --manifest {output:q} {resources.offline} > {log:q} 2>&1"
