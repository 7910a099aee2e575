r"""Translate every sentence of a split and add its scores to the run's record.

    lskd nmt score --data data-bin/help.en-de --path runs/student/checkpoint_best.pt \
        --against runs/other/checkpoint_best.pt

It writes ``<split>.<checkpoint>.hypotheses.txt`` and ``.references.txt`` beside the checkpoint, one sentence per line.
Several checkpoints joined by ``:`` are an ensemble, whose probabilities are averaged; its scores go into no run's
record. Its files are beside the first and named ``<split>.<checkpoint>+<checkpoint>.<fingerprint of all>.…``.
"""

import argparse
import dataclasses
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sacrebleu
import torch
from fairseq import utils
from fairseq.models import BaseFairseqModel
from fairseq.tasks.translation import TranslationTask

from lskd.io.argument_types import number, positive
from lskd.io.errors import InputError, OneLineParser, help_texts, input_error, run_command
from lskd.io.files import check_writable, write_json, write_text
from lskd.io.joined_paths import joined_paths
from lskd.records.fingerprints import joint_fingerprint, weights_fingerprint
from lskd.records.runs import add_to_run, read_run
from lskd_fairseq import text
from lskd_fairseq.checkpoints import build_model, own_task, read_checkpoint
from lskd_fairseq.paired_randomisation import TRIALS, paired_randomisation
from lskd_fairseq.splits import load_split
from lskd_fairseq.supported import check_checkpoint
from lskd_fairseq.teacher_checks import PairedData, check_fit, say_once
from lskd_fairseq.translate import translate


@dataclasses.dataclass(frozen=True)
class Translated:
    """The translations of a split by one model or an ensemble, and their references."""

    hypotheses: list[str]
    references: list[str]
    language: str
    postprocessing: text.Postprocessing
    raw: bool
    unknown_references: int

    def described(self) -> str:
        """Describe the text that a score compares."""
        against = "the raw references"
        if not self.raw:
            against = "the binarised references treated alike"
            if self.unknown_references:
                against += f", {self.unknown_references} of them with tokens that the dictionary lacks"
        return f"of {self.postprocessing}, against {against}"


def load(
    path: str, data: str, argument: str = "--path", pair: str | None = None
) -> tuple[BaseFairseqModel, TranslationTask]:
    """Load a checkpoint's model and a task that reads ``data``.

    Args:
        path: the checkpoint.
        data: the data directory, or several joined by ``:``.
        argument: the checkpoint's name in error messages.
        pair: the languages that it must translate, such as ``en-de``; None for those that it was trained on.

    Raises:
        InputError: not a fairseq checkpoint, one of an unsupported task or model, no data, or data that the checkpoint
            does not fit.
    """
    state = read_checkpoint(path, argument)
    check_checkpoint(argument, path, state)
    if not all(map(os.path.isdir, directories := utils.split_paths(data))):
        raise input_error("--data", data or "''", "must be a directory made by fairseq-preprocess")
    for file in sorted(Path(directories[0]).glob("dict.*.txt")):
        text.load_dictionary(file)  # fairseq would end with a traceback
    task = own_task(path, state, data, argument)
    expected = PairedData.of(task)
    if doubt := check_fit(path, state, dataclasses.replace(expected, pair=pair or expected.pair), argument):
        say_once(doubt)
    return build_model(path, task, argument), task


def load_ensemble(
    argument: str, paths: str, data: str, pair: str | None = None
) -> tuple[list[BaseFairseqModel], TranslationTask]:
    """Load the models of checkpoints joined by ``:``, all for the same language pair, and the first one's task."""
    first, *others = joined_paths(argument, paths)
    model, task = load(first, data, argument, pair)
    return [model, *(load(path, data, argument, PairedData.of(task).pair)[0] for path in others)], task


