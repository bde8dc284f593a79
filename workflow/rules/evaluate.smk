# evaluate: clean accuracy and attack success rate of a model under a trigger.


rule evaluate:
    input:
        unpack(flow.inputs("evaluate/{victim}/{repair}/{trigger}")),
    output:
        metrics="results/evaluate/{victim}/{repair}/{trigger}/metrics.json",
        card="results/evaluate/{victim}/{repair}/{trigger}/card.json",
    log:
        "logs/evaluate/{victim}/{repair}/{trigger}.log",
    benchmark:
        "logs/benchmark/evaluate/{victim}/{repair}/{trigger}.tsv"
    threads: 1
    resources:
        mem_mb=4000,
    message:
        "Measuring {wildcards.repair} on {wildcards.victim} under {wildcards.trigger}"
    shell:
        "clipmend evaluate {wildcards.victim}/{wildcards.repair}/{wildcards.trigger} > {log} 2>&1"


localrules:
    stage_evaluate,


rule stage_evaluate:
    input:
        flow.cards("evaluate"),
    message:
        "All numbers are taken"
