# The page, its tables and figures.


rule configure:
    output:
        f"{RESULTS}/config.json",
    log:
        f"{RESULTS}/logs/configure.log",
    benchmark:
        f"{RESULTS}/benchmarks/configure.tsv"
    localrule: True
    conda:
        "../environment.yaml"
    params:
        config=reported_text(),
    message:
        "Record the resolved config"
    shell:
        "python workflow_scripts/configure.py --config {params.config:q} --output {output:q}"
        " > {log:q} 2>&1"


rule report:
    input:
        config=f"{RESULTS}/config.json",
        metrics=[
            f"{RESULTS}/metrics/{model}/{dataset}.json" for model, dataset in CELLS
        ],
        explained=[
            f"{RESULTS}/explained/{one}/{other}/{dataset}.json"
            for one, other, dataset in EXPLAINED
        ],
        template=[
            str(path) for path in sorted(Path("reports").iterdir()) if path.is_file()
        ],
        code=[str(path) for path in sorted(Path("genclass/reporting").glob("*.py"))],
    output:
        page=report(
            f"{RESULTS}/report/report.html",
            caption="../reports/caption.rst",
            category="Report",
        ),
        summary=f"{RESULTS}/report/summary.txt",
        tables=[
            report(
                f"{RESULTS}/report/tables/{name}.json",
                category="Tables",
                labels={"table": table.title},
            )
            for name, table in CONFIG.report.tables.items()
        ],
    log:
        f"{RESULTS}/logs/report.log",
    benchmark:
        f"{RESULTS}/benchmarks/report.tsv"
    localrule: True
    conda:
        "../environment.yaml"
    params:
        results=lambda w, input: os.path.dirname(input.config),
    message:
        "Render the report"
    shell:
        "python workflow_scripts/report.py --results {params.results:q} > {log:q} 2>&1"
