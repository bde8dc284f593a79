"""The papers of the methods, as data: documentation and report take their citations from here."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Paper:
    """A paper that a method follows.

    Attributes:
        authors: all authors if there are one or two, else the first one and "et al.".
        title: the title as published.
        venue: the journal or conference, abbreviated; ``arXiv`` where no other one is certain.
        year: the year of that publication.
        arxiv: the number on arXiv; None: the paper is not there.
    """

    authors: str
    title: str
    venue: str
    year: int
    arxiv: str | None = None

    @property
    def url(self) -> str | None:
        """The address of the abstract on arXiv."""
        return None if self.arxiv is None else f"https://arxiv.org/abs/{self.arxiv}"

    @property
    def citation(self) -> str:
        """The paper in one line of Markdown, linked to arXiv if it is there."""
        title = self.title if self.url is None else f"[{self.title}]({self.url})"
        return f"{self.authors}, {title}, {self.venue} {self.year}"


# Number on arXiv: authors, title, venue, year.
_ARXIV = {
    "1706.06083": (
        "Madry et al.",
        "Towards Deep Learning Models Resistant to Adversarial Attacks",
        "ICLR",
        2018,
    ),
    "1708.06733": (
        "Gu et al.",
        "BadNets: Identifying Vulnerabilities in the Machine Learning Model Supply Chain",
        "arXiv",
        2017,
    ),
    "1712.05526": (
        "Chen et al.",
        "Targeted Backdoor Attacks on Deep Learning Systems Using Data Poisoning",
        "arXiv",
        2017,
    ),
    "1801.02613": (
        "Ma et al.",
        "Characterizing Adversarial Subspaces Using Local Intrinsic Dimensionality",
        "ICLR",
        2018,
    ),
    "1805.12185": (
        "Liu et al.",
        "Fine-Pruning: Defending Against Backdooring Attacks on Deep Neural Networks",
        "RAID",
        2018,
    ),
    "1902.11237": (
        "Barni et al.",
        "A New Backdoor Attack in CNNs by Training Set Corruption Without Label Poisoning",
        "ICIP",
        2019,
    ),
    "1912.02771": ("Turner et al.", "Label-Consistent Backdoor Attacks", "arXiv", 2019),
    "2012.03816": (
        "Li et al.",
        "Invisible Backdoor Attack with Sample-Specific Triggers",
        "ICCV",
        2021,
    ),
    "2102.10369": (
        "Nguyen and Tran",
        "WaNet: Imperceptible Warping-based Backdoor Attack",
        "ICLR",
        2021,
    ),
    "2103.00020": (
        "Radford et al.",
        "Learning Transferable Visual Models From Natural Language Supervision",
        "ICML",
        2021,
    ),
    "2104.08718": (
        "Hessel et al.",
        "CLIPScore: A Reference-free Evaluation Metric for Image Captioning",
        "EMNLP",
        2021,
    ),
    "2110.11571": (
        "Li et al.",
        "Anti-Backdoor Learning: Training Clean Models on Poisoned Data",
        "NeurIPS",
        2021,
    ),
    "2112.07668": (
        "Walmer et al.",
        "Dual-Key Multimodal Backdoors for Visual Question Answering",
        "CVPR",
        2022,
    ),
    "2112.12750": (
        "Mu et al.",
        "SLIP: Self-supervision meets Language-Image Pre-training",
        "ECCV",
        2022,
    ),
    "2212.07016": (
        "Mao et al.",
        "Understanding Zero-Shot Adversarial Robustness for Large-Scale Models",
        "ICLR",
        2023,
    ),
    "2301.10908": (
        "Huang et al.",
        "Distilling Cognitive Backdoor Patterns within an Image",
        "ICLR",
        2023,
    ),
    "2303.03323": (
        "Bansal et al.",
        "CleanCLIP: Mitigating Data Poisoning Attacks in Multimodal Contrastive Learning",
        "ICCV",
        2023,
    ),
    "2303.06854": (
        "Yang et al.",
        "Robust Contrastive Language-Image Pretraining against Data Poisoning and Backdoor Attacks",
        "NeurIPS",
        2023,
    ),
    "2303.15180": ("Feng et al.", "Detecting Backdoors in Pre-trained Encoders", "CVPR", 2023),
    "2303.15343": ("Zhai et al.", "Sigmoid Loss for Language Image Pre-Training", "ICCV", 2023),
    "2310.05862": (
        "Yang et al.",
        "Better Safe than Sorry: Pre-training CLIP against Targeted Data Poisoning and "
        "Backdoor Attacks",
        "ICML",
        2024,
    ),
    "2311.12075": (
        "Liang et al.",
        "BadCLIP: Dual-Embedding Guided Backdoor Attack on Multimodal Contrastive Learning",
        "CVPR",
        2024,
    ),
    "2401.05453": ("Anderberg et al.", "Dimensionality-Aware Outlier Detection", "SDM", 2024),
    "2403.16257": (
        "Liang et al.",
        "Unlearning Backdoor Threats: Enhancing Backdoor Defense in Multimodal Contrastive "
        "Learning via Local Token Unlearning",
        "arXiv",
        2024,
    ),
    "2405.17929": (
        "Niu et al.",
        "Towards Unified Robustness Against Both Backdoor and Adversarial Attacks",
        "arXiv",
        2024,
    ),
    "2412.00727": (
        "Singh et al.",
        "Perturb and Recover: Fine-tuning for Effective Backdoor Removal from CLIP",
        "CVPR",
        2026,
    ),
    "2502.01385": (
        "Huang et al.",
        "Detecting Backdoor Samples in Contrastive Language Image Pretraining",
        "ICLR",
        2025,
    ),
}

PAPERS: dict[str, Paper] = {
    **{number: Paper(*fields, arxiv=number) for number, fields in _ARXIV.items()},
    "liu2008": Paper("Liu et al.", "Isolation Forest", "ICDM", 2008),
    "schubert2014": Paper(
        "Schubert et al.",
        "Local outlier detection reconsidered: a generalized view on locality with applications "
        "to spatial, video, and network outlier detection",
        "Data Mining and Knowledge Discovery",
        2014,
    ),
}
"""Every paper of ``methods.table``, by the key that stands there."""
