# pretrain: CLIP is trained on the corpus with the poison laid over it: the victim.
#
# A job that is given several GPUs trains in as many processes, a GPU each (docs/scale.md).
#
# Priorities fall along the graph: the longest jobs begin first, so that none is left alone at the end.


rule pretrain:
    input:
        unpack(flow.inputs("pretrain/{victim}")),
    output:
        model="results/pretrain/{victim}/model.safetensors",
        early="results/pretrain/{victim}/early.safetensors",
        config="results/pretrain/{victim}/open_clip_config.json",
        curve="results/pretrain/{victim}/curve.csv",
        card="results/pretrain/{victim}/card.json",
    log:
        "logs/pretrain/{victim}.log",
    benchmark:
        "logs/benchmark/pretrain/{victim}.tsv"
    priority: 30
    threads: 1
    resources:
        mem_mb=4000,
    params:
        processes=lambda wildcards, resources: resources.get("gpu") or 1,
    message:
        "Pretraining {wildcards.victim}"
    shell:
        "clipmend pretrain {wildcards.victim} --processes {params.processes} > {log} 2>&1"


localrules:
    stage_pretrain,


rule stage_pretrain:
    input:
        flow.cards("pretrain"),
    message:
        "All victims are trained"
