import argparse
import json

import pytest
import sacrebleu
import torch
from fairseq.tasks import TASK_REGISTRY
from fairseq.tasks.translation import TranslationTask
from helpers.small_nmt import batch_of, make_criterion, make_model, make_task, save_checkpoint

from lskd_fairseq.run_record import data_fingerprint


@pytest.fixture
def task(data_bin):
    return make_task(data_bin, eval_bleu=True)


def test_both_names_are_the_same_task():
    assert issubclass(TASK_REGISTRY["translation_kd"], TASK_REGISTRY["label_smoothed_kd"])


def test_no_sentence_is_left_out_of_validation_where_fairseq_drops_the_last(task):
    dataset = task.dataset("valid")

    def sentences(get_batch_iterator):
        batches = get_batch_iterator(dataset=dataset, max_sentences=16, required_batch_size_multiple=8).next_epoch_itr()
        return sum(batch["nsentences"] for batch in batches)

    assert sentences(
        lambda **options: TranslationTask.get_batch_iterator(task, disable_iterator_cache=True, **options)
    ) < len(dataset)
    assert sentences(task.get_batch_iterator) == len(dataset)


def test_sentences_that_are_too_long_are_not_skipped_in_validation(task, capsys):
    with pytest.raises(SystemExit) as left:
        task.get_batch_iterator(
            dataset=task.dataset("valid"), max_sentences=4, max_positions=(3, 3), ignore_invalid_inputs=True
        )
    assert left.value.code == 2
    assert "sentences are longer than the model's (3, 3) tokens" in capsys.readouterr().err


def test_training_batches_are_fairseqs_own(task):
    task.load_dataset("train")
    dataset = task.dataset("train")
    options = {"max_tokens": 400, "required_batch_size_multiple": 8, "disable_iterator_cache": True}
    ours = task.get_batch_iterator(dataset, **options).frozen_batches
    stock = TranslationTask.get_batch_iterator(task, dataset, **options).frozen_batches
    assert [batch.tolist() for batch in ours] == [batch.tolist() for batch in stock]


def test_validation_bleu_is_of_detokenised_text_against_the_raw_references(task, data_bin, monkeypatch):
    """A model that outputs the reference's own symbols, in batches of any order, has the BLEU of the decoded text."""
    model, criterion, dataset = make_model(task), make_criterion(task), task.dataset("valid")
    task.get_batch_iterator(dataset, max_sentences=8)
    monkeypatch.setattr(
        task, "inference_step", lambda _, __, batch, **___: [[{"tokens": dataset.tgt[i]}] for i in batch["id"].tolist()]
    )
    model.eval()
    parts = ([4, 2, 0], [1, 3, *range(5, len(dataset))])
    logs = [task.valid_step(batch_of(task, part), model, criterion)[2] for part in parts]
    raw = (data_bin / "raw" / "valid.de").read_text(encoding="utf-8").splitlines()
    expected = sacrebleu.corpus_bleu([task.decoder("valid")(dataset.tgt[i]) for i in range(len(dataset))], [raw])
    assert expected.score > 90
    assert sum(log["_bleu_sys_len"] for log in logs) == expected.sys_len
    assert sum(log["_bleu_ref_len"] for log in logs) == expected.ref_len
    for n in range(4):
        assert sum(log[f"_bleu_counts_{n}"] for log in logs) == expected.counts[n]


def test_the_references_decode_to_what_the_data_holds(task, data_bin):
    raw = (data_bin / "raw" / "valid.de").read_text(encoding="utf-8").splitlines()
    decoded = [task.decoder("valid")(task.dataset("valid").tgt[index]) for index in range(len(raw))]
    matching = sum(a == b for a, b in zip(raw, decoded, strict=True))
    assert matching >= 0.9 * len(raw)  # characters that the training split lacks are unknown


def test_the_teacher_is_scored_once_and_remembered_beside_its_checkpoint(data_bin, task, tmp_path, monkeypatch):
    path = save_checkpoint(tmp_path / "teacher.pt", make_model(task, seed=1), task)
    make_criterion(task, path)
    student = make_model(task)
    state = torch.get_rng_state()
    task.begin_epoch(1, student)
    assert torch.equal(torch.get_rng_state(), state)
    scores = task.teacher_scores
    assert scores.keys() == {"bleu", "signature", "nll_loss"}
    assert scores["nll_loss"] > 0
    (remembered,) = json.loads((tmp_path / "teacher.pt.valid.json").read_text()).values()
    assert remembered.pop("smoothing_estimate")["verdict"] in ("smoothed", "not smoothed", "cannot tell")
    assert remembered == scores

    again = make_task(data_bin, eval_bleu=True)
    make_criterion(again, path)
    monkeypatch.setattr(again, "_measure_teacher", lambda teacher, like: pytest.fail("scored again"))
    again.begin_epoch(1, student)
    assert again.teacher_scores == scores


