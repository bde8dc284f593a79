"""The prose check reports long sentences, banned words and abbreviations, and nothing here."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("prose.py")
LONG = "word " * 26


def check(path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SCRIPT, path], capture_output=True, text=True, check=False
    )


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
    name: str, text: str, problem: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text)
    done = check(tmp_path)
    assert done.returncode == 1
    assert problem in done.stdout


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("page.md", "```\nis no\n```\nUBT (Unlearning Backdoor Threats) is a repair.\n"),
        ("code.py", 'x = "is no"  # a string that no message prints\n'),
    ],
)
def test_code_and_plain_english_are_not_reported(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    assert check(tmp_path).returncode == 0


def test_the_prose_of_this_repository_passes() -> None:
    done = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
