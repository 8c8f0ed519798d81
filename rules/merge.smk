# Shards to one file of scores, and from it the metrics and predictions.


rule merge:
    input:
        spec=f"{RESULTS}/specs/{{model}}/{{dataset}}.json",
        shards=lambda w: [
            f"{scores_folder(w.model, w.dataset)}/{shard.name}.safetensors"
            for shard in shards_of(w.model, w.dataset)
        ],
    output:
        scores=temp(f"{RESULTS}/merged/{{model}}/{{dataset}}.safetensors"),
        record=f"{RESULTS}/merged/{{model}}/{{dataset}}.json",
    log:
        f"{RESULTS}/logs/merge/{{model}}/{{dataset}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/merge/{{model}}/{{dataset}}.tsv"
    localrule: True
    conda:
        "../environment.yaml"
    params:
        images=lambda w: CONFIG.datasets[w.dataset].images,
        trials=lambda w: CELLS[w.model, w.dataset],
    message:
        "Merge {wildcards.model} on {wildcards.dataset}"
    shell:
        "python workflow_scripts/merge.py --spec {input.spec:q} --images {params.images}"
        " --trials {params.trials} --scores {output.scores:q} --record {output.record:q}"
        " {input.shards:q} > {log:q} 2>&1"


rule measure:
    input:
        scores=f"{RESULTS}/merged/{{model}}/{{dataset}}.safetensors",
        record=f"{RESULTS}/merged/{{model}}/{{dataset}}.json",
    output:
        metrics=f"{RESULTS}/metrics/{{model}}/{{dataset}}.json",
        predictions=f"{RESULTS}/predictions/{{model}}/{{dataset}}.parquet",
    log:
        f"{RESULTS}/logs/measure/{{model}}/{{dataset}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/measure/{{model}}/{{dataset}}.tsv"
    # Before the next merge: the merged scores are large, and deleted after this.
    priority: 1
    localrule: True
    conda:
        "../environment.yaml"
    params:
        method=lambda w: CONFIG.models[w.model].classifier.method,
    message:
        "Measure {wildcards.model} on {wildcards.dataset}"
    shell:
        "python workflow_scripts/measure.py --scores {input.scores:q} --record {input.record:q}"
        " --method {params.method:q} --metrics {output.metrics:q}"
        " --predictions {output.predictions:q} > {log:q} 2>&1"
