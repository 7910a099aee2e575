"""Translate the training split with a teacher: data for sequence-level distillation (Kim and Rush, EMNLP 2016).

    lskd nmt distil-data --data data-bin/help.en-de --path teacher.pt --dest data-bin/distilled.en-de
    fairseq-train data-bin/distilled.en-de --criterion cross_entropy …

A student that is trained on DEST learns the teacher's translations; with ``--criterion kd --teacher-path`` it also
learns the teacher's distribution over each of their tokens. DEST has the dictionaries, the other splits and the raw
text of the data, so stock fairseq trains on it.

Finished parts are kept in DEST.parts until DEST is complete: if it is killed or interrupted, the same command resumes
and writes the same bytes. It may run in several processes at once (``--processes``, or the same command on machines
that share a disk).
"""

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sacrebleu
import torch
from fairseq.tasks.translation import TranslationTask
from tqdm import tqdm

from lskd.io.argument_types import joinable_path, number, positive
from lskd.io.errors import InputError, OneLineParser, help_texts, input_error, run_command
from lskd.io.files import check_writable, write_json
from lskd.io.joined_paths import joined_paths
from lskd.records.fingerprints import joint_fingerprint, weights_fingerprint
from lskd_fairseq import text
from lskd_fairseq.checkpoints import read_checkpoint
from lskd_fairseq.distilled_data import SPLIT, decoder, described, read_raw, write_data
from lskd_fairseq.run_record import data_fingerprint
from lskd_fairseq.score import load_ensemble, start_command
from lskd_fairseq.splits import load_split
from lskd_fairseq.translate import Search, hypotheses, validate_limits
from lskd_fairseq.translation_parts import PLAN, Parts, begun, check_same, locked


def main(arguments: argparse.Namespace) -> None:
    """Translate the parts that are missing, then write the data directory."""
    device = start_command(arguments)
    if not os.path.isdir(arguments.data):
        raise input_error("--data", arguments.data, "must be a directory made by fairseq-preprocess")
    check_writable("--dest", arguments.dest)
    models, task = load_ensemble("--path", arguments.path, arguments.data)
    load_split(task, arguments.data, SPLIT, combine=True, argument="--data")
    validate_limits(models, task, SPLIT)
    plan = planned(arguments, task)
    if is_finished(arguments.dest, plan):
        print(f"{arguments.dest} is ready")
        return
    # What the data lack is reported before translating, not after.
    raw = read_raw(Path(arguments.data), task, plan)
    choose = None
    if arguments.nbest_by_bleu:
        choose = ByBleu(task, raw.decode if raw else decoder(Path(arguments.data), task, plan))
    parts = begun(arguments.dest, plan)
    if arguments.processes > 1 and len(parts.missing()) > 1:
        translate_in_processes(arguments, parts)
    else:
        for model in models:
            model.to(device).eval()
        translate_parts(models, task, parts, arguments, choose)
    with contextlib.ExitStack() as stack:
        try:
            mine = stack.enter_context(locked(parts.directory / PLAN))
        except FileNotFoundError:  # another process has written the data and removed the parts
            mine = False
        if mine and not parts.missing():
            write_data(Path(arguments.data), arguments.dest, task, plan, parts.read(), raw)
            shutil.rmtree(parts.directory)
    if is_finished(arguments.dest, plan):
        print(described(arguments.dest))


def planned(arguments: argparse.Namespace, task: TranslationTask) -> dict[str, Any]:
    """What determines the result: data, teacher, search, and how a translation is chosen."""
    paths = joined_paths("--path", arguments.path)
    fingerprints = [weights_fingerprint(read_checkpoint(path)["model"]) for path in paths]
    return {
        "data": {"path": os.path.abspath(arguments.data), "fingerprint": data_fingerprint([arguments.data])},
        "teacher": {
            "paths": [os.path.abspath(path) for path in paths],
            "fingerprint": joint_fingerprint(fingerprints),  # as in a student's record
        },
        "beam": arguments.beam,
        "lenpen": arguments.lenpen,
        "nbest_by_bleu": arguments.nbest_by_bleu,
        "interpolate": arguments.interpolate,
        "remove_bpe": arguments.remove_bpe,
        "detokenize": arguments.detokenize,
        "sentences": len(task.dataset(SPLIT)),
    }


def is_finished(dest: Path, plan: dict[str, Any]) -> bool:
    """Whether the data directory is there already.

    Raises:
        InputError: the directory holds other data, or something else.
    """
    if not dest.exists() or (dest.is_dir() and not any(dest.iterdir())):
        return False
    made = text.manifest(dest).get("distilled") if dest.is_dir() else None
    if not made:
        raise input_error("--dest", dest, "must be a new directory")
    check_same(plan, made, dest)
    return True