def metrics(hypotheses: Sequence[str], references: Sequence[str], language: str) -> dict[str, Any]:
    """sacreBLEU and chrF with their signatures, and tokenised lower-cased BLEU, as published for IWSLT."""
    bleu, chrf, published = sacrebleu.BLEU(), sacrebleu.CHRF(), sacrebleu.BLEU(tokenize="none", force=True)
    lower = [text.moses_lower(lines, language) for lines in (hypotheses, references)]
    return {
        "bleu": round(bleu.corpus_score(hypotheses, [references]).score, 2),
        "bleu_signature": str(bleu.get_signature()),
        "chrf": round(chrf.corpus_score(hypotheses, [references]).score, 2),
        "chrf_signature": str(chrf.get_signature()),
        "tokenised_lowercased_bleu": round(published.corpus_score(lower[0], [lower[1]]).score, 2),
        "sentences": len(hypotheses),
    }


def significance(hypotheses: Sequence[str], other: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
    """The difference to another system in BLEU and chrF with p-values, for the record."""
    found = paired_randomisation(hypotheses, other, references)
    bleu, chrf = found["bleu"], found["chrf"]
    return {
        "bleu": round(bleu.score, 2),
        "against_bleu": round(bleu.other, 2),
        "difference": round(bleu.difference, 2),
        "p_value": round(bleu.p_value, 4),
        "chrf": round(chrf.score, 2),
        "against_chrf": round(chrf.other, 2),
        "chrf_difference": round(chrf.difference, 2),
        "chrf_p_value": round(chrf.p_value, 4),
        "method": f"approximate randomisation, {TRIALS} trials",
    }


def start_command(arguments: argparse.Namespace) -> torch.device:
    """Silence what fairseq and sacreBLEU log beside warnings, and choose the device: a GPU, unless ``--cpu``."""
    for noisy in ("fairseq", "sacrebleu"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    return torch.device("cuda" if torch.cuda.is_available() and not arguments.cpu else "cpu")


def translated(
    models: Sequence[BaseFairseqModel], task: TranslationTask, device: torch.device, arguments: argparse.Namespace
) -> Translated:
    """Translate a split with a model, or with an ensemble."""
    for model in models:
        model.to(device)
    language, split, data = task.cfg.target_lang, arguments.split, utils.split_paths(arguments.data)[0]
    assert language is not None  # setup_task has taken it from the data
    load_split(task, data, split)
    dataset, dictionary = task.dataset(split), task.target_dictionary
    processing = text.chosen_postprocessing(data, dictionary, dataset, arguments.remove_bpe, arguments.detokenize)
    detokenise = text.Detokeniser(dictionary, language, processing)
    references = text.raw_references(data, split, language, len(dataset))
    raw, unknown = True, 0
    if references is None or processing.leaves_tokens():  # both sides must be tokenised alike
        raw, references = False, text.decoded_references(dataset, detokenise)
        unknown = sum(text.UNKNOWN_IN_REFERENCE in line for line in references)
    hypotheses = translate(models, task, split, detokenise, arguments.beam, arguments.lenpen)
    return Translated(hypotheses, references, language, processing, raw, unknown)


def main(arguments: argparse.Namespace) -> None:
    """Translate, score, print, record."""
    device = start_command(arguments)
    files = [Path(path) for path in joined_paths("--path", arguments.path)]
    directory = arguments.output or files[0].parent
    has_record, written = False, True
    if arguments.output:
        check_writable("--output", arguments.output)
    else:
        # A broken record is reported before translating, not after.
        has_record = len(files) == 1 and read_run(directory) is not None
        try:
            check_writable("--path", directory)
        except InputError:
            written = False
            print(f"{directory} cannot be written to: the score is printed only (--output keeps it)", file=sys.stderr)
    models, task = load_ensemble("--path", arguments.path, arguments.data)
    fingerprint = _fingerprint(files) if written else ""  # just after loading: a training may replace the files
    pair = PairedData.of(task).pair
    other = load_ensemble("--against", arguments.against, arguments.data, pair) if arguments.against else None
    ours = translated(models, task, device, arguments)
    scores = metrics(ours.hypotheses, ours.references, ours.language)
    scores |= {"beam": arguments.beam, "lenpen": arguments.lenpen, "against": None, "of": ours.described()}
    if other:
        theirs = translated(*other, device, arguments)
        scores["against"] = significance(ours.hypotheses, theirs.hypotheses, ours.references)
        scores["against"]["path"] = arguments.against
    show(scores, arguments)
    if written:
        keep(directory, ours, scores, has_record, arguments, fingerprint)


def show(scores: dict[str, Any], arguments: argparse.Namespace) -> None:
    """Print a score."""
    search = f"beam {arguments.beam}" + (f", lenpen {arguments.lenpen:g}" if arguments.lenpen != 1 else "")
    print(f"{arguments.path} on {arguments.split}, {scores['sentences']} sentences, {search}")
    print(f"  {scores['of']}")
    print(f"  BLEU  {scores['bleu']:6.2f}  {scores['bleu_signature']}")
    print(f"  chrF  {scores['chrf']:6.2f}  {scores['chrf_signature']}")
    print(f"  BLEU  {scores['tokenised_lowercased_bleu']:6.2f}  Moses-tokenised, lower-cased text")
    if against := scores["against"]:
        print(f"  against {arguments.against} ({against['method']}):")
        for name, of in (("BLEU", ""), ("chrF", "chrf_")):
            print(
                f"  {name}  {against[f'against_{name.lower()}']:6.2f}, difference "
                f"{against[f'{of}difference']:+.2f}, p = {against[f'{of}p_value']}"
            )
    sys.stdout.flush()


def keep(
    directory: Path,
    ours: Translated,
    scores: dict[str, Any],
    has_record: bool,
    arguments: argparse.Namespace,
    fingerprint: str,
) -> None:
    """Write hypotheses, references and scores; the scores go into the run's record if there is one.

    Scores of tokenised text do not: beside those of other runs they would be taken for scores of detokenised text.
    """
    files = [Path(path) for path in joined_paths("--path", arguments.path)]
    recorded = has_record and not ours.postprocessing.leaves_tokens()
    stem = f"{arguments.split}.{'+'.join(file.stem for file in files)}"
    if len(files) > 1:  # checkpoints of other runs have the same names
        stem += f".{fingerprint[:6]}"
    directory.mkdir(parents=True, exist_ok=True)
    for name, lines in (("hypotheses", ours.hypotheses), ("references", ours.references)):
        write_text(directory / f"{stem}.{name}.txt", "".join(line + "\n" for line in lines))
    if recorded:
        add_to_run(directory, arguments.split, Path(arguments.path).name, scores)
        return
    # No run's record: an exported model, an ensemble, or another output directory.
    paths = ":".join(map(os.path.abspath, files))
    write_json(directory / f"{stem}.score.json", {"path": paths, "fingerprint": fingerprint, "figures": scores})


def _fingerprint(files: Sequence[Path]) -> str:
    fingerprints = [weights_fingerprint(read_checkpoint(file)["model"]) for file in files]
    return fingerprints[0] if len(files) == 1 else joint_fingerprint(fingerprints)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = OneLineParser(prog="python -m lskd_fairseq.score", **help_texts("--data DIR --path CHECKPOINT", __doc__))
    options.add_argument("--data", required=True, help="data directory that the model was trained on")
    options.add_argument("--path", required=True, help="checkpoint to score; several, joined by ':', are an ensemble")
    options.add_argument("--split", default="test", help="split to translate (default test)")
    options.add_argument("--against", help="another checkpoint: are the differences in BLEU and chrF significant?")
    options.add_argument("--beam", type=positive, default=5, help="width of the beam (default 5)")
    options.add_argument(
        "--lenpen", type=number(), default=1.0, help="length penalty: below 1 favours shorter translations (default 1)"
    )
    text.add_options(options)
    options.add_argument(
        "--output", type=Path, metavar="DIR", help="directory to write to (default: beside the checkpoint, its record)"
    )
    options.add_argument("--cpu", action="store_true", help="do not use a GPU")
    return options


if __name__ == "__main__":
    run_command(parser(), main)
