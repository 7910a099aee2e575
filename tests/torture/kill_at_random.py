"""Kill commands at random moments, let them resume, and compare what comes of it with a command that was left alone.

    make torture

In a life, a command is killed again and again, with everything that it has started, until it has come to its end. After
every kill all files that it will read have to be readable; at the end of the life every weight and every figure has to
be the same as without a kill, and nothing else may be there. ``--output`` keeps a row for each kill; another call with
the same one resumes after the last whole life.
"""

import argparse
import csv
import random
import shutil
import sys
import tempfile
from collections import Counter
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from helpers.commands import SMALL, prepare, run
from helpers.tiny_scale import write_tiny_scale
from helpers.vision_commands import train_images
from tqdm import tqdm

from lskd.io.argument_types import positive
from lskd.io.errors import OneLineParser, run_command
from lskd.io.files import parse_json
from lskd.io.torch_files import load_plain
from torture import subjects
from torture.sessions import ANY, Session, session
from torture.subjects import Subject

KILLS_OF_A_LIFE = 5


@dataclass
class Kill:
    """What a kill met, and what came of it.

    Attributes:
        subject: which command.
        life: its number; the kills of a life follow each other.
        planned: the moment at which to kill.
        met: the moment that the command was in, innermost, or which was the last.
        unreadable: files that it will read and that cannot be read.
        differences: at the end of the life: what is not as in the command that was left alone.
    """

    subject: str
    life: int
    planned: str
    met: str
    unreadable: str
    differences: str = ""

    @property
    def survived(self) -> bool:
        """Whether nothing was lost."""
        return not self.unreadable and not self.differences


def unreadable(subject: Subject, dest: Path) -> str:
    """The files that the command will read and that cannot be read."""
    found = []
    for pattern in subject.files:
        for path in dest.glob(pattern):
            try:
                parse_json(path.read_bytes()) if path.suffix == ".json" else read_tensors(path)
            except Exception as error:  # whatever it is
                found.append(f"{path.relative_to(dest)}: {error}")
    return "; ".join(found)


def read_tensors(path: Path) -> None:
    """Read a checkpoint, or a file of tensors, whole."""
    if path.suffix == ".safetensors":
        from safetensors.numpy import load_file

        load_file(path)
    else:
        load_plain(path)


def different(subject: Subject, whole: dict[str, str], dest: Path) -> str:
    """What is not the same as in the outcome of a command that was left alone, and what should not be there."""
    found = subject.outcome(dest)
    differing = [part for part in sorted(whole.keys() | found.keys()) if whole.get(part) != found.get(part)]
    left = [str(path.relative_to(dest)) for path in dest.rglob("*.partial")]
    return "; ".join([*differing, *left])


def life(
    subject: Subject, number: int, whole: Session, outcome: dict[str, str], place: Path, seed: int
) -> tuple[list[Kill], str]:
    """One life of a command: its kills, and what the sessions have printed."""
    chance = random.Random(f"{subject.name} {seed} {number}")
    dest, log = place / f"{subject.name}-{number}", place / f"{subject.name}-{number}.log"
    kills: list[Kill] = []
    while True:
        plan = draw(subject, whole, chance, first=not kills) if len(kills) < KILLS_OF_A_LIFE else None
        found = session(subject, dest, log, plan)
        if found.status is not None:
            break
        met = found.met if subject.moments else subject.stage(dest)
        kills.append(Kill(subject.name, number, plan[0], met, unreadable(subject, dest)))
    said = log.read_text(encoding="utf-8", errors="replace")
    differences = different(subject, outcome, dest) if found.status == 0 else f"exit status {found.status}"
    for each in kills:
        each.differences = differences
    if not differences:
        shutil.rmtree(dest)
    return kills, said