def translate_parts(
    models: Sequence[Any],
    task: TranslationTask,
    parts: Parts,
    arguments: argparse.Namespace,
    choose: "ByBleu | None",
) -> None:
    """Translate the parts that no process has translated or is translating; take the best of each beam, or choose."""
    search = Search(arguments.beam, arguments.lenpen, arguments.max_tokens)
    done = parts.translated()
    with tqdm(total=parts.sentences, initial=done, desc="translate", unit="sentence", disable=None) as bar:
        for part in parts.missing():
            claim = parts.directory / f"part-{part:06d}.claim"
            claim.touch()
            with locked(claim) as mine:
                if not mine or parts.path(part).exists():
                    continue
                rows: list[list[int]] = [[] for _ in parts.ranges[part]]
                for number, found in hypotheses(models, task, SPLIT, parts.ranges[part], search):
                    best = found[0] if choose is None else choose(number, found)
                    rows[number - parts.ranges[part].start] = best["tokens"].tolist()
                    bar.update()
                write_json(parts.path(part), rows)
            bar.n = parts.translated()
            bar.refresh()


def translate_in_processes(arguments: argparse.Namespace, parts: Parts) -> None:
    """Run this command in several processes, assigning GPUs in turn, and show their joint progress.

    Raises:
        InputError: one failed.
    """
    command = [sys.executable, "-m", "lskd_fairseq.distil_data", *words(arguments)]
    gpus = 0 if arguments.cpu else torch.cuda.device_count()
    threads = max(1, torch.get_num_threads() // arguments.processes)
    processes = []
    for index in range(arguments.processes):
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        environment |= {"CUDA_VISIBLE_DEVICES": str(index % gpus)} if gpus else {}
        processes.append(subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE))
    try:
        with tqdm(total=parts.sentences, desc="translate", unit="sentence", disable=None) as bar:
            while any(process.poll() is None for process in processes):
                bar.n = parts.translated() if parts.directory.exists() else parts.sentences
                bar.refresh()
                time.sleep(0.2)
    finally:
        for process in processes:
            process.terminate()
            process.wait()
    for process in processes:
        if process.returncode:
            said = process.stderr.read().decode(errors="replace").strip() if process.stderr else ""
            raise InputError(f"a process failed, the same command resumes: {said.splitlines()[-1] if said else ''}")


def words(arguments: argparse.Namespace) -> list[str]:
    """The command-line options for one of several processes."""
    options = ["--data", arguments.data, "--path", arguments.path, "--dest", str(arguments.dest)]
    options += ["--beam", str(arguments.beam), "--lenpen", repr(arguments.lenpen)]
    options += ["--max-tokens", str(arguments.max_tokens)]
    options += ["--remove-bpe", arguments.remove_bpe] if arguments.remove_bpe else []
    options += ["--detokenize", arguments.detokenize] if arguments.detokenize else []
    switches = ("nbest_by_bleu", "interpolate", "cpu")
    return options + [f"--{name.replace('_', '-')}" for name in switches if getattr(arguments, name)]


class ByBleu:
    """Choose the hypothesis that is most like the reference, by sentence BLEU (Kim and Rush 2016, Section 3.3).

    Args:
        task: with the training split.
        decode: from tokens to text.
    """

    def __init__(self, task: TranslationTask, decode: text.Decode) -> None:
        self.decode = decode
        self.targets: Any = task.dataset(SPLIT).tgt
        self.bleu = sacrebleu.BLEU(effective_order=True)

    def __call__(self, number: int, found: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The best hypothesis of a sentence; of equal ones, the most probable."""
        reference = [self.decode(self.targets[number])]
        scores = [self.bleu.sentence_score(self.decode(each["tokens"]), reference).score for each in found]
        return found[scores.index(max(scores))]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = OneLineParser(
        prog="python -m lskd_fairseq.distil_data",
        **help_texts("--data DIR --path CHECKPOINT --dest DIR", __doc__),
    )
    options.set_defaults(resumes=True)
    options.add_argument("--data", required=True, help="data directory that the teacher was trained on")
    options.add_argument(
        "--path", required=True, help="the teacher; several checkpoints, joined by ':', are an ensemble"
    )
    options.add_argument("--dest", type=joinable_path, required=True, help="data directory to make; must be new")
    options.add_argument("--beam", type=positive, default=5, help="width of the beam (default 5)")
    options.add_argument("--lenpen", type=number(), default=1.0, help="length penalty, as `lskd nmt score` (default 1)")
    options.add_argument(
        "--nbest-by-bleu", action="store_true", help="of the beam, take the translation most like the reference"
    )
    text.add_options(options)
    options.add_argument("--interpolate", action="store_true", help="keep the references too, as pairs of their own")
    options.add_argument(
        "--processes", type=positive, default=1, help="translate in N processes (default 1)", metavar="N"
    )
    options.add_argument("--max-tokens", type=positive, default=8000, help="source tokens of a batch (default 8000)")
    options.add_argument("--cpu", action="store_true", help="do not use a GPU")
    return options


if __name__ == "__main__":
    run_command(parser(), main)
