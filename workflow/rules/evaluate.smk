# evaluate: clean accuracy and attack success rate of a model under a trigger, on the test split.


rule evaluate:
    input:
        unpack(flow.by_setting("evaluate")),
        corpus="results/download/{corpus}/card.json",
    output:
        **flow.outputs(
            "evaluate",
            "evaluate/{corpus}/{attack}/{objective}/seed{seed}/{method}/{trigger}",
        ),
    log:
        "logs/evaluate/{corpus}/{attack}/{objective}/seed{seed}/{method}/{trigger}.log",
    benchmark:
        "logs/benchmark/evaluate/{corpus}/{attack}/{objective}/seed{seed}/{method}/{trigger}.tsv"
    threads: 1
    resources:
        mem_mb=4000,
    params:
        cell="{corpus}/{attack}/{objective}/seed{seed}/{method}/{trigger}",
    message:
        "Evaluating {params.cell}"
    shell:
        "clipmend evaluate {params.cell} --cores {threads} > {log} 2>&1"


localrules:
    stage_evaluate,


rule stage_evaluate:
    input:
        flow.cards("evaluate"),
    message:
        "Evaluation finished"
