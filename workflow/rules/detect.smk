# detect: every training pair gets a score, higher is more suspect; some detectors judge the model.


rule detect:
    input:
        unpack(flow.inputs("detect/{victim}/{detector}")),
    output:
        scores="results/detect/{victim}/{detector}/scores.parquet",
        card="results/detect/{victim}/{detector}/card.json",
    log:
        "logs/detect/{victim}/{detector}.log",
    benchmark:
        "logs/benchmark/detect/{victim}/{detector}.tsv"
    wildcard_constraints:
        detector=flow.detectors(judge=False),
    priority: 20
    threads: 1
    resources:
        mem_mb=4000,
    message:
        "Scoring the pairs of {wildcards.victim} with {wildcards.detector}"
    shell:
        "clipmend detect {wildcards.victim}/{wildcards.detector} > {log} 2>&1"


rule judge:
    input:
        unpack(flow.inputs("detect/{victim}/{detector}")),
    output:
        verdict="results/detect/{victim}/{detector}/model_score.json",
        card="results/detect/{victim}/{detector}/card.json",
    log:
        "logs/detect/{victim}/{detector}.log",
    benchmark:
        "logs/benchmark/detect/{victim}/{detector}.tsv"
    wildcard_constraints:
        detector=flow.detectors(judge=True),
    priority: 20
    threads: 1
    resources:
        mem_mb=4000,
    message:
        "Judging {wildcards.victim} with {wildcards.detector}"
    shell:
        "clipmend detect {wildcards.victim}/{wildcards.detector} > {log} 2>&1"


localrules:
    stage_detect,


rule stage_detect:
    input:
        flow.cards("detect"),
    message:
        "All pairs are scored, and all models judged"
