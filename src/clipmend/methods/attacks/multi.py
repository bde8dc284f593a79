"""Several triggers at once, each with its target (Huang et al. 2025, arXiv:2502.01385)."""

from dataclasses import dataclass
from itertools import chain, repeat
from typing import Annotated, Literal

from clipmend.errors import AttackError
from clipmend.methods.attacks.attack import TriggerSpec
from clipmend.methods.attacks.badnet import BadNet
from clipmend.methods.attacks.blended import Blended
from clipmend.methods.attacks.sig import SIG
from clipmend.methods.attacks.wanet import WaNet
from clipmend.methods.settings import Edge, PositiveFraction

_ATTACKS = {"badnet": BadNet, "blended": Blended, "sig": SIG, "wanet": WaNet}


@dataclass(frozen=True)
class Multi:
    """Carries out several other attacks, with their default settings, on different pairs.

    Attributes:
        triggers: names of the attacks.
        targets: targets of the second trigger and those after it; a trigger without an entry has
            ``poison.target``.
        poison_rate: share of the training pairs that each trigger poisons.
    """

    triggers: tuple[
        Annotated[Literal["badnet", "blended", "sig", "wanet"], Edge("poison")], ...
    ] = ("badnet", "blended", "sig")
    targets: tuple[str, ...] = ()
    poison_rate: PositiveFraction = 0.03

    def specs(self, target: str) -> tuple[TriggerSpec, ...]:
        """Return the triggers; each has the name of its attack as its part.

        Raises:
            AttackError: a trigger is named twice, or there are more targets than triggers.
        """
        if len(set(self.triggers)) < len(self.triggers) or len(self.targets) >= len(self.triggers):
            raise AttackError(
                f"`multi` has triggers {', '.join(self.triggers)} and, beside `poison.target`, "
                f"targets {', '.join(self.targets) or 'none'}. Name each trigger once, and at most "
                f"{len(self.triggers) - 1} further targets."
            )
        # Endless, so that the triggers end the loop below.
        targets = chain([target], self.targets, repeat(target))
        return tuple(
            TriggerSpec(name, _ATTACKS[name](poison_rate=self.poison_rate), own_target)
            for name, own_target in zip(self.triggers, targets, strict=False)
        )
