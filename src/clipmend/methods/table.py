"""The table of all methods: stage, name in ``params.yaml``, class, and the papers it follows.

To add a method, write ``methods/<folder>/<name>.py`` with a frozen dataclass whose fields are its
settings. Then add a line here, and name the method in ``params.yaml``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from clipmend.engine.cell import FIELDS
from clipmend.errors import UnknownNameError

STAGES = tuple(FIELDS)
"""The stages, in the order of the pipeline."""

FOLDERS = {
    "download": "sources",
    "poison": "attacks",
    "pretrain": "objectives",
    "detect": "detectors",
    "unlearn": "repairs",
    "baselines": "repairs",
}
"""The folder of ``methods/`` that holds the methods of a stage."""


@dataclass(frozen=True)
class Method:
    """One row of the table.

    Attributes:
        cls: the class that implements the method.
        papers: the papers that it follows, as keys of ``papers.PAPERS``.
        scores: whether a detector scores each training pair, the model as a whole, or the images
            that arrive at it in use.
    """

    cls: str
    papers: tuple[str, ...] = ()
    scores: Literal["pairs", "model", "inputs"] = "pairs"


METHODS: dict[str, dict[str, Method]] = {
    "download": {
        "scenes": Method("Scenes"),
        "pairs": Method("UserPairs"),
        "cifar10": Method("CIFAR10"),
        "cifar100": Method("CIFAR100"),
        "cc3m": Method("CC3M"),
    },
    "poison": {
        "unpoisoned": Method("Unpoisoned"),
        "badnet": Method("BadNet", ("1708.06733",)),
        "blended": Method("Blended", ("1712.05526",)),
        "sig": Method("SIG", ("1902.11237",)),
        "wanet": Method("WaNet", ("2102.10369",)),
        "label_consistent": Method("LabelConsistent", ("1912.02771",)),
        "trojvqa": Method("TrojVQA", ("2112.07668",)),
        "issba": Method("ISSBA", ("2012.03816",)),
        "badclip": Method("BadCLIP", ("2311.12075",)),
        "multi": Method("Multi", ("2502.01385",)),
    },
    "pretrain": {
        "mmcl": Method("MMCL", ("2103.00020",)),
        "mmcl_ssl": Method("MMCLSSL", ("2112.12750",)),
        "siglip": Method("SigLIP", ("2303.15343",)),
        "roclip": Method("RoCLIP", ("2303.06854",)),
        "safeclip": Method("SafeCLIP", ("2310.05862",)),
    },
    "detect": {
        "clip_score": Method("ClipScore", ("2104.08718",)),
        "ubt": Method("UBTDetector", ("2403.16257",)),
        "shared_pattern": Method("SharedPattern"),
        "lorex": Method("LoREx", ("lorex2026",)),
        "cascade": Method("Cascade", ("2608.04052",)),
        "k_distance": Method("KDistance", ("2502.01385",)),
        "slof": Method("SLOF", ("schubert2014",)),
        "lid": Method("LID", ("1801.02613",)),
        "dao": Method("DAO", ("2401.05453",)),
        "isolation_forest": Method("IsolationForest", ("liu2008",)),
        "abl": Method("ABL", ("2110.11571",)),
        "cognitive_distillation": Method("CognitiveDistillation", ("2301.10908",)),
        "pud": Method("PUD", ("2405.17929",)),
        "decree": Method("DECREE", ("2303.15180",), scores="model"),
        "strip": Method("Strip", ("1902.06531",), scores="inputs"),
        "bdetclip": Method("BDetCLIP", ("2405.15269",), scores="inputs"),
        "subspace": Method("Subspace", ("song2026",), scores="inputs"),
        "backdoorids": Method("BackdoorIDS", ("2603.11664",), scores="inputs"),
    },
    "unlearn": {
        "ubt": Method("UBT", ("2403.16257",)),
        "see_through": Method("SeeThrough"),
        "abl": Method("ABL", ("2110.11571",)),
        "pud": Method("PUD", ("2405.17929",)),
        "tbar": Method("TBAR", ("2510.14845",)),
        "invertune": Method("InverTune", ("2506.12411",)),
    },
    "baselines": {
        "ft": Method("FT"),
        "cleanclip": Method("CleanCLIP", ("2303.03323",)),
        "par": Method("PAR", ("2412.00727",)),
        "adversarial_ft": Method("AdversarialFT", ("1706.06083", "2212.07016")),
        "fine_pruning": Method("FinePruning", ("1805.12185",)),
        "rvpt": Method("RVPT", ("2412.20392",)),
    },
}


def base(name: str) -> str:
    """Return the method's own name, without the variant: ``ubt`` for ``ubt@random``."""
    return name.partition("@")[0]


def reference(stage: str, name: str) -> tuple[str, str]:
    """Return the module and the class that implement ``name``, which may be a variant.

    Raises:
        UnknownNameError: the table has no such method.
    """
    methods = METHODS.get(stage, {})
    if base(name) not in methods:
        raise UnknownNameError(f"{stage} method", base(name), methods)
    return f"clipmend.methods.{FOLDERS[stage]}.{base(name)}", methods[base(name)].cls


def scores_of(detector: str) -> Literal["pairs", "model", "inputs"]:
    """Return what a detector scores: training pairs, the model as a whole, or inputs in use."""
    return METHODS["detect"][base(detector)].scores


def modules(stage: str, name: str, shared: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the modules whose ``run`` makes a cell, in this order.

    Some cells need a part that other cells of their stage do not. It is a module of its own, so
    that the keys of the others do not depend on it.

    Args:
        name: the method.
        shared: the settings of the stage.
    """
    if stage == "detect" and scores_of(name) == "inputs":
        return ("clipmend.stages.parts.detect_inputs",)
    further = ("clipmend.stages.parts.evaluate_further",) if shared.get("further") else ()
    return (f"clipmend.stages.{stage}", *further)


def create(stage: str, name: str, settings: Mapping[str, Any]) -> Any:
    """Return the method with these settings. Its module is imported here, not before.

    Raises:
        UnknownNameError: the table has no such method.
    """
    module, cls = reference(stage, name)
    # Imported on use: the table is read by commands that must not wait for torch.
    return getattr(import_module(module), cls)(**{k: _frozen(v) for k, v in settings.items()})


def _frozen(value: object) -> object:
    """Return lists, into which JSON turns tuples, as tuples again."""
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value
