# The gallery: where one of two models is right and the other wrong, with the evidence of both.


rule explain:
    input:
        specs=of_both("specs", "json"),
        predictions=of_both("predictions", "parquet"),
        image_list=f"{RESULTS}/images/{{dataset}}.csv",
        dataset=f"{RESULTS}/manifests/datasets/{{dataset}}.json",
        networks=manifests_of_both("network"),
        encoders=manifests_of_both("encoder"),
    output:
        f"{RESULTS}/explained/{{first}}/{{second}}/{{dataset}}.json",
    log:
        f"{RESULTS}/logs/explain/{{first}}/{{second}}/{{dataset}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/explain/{{first}}/{{second}}/{{dataset}}.tsv"
    wildcard_constraints:
        first=r"[a-z0-9][a-z0-9._-]*",
        second=r"[a-z0-9][a-z0-9._-]*",
    conda:
        "../environment.yaml"
    threads: 1
    resources:
        device=CONFIG.device,
        gpu=0 if CONFIG.device == "cpu" else 1,
        gres="",
        mem_mb=lambda w, input, attempt: (
            attempt * megabytes([*input.networks, *input.encoders])
        ),
        runtime=lambda w, attempt: 60 * attempt,
    params:
        images=lambda w: EXPLAINED[w.first, w.second, w.dataset],
        thumbnails=lambda w: (
            "--thumbnails" if CONFIG.datasets[w.dataset].thumbnails else ""
        ),
    message:
        "Explain {wildcards.first} against {wildcards.second} on {wildcards.dataset}"
    shell:
        "python workflow_scripts/explain.py --models {wildcards.first:q} {wildcards.second:q}"
        " --specs {input.specs:q} --predictions {input.predictions:q}"
        " --networks {input.networks:q} --encoders {input.encoders:q}"
        " --image-list {input.image_list:q} --dataset {input.dataset:q}"
        " --images {params.images} {params.thumbnails} --threads {threads}"
        " --device {resources.device} --gpu {resources.gpu} --gres={resources.gres:q}"
        " --output {output:q} > {log:q} 2>&1"