def test_an_estimate_of_an_earlier_rule_is_made_again(data_bin, task, tmp_path, monkeypatch):
    key = f"teacher {data_fingerprint([str(data_bin)])}"
    earlier = {"alpha": 0.1, "low": 0.05, "high": 0.2, "verdict": "smoothed", "reason": "a floor"}
    scores = {"bleu": 1.5, "signature": "nrefs:1", "nll_loss": 3.0}
    remembered = json.dumps({key: scores | {"smoothing_estimate": earlier}})
    (tmp_path / "teacher.pt.valid.json").write_text(remembered)
    task.teacher = argparse.Namespace(paths=[str(tmp_path / "teacher.pt")], models=[], fingerprint="teacher")
    assert task._score_teacher(task.teacher, torch.zeros(1)) == scores  # of a cached teacher, which cannot be asked
    task.teacher.models = [None]
    monkeypatch.setattr(task, "_measure_teacher", lambda teacher, like: {"bleu": 2.5})
    assert task._score_teacher(task.teacher, torch.zeros(1)) == {"bleu": 2.5}


@pytest.mark.parametrize("content", ["[]", "3", '{"KEY": 3}', '{"KEY": {"bleu": "a"}}', "[" * 100_000])
def test_scores_that_are_none_are_not_remembered(data_bin, task, tmp_path, monkeypatch, content):
    key = f"teacher {data_fingerprint([str(data_bin)])}"
    (tmp_path / "teacher.pt.valid.json").write_text(content.replace("KEY", key))
    task.teacher = argparse.Namespace(paths=[str(tmp_path / "teacher.pt")], models=[None], fingerprint="teacher")
    monkeypatch.setattr(task, "_measure_teacher", lambda teacher, like: {"bleu": 1.5})
    assert task._score_teacher(task.teacher, torch.zeros(1)) == {"bleu": 1.5}
    assert json.loads((tmp_path / "teacher.pt.valid.json").read_text()) == {key: {"bleu": 1.5}}


@pytest.mark.slow
def test_another_teacher_under_the_same_name_is_scored_anew(data_bin, task, tmp_path):
    scores = []
    for seed in (1, 2):
        path = save_checkpoint(tmp_path / "teacher.pt", make_model(task, seed=seed), task)
        fresh = make_task(data_bin)
        make_criterion(fresh, path)
        fresh.begin_epoch(1, make_model(fresh))
        scores.append(fresh.teacher_scores["nll_loss"])
    assert scores[0] != scores[1]


@pytest.mark.parametrize("scale", [3, 1000])  # with the second, probabilities are too small for float32
def test_the_teachers_loss_on_valid_is_that_of_its_own_probabilities(data_bin, tmp_path, scale):
    task = make_task(data_bin)
    teacher = make_model(task, seed=1, scale=scale).eval()
    make_criterion(task, save_checkpoint(tmp_path / "teacher.pt", teacher, task))
    task.begin_epoch(1, make_model(task))
    batch = batch_of(task, list(range(len(task.dataset("valid")))))
    log_p = torch.log_softmax(teacher(**batch["net_input"])[0].double(), -1)
    keep = batch["target"].ne(task.tgt_dict.pad())
    nll = -log_p.gather(-1, batch["target"][..., None])[..., 0][keep].mean() / torch.tensor(2.0).log()
    assert task.teacher_scores["nll_loss"] == pytest.approx(nll.item(), rel=1e-5, abs=1e-3)


def test_a_teacher_that_gives_a_token_of_valid_no_probability_is_refused_in_one_line(task, tmp_path, capsys):
    path = save_checkpoint(tmp_path / "teacher.pt", make_model(task, seed=1), task)
    make_criterion(task, path)
    (teacher,) = task.teacher.models
    masked = task.dataset("valid").tgt[0][0].item()
    layer = teacher.decoder.output_projection
    layer.register_forward_hook(lambda _, __, logits: logits.index_fill(-1, torch.tensor([masked]), -torch.inf))
    with pytest.raises(SystemExit) as left:
        task.begin_epoch(1, make_model(task))
    assert left.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"--teacher-path: {path} (must have a finite loss on valid" in line
    assert not (tmp_path / "teacher.pt.valid.json").exists()


def test_a_reference_file_with_another_number_of_lines_is_refused(data_bin, tmp_path, capsys):
    import shutil

    copy = tmp_path / "data"
    shutil.copytree(data_bin, copy)
    (copy / "raw" / "valid.de").write_text("ein Satz\n", encoding="utf-8")
    with pytest.raises(SystemExit) as left:
        make_task(copy)
    assert left.value.code == 2
    assert "has 1 lines" in capsys.readouterr().err
