"""The claims that a report checks, in page order. A new claim is one file and its name here."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clipmend.report.claims.check import ClaimModule

NAMES = (
    "ubt_lowest_asr",
    "ssl_survives_cleanclip",
    "ssl_survives_every_epoch",
    "accuracy_hardens_removal",
    "few_poisons_defeat_cleanclip",
    "adversarial_resembles_trigger",
    "pud_identifies_poison",
    "pud_beats_repairs",
    "pud_beats_filters",
    "badclip_outlives_repairs",
)


def modules() -> "tuple[ClaimModule, ...]":
    """Return the module of each claim, in page order."""
    # Imported here, so that the names alone cost no pandas; by name, so that the report's key
    # covers the code of each claim.
    from clipmend.report.claims import (
        accuracy_hardens_removal,
        adversarial_resembles_trigger,
        badclip_outlives_repairs,
        few_poisons_defeat_cleanclip,
        pud_beats_filters,
        pud_beats_repairs,
        pud_identifies_poison,
        ssl_survives_cleanclip,
        ssl_survives_every_epoch,
        ubt_lowest_asr,
    )

    return (
        ubt_lowest_asr,
        ssl_survives_cleanclip,
        ssl_survives_every_epoch,
        accuracy_hardens_removal,
        few_poisons_defeat_cleanclip,
        adversarial_resembles_trigger,
        pud_identifies_poison,
        pud_beats_repairs,
        pud_beats_filters,
        badclip_outlives_repairs,
    )
