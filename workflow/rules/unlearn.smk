# unlearn: repairs that work on the training pairs, poison and all.


rule unlearn:
    input:
        unpack(flow.by_setting("unlearn")),
        corpus="results/download/{corpus}/card.json",
        poison="results/poison/{corpus}/{attack}/seed{seed}/card.json",
        victim="results/pretrain/{corpus}/{attack}/{objective}/seed{seed}/card.json",
    output:
        **flow.outputs(
            "unlearn", "unlearn/{corpus}/{attack}/{objective}/seed{seed}/{method}"
        ),
    log:
        "logs/unlearn/{corpus}/{attack}/{objective}/seed{seed}/{method}.log",
    benchmark:
        "logs/benchmark/unlearn/{corpus}/{attack}/{objective}/seed{seed}/{method}.tsv"
    priority: 10
    threads: 1
    resources:
        mem_mb=4000,
    params:
        cell="{corpus}/{attack}/{objective}/seed{seed}/{method}",
    message:
        "Repairing {params.cell}"
    shell:
        "clipmend unlearn {params.cell} --cores {threads} > {log} 2>&1"


localrules:
    stage_unlearn,


rule stage_unlearn:
    input:
        flow.cards("unlearn"),
    message:
        "Unlearning finished"
