"""A few poisoned pairs among the trusted pairs keep the backdoor alive through CleanCLIP."""

from clipmend.methods.table import base
from clipmend.report.cells import ATTACK, PAIR
from clipmend.report.claims import victims
from clipmend.report.claims.check import Claim, Outcome, Tables, tested, untested

CLAIM = Claim(
    id="few_poisons_defeat_cleanclip",
    claim="A few poisoned pairs among the cleaning data are enough to defeat CleanCLIP",
    source="arXiv:2311.14948",
    paper="MMCL, 100K cleaning pairs. CC6M, best CA at an ASR below 10 %: 24.93 with 1 poison, "
    "24.63 with 2, none with 3, 4, 5, 10 or 25 (lowest ASR with 25: 39.2). CC3M, 5 poisons: lowest "
    "ASR 46.4.",
    scope="A few of 100,000 pairs are a smaller share than a few of the trusted pairs here. Only "
    "one learning rate is used, not the best of many.",
    columns="cells.csv attack_success_rate",
    comparison="Compared are backdoored victims whose ASR cleanclip brings below cleaned. Of the "
    "variants cleanclip@poisons<n>, the one with the largest n up to most decides. Its mean ASR "
    "must be at least defeated, and its ASR minus that of cleanclip on the same victims above 0",
    thresholds={"backdoored": 0.5, "cleaned": 0.05, "most": 25, "defeated": 0.1},
)


def check(tables: Tables) -> Outcome:
    """Check the largest number of poisons, on victims that ``cleanclip`` cleans with none."""
    cells, limits = tables.cells, CLAIM.thresholds
    poisoned = victims.poisoned(cells)
    clean = poisoned[(poisoned["method"] == "cleanclip") & (poisoned[ATTACK] < limits["cleaned"])]
    start = victims.backdoored(cells, limits["backdoored"])[list(PAIR)]
    # Where CleanCLIP fails without poisons, poisons cannot be the reason.
    clean = clean.merge(start, on=list(PAIR))
    numbers = {}
    for name in sorted(set(cells["method"])):
        count = victims.poisons_in(name)
        if base(name) == "cleanclip" and count is not None and 0 < count <= limits["most"]:
            # Controls among these variants count too: the claim is about them.
            both = victims.paired(cells[cells["method"] == name], clean, ATTACK)
            if len(both):
                left, more = both[ATTACK], both[ATTACK] - both[f"{ATTACK}_other"]
                numbers[count] = (
                    tables.number(f"ASR with {count} poisons", left),
                    tables.number(f"ASR with {count} poisons less that with none", more),
                )
    if not numbers:
        return untested("No victim that plain `cleanclip` cleans was cleaned with poisons too.")
    asr, added = numbers[max(numbers)]
    return tested(
        f"With {max(numbers)} poisons among the trusted pairs `cleanclip` leaves an ASR of "
        f"{asr.text('.1f')} %, {added.text()} points more than with none ({added.sample()}).",
        (number for _, pair in sorted(numbers.items()) for number in pair),
        holds=asr.low >= limits["defeated"] and added.low > 0,
    )
