"""Claims of the papers, each with a verdict computed from this run's own tables."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import pandas as pd
import yaml

from clipmend.methods.table import base
from clipmend.report.evidence import Evidence, Judgement, Number
from clipmend.report.judges import JUDGES
from clipmend.report.scale import Scale
from clipmend.report.table import Entry, Printed

PACKAGE_DATA = ("claims.yaml",)


@dataclass(frozen=True)
class Claim:
    """An entry of ``claims.yaml``.

    Attributes:
        id: whose judge it has.
        paper: the paper's own numbers, each with its setting.
        scope: what is not the paper's here, and what a verdict does not reach.
        over: judged by ``corpus``, or over the ``sizes`` of one corpus.
        judged: the columns, the comparison and the thresholds.
    """

    id: str
    claim: str
    source: str
    paper: Sequence[Mapping[str, Any]]
    scope: str
    over: str
    judged: Mapping[str, Any]


@dataclass(frozen=True)
class Verdict:
    """What this run says to a claim.

    Attributes:
        corpus: one; or those, comma-separated, that the claim compares.
        scale: by corpus.
    """

    id: str
    claim: str
    source: str
    corpus: str
    verdict: Judgement
    because: str
    numbers: tuple[Number, ...]
    scale: Mapping[str, Scale]


@dataclass(frozen=True)
class Tables:
    """What claims are judged by: ``cells.csv``, ``detectors.csv`` and ``pareto.csv``."""

    cells: pd.DataFrame
    detectors: pd.DataFrame
    sweep: pd.DataFrame


@cache
def stated_claims() -> tuple[Claim, ...]:
    """Return the claims as ``claims.yaml`` states them."""
    text = files("clipmend.report").joinpath(*PACKAGE_DATA).read_text(encoding="utf-8")
    return tuple(Claim(**entry) for entry in yaml.safe_load(text))


def judged_claims(tables: Tables, scales: Mapping[str, Scale], confidence: float) -> list[Verdict]:
    """Return the verdict on each claim, by corpus or by corpora of one name."""
    return [
        _verdict(claim, corpora, tables, scales, confidence)
        for claim in stated_claims()
        for corpora in _compared(claim, tables.cells)
    ]


def how_judged() -> dict[str, str]:
    """Return for each claim how it is judged, and what its verdict does not reach."""
    return {one.claim: f"{_rule(one)} {one.scope}" for one in stated_claims()}


def claims_text(found: Sequence[Verdict]) -> str:
    """Return ``claims.json``."""
    return json.dumps([asdict(verdict) for verdict in found], indent=1) + "\n"


def printed_claims(found: Sequence[Verdict]) -> Printed | None:
    """Return the verdicts as they are printed; None where there is none."""
    if not found:
        return None
    header = ("claim", "source", "corpus", "verdict", "because")
    rows = tuple(
        (*(Entry(getattr(one, name)) for name in header), Entry(_scale(one))) for one in found
    )
    return Printed("Verdicts", (*header, "scale"), rows)


def _rule(claim: Claim) -> str:
    limits = ", ".join(f"{name} = {value:g}" for name, value in claim.judged["thresholds"].items())
    columns = ", ".join(claim.judged["columns"])
    return f"{columns}: {claim.judged['comparison']}{f' ({limits})' if limits else ''}."


def _compared(claim: Claim, cells: pd.DataFrame) -> Iterator[tuple[str, ...]]:
    """Yield the corpora whose cells are judged together."""
    corpora = sorted(set(cells["corpus"]))
    if claim.over == "corpus":
        yield from ((corpus,) for corpus in corpora)
    else:
        for name in dict.fromkeys(map(base, corpora)):
            yield tuple(corpus for corpus in corpora if base(corpus) == name)


def _verdict(
    claim: Claim,
    corpora: Sequence[str],
    tables: Tables,
    scales: Mapping[str, Scale],
    confidence: float,
) -> Verdict:
    known = {corpus: scales[corpus] for corpus in corpora if corpus in scales}
    sizes = {name: one.train_pairs for name, one in known.items() if one.train_pairs is not None}
    evidence = Evidence(
        cells=_of(corpora, tables.cells),
        detectors=_of(corpora, tables.detectors),
        sweep=_of(corpora, tables.sweep),
        sizes=sizes,
        confidence=confidence,
    )
    found = JUDGES[claim.id](evidence, claim.judged["thresholds"])
    return Verdict(
        id=claim.id,
        claim=claim.claim,
        source=claim.source,
        corpus=", ".join(corpora),
        verdict=found.verdict,
        because=found.because,
        numbers=found.numbers,
        scale=known,
    )


def _of(corpora: Sequence[str], table: pd.DataFrame) -> pd.DataFrame:
    return table[table["corpus"].isin(corpora)]


def _scale(verdict: Verdict) -> str:
    several = len(verdict.scale) > 1
    texts = ((corpus, one.text()) for corpus, one in verdict.scale.items())
    return "; ".join(f"{corpus}: {text}" if several else text for corpus, text in texts)
