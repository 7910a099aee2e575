"""The cases of `fuzz.py`: a file is damaged and read, in a process that may crash, hang or ask for all memory."""

import contextlib
import ctypes
import faulthandler
import io
import itertools
import multiprocessing
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from fuzzing import ROOT
from fuzzing.containers import mutate

LONGEST = 20  # seconds of a case
MOST = 1500 * 2**20  # bytes of memory of a case
FORBIDDEN = {"os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "subprocess.Popen", "socket.connect"}
FORBIDDEN |= {"socket.getaddrinfo", "pickle.find_class", "webbrowser.open", "ftplib.connect", "urllib.Request"}
CHANGES = {"os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink", "os.link", "os.truncate", "os.chmod"}


class Escape(BaseException):
    """A file made its reader do what no file may."""


@dataclass(frozen=True)
class Answer:
    """What came of a case.

    Attributes:
        number: of the case.
        outcome: ``accepted``, ``refused`` or ``finding``.
        message: of the refusal; of a finding what happened, the last line being the same for all of its kind.
    """

    number: int
    outcome: str
    message: str = ""

    @property
    def harmful(self) -> bool:
        """Whether a finding is more than an error that is no refusal: a crash, a hang, memory, something done."""
        error = re.fullmatch(
            r"(?!Escape|MemoryError)\w+ at (nowhere|[\w.]+:\d+)", (self.message.splitlines() or [""])[-1]
        )
        return self.outcome == "finding" and not error


class Cases:
    """All cases of a reader: the same number, the same damage.

    Args:
        name: of the reader.
        reader: as :class:`fuzzing.reader.Reader` has it.
        place: an empty directory, where its files are made.
        longest: seconds of a case.
    """

    def __init__(self, name: str, reader, place: Path, longest: float = LONGEST):
        self.name, self.reader, self.place, self.longest = name, reader, place.resolve(), longest
        with _quiet():
            self.whole = {path: path.read_bytes() for path in reader.make(self.place)}
        self.trace = self.place / "trace"
        self.watching: list[str] = []  # nothing is in it while nobody watches; after the first, what was done
        for path in self.whole:  # what is imported late is imported now
            answer = self._answer(-1, path)
            if answer.outcome != "accepted":
                raise RuntimeError(f"{name}: a whole {path.name} is not read: {answer.message}")

    def damaged(self, number: int) -> tuple[Path, bytes]:
        """The file of a case, and its content."""
        random = Random(f"{self.name} {number}")
        path = random.choice(list(self.whole))
        other = random.choice([each for each in self.whole if each.suffix == path.suffix])
        return path, mutate(path.name, self.whole[path], self.whole[other], random)

    def run(self, numbers: Iterator[int], until: float) -> Iterator[Answer]:
        """The answers to these cases, as long as there is time; each process goes on where the one before it died."""
        numbers = list(itertools.islice(numbers, 10**6))
        fork = multiprocessing.get_context("fork")
        while numbers and time.monotonic() < until:
            receiving, sending = fork.Pipe(duplex=False)
            process = fork.Process(target=self._work, args=(numbers, until, sending), daemon=True)
            process.start()
            sending.close()
            try:
                while numbers and time.monotonic() < until:
                    if not receiving.poll(self.longest):
                        raise TimeoutError
                    answer = receiving.recv()
                    numbers.pop(0)
                    yield answer
            except EOFError:
                process.join()
                if process.exitcode:
                    yield self._died(numbers.pop(0), f"the process died: {_signal(process.exitcode)}")
            except TimeoutError:
                yield self._died(numbers.pop(0), f"it takes longer than {self.longest:g} s")
            finally:
                process.kill()
                process.join()
        self._restore()

    def _died(self, number: int, why: str) -> Answer:
        trace = self.trace.read_text(errors="replace") if self.trace.exists() else ""
        where = next((line.strip() for line in trace.splitlines() if line.startswith("  File")), "")
        return Answer(number, "finding", f"{trace}\n{why} {where}")

    def _work(self, numbers: list[int], until: float, answers) -> None:
        """Answer the cases, in a process of its own."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # it ends with its parent
        sys.dont_write_bytecode = True
        tempfile.tempdir = str(self.place / "out")
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2):
            os.dup2(nowhere, stream)
        begin = _memory("VmRSS")
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**30, 2**30))
        resource.setrlimit(resource.RLIMIT_AS, (_memory("VmSize") + 4 * MOST,) * 2)
        _watch(self.place, self.watching)
        with open(self.trace, "w+") as trace:
            faulthandler.enable(trace)
            for number in numbers:
                if time.monotonic() > until:
                    return
                path, content = self.damaged(number)
                self._restore()
                path.unlink()
                path.write_bytes(content)
                trace.seek(0)
                trace.truncate()
                faulthandler.dump_traceback_later(0.9 * self.longest, file=trace)
                answer = self._answer(number, path)
                faulthandler.cancel_dump_traceback_later()
                if (used := resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - begin) > MOST:
                    answers.send(Answer(number, "finding", f"{answer.message}\nit takes {used // 2**20} MB of memory"))
                    return
                answers.send(answer)

    def _restore(self) -> None:
        for path, content in self.whole.items():
            path.unlink(missing_ok=True)  # a file that is mapped keeps its content
            path.write_bytes(content)

    def _answer(self, number: int, path: Path) -> Answer:
        out = self.place / "out"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        self.watching.append("")
        try:
            answer = self._read(number, path)
        finally:
            escapes = self.watching[1:]
            self.watching.clear()
        return Answer(number, "finding", f"{answer.message}\n{escapes[0]}") if escapes else answer

    def _read(self, number: int, path: Path) -> Answer:
        try:
            with _quiet() as said:
                self.reader.read(self.place, path)
        except SystemExit as error:
            refused = error.code == 2 and sum("error: " in line for line in said.getvalue().splitlines()) == 1
            return Answer(number, "refused" if refused else "finding", said.getvalue() or f"exit status {error.code}")
        except self.reader.refusals as error:
            return Answer(number, *_judged(error))
        except BaseException as error:
            return Answer(number, "finding", _told(error))
        return Answer(number, "accepted")


@contextlib.contextmanager
def _quiet() -> Iterator[io.StringIO]:
    """Nothing is printed; what is said on standard error."""
    said = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield said


def _judged(error: Exception) -> tuple[str, str]:
    """Whether a refusal is one, and not the end of the memory."""
    chain, cause = [], error
    while cause is not None and not any(cause is each for each in chain):  # OmegaConf makes circles
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    if any(isinstance(each, MemoryError) or "allocate memory" in str(each) for each in chain):
        return "finding", f"{_told(error)} after asking for too much memory"
    return "refused", " ".join(str(error).split())  # as lskd.errors.report says it


def _told(error: BaseException) -> str:
    """The traceback, and in its last line which error it is, and the last place of ours that it passed."""
    frames = [each for each in traceback.extract_tb(error.__traceback__) if str(ROOT) in each.filename]
    last = next((each for each in reversed(frames) if "fuzz" not in each.filename), None)
    place = f"{Path(last.filename).name}:{last.lineno}" if last else "nowhere"
    lines = traceback.format_exception(error, limit=-12)
    return "".join(lines)[-10_000:] + f"{type(error).__name__} at {place}"


def _watch(place: Path, watching: list) -> None:
    """From now on raise Escape, while ``watching`` is not empty, where a program is run or a file written elsewhere."""

    def escape(what: str) -> None:
        watching.append(what)  # who catches it does not hide it
        raise Escape(what)

    def hook(event: str, arguments: tuple) -> None:
        if not watching:
            return
        if event == "subprocess.Popen" and list(arguments[1])[:1] == ["git"]:
            return  # our own revision, which records hold
        if event in FORBIDDEN:
            escape(f"{event} {arguments!r:.200}")
        if event == "open":
            path, _, flags = arguments
            paths = [path] if (flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) else []
        else:
            paths = [each for each in arguments if event in CHANGES]
        directory = f"/proc/self/fd/{arguments[-1]}" if event in CHANGES and arguments[-1] not in (-1, None) else ""
        for path in paths:
            if isinstance(path, str | bytes | os.PathLike) and not _inside(directory, os.fsdecode(path), place):
                escape(f"{event} {path!r:.200}")

    sys.addaudithook(hook)


def _inside(directory: str, path: str, place: Path) -> bool:
    there = os.path.realpath(os.path.join(directory, path))
    return there == os.devnull or there.startswith(f"{place}{os.sep}")


def _memory(which: str) -> int:
    """Bytes of memory of this process, as Linux counts them under that name."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(which))
    return int(line.split()[1]) * 1024


def _signal(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else f"exit status {status}"
