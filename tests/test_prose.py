"""The prose check reports long sentences, banned words and abbreviations, and nothing here."""

import runpy
from pathlib import Path

import pytest

check = runpy.run_path(str(Path(__file__).with_name("prose.py")))["main"]
LONG = "word " * 26


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("page.md", f"{LONG}.\n", "a sentence of 26 words"),
        ("page.md", "A model that is drawn.\n", "'drawn'"),
        ("page.md", "UBT is a repair.\n", "UBT is never expanded"),
        ("code.py", f'"""Short.\n\n{LONG}.\n"""\n', "a sentence of 26 words"),
        ("code.py", "x = 1  # told by the caller\n", "'told'"),
        ("code.py", 'raise ValueError("x is no folder")\n', "'is no'"),
    ],
)
def test_a_problem_is_reported_with_its_file_and_line(
    name, text, problem, tmp_path, capsys
) -> None:
    (tmp_path / name).write_text(text)
    assert check([str(tmp_path)]) == 1
    assert problem in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("page.md", "```\nis no\n```\nUBT (Unlearning Backdoor Threats) is a repair.\n"),
        ("code.py", 'x = "is no"  # a string that no message prints\n'),
    ],
)
def test_code_and_plain_english_are_not_reported(name, text, tmp_path) -> None:
    (tmp_path / name).write_text(text)
    assert check([str(tmp_path)]) == 0


def test_the_prose_of_this_repository_passes(capsys) -> None:
    assert check([]) == 0, capsys.readouterr().out
