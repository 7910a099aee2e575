"""Scoring and exporting what was trained."""

import json
import re
import shutil
from argparse import Namespace
from pathlib import Path

import pytest
import sacrebleu
import torch
from helpers.commands import last_line, run, train

from lskd.records.fingerprints import weights_fingerprint
from lskd_fairseq import score

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def student(data_bin, teacher, tmp_path_factory):
    """A student of the KD task, distilled for two epochs."""
    save_dir = tmp_path_factory.mktemp("student")
    train(data_bin, save_dir, "--task label_smoothed_kd --criterion kd --max-epoch 2 --teacher-path", teacher)
    return save_dir


def test_every_sentence_is_scored_against_the_raw_references(data_bin, student, teacher):
    path = student / "checkpoint_best.pt"
    shown = run("python -m lskd_fairseq.score --cpu --data", data_bin, "--path", path, "--against", teacher).stdout
    hypotheses = (student / "test.checkpoint_best.hypotheses.txt").read_text(encoding="utf-8").splitlines()
    references = (student / "test.checkpoint_best.references.txt").read_text(encoding="utf-8").splitlines()
    assert references == (data_bin / "raw" / "test.de").read_text(encoding="utf-8").splitlines()
    assert len(hypotheses) == len(references) == 33  # no multiple of 8, fairseq's default
    record = json.loads((student / "run.json").read_text())
    metrics = record["figures"]["test"]["checkpoint_best.pt"]
    assert metrics["bleu"] == pytest.approx(sacrebleu.corpus_bleu(hypotheses, [references]).score, abs=0.005)
    assert metrics["chrf"] == pytest.approx(sacrebleu.corpus_chrf(hypotheses, [references]).score, abs=0.005)
    assert "version:" in metrics["bleu_signature"]
    assert 0 <= metrics["tokenised_lowercased_bleu"] <= 100
    against = metrics["against"]
    for of, name in (("", "bleu"), ("chrf_", "chrf")):
        assert 0 < against[f"{of}p_value"] <= 1
        difference = against[name] - against[f"against_{name}"]
        assert against[f"{of}difference"] == pytest.approx(difference, abs=0.011)
        assert f"p = {against[f'{of}p_value']}" in shown
    assert len(record["history"]) == 2  # scoring leaves the rest of the record as it was
    assert f"BLEU  {metrics['bleu']:6.2f}" in shown


def test_a_model_against_itself_is_no_different(data_bin, student):
    path = student / "checkpoint_last.pt"
    run("python -m lskd_fairseq.score --cpu --split valid --data", data_bin, "--path", path, "--against", path)
    against = json.loads((student / "run.json").read_text())["figures"]["valid"]["checkpoint_last.pt"]["against"]
    assert against["difference"] == against["chrf_difference"] == 0
    assert against["p_value"] == against["chrf_p_value"] == 1.0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--path {data}/missing.pt --data {data}", "missing.pt"),
        ("--path {student} --data {data}/missing", "--data"),
        ("--path {student} --data {data} --split nonsense", "--split: nonsense"),
        ("--path {data}/manifest.json --data {data}", "cannot be read as a fairseq checkpoint"),
    ],
)
def test_scoring_what_is_not_there_ends_in_one_line(data_bin, student, options, words):
    command = "python -m lskd_fairseq.score --cpu " + options.format(
        data=data_bin, student=student / "checkpoint_best.pt"
    )
    refused = run(command, status=2)
    assert words in last_line(refused)
    assert "Traceback" not in refused.stderr


