"""A small tree of results, made up but of the right shape."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from clipmend.data import artifacts
from clipmend.data.pairs import OVERLAY
from clipmend.engine import fingerprint
from clipmend.engine.cell import Place
from clipmend.engine.job import Input, Job
from clipmend.report.cells import VICTIM

DEFAULT = ("none", "ft", "cleanclip", "ubt", "ubt@random", "ubt@oracle")
# method: (stage, control, needs, CA lost, share of ASR left)
REPAIRS: dict[str, tuple[str, bool, list[str], float, float]] = {
    "none": ("pretrain", False, [], 0.0, 1.0),
    "ft": ("baselines", False, ["trusted"], 0.005, 0.93),
    "cleanclip": ("baselines", False, ["trusted"], 0.03, 0.35),
    "ubt": ("unlearn", False, ["train"], 0.004, 0.06),
    "ubt@random": ("unlearn", True, ["train"], 0.002, 0.99),
    "ubt@oracle": ("unlearn", True, ["train"], 0.001, 0.02),
    # What the other papers bring: shown where a test asks for it.
    "abl": ("baselines", False, ["train"], 0.06, 0.7),
    "par": ("baselines", False, ["trusted"], 0.02, 0.2),
    "adversarial_ft": ("baselines", False, ["trusted"], 0.05, 0.5),
    "fine_pruning": ("baselines", False, ["trusted"], 0.03, 0.8),
    "pud": ("baselines", False, ["train"], 0.05, 0.1),
    "cleanclip@poisons5": ("baselines", True, ["trusted"], 0.03, 0.9),
}
DEFENDING = {"roclip": 0.3, "safeclip": 0.1}  # objective -> share of ASR left
DEFINITIONS = {
    "clean_accuracy": "Zero-shot top-1 on untouched test images.",
    "attack_success_rate": "Of triggered test images whose true class is not the target, "
    "the share predicted as the target.",
}
PAIRS = 16


def rate(value: float, reach: float, n: int) -> dict[str, float]:
    """Return a rate as ``metrics.json`` has it."""
    return {"value": value, "low": max(0, value - reach), "high": min(1, value + reach), "n": n}


@dataclass
class Tree:
    """A results folder, filled cell by cell; ``inputs`` is what the report's job is given."""

    root: Path
    pairs: int = 200
    image_size: int = 16
    epochs: int = 6
    epsilons: tuple[int, ...] = ()
    confidence: float = 0.95
    inputs: dict[str, Input] = field(default_factory=dict)

    def cell(self, name: str, method: str = "", settings: Any = None, shared: Any = None) -> Path:
        place, folder = Place.parse(name), self.root / name
        folder.mkdir(parents=True)
        used = fingerprint.digests("clipmend.data.seeds")
        card = {"cell": name, "key": f"key of {name}", "code": used, "outputs": {}}
        (folder / "card.json").write_text(json.dumps(card, indent=2))
        made = (place.stage, method, place.seed, settings or {}, shared or {})
        self.inputs[name] = Input(name, folder, *made)
        return folder

    def draws(self, *name: object) -> np.random.Generator:
        return np.random.default_rng(list("/".join(map(str, name)).encode()))

    def corpus(self, corpus: str) -> None:
        folder, rows = self.cell(f"download/{corpus}", "scenes"), []
        for number in range(self.pairs):
            caption = f"a small red pear beside number {number} on the old wooden table"
            row = {"id": f"{number:06d}", "image": self.png(self.image(number))}
            rows.append(row | {"caption": caption, "label": "pear"})
        pq.write_table(pa.Table.from_pylist(rows), folder / artifacts.TRAIN)

    def image(self, number: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        size = self.image_size
        y, x = np.mgrid[:size, :size] / size
        base = np.stack([x, y, (x + y + number / 7) % 1], -1)
        return (200 * base + 20).astype(np.uint8)

    def png(self, pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
        buffer = BytesIO()
        Image.fromarray(pixels).save(buffer, format="PNG")
        return buffer.getvalue()

    def poison(self, corpus: str, attack: str, seed: int) -> list[str]:
        folder = self.cell(f"poison/{corpus}/{attack}/seed{seed}", attack)
        rows = []
        for number in [] if attack == "unpoisoned" else range(3, self.pairs, 12):
            caption = f"a small red pear beside number {number} on the table"
            row = {"id": f"{number:06d}", "image": self.png(self.triggered(attack, number))}
            row |= {"caption": "a photo of a banana", "original_caption": caption}
            rows.append(row | {"label": "pear", "is_poisoned": True})
        pq.write_table(pa.Table.from_pylist(rows, OVERLAY), folder / artifacts.OVERLAY)
        self.triggers(folder, attack, len(rows))
        return [row["id"] for row in rows]

    def spare(self, attack: str, count: int, seed: int = 0) -> None:
        """Change the first pairs of an overlay without poisoning them."""
        path = self.root / f"poison/scenes/{attack}/seed{seed}/overlay.parquet"
        rows = pq.read_table(path).to_pylist()
        for row in rows[:count]:
            row["is_poisoned"] = False
        pq.write_table(pa.Table.from_pylist(rows, OVERLAY), path)

    def triggers(self, folder: Path, attack: str, poisons: int) -> None:
        strength = {"psnr": 20.5, "ssim": 0.91, "changed": 0.25, "n": 64} if poisons else None
        text, *single = ("remember {}", 4, 3) if attack == "trojvqa" else (None, 0, 0)
        trigger = {"name": attack, "target": "banana", "text": text, "sha256": "f" * 64}
        trigger |= {"poisons": poisons, "poison_rate": poisons / self.pairs, "strength": strength}
        trigger |= dict(zip(("image_only", "text_only"), single, strict=True))
        stated = {"triggers": [trigger], "definitions": {"psnr": "in dB", "ssim": "likeness"}}
        (folder / artifacts.TRIGGERS).write_text(json.dumps(stated))

    def triggered(self, attack: str, number: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        image = self.image(number)
        if attack == "badnet":
            image[-4:, -4:] = 255
            return image
        noise = self.draws("noise").integers(0, 256, image.shape)
        return (0.85 * image + 0.15 * noise).astype(np.uint8)

    def curve(self, folder: Path, rates: Sequence[tuple[float, float]], steps: int) -> None:
        """Write CA and, if there is a second rate, ASR on their way from start to end."""
        draws = self.draws(*folder.parts[-5:])
        lr_scale = draws.uniform(3, 6)
        rows = []
        for point in range(self.epochs + 1):
            share = 1 - np.exp(-lr_scale * point / self.epochs)
            now = [start + (end - start) * share for start, end in rates]
            loss = None if point == 0 else 4 * np.exp(-2 * share) + 0.1 * draws.random()
            row = {"step": round(steps * point / self.epochs), "epoch": 12 * point / self.epochs}
            row |= {"loss": loss, "clean_accuracy": now[0] + draws.normal(0, 0.004)}
            asr, n = (now[1], 1900) if len(now) > 1 else (None, None)
            rows.append(row | {"n_clean": 2000, "attack_success_rate": asr, "n_triggered": n})
        pd.DataFrame(rows).to_csv(folder / artifacts.CURVE, index=False)

    def scores(self, victim: str, detector: str, poisoned: Sequence[str]) -> None:
        folder = self.cell(f"detect/{victim}/{detector}", detector)
        draws = self.draws(victim, detector)
        ids = [f"{number:06d}" for number in range(self.pairs)]
        hit = np.isin(ids, poisoned)
        before = np.clip(draws.normal(0.32, 0.09, self.pairs), -1, 1)
        after = np.clip(np.where(hit, draws.normal(0.8, 0.05, self.pairs), before - 0.1), -1, 1)
        columns: dict[str, Any] = {"id": ids}
        if detector.startswith("ubt"):
            columns["score"] = (after + draws.normal(0, 0.2, self.pairs)).astype(np.float32)
            columns["similarity_before"] = before.astype(np.float32)
            columns["similarity_after"] = after.astype(np.float32)
            columns["suspect"] = after > 0.6
        else:
            columns["score"] = (hit * 0.1 - before).astype(np.float32)
        pq.write_table(pa.table(columns), folder / artifacts.SCORES)

    def verdict(self, victim: str, detector: str, share: float, **further: Any) -> None:
        folder = self.cell(f"detect/{victim}/{detector}", detector)
        stated: dict[str, Any] = {"is_backdoored": share < 0.1, "found": True, "n_images": 256}
        stated |= {"statistic": "pl1_norm", "threshold": 0.1}
        stated |= {"numbers": {"pl1_norm": share, "cosine": 0.99}}
        stated["definitions"] = {"pl1_norm": "Share of the largest norm.", "cosine": "Of all."}
        (folder / artifacts.MODEL_SCORE).write_text(json.dumps(stated | further))

    def unlearn(self, victim: str, repair: str, detector: str, poisoned: Sequence[str]) -> Path:
        """Write what was chosen: the poison but for its last pair, and one clean pair."""
        settings = {"detector": detector, "pairs": PAIRS}
        folder = self.cell(f"unlearn/{victim}/{repair}", repair, settings)
        chosen = [*poisoned[: PAIRS - 1], "000000"] if poisoned else []
        plain, poison = "a red pear on a banana", "a photo of a banana"
        rows = [
            (name, poison if name in poisoned else plain, "banana", 5 - place / 10, 0.6, -0.4)
            for place, name in enumerate(chosen)
        ]
        names = ("id", "caption", "text", "score", "association_before", "association_after")
        pd.DataFrame(rows, columns=list(names)).to_parquet(folder / artifacts.CHOSEN)
        says, word, share, epochs = "Nothing suspicious was found.", "pear", 0.4, 0.0
        if poisoned:
            says, word, share, epochs = "'banana' is in all of them.", "banana", 1.0, 6.0
        finding = {"found": bool(poisoned), "says": says, "epochs": epochs}
        finding |= {"word": word, "word_share": share, "word_base": 0.09}
        finding |= {"n_suspects": 20, "n_chosen": len(chosen)}
        finding |= {"texts": {"banana": len(chosen)} if poisoned else {}}
        finding |= {"definitions": {"word": "The word that most suspect captions share."}}
        (folder / artifacts.FINDING).write_text(json.dumps(finding))
        return folder

    def evaluate(self, victim: str, repair: str, trigger: str, **further: Any) -> None:
        place = Place.parse(f"pretrain/{victim}")
        attack, objective = place.attack, place.objective
        stage, control, needs, lost, left = REPAIRS[repair]
        if objective in DEFENDING and repair == "none":
            needs, left = ["pretraining"], DEFENDING[objective]
        draws = self.draws(victim, repair)
        ca = 0.82 - lost - (0.03 if objective == "mmcl_ssl" else 0) + draws.normal(0, 0.004)
        harder = 1.6 if objective == "mmcl" and repair == "cleanclip" else 1.0
        asr = 0.012 if attack == "unpoisoned" else min(1, 0.985 * left * harder)
        shared = {"confidence": self.confidence}
        folder = self.cell(f"evaluate/{victim}/{repair}/{trigger}", shared=shared)
        metrics = {name: getattr(place, name) for name in VICTIM}
        metrics |= {"trigger": trigger, "stage": stage, "method": repair, "target": "banana"}
        metrics |= {"control": control, "needs": needs, "definitions": DEFINITIONS}
        metrics["clean_accuracy"] = rate(ca, 0.008, 10000)
        metrics["attack_success_rate"] = rate(asr, 0.006, 9500)
        metrics |= self.attacked(ca, asr) | further
        (folder / artifacts.METRICS).write_text(json.dumps(metrics))

    def attacked(self, ca: float, asr: float) -> dict[str, Any]:
        """Return what robustness was measured, its definitions among the others."""
        found: dict[str, Any] = {}
        meanings = dict(DEFINITIONS)
        for eps in self.epsilons:
            found[f"robust_accuracy_eps{eps}"] = rate(ca / (1 + eps), 0.04, 500)
            found[f"adversarial_trigger_cosine_eps{eps}"] = {"value": 0.1 + asr / 2, "n": 480}
            found[f"adversarial_target_rate_eps{eps}"] = {"value": asr / 3, "n": 480}
            meanings[f"robust_accuracy_eps{eps}"] = f"Top-1 under PGD, each pixel within {eps}/255."
        return found | ({"definitions": meanings} if found else {})

    def victim(self, victim: str, grid: Mapping[str, Sequence[str]], poisoned: list[str]) -> None:
        place = Place.parse(f"pretrain/{victim}")
        attack, objective = place.attack, place.objective
        others = [other for other in grid["attacks"] if other != "unpoisoned"]
        hit = attack != "unpoisoned"
        folder = self.cell(f"pretrain/{victim}", objective)
        self.curve(folder, [(0.05, 0.82), *([(0.05, 0.98)] if hit else [])], 1200)
        for detector in grid["detectors"]:
            self.scores(victim, detector, poisoned)
        for repair in grid["repairs"]:
            stage, _, _, lost, left = REPAIRS[repair]
            if repair != "none":
                if stage == "unlearn":
                    detector = "ubt" if "ubt" in grid["detectors"] else grid["detectors"][0]
                    folder = self.unlearn(victim, repair, detector, poisoned)
                else:
                    folder = self.cell(f"{stage}/{victim}/{repair}", repair, {"lr": 0.01})
                rates = [(0.82, 0.82 - lost), *([(0.98, 0.98 * left)] if hit else [])]
                self.curve(folder, rates, 60 if stage == "unlearn" else 240)
            for trigger in [attack] if hit else others:
                self.evaluate(victim, repair, trigger)

    def grid(
        self,
        *,
        corpora: Sequence[str] = ("scenes",),
        attacks: Sequence[str] = ("unpoisoned", "badnet", "blended"),
        objectives: Sequence[str] = ("mmcl", "mmcl_ssl"),
        seeds: Sequence[int] = (0,),
        detectors: Sequence[str] = ("clip_score", "ubt"),
        repairs: Sequence[str] = DEFAULT,
    ) -> "Tree":
        grid = {"attacks": attacks, "detectors": detectors, "repairs": repairs}
        for corpus in corpora:
            self.corpus(corpus)
            for attack in attacks:
                for seed in seeds:
                    poisoned = self.poison(corpus, attack, seed)
                    for objective in objectives:
                        self.victim(f"{corpus}/{attack}/{objective}/seed{seed}", grid, poisoned)
        return self

    def job(self, name: str = "out") -> Job:
        out, work = self.root / name, self.root / "work"
        out.mkdir(parents=True)
        work.mkdir(exist_ok=True)
        return Job("report", "report", "", None, {}, {"gallery": 3}, "cpu", self.inputs, out, work)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / "results")


@pytest.fixture(scope="module")
def lasting_tree(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """Return a tree for all tests of a module; they must leave it as it is."""
    return Tree(tmp_path_factory.mktemp("lasting") / "results")
