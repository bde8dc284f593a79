"""The name of every file that passes between stages, and the outputs of each stage."""

TRAIN = "train.parquet"
TRUSTED = "trusted.parquet"
VAL = "val.parquet"
TEST = "test.parquet"
CLASSES = "classes.json"

OVERLAY = "overlay.parquet"
TRIGGER_TENSORS = "trigger.safetensors"
TRIGGERS = "triggers.json"
PREVIEW = "preview.png"

MODEL = "model.safetensors"
EARLY_MODEL = "early.safetensors"
MODEL_CONFIG = "open_clip_config.json"
CURVE = "curve.csv"

SCORES = "scores.parquet"
OVERFITTED_MODEL = "overfitted.safetensors"
PURIFIED_MODEL = "purified.safetensors"
MODEL_SCORE = "model_score.json"
EVIDENCE_TENSORS = "evidence.safetensors"
EVIDENCE_IMAGE = "evidence.png"

CHOSEN = "chosen.parquet"
FINDING = "finding.json"

METRICS = "metrics.json"

_TRAINED = {"model": MODEL, "config": MODEL_CONFIG, "curve": CURVE}
OUTPUTS: dict[str, dict[str, str]] = {
    "download": {"train": TRAIN, "trusted": TRUSTED, "val": VAL, "test": TEST, "classes": CLASSES},
    "poison": {
        "overlay": OVERLAY,
        "trigger": TRIGGER_TENSORS,
        "triggers": TRIGGERS,
        "preview": PREVIEW,
    },
    "pretrain": {"model": MODEL, "early": EARLY_MODEL, "config": MODEL_CONFIG, "curve": CURVE},
    "detect": {"scores": SCORES},
    "detect_model": {"model_score": MODEL_SCORE},
    "unlearn": _TRAINED,
    "baselines": _TRAINED,
    "evaluate": {"metrics": METRICS},
}
"""Rule -> name in the rule -> file. Every job of the rule writes these; a method may add more.

``detect`` has two rules here: detectors score pairs, model detectors score the model. The rule of
input detectors is in ``input_artifacts``. The outputs of ``report`` are the list in
``report/contents.py``.
"""
