# Specs: what exactly is evaluated, of a model and an image list.


rule specify:
    input:
        image_list=f"{RESULTS}/images/{{dataset}}.csv",
        network=checkpoint_manifest("network"),
        encoder=checkpoint_manifest("encoder"),
    output:
        f"{RESULTS}/specs/{{model}}/{{dataset}}.json",
    log:
        f"{RESULTS}/logs/specify/{{model}}/{{dataset}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/specify/{{model}}/{{dataset}}.tsv"
    localrule: True
    conda:
        "../environment.yaml"
    params:
        model=lambda w: scoring_text(w.model, w.dataset),
        dataset=lambda w: image_list_text(w.dataset),
        class_list=lambda w: CLASS_LISTS[CONFIG.datasets[w.dataset].labels],
        seed=CONFIG.seed,
        scoring_version=SCORING_VERSION,
    message:
        "Specify {wildcards.model} on {wildcards.dataset}"
    shell:
        "python workflow_scripts/specify.py --model {params.model:q}"
        " --dataset-name {wildcards.dataset:q} --dataset {params.dataset:q} --seed {params.seed}"
        " --image-list {input.image_list:q} --network {input.network:q} --encoder {input.encoder:q}"
        " --output {output:q} > {log:q} 2>&1"
