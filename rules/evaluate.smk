# The GPU jobs: one a shard.


rule evaluate:
    input:
        spec=f"{RESULTS}/specs/{{model}}/{{dataset}}.json",
        image_list=f"{RESULTS}/images/{{dataset}}.csv",
        dataset=f"{RESULTS}/manifests/datasets/{{dataset}}.json",
        network=checkpoint_manifest("network"),
        encoder=checkpoint_manifest("encoder"),
    output:
        # Not removed before the job starts: an earlier run's job may have written it by then.
        update(f"{RESULTS}/scores/{{model}}/{{dataset}}/{{shard}}.safetensors"),
    log:
        f"{RESULTS}/logs/evaluate/{{model}}/{{dataset}}/{{shard}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/evaluate/{{model}}/{{dataset}}/{{shard}}.tsv"
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
        partial=lambda w: f"{RESULTS}/partial/{w.model}/{w.dataset}",
    message:
        "Evaluate {wildcards.model} on {wildcards.dataset}: {wildcards.shard}"
    shell:
        "python workflow_scripts/evaluate.py --spec {input.spec:q} --shard {wildcards.shard:q}"
        " --image-list {input.image_list:q} --dataset {input.dataset:q}"
        " --network {input.network:q} --encoder {input.encoder:q}"
        " --partial {params.partial:q}"
        " --class-batch {resources.class_batch} --threads {threads}"
        " --device {resources.device} --gpu {resources.gpu} --gres={resources.gres:q}"
        " --output {output:q} > {log:q} 2>&1"
