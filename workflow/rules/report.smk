# report: tables, figures and the page, from every card and number of the grid.
# Its folder also holds a figure for each victim that an unlearner looked at, below findings/: which
# ones, only the job knows. Its card proves them, as it does all files of the folder.

FIGURES = {
    "ca_vs_asr": "Comparison",
    "detector_roc": "Detection",
    "similarity": "Detection",
    "gallery": "Attacks",
    "persistence": "Comparison",
    "curves": "Training",
}


rule report:
    input:
        cards=[path for path in flow.cards() if path != "results/report/card.json"],
    output:
        tables=multiext(
            "results/report/",
            "cells.csv",
            "table.csv",
            "attacks.csv",
            "detectors.csv",
            "model_scores.csv",
            "findings.json",
            "claims.json",
            "metrics.json",
            "cards.jsonl",
            "code.json",
            "index.html",
        ),
        table=report(
            "results/report/table.md",
            caption="../report/table.rst",
            category="Comparison",
        ),
        figures=[
            report(
                f"results/report/{name}.svg",
                caption=f"../report/{name}.rst",
                category=category,
            )
            for name, category in FIGURES.items()
        ],
        pictures=[f"results/report/{name}.png" for name in FIGURES],
        card="results/report/card.json",
    log:
        "logs/report.log",
    benchmark:
        "logs/benchmark/report.tsv"
    threads: 1
    resources:
        mem_mb=2000,
    message:
        "Writing the report"
    shell:
        "clipmend report > {log} 2>&1"


localrules:
    stage_report,


rule stage_report:
    input:
        flow.cards("report"),
    message:
        "The report is in results/report"