def test_stock_fairseq_generates_from_an_export_without_plugin_and_teacher(data_bin, student, teacher, tmp_path):
    out = tmp_path / "student.pt"
    run("python -m lskd_fairseq.export", student / "checkpoint_best.pt", out)
    state = torch.load(out, weights_only=True)  # in this process fairseq's types may be known as safe: none is needed
    assert "last_optimizer_state" not in state
    assert state.keys() == {"args", "cfg", "model", "optimizer_history", "extra_state", "lskd"}
    assert "Namespace" not in repr(state["cfg"])
    assert state["cfg"].keys() == {"task", "model"}
    assert state["lskd"]["configuration"]["temperature"] == 1.0
    text = run(
        "fairseq-generate",
        data_bin,
        "--path",
        out,
        "--cpu --beam 5 --max-len-a 1.2 --max-len-b 10 --remove-bpe sentencepiece",
        "--required-batch-size-multiple 1 --gen-subset test",
        cwd=tmp_path,
        PYTHONPATH="",
    ).stdout
    generated = dict(re.findall(r"^H-(\d+)\t\S+\t(.*)$", text, re.MULTILINE))
    assert len(generated) == 33
    run("python -m lskd_fairseq.score --cpu --data", data_bin, "--path", out)
    ours = (tmp_path / "test.student.hypotheses.txt").read_text(encoding="utf-8").splitlines()
    plain = [line.replace("⁇", "<unk>") for line in ours]
    assert [generated[str(index)] for index in range(33)] == plain


GENERATE = """
import sys
from fairseq_cli.generate import cli_main
_, data, *paths = sys.argv
for path in paths:
    options = "--cpu --beam 5 --max-len-a 1.2 --max-len-b 10 --remove-bpe sentencepiece --gen-subset valid"
    options += " --required-batch-size-multiple 1"
    sys.argv = ["fairseq-generate", data, "--path", path, *options.split()]
    print("FILE", path)
    cli_main()
"""


def test_stock_fairseq_generates_from_exports_of_other_architectures(data_bin, tmp_path):
    """Convolutions of one layer and of two, dynamic or not, and a Transformer with alignments: our own translations."""
    from helpers.small_nmt import make_model, make_task, save_checkpoint

    from lskd_fairseq.export import export

    kernels = {"weight_softmax": True, "encoder_conv_type": "lightweight", "decoder_conv_type": "dynamic"}
    two = {f"{side}_{name}": value for side in ("encoder", "decoder") for name, value in TWO_LAYERS.items()}
    one = {f"{side}_kernel_size_list": [3] for side in ("encoder", "decoder")}
    task = make_task(data_bin)
    ours = {}
    for name, options in (
        ("one", {"arch": "lightconv"} | kernels | one),
        ("two", {"arch": "lightconv"} | kernels | two),
        ("align", {"arch": "transformer_align"}),
    ):
        model = make_model(task, **options)
        model.args._name = model.args.arch  # as fairseq has it
        path = save_checkpoint(tmp_path / f"{name}.pt", model, task)
        export(str(path), tmp_path / f"{name}-export.pt")
        again = tmp_path / f"{name}-export-export.pt"
        export(str(tmp_path / f"{name}-export.pt"), again)
        ours[str(again)] = path
    text = run("python -c", GENERATE, data_bin, *ours, cwd=tmp_path, PYTHONPATH="").stdout
    for part in text.split("FILE ")[1:]:
        generated = dict(re.findall(r"^H-(\d+)\t\S+\t(.*)$", part, re.MULTILINE))
        path = ours[part.split("\n")[0]]
        hypotheses = scored(data_bin, path, tmp_path / path.stem)
        assert [generated[str(index)] for index in range(19)] == [line.replace("⁇", "<unk>") for line in hypotheses]
    assert text.count("FILE ") == 3


TWO_LAYERS = {"layers": 2, "kernel_size_list": [3, 5]}


def scored(data: Path, path: Path | str, output: Path, *options: str) -> list[str]:
    """The hypotheses of ``lskd_fairseq.score``, run in this process, on the validation split."""
    words = ["--cpu", "--data", str(data), "--path", str(path), "--split", "valid", "--output", str(output), *options]
    score.main(score.parser().parse_args(words))
    (file,) = output.glob("*.hypotheses.txt")
    return file.read_text(encoding="utf-8").split("\n")[:-1]


