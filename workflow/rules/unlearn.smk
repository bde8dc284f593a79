# unlearn: the victim forgets a few suspects.


rule unlearn:
    input:
        unpack(flow.inputs("unlearn/{victim}/{repair}")),
    output:
        model="results/unlearn/{victim}/{repair}/model.safetensors",
        config="results/unlearn/{victim}/{repair}/open_clip_config.json",
        curve="results/unlearn/{victim}/{repair}/curve.csv",
        chosen="results/unlearn/{victim}/{repair}/chosen.parquet",
        belief="results/unlearn/{victim}/{repair}/finding.json",
        card="results/unlearn/{victim}/{repair}/card.json",
    log:
        "logs/unlearn/{victim}/{repair}.log",
    benchmark:
        "logs/benchmark/unlearn/{victim}/{repair}.tsv"
    priority: 10
    threads: 1
    resources:
        mem_mb=4000,
    message:
        "Mending {wildcards.victim} with {wildcards.repair}"
    shell:
        "clipmend unlearn {wildcards.victim}/{wildcards.repair} > {log} 2>&1"


localrules:
    stage_unlearn,


rule stage_unlearn:
    input:
        flow.cards("unlearn"),
    message:
        "All victims have unlearned"
