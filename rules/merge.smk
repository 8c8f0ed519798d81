# Shards to one file of scores, and from it the metrics and predictions.


rule merge:
    input:
        spec=RUN.spec("{model}", "{dataset}"),
        image_list=RUN.image_list("{dataset}"),
        shards=lambda w: [
            RUN.shard(w.model, w.dataset, shard.name)
            for shard in shards_of(w.model, w.dataset)
        ],
    output:
        scores=temp(RUN.merged("{model}", "{dataset}")),
        record=RUN.record("{model}", "{dataset}"),
    log:
        RUN.log("merge", "{model}", "{dataset}"),
    benchmark:
        RUN.benchmark("merge", "{model}", "{dataset}")
    priority: FIRST
    localrule: True
    conda:
        "../environment.yaml"
    params:
        images=lambda w: CELLS[w.model, w.dataset].images,
        trials=lambda w: CELLS[w.model, w.dataset].trials,
        exhaustive=lambda w: CELLS[w.model, w.dataset].exhaustive,
    message:
        "Merge {wildcards.model} on {wildcards.dataset}"
    shell:
        "python workflow_scripts/merge.py --spec {input.spec:q}"
        " --image-list {input.image_list:q} --images {params.images} --trials {params.trials}"
        " --exhaustive {params.exhaustive} --scores {output.scores:q} --record {output.record:q}"
        " {input.shards:q} > {log:q} 2>&1"


rule measure:
    input:
        spec=RUN.spec("{model}", "{dataset}"),
        scores=RUN.merged("{model}", "{dataset}"),
        record=RUN.record("{model}", "{dataset}"),
    output:
        metrics=RUN.metrics("{model}", "{dataset}"),
        predictions=RUN.predictions("{model}", "{dataset}"),
    log:
        RUN.log("measure", "{model}", "{dataset}"),
    benchmark:
        RUN.benchmark("measure", "{model}", "{dataset}")
    # Before the next merge: the merged scores are large, and deleted after this.
    priority: FIRST + 1
    localrule: True
    conda:
        "../environment.yaml"
    params:
        version=MEASURED,
    message:
        "Measure {wildcards.model} on {wildcards.dataset}"
    shell:
        "python workflow_scripts/measure.py --scores {input.scores:q} --record {input.record:q}"
        " --spec {input.spec:q} --metrics {output.metrics:q}"
        " --predictions {output.predictions:q} > {log:q} 2>&1"
