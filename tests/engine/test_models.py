"""Models whose text tower is not CLIP's are refused by name when a run is planned."""

import copy
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from clipmend import cli
from clipmend.model.architecture import model_config
from clipmend.model.openclip import open_clip

NOT_CLIP = "its text tower is not CLIP's own"
MODELS = [
    ("ViT-B-16-SigLIP", f"{NOT_CLIP} (custom_text, hf_tokenizer_name, tokenizer_kwargs)."),
    ("ViT-SO400M-14-SigLIP2", f"{NOT_CLIP} (custom_text, hf_tokenizer_name, tokenizer_kwargs)."),
    ("roberta-ViT-B-32", f"{NOT_CLIP} (hf_model_name, hf_pooler_type, hf_tokenizer_name)."),
    ("mt5-base-ViT-B-32", f"{NOT_CLIP} (hf_model_name, hf_pooler_type, hf_tokenizer_name)."),
    ("nllb-clip-base", NOT_CLIP),
    ("coca_ViT-B-32", f"{NOT_CLIP} (custom_text, multimodal_cfg)."),
    ("EVA02-B-16", f"{NOT_CLIP} (custom_text)."),
    ("ViT-L-14-CLIPA", f"{NOT_CLIP} (hf_tokenizer_name, tokenizer_kwargs)."),
    (
        "ViT-B-33",
        "which is not a model. Did you mean 'ViT-B-32'? Allowed are a .json config",
    ),
    ("hf-hub:timm/ViT-B-16-SigLIP", "which is not a model. Did you mean 'ViT-B-16-SigLIP"),
    (
        "local-dir:elsewhere",
        "which is not a model. Allowed are a .json config",
    ),
    ("none.json", "pretrain.model is 'none.json', which does not exist; give a model config"),
]


def status(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["clipmend", "status"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return int(stop.value.code or 0), capsys.readouterr().err


@pytest.mark.parametrize(("model", "message"), MODELS)
def test_it_is_refused_by_name_in_one_line(
    model, message, write_params, capsys, monkeypatch
) -> None:
    write_params(pretrain={"model": model, "methods": ["mmcl"]})

    code, printed = status(capsys, monkeypatch)

    assert code == 2
    assert message in printed
    assert model in printed
    assert printed.count("\n") == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda model: model.update(custom_text=True), f"{NOT_CLIP} (custom_text)."),
        (lambda model: model["text_cfg"].update(hf_tokenizer_name="a/b"), NOT_CLIP),
        (lambda model: model["text_cfg"].update(vocab_size=8000), "its vocab_size is 8000, and"),
        (lambda model: model["vision_cfg"].update(image_size=[64, 32]), "[64, 32], not square"),
        (lambda model: model["vision_cfg"].pop("image_size"), "it lacks 'image_size'."),
        (lambda model: model.update(text_cfg="CLIP"), "is not a config of open_clip: "),
        (
            lambda model: model["text_cfg"].update(layers=10**6),
            "at most 4096 pixels and 1000 layers",
        ),
    ],
)
def test_a_config_of_a_file_is_refused_too(
    change, message, write_params, capsys, monkeypatch
) -> None:
    config: dict[str, Any] = copy.deepcopy(model_config("scene_resnet"))
    config["model_cfg"]["text_cfg"].setdefault("layers", 1)
    change(config["model_cfg"])
    Path("own.json").write_text(json.dumps(config))
    write_params(pretrain={"model": "own.json", "methods": ["mmcl"]})

    code, printed = status(capsys, monkeypatch)

    assert code == 2
    assert message in printed
    assert printed.count("\n") == 1


def test_a_model_that_has_visual_prompts_before_training_is_refused(
    write_params, capsys, monkeypatch
) -> None:
    prompts = {"tokens": 4, "first_layer": 1}
    Path("own.json").write_text(json.dumps(model_config("ViT-B-32") | {"visual_prompts": prompts}))
    write_params(pretrain={"model": "own.json", "methods": ["mmcl"]})
    code, printed = status(capsys, monkeypatch)
    assert code == 2
    assert "'own.json' cannot be used: it has visual prompts, which only the repair" in printed
    assert printed.count("\n") == 1


def test_clips_own_tower_is_accepted_under_every_form_of_its_config(
    write_params, capsys, monkeypatch
) -> None:
    config: dict[str, Any] = copy.deepcopy(model_config("scene_resnet"))
    config["model_cfg"]["custom_text"] = False
    for name, fields in {"whole": config, "bare": config["model_cfg"]}.items():
        Path(f"{name}.json").write_text(json.dumps(fields))
    for model in ("whole.json", "bare.json", "RN50", "ViT-B-32-quickgelu", "convnext_base"):
        write_params(pretrain={"model": model, "methods": ["mmcl"]})
        assert status(capsys, monkeypatch) == (0, "")


def test_the_names_are_those_of_open_clip(write_params, capsys, monkeypatch) -> None:
    known = [name for name in open_clip.list_models() if name.startswith("RN")]
    assert len(known) > 5
    for model in known:
        write_params(pretrain={"model": model, "methods": ["mmcl"]})
        assert status(capsys, monkeypatch) == (0, "")