def draw(subject: Subject, whole: Session, chance: random.Random, first: bool) -> tuple[str, int, float]:
    """A moment at which to kill: each kind is as likely; later in a life an early one, as less is left to do."""
    if not subject.moments:
        seconds = whole.moments[ANY][0][1]
        return ANY, 1, chance.uniform(0.2, 1 if first else 0.6) * seconds
    moment = chance.choice(sorted(whole.moments))
    times = whole.moments[moment]
    begin, end = times[chance.randrange(len(times))]
    return moment, chance.randint(1, len(times) if first else max(1, len(times) // 3)), chance.random() * (end - begin)


def torture(subject: Subject, kills: int, place: Path, seed: int = 1, known: list[Kill] = (), keep=None) -> list[Kill]:
    """Kill a command that often, or some times more.

    Args:
        subject: which.
        kills: how often at least.
        place: an empty directory.
        seed: of the moments.
        known: kills of earlier lives, which count.
        keep: called with the kills of each life, as soon as it is over.
    """
    whole = session(subject, place / f"{subject.name}-whole", place / f"{subject.name}-whole.log")
    if whole.status != 0:
        raise RuntimeError((place / f"{subject.name}-whole.log").read_text()[-3000:])
    if not subject.moments:
        whole.moments[ANY] = [(0.0, whole.seconds)]
    outcome = subject.outcome(place / f"{subject.name}-whole")
    found = list(known)
    number = max((each.life for each in found), default=0)
    with tqdm(total=kills, initial=len(found), desc=subject.name, unit="kill", disable=None) as bar:
        while len(found) < kills:
            number += 1
            these, said = life(subject, number, whole, outcome, place, seed)
            if these and these[-1].differences:  # a life may end before its first kill
                tqdm.write(f"{said[-2000:]}\n{subject.name}, life {number}: {these[-1].differences}", file=sys.stderr)
            found += these
            bar.update(len(these))
            if keep:
                keep(these)
    return found


def table(kills: list[Kill]) -> str:
    """How many kills each command has survived, and where they met it."""
    lines = []
    for name in dict.fromkeys(each.subject for each in kills):
        these = [each for each in kills if each.subject == name]
        lives = len({each.life for each in these})
        lines.append(f"{name}: survived {sum(each.survived for each in these)} of {len(these)} kills, in {lives} lives")
        for met, count in sorted(Counter(each.met for each in these).items()):
            lines.append(f"    {count:3} {met}")
    return "\n".join(lines)


def inputs(names: list[str], place: Path) -> list[Subject]:
    """The subjects, with data and teachers that are made for them."""
    found = []
    for name, pairs, length in (("nmt", 600, "--max-epoch 2"), ("cache", 6000, "--max-update 5")):
        if name in names:
            options = f"--pair en-de --vocab-size 400 --max-words 10 --max-pairs {pairs}"
            data, models = prepare(place / f"{name}.en-de", options), place / f"{name}-teacher"
            options = f"{SMALL} {length} --no-epoch-checkpoints --criterion label_smoothed_cross_entropy"
            run("fairseq-train", data, "--save-dir", models, options, "--label-smoothing 0.1")
            found.append(getattr(subjects, name)(data, models / "checkpoint_best.pt"))
    if "vision" in names:
        run("python data_prep/fashion_mnist.py --max-images 320 --dest", place / "fashion")
        train_images(place / "fashion", place / "models", "--model test_resnet --smoothing 0 0.1 --epochs 1 --seed 7")
        names_of = [f"test_resnet_a{alpha}_s7" for alpha in (0, 0.1)]
        teachers = [place / "models" / "fashion_mnist" / name / "last.pth.tar" for name in names_of]
        found.append(subjects.vision(place / "fashion", teachers))
    if "reproduce" in names:
        found.append(subjects.reproduce(write_tiny_scale(place / "tiny.yaml")))
    return found


def main(arguments: argparse.Namespace) -> int:
    """Torture each subject; status 1 where a kill was not survived."""
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    if not arguments.output.exists():
        arguments.output.write_text(",".join(field.name for field in fields(Kill)) + "\n")
    with open(arguments.output, newline="") as file:
        kills = [Kill(**row | {"life": int(row["life"])}) for row in csv.DictReader(file)]

    def keep(these: list[Kill]) -> None:
        with open(arguments.output, "a", newline="") as file:
            csv.DictWriter(file, [field.name for field in fields(Kill)], lineterminator="\n").writerows(
                map(asdict, these)
            )

    with tempfile.TemporaryDirectory() as temporary:
        for subject in inputs(arguments.subject, Path(temporary)):
            known = [each for each in kills if each.subject == subject.name]
            wanted = arguments.kills if subject.moments else max(1, arguments.kills // 3)
            if len(known) < wanted:
                found = torture(subject, wanted, Path(temporary), arguments.seed, known, keep)
                kills = [each for each in kills if each.subject != subject.name] + found
    print(table(kills))
    return 0 if all(each.survived for each in kills) else 1


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = OneLineParser(prog="torture", description=__doc__.split("\n")[0])
    names = ("nmt", "vision", "cache", "reproduce")
    options.add_argument("subject", nargs="*", default=list(names), metavar="SUBJECT", help=f"{', '.join(names)}; all")
    options.add_argument(
        "--kills", type=positive, default=24, help="of each, at least (default 24; of reproduce a third)"
    )
    options.add_argument("--seed", type=int, default=1, help="of the moments (default 1)")
    options.add_argument("--output", type=Path, required=True, metavar="FILE.csv", help="a row for each kill")
    return options


if __name__ == "__main__":
    run_command(parser(), main)
