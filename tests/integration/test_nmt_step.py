"""The step that training takes does not depend on how its batch was put together."""

import json
import re
import shutil
from pathlib import Path

import pytest
import sentencepiece
import torch
from helpers.commands import SMALL, distribution, run, two_processes, weights

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def sixteen(data_bin, tmp_path_factory) -> Path:
    """The data directory with a train split of 16 sentences: one batch, two of 8, or one of 8 a process."""
    directory = tmp_path_factory.mktemp("sixteen")
    processor = sentencepiece.SentencePieceProcessor(model_file=str(data_bin / "sentencepiece.model"))
    for language in ("en", "de"):
        lines = (data_bin / "raw" / f"train.{language}").read_text(encoding="utf-8").splitlines()[:16]
        pieces = "".join(" ".join(words) + "\n" for words in processor.encode(lines, out_type=str))
        (directory / f"train.{language}").write_text(pieces, encoding="utf-8")
    dictionaries = ["--srcdict", data_bin / "dict.en.txt", "--tgtdict", data_bin / "dict.de.txt"]
    run(
        "fairseq-preprocess -s en -t de --trainpref", directory / "train", *dictionaries, "--destdir", directory / "bin"
    )
    shutil.copytree(data_bin, directory / "data")
    for file in (directory / "bin").glob("train*"):
        shutil.copy(file, directory / "data")
    return directory / "data"


@pytest.mark.parametrize("average", ["tokens", "sentences"])
def test_one_big_batch_accumulated_batches_and_two_processes_agree(sixteen, teacher, tmp_path, average):
    """One step of plain gradient descent: the change of the weights is the gradient."""
    common = SMALL.replace("--optimizer adam --lr 3e-3 --max-tokens 1000", "--optimizer sgd --lr 1")
    common += (
        f" --user-dir lskd_fairseq --dropout 0 --max-update 1 --criterion kd --temperature 2 --teacher-path {teacher}"
    )
    common += " --sentence-avg" if average == "sentences" else ""

    def step(name: str, options: str) -> tuple[torch.Tensor, dict]:
        command = f"fairseq-train {sixteen} --save-dir {tmp_path / name} {common} {options}"
        output = two_processes(command) if "distributed" in options else run(command).stdout
        metrics = json.loads("{" + re.search(r"\| train \| \{(.*)", output)[1])
        return weights(tmp_path / name / "checkpoint_last.pt"), {k: float(v) for k, v in metrics.items() if "loss" in k}

    distributed = f"{distribution()} --batch-size 8"
    start, _ = step("start", "--batch-size 16 --lr 0")
    whole, expected = step("whole", "--batch-size 16")
    assert (whole - start).norm() > 0
    for name, options in (("accumulated", "--batch-size 8 --update-freq 2"), ("processes", distributed)):
        found, metrics = step(name, options)
        assert (found - whole).norm() <= 1e-5 * (whole - start).norm(), name
        assert metrics.keys() >= {"train_loss", "train_kd_loss", "train_nll_loss"}
        assert metrics == pytest.approx(expected, abs=1.1e-3), name  # printed to three decimals
