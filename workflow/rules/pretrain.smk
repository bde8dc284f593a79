# pretrain: CLIP is trained on the corpus with the poisoned pairs in place: the victim.
#
# A job with several GPUs trains in as many processes, one GPU each (docs/how-to/scale.md).
#
# Priorities fall along the graph: the longest jobs begin first, so that none is left alone at the end.


rule pretrain:
    input:
        unpack(flow.by_setting("pretrain")),
        corpus="results/download/{corpus}/card.json",
        poison="results/poison/{corpus}/{attack}/seed{seed}/card.json",
    output:
        **flow.outputs("pretrain", "pretrain/{corpus}/{attack}/{objective}/seed{seed}"),
    log:
        "logs/pretrain/{corpus}/{attack}/{objective}/seed{seed}.log",
    benchmark:
        "logs/benchmark/pretrain/{corpus}/{attack}/{objective}/seed{seed}.tsv"
    priority: 30
    threads: 1
    resources:
        mem_mb=4000,
    params:
        cell="{corpus}/{attack}/{objective}/seed{seed}",
        processes=lambda wildcards, resources: resources.get("gpu") or 1,
    message:
        "Pretraining {params.cell}"
    shell:
        "clipmend pretrain {params.cell} --cores {threads} --processes {params.processes} > {log} 2>&1"


localrules:
    stage_pretrain,


rule stage_pretrain:
    input:
        flow.cards("pretrain"),
    message:
        "All victims are trained"
