"""The one table of everything there is: stage, name in ``params.yaml``, class.

To add a method: write ``<stage>/<name>.py`` (an attack: ``attacks/<name>.py``), a frozen dataclass
whose fields are its settings, then give it a line here and name it in ``params.yaml``.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from clipmend.errors import UnknownNameError

STAGES = (
    "download",
    "poison",
    "pretrain",
    "detect",
    "unlearn",
    "baselines",
    "evaluate",
    "report",
)

METHODS: dict[str, dict[str, str]] = {
    "download": {
        "scenes": "clipmend.download.scenes:Scenes",
        "pairs": "clipmend.download.pairs:UserPairs",
        "cc3m": "clipmend.download.cc3m:CC3M",
    },
    "poison": {
        "unpoisoned": "clipmend.attacks.unpoisoned:Unpoisoned",
        "badnet": "clipmend.attacks.badnet:BadNet",  # Gu et al. 2017, arXiv:1708.06733
        "blended": "clipmend.attacks.blended:Blended",  # Chen et al. 2017, arXiv:1712.05526
        "sig": "clipmend.attacks.sig:SIG",  # Barni et al. 2019, arXiv:1902.11237
        "wanet": "clipmend.attacks.wanet:WaNet",  # Nguyen and Tran 2021, arXiv:2102.10369
        # Turner et al. 2019, arXiv:1912.02771
        "label_consistent": "clipmend.attacks.label_consistent:LabelConsistent",
        "trojvqa": "clipmend.attacks.trojvqa:TrojVQA",  # Walmer et al. 2022, arXiv:2112.07668
        "issba": "clipmend.attacks.issba:ISSBA",  # Li et al. 2021, arXiv:2012.03816
        "badclip": "clipmend.attacks.badclip:BadCLIP",  # Liang et al. 2024, arXiv:2311.12075
        "multi": "clipmend.attacks.multi:Multi",  # Huang et al. 2025, arXiv:2502.01385
    },
    "pretrain": {
        "mmcl": "clipmend.pretrain.mmcl:MMCL",  # Radford et al. 2021, arXiv:2103.00020
        "mmcl_ssl": "clipmend.pretrain.mmcl_ssl:MMCLSSL",  # Mu et al. 2021, arXiv:2112.12750
        "siglip": "clipmend.pretrain.siglip:SigLIP",  # Zhai et al. 2023, arXiv:2303.15343
        "roclip": "clipmend.pretrain.roclip:RoCLIP",  # Yang et al. 2023, arXiv:2303.06854
        "safeclip": "clipmend.pretrain.safeclip:SafeCLIP",  # Yang et al. 2024, arXiv:2310.05862
    },
    "detect": {
        "clip_score": "clipmend.detect.clip_score:ClipScore",  # Hessel 2021, arXiv:2104.08718
        "ubt": "clipmend.detect.ubt:UBTDetector",
        "k_distance": "clipmend.detect.k_distance:KDistance",  # Huang 2025, arXiv:2502.01385
        "slof": "clipmend.detect.slof:SLOF",  # Schubert et al. 2014
        "lid": "clipmend.detect.lid:LID",  # Ma et al. 2018, arXiv:1801.02613
        "dao": "clipmend.detect.dao:DAO",  # Anderberg et al. 2024, arXiv:2401.05453
        "isolation_forest": "clipmend.detect.isolation_forest:IsolationForest",  # Liu 2008
        "abl": "clipmend.detect.abl:ABL",  # Li et al. 2021, arXiv:2110.11571
        # Huang et al. 2023, arXiv:2301.10908
        "cognitive_distillation": "clipmend.detect.cognitive_distillation:CognitiveDistillation",
        "pud": "clipmend.detect.pud:PUD",  # Niu et al. 2024, arXiv:2405.17929
        "decree": "clipmend.detect.decree:DECREE",  # Feng et al. 2023, arXiv:2303.15180
    },
    "unlearn": {
        "ubt": "clipmend.unlearn.ubt:UBT",
    },
    "baselines": {
        "ft": "clipmend.baselines.ft:FT",
        "cleanclip": "clipmend.baselines.cleanclip:CleanCLIP",  # Bansal 2023, arXiv:2303.03323
        "abl": "clipmend.baselines.abl:ABL",  # Li et al. 2021, arXiv:2110.11571
        "par": "clipmend.baselines.par:PAR",  # Perturb and Recover 2024, arXiv:2412.00727
        # Madry et al. 2018, arXiv:1706.06083; TeCoA 2023, arXiv:2212.07016
        "adversarial_ft": "clipmend.baselines.adversarial_ft:AdversarialFT",
        "fine_pruning": "clipmend.baselines.fine_pruning:FinePruning",  # 2018, arXiv:1805.12185
        "pud": "clipmend.baselines.pud:PUD",  # Niu et al. 2024, arXiv:2405.17929
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
    known = METHODS.get(stage, {})
    if base(name) not in known:
        raise UnknownNameError(f"{stage} method", base(name), known)
    module, _, cls = known[base(name)].partition(":")
    return module, cls


def create(stage: str, name: str, settings: Mapping[str, Any]) -> Any:
    """Return the method that ``name`` stands for, with these settings, importing it only now."""
    module, cls = reference(stage, name)
    return getattr(import_module(module), cls)(**{k: _frozen(v) for k, v in settings.items()})


def _frozen(value: object) -> object:
    """Return lists, which is what JSON makes of tuples, as tuples again."""
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value
