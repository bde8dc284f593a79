# download: a corpus becomes pairs, in four splits.


rule download:
    input:
        unpack(flow.inputs("download/{corpus}")),
    output:
        train="results/download/{corpus}/train.parquet",
        trusted="results/download/{corpus}/trusted.parquet",
        val="results/download/{corpus}/val.parquet",
        test="results/download/{corpus}/test.parquet",
        classes="results/download/{corpus}/classes.json",
        card="results/download/{corpus}/card.json",
    log:
        "logs/download/{corpus}.log",
    benchmark:
        "logs/benchmark/download/{corpus}.tsv"
    priority: 50
    threads: 1
    resources:
        mem_mb=4000,
    message:
        "Drawing or reading the pairs of {wildcards.corpus}"
    shell:
        "clipmend download {wildcards.corpus} > {log} 2>&1"


localrules:
    stage_download,


rule stage_download:
    input:
        flow.cards("download"),
    message:
        "All corpora are ready"
