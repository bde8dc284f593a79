"""The record of the machine in a card."""

from pathlib import Path

import pytest

from clipmend.engine import cards

FLAGS = "flags : fpu avx avx2 avx512f avx512_bf16"


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [
        (f"vendor_id : AuthenticAMD\n{FLAGS}", "amd avx512_bf16"),
        (f"vendor_id : GenuineIntel\n{FLAGS}", "intel avx512_bf16"),
        ("vendor_id : GenuineIntel\nflags : fpu avx avx2", "intel avx2"),
        ("CPU implementer : 0x41\nFeatures : fp asimd", "asimd"),
    ],
)
def test_a_card_distinguishes_processors_that_add_in_another_order(
    cpuinfo, expected, monkeypatch
) -> None:
    monkeypatch.setattr(cards.platform, "machine", lambda: "m")
    monkeypatch.setattr(cards, "_versions", lambda _: ())  # which reads files too
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: cpuinfo)
    assert cards.environment("cpu")["cpu"] == f"m {expected}"
