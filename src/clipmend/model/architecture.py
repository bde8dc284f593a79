"""The architecture of a model: its config, in the format of open_clip, and its network."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from clipmend.errors import ModelError
from clipmend.model.openclip import load_timm, open_clip
from clipmend.model.visual_prompts import VISUAL_PROMPTS, add_prompts, prompts_in

PACKAGE_DATA = ("configs/scene_resnet.json",)
_CONFIGS = Path(__file__).parent / "configs"
_VOCABULARY = 49408  # tokens of CLIP's tokenizer


def read_json(path: Path) -> dict[str, Any]:
    """Return the fields of a config file.

    Raises:
        ModelError: the file is not a JSON object.
    """
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # of the encoding too
        raise ModelError(f"{path} is not a config of open_clip: {error}.") from error
    if not isinstance(fields, dict):
        raise ModelError(f"{path} is not a config of open_clip: it is a {type(fields).__name__}.")
    return fields


def model_config(model: str) -> dict[str, Any]:
    """Return the open_clip config of a packaged name, a JSON file or an open_clip model name.

    A config with visual prompts has a further field, ``visual_prompts``, which only clipmend reads.

    Raises:
        ModelError: the model does not exist, its file is not a config, or its vocabulary is smaller
            than the tokenizer's.
    """
    path = Path(model) if model.endswith(".json") else _CONFIGS / f"{model}.json"
    if path.is_file():
        fields = read_json(path)
        model_cfg = fields.get("model_cfg", fields)
        preprocess = fields.get("preprocess_cfg", {})
        further = {name: fields[name] for name in (VISUAL_PROMPTS,) if name in fields}
    else:
        model_cfg = open_clip.get_model_config(model)
        preprocess, further = {}, {}
    if model_cfg is None:
        packaged = ", ".join(sorted(file.stem for file in _CONFIGS.glob("*.json")))
        raise ModelError(
            f"Unknown model {model!r}; name a .json config, an open_clip model, "
            f"or one that clipmend has: {packaged}."
        )
    try:
        side, text = model_cfg["vision_cfg"]["image_size"], model_cfg["text_cfg"]
        words = int(text.get("vocab_size", _VOCABULARY))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise ModelError(f"{model} is not a config of open_clip: {reason}.") from error
    if "hf_tokenizer_name" not in text and words < _VOCABULARY:
        raise ModelError(
            f"{model} cannot be used: its vocab_size is {words}, and CLIP's tokenizer has "
            f"{_VOCABULARY} tokens. A text tower with a tokenizer of its own is not supported."
        )
    defaults = {
        "mean": list(open_clip.OPENAI_DATASET_MEAN),
        "std": list(open_clip.OPENAI_DATASET_STD),
        "size": side,
    }
    return {"model_cfg": model_cfg, "preprocess_cfg": {**defaults, **preprocess}, **further}


def net_of(config: Mapping[str, Any]) -> nn.Module:
    """Return the network of a config, initialized by the global generator of torch.

    Raises:
        ModelError: the config has visual prompts that its image tower cannot have.
    """
    model_cfg = config["model_cfg"]
    if "timm_model_name" in model_cfg["vision_cfg"]:
        load_timm()
    kind = open_clip.CustomTextCLIP if model_cfg.get("custom_text") else open_clip.CLIP
    settings = {key: value for key, value in model_cfg.items() if key != "custom_text"}
    net: nn.Module = kind(**settings)
    if VISUAL_PROMPTS in config:
        add_prompts(net, **prompts_in(config))
    return net
