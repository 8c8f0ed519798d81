# Specs: what exactly is evaluated, of a model and an image list.


rule specify:
    input:
        image_list=RUN.image_list("{dataset}"),
        checkpoints=checkpoint_manifests,
    output:
        RUN.spec("{model}", "{dataset}"),
    log:
        RUN.log("specify", "{model}", "{dataset}"),
    benchmark:
        RUN.benchmark("specify", "{model}", "{dataset}")
    priority: FIRST
    localrule: True
    conda:
        "../environment.yaml"
    resources:
        # Not a param: it is checked, and changes nothing.
        classes=lambda w: given("--classes", CONFIG.datasets[w.dataset].classes),
    params:
        model=lambda w: CONFIG.models[w.model].text_of(ScoredModel),
        selection=lambda w: CONFIG.datasets[w.dataset].text_of(Selection),
        class_list=lambda w: CLASS_LISTS[CONFIG.datasets[w.dataset].labels],
        versions=lambda w: canonical_json(CONFIG.models[w.model].system.versions),
        plugin=lambda w: plugin_of(CONFIG.models[w.model].network) or "",
        seed=CONFIG.seed,
        trials=lambda w: budget_of_race(w.model, w.dataset),
        parts=lambda w: list(CONFIG.models[w.model].system.checkpoints),
    message:
        "Specify {wildcards.model} on {wildcards.dataset}"
    shell:
        "python workflow_scripts/specify.py --model {params.model:q}"
        " --dataset {wildcards.dataset:q} --selection {params.selection:q}"
        " {resources.classes} --seed {params.seed} --trials {params.trials}"
        " --image-list {input.image_list:q} --parts {params.parts:q}"
        " --checkpoints {input.checkpoints:q} --output {output:q} > {log:q} 2>&1"
