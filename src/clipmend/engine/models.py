"""Models that clipmend can train, embed with and save; others are refused from their config."""

import json
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from clipmend.engine.contradictions import methods_of
from clipmend.engine.fingerprint import PACKAGE
from clipmend.engine.params import PARAMS, Params
from clipmend.engine.schema import marked, shown
from clipmend.errors import ModelError, ParamsError, suggestion
from clipmend.methods.settings import ModelConfig

CONFIGS = "model/configs"
_BRIGHTEST = 1_000.0  # of pixel statistics; without bounds, an embedding is infinite
_MOST, _WIDEST = 1_000, 4_096  # layers and pixels; more would take hours, or all memory
_VOCABULARY = 49_408  # tokens of CLIP's tokenizer


def refuse(params: Params) -> None:
    """Refuse models of the parameters that could not be trained, without loading open_clip.

    A ``.json`` config that does not exist is left to the grid, which reads it.

    Raises:
        ModelError: a config describes a model that is not supported, or no model.
        ParamsError: a name is unknown.
    """
    for place, name in _models(params):
        if not name.endswith(".json"):
            file = _packaged(f"{PARAMS}: {place} is {name!r}", name)
        elif not (file := Path(name)).is_file():
            continue
        try:
            fields = json.loads(file.read_text(encoding="utf-8"))
            model = fields.get("model_cfg", fields)
            pixels = fields.get("preprocess_cfg", {})
            if "visual_prompts" in fields:
                raise ModelError(
                    f"{place} {name!r} cannot be used: it has visual prompts, which only the "
                    "repair rvpt adds. Remove `visual_prompts` from the file."
                )
            check(f"{place} {name!r}", model, pixels)
        except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
            reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
            raise ModelError(f"{file} is not a config of open_clip: {reason}.") from error


def _models(params: Params) -> Iterator[tuple[str, str]]:
    yield "pretrain.model", params.pretrain.model
    for stage, name, _ in methods_of(params):
        for setting, model in marked(params.resolve(stage, name), ModelConfig).items():
            yield f"{stage}.settings.{name}.{setting}", model


def _packaged(what: str, name: str) -> Path:
    """Return the config of a name, which clipmend or open_clip has."""
    folders = [PACKAGE / CONFIGS]
    # Finding a package does not import it, which takes longer than a plan.
    if (found := find_spec("open_clip")) is not None and found.origin is not None:
        folders.append(Path(found.origin).parent / "model_configs")
    known = {file.stem: file for folder in reversed(folders) for file in folder.glob("*.json")}
    if name not in known:
        near = suggestion(name, sorted(known)).partition(" Known: ")[0]
        near = f"{near} " if near.startswith("Did") else ""
        raise ParamsError(
            f"{what}, which is not a model. {near}Allowed are a .json config, a name of open_clip, "
            f"and {', '.join(sorted(file.stem for file in folders[0].glob('*.json')))}."
        )
    return known[name]


def check(name: str, model: Mapping[str, Any], pixels: Mapping[str, Any]) -> None:
    """Refuse a config that ``model/`` could not build, embed with and save again.

    Args:
        name: what the config is called in the error.
        model: open_clip's ``model_cfg``.
        pixels: its ``preprocess_cfg``, as far as it is known.

    Raises:
        ModelError: the text tower is not CLIP's, or a size is out of bounds.
        KeyError, TypeError, ValueError, AttributeError: it is not a config of open_clip.
    """
    text, side = model["text_cfg"], model["vision_cfg"]["image_size"]
    foreign = {key for key in ("custom_text", "multimodal_cfg") if model.get(key)} | {
        key for key in text if key.startswith("hf_") or key == "tokenizer_kwargs"
    }
    if foreign:
        raise ModelError(
            f"{name} cannot be used: its text tower is not CLIP's own "
            f"({', '.join(sorted(foreign))}). Supported are models with CLIP's text transformer "
            "and tokenizer."
        )
    if int(words := text.get("vocab_size", _VOCABULARY)) < _VOCABULARY:
        raise ModelError(
            f"{name} cannot be used: its vocab_size is {words}, and CLIP's tokenizer has "
            f"{_VOCABULARY} tokens. A text tower with a tokenizer of its own is not supported."
        )
    if not isinstance(side, int):
        raise ModelError(f"{name} cannot be used: its images are {side}, not square.")
    layers = sum(map(_depth, (text, model["vision_cfg"])))
    if not 1 <= side <= _WIDEST or layers > _MOST:
        raise ModelError(
            f"{name} cannot be used: its images are {side} pixels wide, and its towers "
            f"have {layers} layers; at most {_WIDEST} pixels and {_MOST} layers are allowed."
        )
    for statistic, least in {"mean": -_BRIGHTEST, "std": 1 / _BRIGHTEST}.items():
        values = pixels.get(statistic, (0.5, 0.5, 0.5))
        is_list = isinstance(values, list | tuple) and len(values) == 3
        if not (is_list and all(_is_between(value, least, _BRIGHTEST) for value in values)):
            raise ModelError(
                f"{name} cannot be used: its {statistic} is {shown(values)}; allowed are three "
                f"numbers from {least:g} to {_BRIGHTEST:g}."
            )


def _depth(tower: Mapping[str, Any]) -> int:
    layers = tower.get("layers", 0)
    return sum(n for n in (layers if isinstance(layers, list) else [layers]) if isinstance(n, int))


def _is_between(value: object, least: float, most: float) -> bool:
    return isinstance(value, int | float) and least <= value <= most
