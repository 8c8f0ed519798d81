# The GPU jobs: one a shard.


rule evaluate:
    input:
        spec=RUN.spec("{model}", "{dataset}"),
        image_list=RUN.image_list("{dataset}"),
        dataset=RUN.manifest("datasets", "{dataset}"),
        checkpoints=checkpoint_manifests,
    output:
        # Not removed before the job starts: an earlier run's job may have written it by then.
        update(RUN.shard("{model}", "{dataset}", "{shard}")),
    log:
        RUN.log("evaluate", "{model}", "{dataset}", "{shard}"),
    benchmark:
        RUN.benchmark("evaluate", "{model}", "{dataset}", "{shard}")
    priority: in_even_steps
    conda:
        "../environment.yaml"
    threads: 1
    resources:
        # Not params: how a machine does the work changes no number and reruns nothing.
        device=CONFIG.device,
        class_batch=lambda w: CONFIG.models[w.model].class_batch,
        gpu=0 if CONFIG.device == "cpu" else 1,
        gres="",
        mem_mb=host_memory,
        runtime=minutes,
    params:
        partial=lambda w: str(RUN.partial(w.model, w.dataset)),
        compiled=str(RUN.compiled),
        parts=lambda w: list(CONFIG.models[w.model].system.checkpoints),
    message:
        "Evaluate {wildcards.model} on {wildcards.dataset}: {wildcards.shard}"
    shell:
        "python workflow_scripts/evaluate.py --spec {input.spec:q} --shard {wildcards.shard:q}"
        " --image-list {input.image_list:q} --dataset {input.dataset:q}"
        " --parts {params.parts:q} --checkpoints {input.checkpoints:q}"
        " --partial {params.partial:q} --compiled {params.compiled:q}"
        " --class-batch {resources.class_batch} --threads {threads}"
        " --device {resources.device} --gpu {resources.gpu} --gres={resources.gres:q}"
        " --output {output:q} > {log:q} 2>&1"
