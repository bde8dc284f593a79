# baselines: the other repairs, on the trusted pairs.


rule baselines:
    input:
        unpack(flow.inputs("baselines/{victim}/{repair}")),
    output:
        model="results/baselines/{victim}/{repair}/model.safetensors",
        config="results/baselines/{victim}/{repair}/open_clip_config.json",
        curve="results/baselines/{victim}/{repair}/curve.csv",
        card="results/baselines/{victim}/{repair}/card.json",
    log:
        "logs/baselines/{victim}/{repair}.log",
    benchmark:
        "logs/benchmark/baselines/{victim}/{repair}.tsv"
    priority: 10
    threads: 1
    resources:
        mem_mb=4000,
    message:
        "Mending {wildcards.victim} with {wildcards.repair}"
    shell:
        "clipmend baselines {wildcards.victim}/{wildcards.repair} > {log} 2>&1"


localrules:
    stage_baselines,


rule stage_baselines:
    input:
        flow.cards("baselines"),
    message:
        "All victims are repaired"
