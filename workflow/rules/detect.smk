# detect: a detector scores every training pair (higher is more suspect), the model as a whole, or images
# as they arrive at a model in use.


rule detect:
    input:
        unpack(flow.by_setting("detect")),
        corpus="results/download/{corpus}/card.json",
        poison="results/poison/{corpus}/{attack}/seed{seed}/card.json",
        victim="results/pretrain/{corpus}/{attack}/{objective}/seed{seed}/card.json",
    output:
        **flow.outputs(
            "detect", "detect/{corpus}/{attack}/{objective}/seed{seed}/{method}"
        ),
    log:
        "logs/detect/{corpus}/{attack}/{objective}/seed{seed}/{method}.log",
    benchmark:
        "logs/benchmark/detect/{corpus}/{attack}/{objective}/seed{seed}/{method}.tsv"
    wildcard_constraints:
        method=flow.detectors(score="pairs"),
    priority: 20
    threads: 1
    resources:
        mem_mb=4000,
    params:
        cell="{corpus}/{attack}/{objective}/seed{seed}/{method}",
    message:
        "Scoring training pairs: {params.cell}"
    shell:
        "clipmend detect {params.cell} --cores {threads} > {log} 2>&1"


rule detect_model:
    input:
        unpack(flow.by_setting("detect")),
        corpus="results/download/{corpus}/card.json",
        poison="results/poison/{corpus}/{attack}/seed{seed}/card.json",
        victim="results/pretrain/{corpus}/{attack}/{objective}/seed{seed}/card.json",
    output:
        **flow.outputs(
            "detect_model",
            "detect/{corpus}/{attack}/{objective}/seed{seed}/{method}",
        ),
    log:
        "logs/detect/{corpus}/{attack}/{objective}/seed{seed}/{method}.log",
    benchmark:
        "logs/benchmark/detect/{corpus}/{attack}/{objective}/seed{seed}/{method}.tsv"
    wildcard_constraints:
        method=flow.detectors(score="model"),
    priority: 20
    threads: 1
    resources:
        mem_mb=4000,
    params:
        cell="{corpus}/{attack}/{objective}/seed{seed}/{method}",
    message:
        "Scoring the model: {params.cell}"
    shell:
        "clipmend detect {params.cell} --cores {threads} > {log} 2>&1"


rule detect_inputs:
    input:
        unpack(flow.by_setting("detect")),
        corpus="results/download/{corpus}/card.json",
        poison="results/poison/{corpus}/{attack}/seed{seed}/card.json",
        victim="results/pretrain/{corpus}/{attack}/{objective}/seed{seed}/card.json",
    output:
        **flow.outputs(
            "detect_inputs",
            "detect/{corpus}/{attack}/{objective}/seed{seed}/{method}",
        ),
    log:
        "logs/detect/{corpus}/{attack}/{objective}/seed{seed}/{method}.log",
    benchmark:
        "logs/benchmark/detect/{corpus}/{attack}/{objective}/seed{seed}/{method}.tsv"
    wildcard_constraints:
        method=flow.detectors(score="inputs"),
    priority: 20
    threads: 1
    resources:
        mem_mb=4000,
    params:
        cell="{corpus}/{attack}/{objective}/seed{seed}/{method}",
    message:
        "Scoring inputs: {params.cell}"
    shell:
        "clipmend detect {params.cell} --cores {threads} > {log} 2>&1"


localrules:
    stage_detect,


rule stage_detect:
    input:
        flow.cards("detect"),
    message:
        "All pairs, models and inputs are scored"
