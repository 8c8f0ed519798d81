# In a rehearsal, in place of fetch, prepare and evaluate: the same files, made up at true size.


rule fetch:
    output:
        f"{RESULTS}/manifests/{{kind}}/{{name}}.json",
    log:
        f"{RESULTS}/logs/fetch/{{kind}}/{{name}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/fetch/{{kind}}/{{name}}.tsv"
    localrule: True
    conda:
        "../environment.yaml"
    params:
        section=lambda w: getattr(CONFIG, w.kind)[w.name].model_dump_json(),
    message:
        "Make up {wildcards.kind}/{wildcards.name}"
    shell:
        "python workflow_scripts/rehearse.py fetch --kind {wildcards.kind:q}"
        " --name {wildcards.name:q} --section {params.section:q} --output {output:q}"
        " > {log:q} 2>&1"


rule prepare:
    input:
        f"{RESULTS}/manifests/datasets/{{dataset}}.json",
    output:
        f"{RESULTS}/images/{{dataset}}.csv",
    log:
        f"{RESULTS}/logs/prepare/{{dataset}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/prepare/{{dataset}}.tsv"
    localrule: True
    conda:
        "../environment.yaml"
    params:
        dataset=lambda w: CONFIG.datasets[w.dataset].model_dump_json(),
        class_list=lambda w: CLASS_LISTS[CONFIG.datasets[w.dataset].labels],
    message:
        "Make up the images of {wildcards.dataset}"
    shell:
        "python workflow_scripts/rehearse.py prepare --name {wildcards.dataset:q}"
        " --dataset {params.dataset:q} --output {output:q} > {log:q} 2>&1"


rule evaluate:
    input:
        spec=f"{RESULTS}/specs/{{model}}/{{dataset}}.json",
        image_list=f"{RESULTS}/images/{{dataset}}.csv",
        dataset=f"{RESULTS}/manifests/datasets/{{dataset}}.json",
        network=checkpoint_manifest("network"),
        encoder=checkpoint_manifest("encoder"),
    output:
        f"{RESULTS}/scores/{{model}}/{{dataset}}/{{shard}}.safetensors",
    log:
        f"{RESULTS}/logs/evaluate/{{model}}/{{dataset}}/{{shard}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/evaluate/{{model}}/{{dataset}}/{{shard}}.tsv"
    conda:
        "../environment.yaml"
    resources:
        class_batch=lambda w: CONFIG.models[w.model].class_batch,
    message:
        "Make up {wildcards.model} on {wildcards.dataset}: {wildcards.shard}"
    shell:
        "python workflow_scripts/rehearse.py evaluate --spec {input.spec:q}"
        " --shard {wildcards.shard:q} --image-list {input.image_list:q}"
        " --class-batch {resources.class_batch} --output {output:q} > {log:q} 2>&1"
