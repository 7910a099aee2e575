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


@pytest.fixture(scope="module")
def step(sixteen, teacher, tmp_path_factory):
    """The weights after one step of plain gradient descent, whose change is the gradient; and what was logged."""
    common = SMALL.replace("--optimizer adam --lr 3e-3 --max-tokens 1000", "--optimizer sgd --lr 1")
    common += f" --user-dir lskd_fairseq --dropout 0 --max-update 1 --criterion kd --teacher-path {teacher}"

    def step(options: str) -> tuple[torch.Tensor, dict]:
        save_dir = tmp_path_factory.mktemp("step")
        command = f"fairseq-train {sixteen} --save-dir {save_dir} {common} {options}"
        output = two_processes(command) if "distributed" in options else run(command).stdout
        metrics = json.loads("{" + re.search(r"\| train \| \{(.*)", output)[1])
        kept = {name: float(value) for name, value in metrics.items() if "loss" in name or "ratio" in name}
        return weights(save_dir / "checkpoint_last.pt"), kept

    return step


@pytest.fixture(scope="module")
def start(step) -> torch.Tensor:
    """The weights before the step."""
    return step("--batch-size 16 --temperature 2 --lr 0")[0]


@pytest.mark.parametrize("average", ["tokens", "sentences"])
def test_one_big_batch_accumulated_batches_and_two_processes_agree(step, start, average):
    settings = "--temperature 2" + (" --sentence-avg" if average == "sentences" else "")
    whole, expected = step(f"{settings} --batch-size 16")
    assert (whole - start).norm() > 0
    for options in ("--batch-size 8 --update-freq 2", f"{distribution()} --batch-size 8"):
        found, metrics = step(f"{settings} {options}")
        assert (found - whole).norm() <= 1e-5 * (whole - start).norm(), options
        assert metrics.keys() >= {"train_loss", "train_kd_loss", "train_nll_loss"}
        ratio = metrics.pop("train_kd_gradient_ratio")  # of some rows of each batch
        assert ratio == pytest.approx(expected["train_kd_gradient_ratio"], rel=0.1), options
        others = {name: value for name, value in expected.items() if name != "train_kd_gradient_ratio"}
        assert metrics == pytest.approx(others, abs=1.1e-3), options  # printed to three decimals


def test_two_processes_match_the_gradient_of_one_big_batch(step, start):
    """And accumulated batches are each matched by itself."""
    settings = "--temperature 16 --kd-gradient-scale match"
    whole, expected = step(f"{settings} --batch-size 16")
    processes, metrics = step(f"{settings} {distribution()} --batch-size 8")
    assert (processes - whole).norm() <= 1e-5 * (whole - start).norm()
    assert metrics == pytest.approx(expected, abs=1.1e-3)
    assert metrics["train_kd_gradient_ratio"] == 1
    accumulated, _ = step(f"{settings} --batch-size 8 --update-freq 2")
    assert (accumulated - whole).norm() > 1e-4 * (whole - start).norm()
