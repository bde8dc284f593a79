"""A user's mistake is one line and exit code 2, before anything is computed or written."""

import copy
import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from clipmend.engine.job import Input


@pytest.fixture
def own(victim: Input, pairs: Path) -> dict[str, object]:
    return {"--model": victim.folder, "--pairs": pairs}


@pytest.fixture
def wrong(victim: Input, pairs: Path, folder: Path) -> dict[str, Path]:
    """Folders and files, each with one thing wrong."""
    made = {
        name: folder / name
        for name in (
            "full",
            "bare",
            "other",
            "mixed",
            "strange",
            "cut",
            "small",
            "nan",
            "pointer",
            "wide",
            "deep",
        )
    }
    for folder in made.values():
        folder.mkdir()
    (made["full"] / "notes.txt").write_text("")
    config = json.loads((victim.folder / "open_clip_config.json").read_text())
    for name in ("bare", "other", "nan", "pointer", "wide"):
        (made[name] / "open_clip_config.json").write_text(json.dumps(config))
    save_file({"visual.proj": torch.zeros(2, 2)}, made["other"] / "open_clip_model.safetensors")
    text = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n"
    (made["pointer"] / "model.safetensors").write_bytes(text)
    weights = load_file(victim.folder / "model.safetensors")
    save_file(weights, made["wide"] / "model.safetensors")
    weights["positional_embedding"][0, 3] = float("nan")
    save_file(weights, made["nan"] / "model.safetensors")
    wide = copy.deepcopy(config)
    wide["model_cfg"]["vision_cfg"]["width"] = 1_000_000
    (made["wide"] / "open_clip_config.json").write_text(json.dumps(wide))
    config["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = "somebody/else"
    texts = [("strange", json.dumps(config)), ("cut", "{"), ("deep", "[" * 100_000)]
    config["model_cfg"]["text_cfg"] = {"vocab_size": 8000}
    texts.append(("small", json.dumps(config)))
    for name, text in texts:
        (made[name] / "open_clip_config.json").write_text(text)
        (made[name] / "model.safetensors").write_bytes(b"")
    for name in ("early", "late"):
        (made["mixed"] / f"{name}.bin").write_bytes(b"")
        (made["mixed"] / "open_clip_config.json").write_text("{}")
    table = pq.read_table(pairs)
    made["pipe"] = folder / "pipe.pt"
    os.mkfifo(made["pipe"])
    made["few"] = folder / "few.parquet"
    pq.write_table(table[:63], made["few"])
    made["twice"] = folder / "twice.parquet"
    pq.write_table(pa.concat_tables([table[:64], table[:1]]), made["twice"])
    made["torn"] = folder / "torn.parquet"
    pq.write_table(table.set_column(1, "image", pa.array([b"no image"] * len(table))), made["torn"])
    return made


MODEL_MISTAKES = [
    (["--model", "nowhere"], "The model nowhere does not exist. Expected a folder with "),
    (["--model", "{bare}"], "{bare} has no weights. open_clip names them "),
    (["--model", "{full}"], "The folder {full} has no open_clip_config.json; name the archi"),
    (["--model", "{other}"], "The weights in {other}/open_clip_model.safetensors do not fit this"),
    (["--model", "{mixed}"], "{mixed} has several weights files (early.bin, late.bin); name one"),
    (["--model", "{strange}"], "{strange}/open_clip_config.json cannot be used: its text tower is"),
    (["--model", "{cut}"], "{cut}/open_clip_config.json is not a config of open_clip: "),
    (
        ["--model", "{small}"],
        "{small}/open_clip_config.json cannot be used: its vocab_size is 8000",
    ),
    (["--model", "{nan}"], "The weights in {nan}/model.safetensors cannot be used: positional_e"),
    (
        ["--model", "{wide}"],
        "The weights in {wide}/model.safetensors do not fit this model: it has ",
    ),
    (
        ["--model", "{pointer}"],
        "The weights in {pointer}/model.safetensors cannot be read: the file is a pointer of Git ",
    ),
    (["--model", "{deep}"], "{deep}/open_clip_config.json is not a config of open_clip: "),
    (["--early", "{pipe}"], "{pipe} is not a file with content, but a pipe, a socket or a device."),
    (["--early", "nowhere\udcff"], "--early 'nowhere\\udcff' is not UTF-8 text, which model cards"),
    (["--model", "{full}/notes.txt"], "The architecture of {full}/notes.txt is unknown, since its"),
    (["--model", "ViT-B-33:openai"], "The model ViT-B-33:openai is not a file, and open_clip has "),
    (["--model", "ViT-B-32:opemai"], "open_clip has no weights 'opemai' of ViT-B-32. Did you mean"),
    (["--model", "hf-hub:a/b"], "hf-hub:a/b is not supported; download the folder and name it."),
    (
        ["--architecture", "ViT-B-16-SigLIP"],
        "ViT-B-16-SigLIP cannot be used: its text tower is not",
    ),
    (["--architecture", "RN5O"], "Unknown model 'RN5O'; name a .json config, "),
    (["--early", "nowhere"], "--early nowhere does not exist; name a weights file or a folder."),
]
OTHER_MISTAKES = [
    (["--pairs", "nowhere"], "nowhere cannot be read as pairs: it does not exist; allowed are"),
    (["--pairs", "{full}"], "{full} holds no pairs: no *.parquet, *.tar or *.csv file"),
    (["--pairs", "{few}"], "{few} has 63 pairs; at least 64 are needed."),
    (["--limit", "12"], "{pairs} (cut by --limit) has 12 pairs; at least 64 are needed."),
    (["--pairs", "{twice}"], "The id 'train-000000' is repeated in {twice}; ids must be unique."),
    (
        ["--pairs", "{torn}"],
        "{torn}, row 0 (id 'train-000000'): Pillow cannot read its 8 bytes as ",
    ),
    (["--caption-column", "text"], "{pairs} has no column 'text' (caption_column); it has: id, "),
    (["--id-column", "key"], "{pairs} has no column 'key' (id_column); it has: id, "),
    (["--out", "{full}"], "{full} is not empty. Name an empty or a new folder with --out."),
    (["--out", "{few}"], "{few} is a file. Name an empty or a new folder with --out."),
    (["--out", "{few}/out"], "{few}/out cannot be created: Not a directory; name another."),
    (["--set", "detect.suspectshare=0.2"], "unknown key detect.suspectshare. Did you mean 'susp"),
    (["--set", "detect.suspect_share=2"], "detect.suspect_share: Input should be less than or eq"),
    (["--set", "detekt.epochs=2"], "Unknown stage in --set: 'detekt'. Did you mean 'detect'?"),
    (["--set", "epochs=2"], "--set 'epochs=2' cannot be read. Expected STAGE.NAME=VALUE, "),
    (["--set", "detect.epochs=["], "--set 'detect.epochs=[' has a value that cannot be read as YA"),
    (["--set", "detect.epochs=2026-13-45"], "--set 'detect.epochs=2026-13-45' has a value that "),
    (
        ["--set", "unlearn.choose=oracle"],
        "unlearn.choose cannot be set here: the other choices need ",
    ),
    (["--set", "detect.reference=early"], "detect.reference=early needs the early checkpoint; "),
    (
        ["--set", "detect.reference=trusted"],
        "detect.reference=trusted needs trusted pairs; add --tr",
    ),
    (["--set", "baselines.lr=1"], "--set 'baselines.lr=1' is of another stage; --method ubt has "),
    (["--method", "utb"], "Unknown repair in --method: 'utb'. Did you mean 'ubt'? Known: abl, "),
    (
        ["--method", "ft"],
        "--method ft trains on clean pairs that you trust; add --trusted. Repairs",
    ),
    (
        ["--method", "abl"],
        "--method abl ranks the pairs by weights from early in training; add --e",
    ),
]


@pytest.mark.parametrize(
    ("words", "line"), [*MODEL_MISTAKES, *OTHER_MISTAKES], ids=lambda given: " ".join(given)[:40]
)
def test_it_is_one_line(
    words: list[str],
    line: str,
    wrong: dict[str, Path],
    own: dict[str, object],
    clipmend: Any,
    folder: Path,
) -> None:
    named = {**wrong, "pairs": own["--pairs"]}
    before = sorted(folder.rglob("*"))
    given = {**own, "--method": "ubt", "--out": "out", words[0]: words[1].format_map(named)}
    out, err = clipmend("mend", *(word for option in given.items() for word in option), status=2)
    assert out == ""
    messages = [text for text in err.splitlines() if text.startswith("clipmend: ")]
    assert len(messages) == 1
    assert err.endswith(f"{messages[0]}\n")
    assert messages[0].startswith(f"clipmend: {line.format_map(named)}")
    assert sorted(folder.rglob("*")) == before


def test_a_repair_says_which_pairs_it_lacks(victim: Input, clipmend: Any, folder: Path) -> None:
    for command, method, line in (
        ("mend", "pud", "--method pud needs the pairs that the model was trained on; add --pairs."),
        (
            "suspects",
            "par",
            "--method par ranks no pairs: it trains on trusted pairs. Allowed here",
        ),
    ):
        _, error = clipmend(command, "--model", victim.folder, "--method", method, status=2)
        assert error.startswith(f"clipmend: {line}")
    own = ["--model", victim.folder, "--method", "ft", "--trusted", "nowhere"]
    _, error = clipmend("mend", *own, status=2)
    assert "nowhere cannot be read as pairs: it does not exist; allowed are" in error
    assert not list(folder.iterdir())
