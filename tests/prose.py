"""Check the English of docs, docstrings, comments and messages: ``python tests/prose.py [PATH]``.

It reports sentences that are too long, words that ``docs/reference/words.md`` replaces,
and abbreviations that a page never expands. The exit code is 1 if it reports anything.
"""

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
LONGEST = 25  # words of a sentence
MEAN = 18.0  # words of a sentence, over a file

# Historic records and pages of results keep the words of their day.
LEFT_OUT = ("CHANGELOG.md", "studies/", "results/", "benchmarks/results/", "data/")
LEFT_OUT += ("docs/reference/settings.md", "docs/reference/methods/", "tests/")  # docstrings

BANNED = {
    r"is no\b(?! longer| more)|are no\b(?! longer| more)": "is not a / has no",
    r"there is no such|stands? (?:there|in the place)": "say what is missing",
    r"\btold\b": "reported / said",
    r"\bdrawn\b": "sampled / rendered / plotted",
    r"\bfirst look\b": "pre-scoring",
    r"\bbeliefs?\b|\bbelieves?\b": "finding",
    r"\bthe tie\b": "association",
    r"\bverdicts?\b": "model score / outcome",
    r"\bwhoever\b": "a user who",
    r"\bof which\b": "name the thing again",
    r"\bis to be\b|\bare to be\b|\bwas to be\b": "must be / can be",
    r"\bwhat is (?:asked|made|held|left|wanted|known|shown|given)\b": "name the thing",
    r"\b(?:colour|defence|behaviour|artefact|neighbour)": "American spelling",
    r"\b(?:tokenis|optimis|normalis|minimis|maximis)": "American spelling",
    r"\bcannot be had\b|\bto be had\b": "is not available",
    r"\bas it stands\b|\bas they stand\b": "unchanged",
}
EXPANSIONS = {
    "UBT": "Unlearning Backdoor Threats",
    "PUD": "Progressive Unified Defense",
    "ABL": "Anti-Backdoor Learning",
    "MMCL": "multimodal contrastive",
    "SSL": "self-supervised",
    "LID": "local intrinsic dimensionality",
    "DAO": "dimensionality-aware outlier",
    "SLOF": "simplified local outlier factor",
    "CA": "clean accuracy",
    "ASR": "attack success rate",
    "PGD": "projected gradient descent",
    "PAR": "Perturb and Recover",
}


class Text(NamedTuple):
    """A piece of prose and the line where it begins."""

    line: int
    text: str


def texts_of(path: Path) -> Iterator[Text]:
    """Yield the prose of a file."""
    source = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        yield from _python(source)
    elif path.suffix == ".smk" or path.name == "Snakefile":
        for number, line in enumerate(source.splitlines(), start=1):
            if match := re.match(r"\s*#\s?(.*)", line):
                yield Text(number, match[1])
    else:
        yield from _markdown(source)


def _python(source: str) -> Iterator[Text]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if docstring := ast.get_docstring(node):
                line = node.body[0].lineno
                yield from (Text(line, part) for part in _entries(docstring))
        elif isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            for argument in node.exc.args:
                yield from _message(argument)
        elif isinstance(node, ast.keyword) and node.arg == "help":
            yield from _message(node.value)
    yield from _comments(source)


def _comments(source: str) -> Iterator[Text]:
    """Yield each run of comment lines as one text."""
    comment, first = "", 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and not re.match(r"# (?:noqa|type:|fmt:)", token.string):
            first = first or token.start[0]
            comment += " " + token.string.lstrip("# ")
        elif token.type not in (tokenize.NL, tokenize.NEWLINE) and comment:
            yield Text(first, comment)
            comment, first = "", 0


def _message(node: ast.expr) -> Iterator[Text]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield Text(node.lineno, node.value)
    elif isinstance(node, ast.JoinedStr):
        parts = (p.value if isinstance(p, ast.Constant) else "X" for p in node.values)
        yield Text(node.lineno, "".join(map(str, parts)))


