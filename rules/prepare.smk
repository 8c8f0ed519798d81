# Image lists: which images of a dataset are evaluated, in which order.


rule prepare:
    input:
        manifest=f"{RESULTS}/manifests/datasets/{{dataset}}.json",
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
        dataset=lambda w: image_list_text(w.dataset),
        class_list=lambda w: CLASS_LISTS[CONFIG.datasets[w.dataset].labels],
        seed=CONFIG.seed,
    message:
        "Prepare {wildcards.dataset}"
    shell:
        "python workflow_scripts/prepare.py --name {wildcards.dataset:q}"
        " --dataset {params.dataset:q} --manifest {input.manifest:q} --seed {params.seed}"
        " --output {output:q} > {log:q} 2>&1"
