# Poison a CLIP, then mend it: from pairs to the comparison table, a job per cell.
#
# Reading this file arranges results/ by params.yaml (clipmend.engine.plan): what the present parameters and
# code prove stays or comes back from the store, all else is put aside. Then missing means stale.

from snakemake.utils import min_version

from clipmend.engine.snakemake import Flow

min_version("9.20")

flow = Flow(workflow, config)


wildcard_constraints:
    corpus=r"[^/]+",
    attack=r"[^/]+",
    seed=r"\d+",
    victim=r"[^/]+/[^/]+/[^/]+/seed\d+",
    detector=r"[^/]+",
    repair=r"[^/]+",
    trigger=r"[^/]+",


include: "workflow/rules/download.smk"
include: "workflow/rules/poison.smk"
include: "workflow/rules/pretrain.smk"
include: "workflow/rules/detect.smk"
include: "workflow/rules/unlearn.smk"
include: "workflow/rules/baselines.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/report.smk"


localrules:
    all,


rule all:
    default_target: True
    input:
        flow.cards(),
    message:
        "All cells are made; the table is results/report/table.md"