def _entries(docstring: str) -> Iterator[str]:
    """Yield paragraphs, and each entry of a section such as ``Args:`` by itself."""
    for paragraph in re.split(r"\n\s*\n", docstring):
        if "├" in paragraph:  # the drawing of a tree
            continue
        entry = ""
        for line in paragraph.splitlines():
            if re.match(r"\s*(?:Args|Attributes|Raises|Returns|Yields):\s*$", line):
                continue
            if re.match(r"(?:    )?[\w., ]+: ", line) and entry and line.startswith("    "):
                yield entry
                entry = ""
            entry += " " + re.sub(r"^    \w+: ", "", line).strip()
        yield entry


def _markdown(source: str) -> Iterator[Text]:
    paragraph, first, fenced = "", 0, False
    for number, line in enumerate([*source.splitlines(), ""], start=1):
        if line.lstrip().startswith(("```", "~~~")):
            fenced = not fenced
        starts_item = re.match(r"\s*(?:[-*+]|\d+\.)\s", line)
        ends = fenced or not line.strip() or line.lstrip().startswith(("|", "#", "<", "```", ".."))
        if (ends or starts_item) and paragraph:
            yield Text(first, paragraph)
            paragraph, first = "", 0
        if not ends:
            first = first or number
            paragraph += " " + re.sub(r"^\s*(?:[-*+>]|\d+\.)\s+", "", line).strip()


def sentences(text: str) -> Iterator[list[str]]:
    """Yield the words of each sentence; code and links count as one word."""
    plain = re.sub(r"``?[^`]+``?", "code", text)
    plain = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", plain)
    plain = re.sub(r"https?://\S+|arXiv:\S+", "link", plain)
    plain = re.sub(r"\b(?:et al|e\.g|i\.e|eq|fig|vs|cf|sec)\.", "abbr", plain)
    for sentence in re.split(r"(?<=[.!?:;])[\"')\]*]*\s+(?=[^a-z]|[a-z])", plain):
        words = re.findall(r"[A-Za-z][\w'@/-]*", sentence)
        if words:
            yield words


def problems(path: Path) -> Iterator[str]:
    """Yield a line for each problem of a file."""
    name = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else str(path)
    lengths = []
    for text in texts_of(path):
        for words in sentences(text.text):
            lengths.append(len(words))
            if len(words) > LONGEST:
                start = " ".join(words[:8])
                yield f"{name}:{text.line}: a sentence of {len(words)} words: {start} ..."
        plain = re.sub(r"``?[^`]+``?", "code", text.text)
        for pattern, instead in BANNED.items():
            if match := re.search(pattern, plain, flags=re.IGNORECASE):
                yield f"{name}:{text.line}: '{match[0]}': {instead}"
    if lengths and sum(lengths) / len(lengths) > MEAN:
        yield f"{name}: mean sentence of {sum(lengths) / len(lengths):.1f} words"
    if path.suffix == ".md":
        yield from (f"{name}: {problem}" for problem in _not_expanded(path))


def _not_expanded(path: Path) -> Iterator[str]:
    page = path.read_text(encoding="utf-8")
    prose = re.sub(r"`[^`]*`", "", page)
    for short, meaning in EXPANSIONS.items():
        is_used = re.search(rf"(?<![\w/@-]){short}(?![\w/@-])", prose)
        if is_used and meaning.lower() not in page.lower():
            yield f"{short} is never expanded ({meaning})"


def files() -> list[Path]:
    """Return every file of the repository whose prose is checked."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.check_output(command, cwd=ROOT, text=True).splitlines()
    kinds = (".md", ".py", ".smk", ".rst")
    return [
        ROOT / name
        for name in listed
        if (name.endswith(kinds) or name == "Snakefile")
        and not name.startswith(LEFT_OUT)
        and (ROOT / name).is_file()
    ]


def main(names: list[str]) -> int:
    """Print the problems of the named files or folders, or of all; return the exit code."""
    chosen = [] if names else files()
    for root in (Path(name).resolve() for name in names):
        inside = files() if root.is_relative_to(ROOT) else sorted(root.rglob("*"))
        chosen += [path for path in inside if path.is_relative_to(root) and path.is_file()]
    reported = [line for path in chosen for line in problems(path)]
    sys.stdout.write("".join(f"{line}\n" for line in reported))
    return 1 if reported else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
