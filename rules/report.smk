# The page, its tables and figures.


rule configure:
    output:
        RUN.config,
    log:
        RUN.log("configure"),
    benchmark:
        RUN.benchmark("configure")
    localrule: True
    conda:
        "../environment.yaml"
    params:
        config=ASKED.reported(),
    message:
        "Record the resolved config"
    shell:
        "python workflow_scripts/configure.py --config {params.config:q} --output {output:q}"
        " > {log:q} 2>&1"


rule report:
    input:
        config=RUN.config,
        reported=REPORTED,
        template=[
            str(path) for path in sorted(Path("reports").iterdir()) if path.is_file()
        ],
        code=[str(path) for path in sorted(Path("genclass/reporting").glob("*.py"))],
    output:
        page=report(
            RUN.page,
            caption="../reports/caption.rst",
            category="Report",
        ),
        summary=RUN.summary,
        tables=[
            report(
                RUN.table(name),
                category="Tables",
                labels={"table": table.title},
            )
            for name, table in CONFIG.report.tables.items()
        ],
    log:
        RUN.log("report"),
    benchmark:
        RUN.benchmark("report")
    localrule: True
    conda:
        "../environment.yaml"
    params:
        results=lambda w, input: os.path.dirname(input.config),
    message:
        "Render the report"
    shell:
        "python workflow_scripts/report.py --results {params.results:q} > {log:q} 2>&1"
