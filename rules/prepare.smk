# Image lists: which images of a dataset are evaluated, in which order.


rule prepare:
    input:
        manifest=RUN.manifest("datasets", "{dataset}"),
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
        seed=CONFIG.seed,
        class_list=lambda w: CLASS_LISTS[CONFIG.datasets[w.dataset].labels],
    message:
        "Prepare {wildcards.dataset}"
    shell:
        "python workflow_scripts/prepare.py --name {wildcards.dataset:q}"
        " --selection {params.selection:q} --seed {params.seed} --manifest {input.manifest:q} --output {output:q}"
        " > {log:q} 2>&1"
