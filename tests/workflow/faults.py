"""Faults in a project of stubs: kills before file operations, full or read-only disks, two runs.

``python faults.py KILLS OTHERS SEED`` runs in the project's folder with its own ``clipmend``. It
imports everything once and forks, so that a run takes a fraction of a second. No two kills are
before the same operation. After each fault an undisturbed run must end well, with the bytes of a
project without faults. It prints what did not, and how many faults of each kind there were.
"""

import errno
import itertools
import os
import random
import resource
import shutil
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from clipmend.engine import plan, runner, store
from clipmend.engine.cell import RESULTS
from clipmend.errors import FULL, BusyError, ClipmendError
from clipmend.tools import status

CHANGES = {"os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "os.utime", "os.symlink"}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
BUSY, REFUSED, FAILED, KILLED = 3, 2, 1, -signal.SIGKILL
FAULTS = ("full", "two", "damage", "read only")  # beside kills
FOLDERS = ("results", "results/poison", ".clipmend", ".clipmend/store")
PRINTED = os.pipe()
PARAMS = {name: Path(f"params.{name}.yaml").read_bytes() for name in "ab"}


def run() -> None:
    """Do what Snakemake does: arrange, then a job for each missing cell."""
    for name in plan.arrange().cells:
        if not (RESULTS / name / "card.json").is_file():
            runner.run(name)


def is_change(event: str, arguments: tuple[object, ...]) -> bool:
    if event == "open":
        path, _, flags = arguments
        return isinstance(path, str) and "/dev/" not in path and bool(int(str(flags)) & WRITES)
    return event in CHANGES


def fork(
    act: Callable[[], None],
    kill_before: int | None = None,
    limit: int | None = None,
    read_only: str | None = None,
) -> int:
    """Act in a process of its own, and return its number.

    Args:
        kill_before: the number of the file operation before which the process is killed; -1: the
            process prints how many operations it made.
        limit: bytes after which a file cannot grow, as on a full disk.
        read_only: the folder in which nothing can be changed.
    """
    pid = os.fork()
    if pid:
        return pid
    for stream in (1, 2):
        os.dup2(PRINTED[1], stream)  # a pipe, which a full disk does not stop
    if limit is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    operations = itertools.count()
    if kill_before is not None:
        sys.addaudithook(killer(operations, kill_before))
    if read_only is not None:
        sys.addaudithook(refuser(Path(read_only).absolute()))
    code = exit_code(act)
    if kill_before == -1:
        os.write(2, f"\noperations: {next(operations)}".encode())
    os._exit(code)


def killer(operations: Iterator[int], number: int) -> Callable[[str, tuple[object, ...]], None]:
    """Return a hook that kills this process before its file operation of this number."""

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if is_change(event, arguments) and next(operations) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    return hook


def refuser(folder: Path) -> Callable[[str, tuple[object, ...]], None]:
    """Return a hook that refuses changes below a folder; modes would not stop an administrator."""

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if not is_change(event, arguments):
            return
        # An argument of `open` beside the path is a mode; one of the others may be a second path.
        for path in arguments[:1] if event == "open" else arguments[:2]:
            if isinstance(path, str | os.PathLike) and folder in Path(path).absolute().parents:
                raise PermissionError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    return hook


def exit_code(act: Callable[[], None]) -> int:
    """Act, and return the exit code that the command line or Snakemake would have."""
    try:
        act()
    except BusyError:
        return BUSY
    except ClipmendError:
        return REFUSED
    except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
        if isinstance(error, OSError) and error.errno in {*FULL, errno.EROFS}:
            return REFUSED  # both report an error of the disk in one line
        os.write(2, traceback.format_exc().encode())
        return FAILED
    return 0


def printed() -> str:
    """Return what the processes printed since the last call."""
    os.set_blocking(PRINTED[0], False)
    with suppress(BlockingIOError):
        return os.read(PRINTED[0], 1 << 16).decode()
    return ""


def end(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def contents() -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in RESULTS.rglob("*") if path.is_file()}


def verify() -> None:
    if lines := status.damaged():
        raise ValueError("\n".join(lines))


def choose(name: str) -> None:
    Path("params.yaml").write_bytes(PARAMS[name])


def damage(source: random.Random) -> str:
    """Harm one file or folder of the results, the store or the records."""
    top = source.choice((RESULTS, store.STORE, Path(".clipmend")))
    files = sorted(path for path in top.rglob("*") if path.is_file() and path.suffix != ".log")
    if len(files) < 2:
        return "nothing"
    path, other = source.sample(files, 2)
    kind = source.choice(list(HARM))
    HARM[kind](path, other)
    return f"{kind} {path} {other if kind == 'swap' else ''}"


def rewrite(path: Path, data: bytes) -> None:
    path.unlink()  # the file may have another link
    path.write_bytes(data)


def swap(path: Path, other: Path) -> None:
    aside = Path("aside")
    for old, new in ((path, aside), (other, path), (aside, other)):
        old.rename(new)


def replace_with(make: Callable[[Path], None]) -> Callable[[Path, Path], None]:
    """Return the harm that puts something else in the place of a file."""

    def harm(path: Path, _: Path) -> None:
        path.unlink()
        make(path)

    return harm


HARM: dict[str, Callable[[Path, Path], None]] = {
    "cut": lambda path, _: rewrite(path, path.read_bytes()[: path.stat().st_size // 2]),
    "edit": lambda path, _: rewrite(path, path.read_bytes() + b"x"),
    "remove": lambda path, _: path.unlink(),
    "folder": replace_with(Path.mkdir),
    "link": replace_with(lambda path: path.symlink_to("/etc/hostname")),
    "pipe": replace_with(os.mkfifo),
    "cell": lambda path, _: shutil.rmtree(path.parent),
    "swap": swap,
}


class Trials:
    """Runs faults one after another in one project, and counts what they leave wrong."""

    def __init__(self, seed: int) -> None:
        self.source = random.Random(seed)
        self.calm: dict[str, dict[str, bytes]] = {}
        self.operations: dict[tuple[str, str], list[int]] = {}  # before which no kill was yet
        self.name, self.wrong = "a", 0
        self.counts = Counter[str]()

    def prepare(self) -> None:
        """Run both parameter files without faults, each in an empty project."""
        for name in PARAMS:
            self.empty()
            choose(name)
            assert end(fork(run)) == 0, printed()
            self.calm[name] = contents()

    def empty(self) -> None:
        for folder in (RESULTS, Path(".clipmend")):
            shutil.rmtree(folder, ignore_errors=True)

    def turn(self) -> tuple[str, str]:
        """Change the parameters, and maybe delete what could come back; return what was done."""
        self.name = "b" if self.name == "a" else "a"
        choose(self.name)
        deleted = self.source.choice(("nothing", "nothing", "the store", "the store", "all"))
        if deleted == "all":
            self.empty()
        elif deleted == "the store":  # else most cells come back from it
            shutil.rmtree(store.STORE, ignore_errors=True)
        return self.name, deleted

    def kill(self) -> str:
        """Run until the process is killed before an operation that no kill was before."""
        situation = self.turn()
        if situation not in self.operations:
            assert end(fork(run, kill_before=-1)) == 0, printed()
            count = int(printed().split()[-1])
            self.operations[situation] = self.source.sample(range(count), count)
            return "nothing"
        left = self.operations[situation]
        if not left:
            return "nothing"
        at = left.pop()
        self.counts["kills"] += end(fork(run, kill_before=at)) == KILLED
        return f"kill before operation {at} of {situation}"

    def disturb(self, kind: str) -> str:
        """Run with a fault of another kind, and return what it was."""
        self.turn()
        self.counts[kind] += 1
        if kind == "full":
            limit = self.source.choice((0, 1, 50, 500, 2000, 8000, 30000))
            code = end(fork(run, limit=limit))
            return f"full at {limit}: {self.check(code, 0, REFUSED)}"
        if kind == "read only":
            folder = self.source.choice(FOLDERS)
            code = end(fork(run, read_only=folder))
            return f"{folder} is read-only: {self.check(code, 0, REFUSED)}"
        if kind == "two":
            first, second = fork(run), fork(run)
            codes = end(first), end(second)
            return f"two runs: {[self.check(code, 0, BUSY) for code in codes]}"
        return damage(self.source)

    def check(self, code: int, *allowed: int) -> str:
        return f"exit {code}" if code in allowed else f"exit {code} WRONG"

    def one(self, kind: str) -> None:
        """Make one trial and report it if anything is wrong."""
        printed()
        what = self.kill() if kind == "kill" else self.disturb(kind)
        if self.source.random() < 0.2:  # an edit in between
            self.name = self.source.choice("ab")
            choose(self.name)
        codes = end(fork(run)), end(fork(verify)), end(fork(run))
        is_same = contents() == self.calm[self.name]
        if codes != (0, 0, 0) or not is_same or "WRONG" in what:
            self.wrong += 1
            sys.stdout.write(f"WRONG after {what}: {codes}, same bytes: {is_same}\n")
            sys.stdout.write(printed()[-3000:])
            self.empty()


def main() -> None:
    os.environ["CLIPMEND_PATIENCE"] = "0"
    kills, others = map(int, sys.argv[1:3])
    trials = Trials(int(sys.argv[3]))
    trials.prepare()
    for _ in range(10 * kills):  # some trials only count operations
        if trials.counts["kills"] == kills:
            break
        trials.one("kill")
    for _ in range(others):
        trials.one(trials.source.choice(FAULTS))
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(trials.counts.items()))
    sys.stdout.write(f"{counts}; {trials.wrong} wrong\n")
    sys.exit(1 if trials.wrong else 0)


if __name__ == "__main__":
    main()
