"""FT: plain fine-tuning on trusted pairs with the loss of CLIP."""

from dataclasses import dataclass

from clipmend.methods.repairs.fine_tuning import FineTuning


@dataclass(frozen=True)
class FT(FineTuning):
    """Minimizes MMCL (the multimodal contrastive loss) over the trusted pairs."""
