# From image-caption pairs to the comparison table of backdoor defenses, one job per cell.
#
# When Snakemake reads this file, clipmend.engine.plan arranges results/ by params.yaml: cells that the
# present parameters and code prove stay or come back from the store, others leave. A missing file is
# then a stale one.

from snakemake.utils import min_version

from clipmend.engine.snakemake import Flow

min_version("9.20")

flow = Flow(workflow, config)


wildcard_constraints:
    corpus=r"[^/]+",
    attack=r"[^/]+",
    seed=r"(0|[1-9]\d*)",
    objective=r"[^/]+",
    method=r"[^/]+",
    trigger=r"[^/]+",


include: "workflow/rules/download.smk"
include: "workflow/rules/poison.smk"
include: "workflow/rules/pretrain.smk"
include: "workflow/rules/detect.smk"
include: "workflow/rules/unlearn.smk"
include: "workflow/rules/baselines.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/report.smk"


onstart:
    flow.begin()


localrules:
    all,


rule all:
    default_target: True
    input:
        flow.cards(),
    message:
        "Finished: the table is results/report/table.md"
