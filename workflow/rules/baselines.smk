# baselines: repairs that work on trusted clean pairs.


rule baselines:
    input:
        unpack(flow.by_setting("baselines")),
        corpus="results/download/{corpus}/card.json",
        poison="results/poison/{corpus}/{attack}/seed{seed}/card.json",
        victim="results/pretrain/{corpus}/{attack}/{objective}/seed{seed}/card.json",
    output:
        **flow.outputs(
            "baselines", "baselines/{corpus}/{attack}/{objective}/seed{seed}/{method}"
        ),
    log:
        "logs/baselines/{corpus}/{attack}/{objective}/seed{seed}/{method}.log",
    benchmark:
        "logs/benchmark/baselines/{corpus}/{attack}/{objective}/seed{seed}/{method}.tsv"
    priority: 10
    threads: 1
    resources:
        mem_mb=4000,
    params:
        cell="{corpus}/{attack}/{objective}/seed{seed}/{method}",
    message:
        "Repairing {params.cell}"
    shell:
        "clipmend baselines {params.cell} --cores {threads} > {log} 2>&1"


localrules:
    stage_baselines,


rule stage_baselines:
    input:
        flow.cards("baselines"),
    message:
        "Baseline repairs finished"
