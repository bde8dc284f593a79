# poison: an attack marks and recaptions some training pairs; only changed rows are written.


rule poison:
    input:
        unpack(flow.inputs("poison/{corpus}/{attack}/seed{seed}")),
    output:
        overlay="results/poison/{corpus}/{attack}/seed{seed}/overlay.parquet",
        trigger="results/poison/{corpus}/{attack}/seed{seed}/trigger.safetensors",
        triggers="results/poison/{corpus}/{attack}/seed{seed}/triggers.json",
        preview="results/poison/{corpus}/{attack}/seed{seed}/preview.png",
        card="results/poison/{corpus}/{attack}/seed{seed}/card.json",
    log:
        "logs/poison/{corpus}/{attack}/seed{seed}.log",
    benchmark:
        "logs/benchmark/poison/{corpus}/{attack}/seed{seed}.tsv"
    priority: 40
    threads: 1
    resources:
        mem_mb=2000,
    message:
        "Poisoning {wildcards.corpus} with {wildcards.attack}, seed {wildcards.seed}"
    shell:
        "clipmend poison {wildcards.corpus}/{wildcards.attack}/seed{wildcards.seed} > {log} 2>&1"


localrules:
    stage_poison,


rule stage_poison:
    input:
        flow.cards("poison"),
    message:
        "All poisons are ready"
