# The gallery: where one of two models is right and the other wrong, with the evidence of both.


rule explain:
    input:
        specs=of_both(RUN.spec),
        predictions=of_both(RUN.predictions),
        metrics=of_both(RUN.metrics),
        image_list=RUN.image_list("{dataset}"),
        dataset=RUN.manifest("datasets", "{dataset}"),
        checkpoints=lambda w: manifests_of(w.first),
        other_checkpoints=lambda w: manifests_of(w.second),
    output:
        RUN.explained("{first}", "{second}", "{dataset}"),
    log:
        RUN.log("explain", "{first}", "{second}", "{dataset}"),
    benchmark:
        RUN.benchmark("explain", "{first}", "{second}", "{dataset}")
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
            attempt * megabytes([*input.checkpoints, *input.other_checkpoints])
        ),
        runtime=lambda w, attempt: 60 * attempt,
    params:
        parts=lambda w: list(CONFIG.models[w.first].system.checkpoints),
        other_parts=lambda w: list(CONFIG.models[w.second].system.checkpoints),
        images=lambda w: EXPLAINED[w.first, w.second, w.dataset],
        thumbnails=lambda w: (
            "--thumbnails" if CONFIG.datasets[w.dataset].thumbnails else ""
        ),
    message:
        "Explain {wildcards.first} against {wildcards.second} on {wildcards.dataset}"
    shell:
        "python workflow_scripts/explain.py --models {wildcards.first:q} {wildcards.second:q}"
        " --specs {input.specs:q} --predictions {input.predictions:q} --metrics {input.metrics:q}"
        " --parts {params.parts:q} --checkpoints {input.checkpoints:q}"
        " --other-parts {params.other_parts:q} --other-checkpoints {input.other_checkpoints:q}"
        " --image-list {input.image_list:q} --dataset {input.dataset:q}"
        " --images {params.images} {params.thumbnails} --threads {threads}"
        " --device {resources.device} --gpu {resources.gpu} --gres={resources.gres:q}"
        " --output {output:q} > {log:q} 2>&1"
