"""Chunks, short texts and recomputation change no embedding and no gradient."""

import json
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor

from clipmend.model.clip import Clip, build
from clipmend.model.encoding import short_texts
from clipmend.model.fit import _precision
from clipmend.model.losses import mmcl_loss
from clipmend.model.parallel import Ranks

CAPTIONS = ["a photo of a banana", "a car", "the red car on a plain background", "a zebra"] * 2
TRANSFORMER = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


@pytest.fixture(scope="module")
def images() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(256, (8, 3, 32, 32), dtype=torch.uint8, generator=generator)


@pytest.fixture
def transformer(tmp_path: Path) -> Clip:
    (tmp_path / "tiny.json").write_text(json.dumps(TRANSFORMER))
    return build(str(tmp_path / "tiny.json"), seed=0).prune_vocabulary(CAPTIONS).double().train()


def resnet() -> Clip:
    return build("scene_resnet", seed=0).prune_vocabulary(CAPTIONS).train()


def gradients(model: Clip, images: Tensor) -> list[Tensor]:
    model.zero_grad()
    tokens = model.tokenize(CAPTIONS)
    embeds = model.encode_image(images), model.encode_text(tokens)
    mmcl_loss(*embeds, model.logit_scale()).backward()
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


def alike(these: list[Tensor], others: list[Tensor]) -> bool:
    pairs = zip(these, others, strict=True)
    return all(torch.allclose(left, right, rtol=0, atol=1e-12) for left, right in pairs)


@pytest.mark.parametrize("chunk", [1, 3, 8])
@pytest.mark.parametrize("is_recomputed", [False, True])
def test_chunks_and_recomputed_towers_have_the_same_gradient(
    transformer, images, chunk, is_recomputed
) -> None:
    expected = gradients(transformer, images)
    transformer.chunk = chunk
    if is_recomputed:
        transformer.checkpoint_towers()
    assert alike(gradients(transformer, images), expected)


def test_batch_norm_sees_each_chunk_once(images) -> None:
    model, again = resnet(), resnet()
    model.chunk = again.chunk = 4
    with torch.no_grad():
        model.encode_image(images)
    gradients(again, images)
    for name, value in again.net.named_buffers():
        torch.testing.assert_close(value, model.net.get_buffer(name))
    assert again.net.get_buffer("visual.bn1.num_batches_tracked") == 2


def test_ranks_whose_shares_differ_by_a_row_encode_the_same_number_of_chunks(
    transformer, images, monkeypatch
) -> None:
    monkeypatch.setattr(Ranks, "gathered", lambda _, share, total: share)  # noqa: ARG005
    transformer.chunk = 3
    sizes: dict[int, list[int]] = {0: [], 1: []}
    for rank, lengths in sizes.items():
        transformer.ranks = Ranks(rank, 2)

        def encode(part: Tensor, lengths: list[int] = lengths) -> Tensor:
            lengths.append(len(part))
            return part.flatten(1).double()

        transformer._encoded(images[:7], encode, tower=0)
    assert sizes == {0: [2, 2], 1: [2, 1]}


def test_texts_are_encoded_once_each_and_without_their_empty_positions(transformer) -> None:
    transformer.eval()
    tokens = transformer.tokenize(CAPTIONS)  # four captions, twice
    whole = transformer.net.encode_text(tokens, normalize=True)
    shapes: list[tuple[int, ...]] = []
    transformer.net.transformer.register_forward_pre_hook(
        lambda _, inputs: shapes.append(tuple(inputs[0].shape[:2]))
    )
    short = short_texts(transformer.net, tokens, torch.device("cpu"))
    torch.testing.assert_close(short, whole, atol=1e-12, rtol=0)
    assert shapes == [(3, 7), (1, 9)]  # three captions of at most 7 tokens, one of 9


def test_a_text_tower_with_another_pooling_keeps_all_positions() -> None:
    model = build("scene_resnet", seed=0)
    model.net.text_pool_type = "last"
    tokens = model.eval().tokenize(CAPTIONS)
    whole = model.net.encode_text(tokens, normalize=True)
    torch.testing.assert_close(short_texts(model.net, tokens, torch.device("cpu")), whole)


def test_only_the_setting_bf16_computes_in_bfloat16(images) -> None:
    model = build("scene_resnet", seed=0)
    for precision, is_low in (("auto", False), ("fp32", False), ("bf16", True)):
        model.precision = precision  # type: ignore[assignment]
        with _precision(model):
            assert (model.net.visual.conv1(images.float()).dtype == torch.bfloat16) is is_low


def test_compiled_towers_have_the_same_gradient(images, monkeypatch) -> None:
    traced = Mock(side_effect=lambda tower: tower)  # the compiler takes minutes on a CPU
    model = resnet()
    names = list(model.full_state())
    expected = gradients(model, images)
    monkeypatch.setattr(torch, "compile", traced)
    model.compile_towers()
    assert alike(gradients(model, images), expected)
    assert traced.call_count == 2
    assert list(model.full_state()) == names
    model.frozen_copy()
