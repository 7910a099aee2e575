"""fairseq's options of --eval-bleu in our task: the same weights have fairseq's score, or a line says what is wrong."""

import json
import shutil

import pytest
from fairseq.tasks import setup_task
from fairseq.tasks.translation import TranslationConfig
from helpers.small_nmt import batch_of, make_criterion, make_model, make_task, save_checkpoint
from omegaconf import OmegaConf


def stock_task(data, **options):
    """fairseq's own translation task on a prepared data directory, with its validation split."""
    options |= {"data": str(data), "train_subset": "train", "dataset_impl": None, "required_seq_len_multiple": 1}
    task = setup_task(OmegaConf.structured(TranslationConfig(**options, _name="translation")))
    task.load_dataset("valid")
    return task


def scored(task, weights: dict) -> dict[str, float]:
    """The counts of BLEU that a task logs over its validation split, with these weights."""
    model = make_model(task)
    model.load_state_dict(weights)
    model.eval()
    task.get_batch_iterator(task.dataset("valid"), max_sentences=10)
    criterion = make_criterion(task)
    logs = [task.valid_step(batch_of(task, part), model, criterion)[2] for part in (range(10), range(10, 19))]
    return {key: float(sum(log[key] for log in logs)) for key in logs[0] if key.startswith("_bleu")}


PIECES = {"eval_bleu_remove_bpe": "sentencepiece"}
GERMAN = {"eval_bleu_detok": "moses", "eval_bleu_detok_args": '{"target_lang": "de"}'}


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        PIECES,
        {"eval_bleu_remove_bpe": "none"},
        {"eval_tokenized_bleu": True},
        PIECES | {"eval_tokenized_bleu": True},
        PIECES | {"eval_bleu_detok": "moses"},
        PIECES | GERMAN | {"eval_bleu_args": '{"beam": 2, "max_len_b": 9, "lenpen": 0.5}'},
    ],
)
def test_the_same_weights_have_the_score_of_fairseqs_own_task(data_bin, options):
    options = {"eval_bleu": True, "eval_bleu_args": '{"max_len_b": 8}'} | options
    ours, theirs = make_task(data_bin, **options), stock_task(data_bin, **options)
    weights = make_model(ours, scale=5).state_dict()
    expected = scored(theirs, weights)
    assert scored(ours, weights) == expected
    assert expected["_bleu_sys_len"] > 0


def test_without_them_bleu_is_of_detokenised_text_against_the_raw_references(data_bin, caplog):
    with caplog.at_level("INFO"):
        make_task(data_bin, eval_bleu=True)
    assert "BLEU on valid: of detokenised text (sentencepiece joined), against the raw references" in caplog.text
    with caplog.at_level("INFO"):
        make_task(data_bin, eval_bleu=True, **PIECES)
    assert "BLEU on valid: as fairseq's translation task measures it" in caplog.text


@pytest.mark.slow
def test_the_teachers_score_is_measured_and_remembered_as_the_students_is(data_bin, tmp_path):
    task = make_task(data_bin)
    path = save_checkpoint(tmp_path / "teacher.pt", make_model(task, seed=1), task)
    for options in ({}, {"eval_tokenized_bleu": True}):
        task = make_task(data_bin, **options)
        make_criterion(task, path)
        task.begin_epoch(1, make_model(task))
    plain, tokenised = json.loads((tmp_path / "teacher.pt.valid.json").read_text()).values()
    assert "tok:13a" in plain["signature"]
    assert "tok:none" in tokenised["signature"]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"eval_bleu_args": "beam 5"}, "--eval-bleu-args: beam 5 (must be a JSON object"),
        ({"eval_bleu_args": "[5]"}, "--eval-bleu-args: [5] (must be a JSON object)"),
        ({"eval_bleu_args": '{"len_pen": 1}'}, "(has len_pen, must have options of fairseq-generate)"),
        ({"eval_bleu_detok": "mosses"}, "--eval-bleu-detok: mosses (must be one of moses"),
        ({"eval_bleu_remove_bpe": "bpe"}, "--eval-bleu-remove-bpe: bpe (must be one of sentencepiece, @@"),
        ({"eval_bleu_detok_args": '{"target_lang": "de"}'}, "(must come with --eval-bleu-detok)"),
        (GERMAN | {"eval_bleu_detok_args": '{"lang": "de"}'}, "(has lang, must have options of the tokenizer moses)"),
        (GERMAN | {"eval_bleu_detok_args": "{"}, "--eval-bleu-detok-args: { (must be a JSON object"),
    ],
)
def test_what_fairseq_would_trip_over_or_pass_by_is_refused(data_bin, capsys, options, line):
    with pytest.raises(SystemExit) as left:
        make_task(data_bin, eval_bleu=True, **options)
    assert left.value.code == 2
    assert line in capsys.readouterr().err


def test_subwords_that_nobody_can_tell_are_refused_before_training_unless_they_are_named(data_bin, tmp_path, capsys):
    data = tmp_path / "data"
    shutil.copytree(data_bin, data)
    (data / "manifest.json").unlink()
    shutil.rmtree(data / "raw")
    for language in ("en", "de"):  # a third of the symbols gets the other kind's mark
        path = data / f"dict.{language}.txt"
        lines = path.read_text(encoding="utf-8").splitlines()
        path.write_text("".join(line.replace(" ", "@@ ") + "\n" for line in lines), encoding="utf-8")
    with pytest.raises(SystemExit):
        make_task(data, eval_bleu=True)
    assert "--eval-bleu-remove-bpe: not given" in capsys.readouterr().err
    make_task(data)
    make_task(data, eval_bleu=True, eval_bleu_remove_bpe="@@ ")
