"""Kills real training at random moments, 20 times, by either tool: nothing half-made may count.

After each kill every file in results/ has to be what its card says; in the end the plain command
goes on without `--unlock`, and every byte is that of an undisturbed run. Prints a line a kill.

python scripts/kills.py [--kills 20] [--seed 0]
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from clipmend.tools import preset

ROOT = Path(__file__).resolve().parents[1]
PROJECT = ("Snakefile", "dvc.yaml", ".dvcignore", ".gitignore", "workflow", "profiles", "src")
COMMANDS = (("snakemake", "--cores", "2", "all"), ("dvc", "repro"))
SHORTEST, LONGEST = 4.0, 16.0  # seconds: Snakemake needs 2 to begin, torch 3 more to load


def clone(folder: Path) -> Path:
    """Return a project with the preset `smoke` and nothing made."""
    folder.mkdir()
    for name in PROJECT:
        source = ROOT / name
        if source.is_dir() and not source.is_symlink():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name, follow_symlinks=False)
    (folder / "data").mkdir()
    (folder / "params.yaml").write_text(preset.render("smoke"))
    for command in (("git", "init", "-q"), ("dvc", "init", "-q")):
        subprocess.run(command, cwd=folder, env=environment(), check=True)
    return folder


def environment() -> dict[str, str]:
    """Return variables under which this environment's programs come first."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path}


def start(folder: Path, command: tuple[str, ...]) -> subprocess.Popen[bytes]:
    """Begin a command in a process group of its own."""
    with (folder / "printed.log").open("ab") as printed:
        return subprocess.Popen(
            command,
            cwd=folder,
            env=environment(),
            stdout=printed,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill the command and every process that it began."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of all results."""
    results = folder / "results"
    files = (path for path in sorted(results.rglob("*")) if path.is_file())
    return {
        path.relative_to(results).as_posix(): path.read_bytes()
        for path in files
        if path.name != ".gitignore"
    }


def kill_once(folder: Path, number: int, moments: random.Random) -> bool:
    """Run until a random moment, kill, and look; return whether it was still running."""
    command, moment = COMMANDS[number % len(COMMANDS)], moments.uniform(SHORTEST, LONGEST)
    process = start(folder, command)
    time.sleep(moment)
    was_running = process.poll() is None
    if was_running:
        kill_group(process)
    looked = subprocess.run(
        ("clipmend", "verify"), cwd=folder, env=environment(), capture_output=True, check=False
    )
    made = len(list((folder / "results").rglob("card.json")))
    state = "killed" if was_running else "had ended"
    print(
        f"{number + 1:2d} {command[0]:9s} {state} after {moment:4.1f} s, {made} cells made",
        flush=True,
    )
    if looked.returncode != 0:
        raise SystemExit(f"half-made: {looked.stdout.decode()}")
    return was_running


def main() -> None:
    """Kill, finish, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as parent:
        killed = clone(Path(parent) / "killed")
        moments = random.Random(given.seed)
        running = sum(kill_once(killed, number, moments) for number in range(given.kills))
        calm = clone(Path(parent) / "calm")
        for folder in (killed, calm):
            code = start(folder, COMMANDS[0]).wait()
            if code != 0:
                raise SystemExit((folder / "printed.log").read_text()[-3000:])
        one, other = contents(killed), contents(calm)
        differing = sorted(n for n in one.keys() | other.keys() if one.get(n) != other.get(n))
    print(f"{running} of {given.kills} kills met a running command; {len(one)} files compared.")
    if differing:
        raise SystemExit(f"not the bytes of an undisturbed run: {differing}")
    print("Every byte is that of an undisturbed run.")


if __name__ == "__main__":
    main()
