r"""Translate every sentence of a split and score it, into the run's record.

    python -m lskd_fairseq.score --data data-bin/help.en-de --path runs/student/checkpoint_best.pt \
        --against runs/other/checkpoint_best.pt

Beside the checkpoint it leaves ``<split>.<checkpoint>.hypotheses.txt`` and ``.references.txt``, one sentence a line.
"""

import argparse
import dataclasses
import logging
from pathlib import Path

import sacrebleu
import torch
from sacrebleu.significance import PairedTest

from lskd.errors import OneLineParser, bad, positive, run_command
from lskd.files import write_json, write_text
from lskd.runs import read_run, write_run
from lskd.teacher import weights_fingerprint
from lskd_fairseq import text
from lskd_fairseq.checkpoints import build_model, own_task, read_checkpoint
from lskd_fairseq.splits import load_split
from lskd_fairseq.teacher_checks import PairedData, check_fit, say_once
from lskd_fairseq.translate import translate


def load(path: str, data: str, argument: str = "--path", pair: str | None = None):
    """A checkpoint's model and a task that reads ``data``.

    Args:
        path: the checkpoint.
        data: the data directory.
        argument: what errors call the checkpoint.
        pair: the languages that it must translate, ``en-de``; None: those that it was trained for.

    Raises:
        InputError: not a fairseq checkpoint, no data, or data that it does not fit.
    """
    state = read_checkpoint(path, argument)
    if not Path(data).is_dir():
        raise bad("--data", data or "''", "must be a directory made by fairseq-preprocess")
    for file in sorted(Path(data).glob("dict.*.txt")):
        text.load_dictionary(file)  # fairseq would end in a traceback
    task = own_task(path, state, data, argument)
    expected = PairedData.of(task)
    if doubt := check_fit(path, state, dataclasses.replace(expected, pair=pair or expected.pair), argument):
        say_once(doubt)
    return build_model(path, task, argument), task


def metrics(hypotheses: list[str], references: list[str], language: str) -> dict:
    """sacreBLEU and chrF with their signatures, and tokenised lower-cased BLEU as published IWSLT scores are."""
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


def significance(hypotheses: list[str], other: list[str], references: list[str]) -> dict:
    """Paired bootstrap resampling (1000 samples, seed 12345) of BLEU, the other system as the baseline."""
    test = PairedTest(
        [("against", other), ("path", hypotheses)],
        {"BLEU": sacrebleu.BLEU(references=[references])},
        references=None,
        test_type="bs",
        n_samples=1000,
    )
    against, ours = test()[1]["BLEU"]
    return {
        "bleu": round(ours.score, 2),
        "against_bleu": round(against.score, 2),
        "difference": round(ours.score - against.score, 2),
        # sacrebleu's formula gives its smallest p-value where nothing differs.
        "p_value": round(float(ours.p_value), 4) if ours.score != against.score else 1.0,
        "method": "paired bootstrap, 1000 resamples",
    }


def hypotheses_of(model, task, arguments: argparse.Namespace) -> tuple[list[str], list[str], str]:
    """Translate with one model: hypotheses, references, target language."""
    device = torch.device("cuda" if torch.cuda.is_available() and not arguments.cpu else "cpu")
    model.to(device)
    language = task.cfg.target_lang
    load_split(task, arguments.data, arguments.split)
    detokenise = text.Detokeniser(arguments.data, language, task.target_dictionary)
    references = text.references(arguments.data, arguments.split, language, task.dataset(arguments.split), detokenise)
    return translate([model], task, arguments.split, detokenise, arguments.beam), references, language


def main(arguments: argparse.Namespace) -> None:
    """Translate, score, record, print."""
    for noisy in ("fairseq", "sacrebleu"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    path = Path(arguments.path)
    record = read_run(path.parent)  # a broken record is noticed before the work, not after it
    model, task = load(arguments.path, arguments.data)
    against = arguments.against and load(arguments.against, arguments.data, "--against", PairedData.of(task).pair)
    hypotheses, references, language = hypotheses_of(model, task, arguments)
    figures = metrics(hypotheses, references, language) | {"beam": arguments.beam, "against": None}
    if against:
        other, _, _ = hypotheses_of(*against, arguments)
        figures["against"] = significance(hypotheses, other, references) | {"path": arguments.against}
    stem = f"{arguments.split}.{path.stem}"
    write_text(path.parent / f"{stem}.hypotheses.txt", "".join(line + "\n" for line in hypotheses))
    write_text(path.parent / f"{stem}.references.txt", "".join(line + "\n" for line in references))
    if record is not None:
        record.add_figures(arguments.split, path.name, figures)
        write_run(record, path.parent)
    else:  # a model without a run beside it, such as an exported one
        fingerprint = weights_fingerprint(read_checkpoint(arguments.path)["model"])
        write_json(
            path.parent / f"{stem}.score.json", {"path": path.name, "fingerprint": fingerprint, "figures": figures}
        )
    print(f"{arguments.path} on {arguments.split}, {figures['sentences']} sentences, beam {arguments.beam}")
    print(f"  BLEU  {figures['bleu']:6.2f}  {figures['bleu_signature']}")
    print(f"  chrF  {figures['chrf']:6.2f}  {figures['chrf_signature']}")
    print(f"  BLEU  {figures['tokenised_lowercased_bleu']:6.2f}  Moses-tokenised, lower-cased text")
    if against := figures["against"]:
        print(
            f"  against {arguments.against}: {against['against_bleu']:.2f} BLEU, difference "
            f"{against['difference']:+.2f}, p = {against['p_value']} ({against['method']})"
        )


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = OneLineParser(prog="python -m lskd_fairseq.score", description=__doc__.split("\n")[0])
    options.add_argument("--data", required=True, help="data directory that the model was trained on")
    options.add_argument("--path", required=True, help="checkpoint to score")
    options.add_argument("--split", default="test", help="split to translate (default test)")
    options.add_argument("--against", help="another checkpoint: is the difference in BLEU significant?")
    options.add_argument("--beam", type=positive, default=5, help="width of the beam (default 5)")
    options.add_argument("--cpu", action="store_true", help="do not use a GPU")
    return options


if __name__ == "__main__":
    run_command(parser(), main)
