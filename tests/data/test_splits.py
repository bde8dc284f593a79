"""Splits are read in manifest order, with the overlay in place."""

from pathlib import Path

import pyarrow as pa
import pytest
import torch
from pytest import MonkeyPatch

from clipmend.data import splits
from clipmend.data.pairs import OVERLAY, read_pairs, write_pairs
from clipmend.data.sampling import sample
from clipmend.data.splits import Pairs, load_sample, load_split, read_vocabulary
from clipmend.engine.job import Input
from clipmend.errors import ArtifactError


def test_an_overlay_replaces_its_rows_and_no_others(corpus: Input, poison: Input) -> None:
    overlay = poison.folder / "overlay.parquet"
    clean = load_split(corpus.folder, "train")
    poisoned = load_split(corpus.folder, "train", overlay=overlay)
    changed = set(read_pairs(overlay, OVERLAY)["id"].to_pylist())
    assert poisoned.ids == clean.ids
    for row, row_id in enumerate(clean.ids):
        same = torch.equal(poisoned.images[row], clean.images[row])
        assert same == (row_id not in changed)
        assert bool(poisoned.is_poisoned[row]) == (row_id in changed)


def test_an_overlay_of_another_corpus_is_refused(
    corpus: Input, poison: Input, tmp_path: Path
) -> None:
    overlay = read_pairs(poison.folder / "overlay.parquet", OVERLAY)
    ids = pa.array(["from-elsewhere", *overlay["id"].to_pylist()[1:]])
    write_pairs(overlay.set_column(0, OVERLAY.field("id"), ids), tmp_path / "overlay.parquet")
    with pytest.raises(ArtifactError, match="from-elsewhere"):
        load_split(corpus.folder, "train", overlay=tmp_path / "overlay.parquet")


def test_blind_pairs_have_neither_labels_nor_poison(corpus: Input, poison: Input) -> None:
    overlay = poison.folder / "overlay.parquet"
    blind = load_split(corpus.folder, "train", overlay=overlay).blind()
    assert not blind.is_poisoned.any()
    assert (blind.label == -1).all()


def test_a_file_without_captions_is_refused(corpus: Input, tmp_path: Path) -> None:
    table = read_pairs(corpus.folder / "val.parquet").drop_columns(["caption"])
    write_pairs(table, tmp_path / "val.parquet")
    with pytest.raises(ArtifactError, match="lacks \\['caption'\\]"):
        read_pairs(tmp_path / "val.parquet")


def test_a_label_is_an_index_into_the_classes(corpus: Input) -> None:
    vocabulary = read_vocabulary(corpus.folder)
    val = load_split(corpus.folder, "val")
    labels = read_pairs(corpus.folder / "val.parquet")["label"].to_pylist()
    assert [vocabulary.classes[label] for label in val.label.tolist()] == labels


@pytest.mark.parametrize("is_decoded", [True, False])
def test_a_limit_samples_pairs_by_their_ids(
    corpus: Input, monkeypatch: MonkeyPatch, is_decoded: bool
) -> None:
    val = load_split(corpus.folder, "val")
    monkeypatch.setattr(splits, "fits", lambda *_: is_decoded)
    assert_same(load_sample(corpus.folder, "val", 5), val.take(sample(val.ids, 5)))


def test_a_split_does_not_depend_on_the_blocks_of_its_reader(
    corpus: Input, poison: Input, monkeypatch: MonkeyPatch
) -> None:
    overlay = poison.folder / "overlay.parquet"
    expected = load_split(corpus.folder, "train", overlay=overlay)
    monkeypatch.setattr(splits, "_BLOCK", 7)
    assert_same(load_split(corpus.folder, "train", overlay=overlay), expected)


def assert_same(pairs: Pairs, expected: Pairs) -> None:
    assert (pairs.ids, pairs.captions) == (expected.ids, expected.captions)
    assert torch.equal(pairs.images[:], expected.images[:])
    assert torch.equal(pairs.label, expected.label)
    assert torch.equal(pairs.is_poisoned, expected.is_poisoned)
