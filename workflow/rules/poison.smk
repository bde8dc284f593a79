# poison: an attack adds triggers and captions to some training pairs; only changed rows are written.


rule poison:
    input:
        unpack(flow.by_setting("poison")),
        corpus="results/download/{corpus}/card.json",
    output:
        **flow.outputs("poison", "poison/{corpus}/{attack}/seed{seed}"),
    log:
        "logs/poison/{corpus}/{attack}/seed{seed}.log",
    benchmark:
        "logs/benchmark/poison/{corpus}/{attack}/seed{seed}.tsv"
    priority: 40
    threads: 1
    resources:
        mem_mb=2000,
    params:
        cell="{corpus}/{attack}/seed{seed}",
    message:
        "Poisoning {params.cell}"
    shell:
        "clipmend poison {params.cell} --cores {threads} > {log} 2>&1"


localrules:
    stage_poison,


rule stage_poison:
    input:
        flow.cards("poison"),
    message:
        "All poisoned pairs are ready"
