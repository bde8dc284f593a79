# download: a corpus becomes image-caption pairs in four splits.


rule download:
    input:
        unpack(flow.by_setting("download")),
    output:
        **flow.outputs("download", "download/{corpus}"),
    log:
        "logs/download/{corpus}.log",
    benchmark:
        "logs/benchmark/download/{corpus}.tsv"
    priority: 50
    threads: 1
    resources:
        mem_mb=4000,
    params:
        cell="{corpus}",
    message:
        "Preparing the corpus {params.cell}"
    shell:
        "clipmend download {params.cell} --cores {threads} > {log} 2>&1"


localrules:
    stage_download,


rule stage_download:
    input:
        flow.cards("download"),
    message:
        "All corpora are ready"
