# report: tables, figures and the page, from every card and number of the grid.
# clipmend.report.contents lists them. Below findings/ there is also a figure for each victim that an
# unlearning repair searched; only the job knows which. The card proves all files of the folder.

from pathlib import Path

from clipmend.report import contents

CAPTIONS = contents.write_captions(Path(".clipmend/captions").resolve())


rule report:
    input:
        cards=[path for path in flow.cards() if path != "results/report/card.json"],
    output:
        files=[
            f"results/report/{name}"
            for name in (*contents.FILES, "index.html")
            if name != "table.md"
        ],
        table=report(
            "results/report/table.md",
            caption="../report/table.rst",
            category="Comparison",
        ),
        figures=[
            report(
                f"results/report/{name}.svg",
                caption=str(CAPTIONS[name]),
                category=category,
            )
            for name, category in contents.FIGURES.items()
        ],
        pictures=[f"results/report/{name}.png" for name in contents.FIGURES],
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
