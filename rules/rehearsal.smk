# In a rehearsal, in place of fetch, prepare and evaluate: the same files, made up at true size.


rule fetch:
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
        RUN.manifest("datasets", "{dataset}"),
    output:
        RUN.image_list("{dataset}"),
    log:
        RUN.log("prepare", "{dataset}"),
    benchmark:
        RUN.benchmark("prepare", "{dataset}")
    priority: FIRST
    localrule: True
    conda:
        "../environment.yaml"
    params:
        selection=lambda w: CONFIG.datasets[w.dataset].text_of(Selection),
        classes=lambda w: candidate_count(w.dataset, CONFIG.datasets[w.dataset]),
        seed=CONFIG.seed,
        class_list=lambda w: CLASS_LISTS[CONFIG.datasets[w.dataset].labels],
    message:
        "Make up the images of {wildcards.dataset}"
    shell:
        "python workflow_scripts/rehearse.py prepare --name {wildcards.dataset:q}"
        " --selection {params.selection:q} --classes {params.classes} --seed {params.seed}"
        " --output {output:q} > {log:q} 2>&1"


rule evaluate:
    input:
        spec=RUN.spec("{model}", "{dataset}"),
        image_list=RUN.image_list("{dataset}"),
        dataset=RUN.manifest("datasets", "{dataset}"),
        checkpoints=checkpoint_manifests,
    output:
        RUN.shard("{model}", "{dataset}", "{shard}"),
    log:
        RUN.log("evaluate", "{model}", "{dataset}", "{shard}"),
    benchmark:
        RUN.benchmark("evaluate", "{model}", "{dataset}", "{shard}")
    priority: in_even_steps
    conda:
        "../environment.yaml"
    resources:
        class_batch=lambda w: CONFIG.models[w.model].class_batch,
    params:
        accuracy=lambda w: ASSUMED[w.model, w.dataset],
    message:
        "Make up {wildcards.model} on {wildcards.dataset}: {wildcards.shard}"
    shell:
        "python workflow_scripts/rehearse.py evaluate --spec {input.spec:q}"
        " --shard {wildcards.shard:q} --image-list {input.image_list:q}"
        " --class-batch {resources.class_batch} --accuracy {params.accuracy} --output {output:q} > {log:q} 2>&1"