def test_an_ensemble_averages_probabilities_and_its_score_is_no_runs(data_bin, student, teacher, tmp_path, capsys):
    """Two copies of a model are that model; two models translate as fairseq has them do, in any order."""
    from fairseq import checkpoint_utils

    best = student / "checkpoint_best.pt"
    before = (student / "run.json").read_bytes()
    alone = scored(data_bin, best, tmp_path / "alone")
    assert scored(data_bin, f"{best}:{best}", tmp_path / "twice") == alone
    both = scored(data_bin, f"{best}:{teacher}", tmp_path / "both")
    said = capsys.readouterr().out
    assert f"{best}:{teacher} on valid, 19 sentences, beam 5" in said
    assert "of detokenised text (sentencepiece joined), against the raw references" in said
    models, _, task = checkpoint_utils.load_model_ensemble_and_task(
        [str(teacher), str(best)], arg_overrides={"data": str(data_bin), "eval_bleu": False}
    )
    task.load_dataset("valid")
    generator = task.build_generator(models, Namespace(beam=5, max_len_a=1.2, max_len_b=10))
    for number in range(19):
        batch = task.dataset("valid").collater([task.dataset("valid")[number]])
        tokens = task.inference_step(generator, models, batch)[0][0]["tokens"]
        assert both[number] == task.target_dictionary.string(tokens, "sentencepiece", unk_string="⁇")
    assert (student / "run.json").read_bytes() == before
    (file,) = (tmp_path / "both").glob("*.score.json")
    metrics = json.loads(file.read_text())
    assert file.name == f"valid.checkpoint_best+checkpoint_best.{metrics['fingerprint'][:6]}.score.json"
    assert metrics["path"] == f"{best}:{teacher}"
    assert metrics["figures"]["sentences"] == 19
    (other,) = (tmp_path / "twice").glob("*.score.json")
    assert other.name != file.name  # neither replaces the other's where both are written to one directory


def test_a_score_is_of_the_weights_that_translated_whatever_replaces_the_file_meanwhile(
    data_bin, student, teacher, tmp_path, monkeypatch
):
    path = shutil.copy(student / "checkpoint_best.pt", tmp_path / "copy.pt")
    expected = weights_fingerprint(torch.load(path, weights_only=False)["model"])
    translate = score.translate

    def after_replacement(*arguments):
        shutil.copy(teacher, path)
        return translate(*arguments)

    monkeypatch.setattr(score, "translate", after_replacement)
    scored(data_bin, path, tmp_path / "out")
    (file,) = (tmp_path / "out").glob("*.score.json")
    assert json.loads(file.read_text())["fingerprint"] == expected
    assert weights_fingerprint(torch.load(path, weights_only=False)["model"]) != expected


def test_a_length_penalty_changes_the_search_as_in_fairseq(data_bin, student, tmp_path):
    lengths = {}
    for lenpen in ("-2", "4"):
        lines = scored(data_bin, student / "checkpoint_last.pt", tmp_path / lenpen, f"--lenpen={lenpen}")
        lengths[lenpen] = sum(map(len, lines))
    assert lengths["-2"] < lengths["4"]


def test_an_export_is_a_teacher(data_bin, student, tmp_path):
    run("python -m lskd_fairseq.export", student / "checkpoint_best.pt", tmp_path / "teacher.pt")
    train(data_bin, tmp_path / "run", "--criterion kd --max-update 2 --teacher-path", tmp_path / "teacher.pt")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert "unknown" in record["teacher"]["label_smoothing"]["source"]


def test_an_export_overwrites_nothing(student, tmp_path):
    out = tmp_path / "student.pt"
    out.write_text("precious")
    refused = run("python -m lskd_fairseq.export", student / "checkpoint_best.pt", out, status=2)
    assert "exists" in last_line(refused)
    assert out.read_text() == "precious"


def test_plain_fairseq_generates_from_a_training_checkpoint_with_the_user_dir(data_bin, student, tmp_path):
    copy = shutil.copy(student / "checkpoint_best.pt", tmp_path)
    text = run(
        "fairseq-generate",
        data_bin,
        "--path",
        copy,
        "--cpu --gen-subset valid --remove-bpe sentencepiece --beam 1",
        "--task label_smoothed_kd --user-dir lskd_fairseq",
    ).stdout
    assert len(re.findall(r"^H-", text, re.MULTILINE)) == 19  # with stock fairseq's default, 16


def test_a_student_that_was_trained_without_the_plugin_can_be_scored(data_bin, teacher):
    run("python -m lskd_fairseq.score --cpu --beam 1 --data", data_bin, "--path", teacher)
    metrics = json.loads((teacher.parent / "test.checkpoint_best.score.json").read_text())["figures"]
    assert metrics["sentences"] == 33
