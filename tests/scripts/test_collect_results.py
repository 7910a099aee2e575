"""Tables of results are collected from run directories, whole or beside those of other machines."""

import json
import shutil

import msgspec
import pytest
import sacrebleu
from collect_results import collect
from helpers.small_runs import CLASSES, add_representations, image_run, translation_run
from planned_tests import read_rows

from lskd.io.errors import InputError
from lskd.records.runs import read_run, write_run


def run_of(place, temperature, seed, top1=(50.0, 80.0), planned=None):
    """A student in ``place/letters``, an output of `lskd reproduce`, that had this top-1 after each epoch.

    It has had all of them, unless more were ``planned``.
    """
    (place / "data" / "letters").mkdir(parents=True, exist_ok=True)
    made = image_run(place.parent / f"made-{place.name}", temperature=temperature, seed=seed)
    epochs = [
        {"epoch": epoch, "updates": 10 * epoch, "seconds": 9.0 * epoch, "valid_top1": each, "valid_top5": 99.0}
        for epoch, each in enumerate(top1, 1)
    ]
    record = msgspec.structs.replace(read_run(made), history=epochs)
    record.configuration["host"]["epochs"] = planned or len(top1)
    place = place / "letters" / made.name
    place.mkdir(parents=True)
    write_run(record, place)


def columns(path, *names):
    return [tuple(row[name] for name in names) for row in read_rows(path)]


def test_a_row_is_the_last_epoch_of_a_run_and_every_epoch_has_its_own(tmp_path):
    run_of(tmp_path / "runs", 3, 11)
    run_of(tmp_path / "runs", 1, 11, (60.0, 85.0))
    collect(tmp_path / "runs", tmp_path / "tables")
    names = ("label_smoothing", "temperature", "seed", "epochs", "valid_top1")
    assert columns(tmp_path / "tables" / "students.csv", *names) == [
        ("0.1", "1", "11", "2", "85.0000"),
        ("0.1", "3", "11", "2", "80.0000"),
    ]
    found = columns(tmp_path / "tables" / "epochs.csv", "epoch", "valid_top1")
    assert found == [("1", "60.000"), ("2", "85.000"), ("1", "50.000"), ("2", "80.000")]


def test_a_translation_model_has_a_row_with_its_scores_and_its_validation_bleu_by_epoch(tmp_path):
    (tmp_path / "runs" / "data" / "help.en-de").mkdir(parents=True)
    run = translation_run(tmp_path / "made", temperature=64.0, bleu=12.5, seed=11)
    epochs = [{"epoch": each, "updates": 10 * each, "seconds": 9.0 * each, "valid_bleu": 2.0 * each} for each in (1, 2)]
    place = tmp_path / "runs" / "help.en-de.epochs-x4"
    shutil.copytree(run, place / run.name)
    write_run(msgspec.structs.replace(read_run(run), history=epochs), place / run.name)
    collect(tmp_path / "runs", tmp_path / "tables")
    names = ("run", "variant", "label_smoothing", "temperature", "seed", "bleu", "seconds")
    name = "help.en-de.epochs-x4/student_a0.1_T64_s11"
    assert columns(tmp_path / "tables" / "translations.csv", *names) == [
        (name, "epochs-x4", "0.1", "64", "11", "12.5", "18.0")
    ]
    found = columns(tmp_path / "tables" / "translations_epochs.csv", "run", "epoch", "valid_bleu")
    assert found == [(name, "1", "2.00"), (name, "2", "4.00")]


def test_translations_are_compared_with_those_at_t_1_of_the_same_data_sentence_by_sentence(tmp_path):
    references = [f"the cat number {each} sat on the mat" for each in range(40)]
    worse = [line.replace("cat", "dog") for line in references]
    for pair in ("en-de", "en-ru"):
        (tmp_path / "runs" / "data" / f"help.{pair}").mkdir(parents=True)
    for study, of_t in (
        ("en-de", {1.0: references, 64.0: worse}),
        ("en-de.match", {64.0: worse}),  # which is the plain one at T = 1
        ("en-de.epochs-x4-top-4", {64.0: worse}),  # which has another training there
        ("en-ru", {1.0: worse, 64.0: worse}),
    ):
        for T, hypotheses in of_t.items():
            made = translation_run(tmp_path / study, temperature=T, bleu=12.5, seed=11)
            run = tmp_path / "runs" / f"help.{study}" / made.name
            shutil.copytree(made, run)
            for name, lines in (("hypotheses", hypotheses), ("references", references)):
                (run / f"test.checkpoint_best.{name}.txt").write_text("".join(f"{line}\n" for line in lines))
    collect(tmp_path / "runs", tmp_path / "tables")
    names = ("run", "from", "bleu_difference", "bleu_p", "chrf_p")
    matched, german, russian = columns(tmp_path / "tables" / "translations_paired.csv", *names)
    assert german[:2] == ("help.en-de/student_a0.1_T64_s11", "help.en-de/student_a0.1_T1_s11")
    assert matched[:2] == ("help.en-de.match/student_a0.1_T64_s11", "help.en-de/student_a0.1_T1_s11")
    bleu = sacrebleu.corpus_bleu(worse, [references]).score
    assert float(german[2]) == pytest.approx(bleu - 100, abs=0.01)
    assert float(german[3]) < 0.001 > float(german[4])
    assert russian[2:] == ("0.00", "1.00000", "1.00000")


def test_runs_of_another_machine_are_added_and_those_of_the_same_name_replaced(tmp_path):
    tables = tmp_path / "tables"
    run_of(tmp_path / "one", 1, 11)
    run_of(tmp_path / "one", 1, 12)
    collect(tmp_path / "one", tables)
    run_of(tmp_path / "other", 1, 12, (60.0, 85.0, 86.0))
    run_of(tmp_path / "other", 1, 13)
    collect(tmp_path / "other", tables, add=True)
    names = ("seed", "valid_top1")
    assert columns(tables / "students.csv", *names) == [("11", "80.0000"), ("12", "86.0000"), ("13", "80.0000")]
    assert len(read_rows(tables / "epochs.csv")) == 2 + 3 + 2
    collect(tmp_path / "other", tables)
    assert columns(tables / "students.csv", *names) == [("12", "86.0000"), ("13", "80.0000")]


def test_a_training_that_has_not_ended_is_named_and_left_out(tmp_path, capsys):
    run_of(tmp_path / "runs", 1, 11)
    run_of(tmp_path / "runs", 1, 12, planned=3)
    collect(tmp_path / "runs", tmp_path / "tables")
    assert columns(tmp_path / "tables" / "students.csv", "seed") == [("11",)]
    assert {row["run"] for row in read_rows(tmp_path / "tables" / "epochs.csv")} == {"letters/student_net_a0.1_T1_s11"}
    assert "left out, as their training has not ended: letters/student_net_a0.1_T1_s12" in capsys.readouterr().err


def test_sets_of_other_classes_do_not_measure_a_run(tmp_path):
    runs = tmp_path / "runs"
    for T in (1, 3):
        run_of(runs, T, 11)
        add_representations(runs / "letters" / f"student_net_a0.1_T{T}_s11", 0.1, float(T))
    (runs / "results").mkdir()
    for first, measured in (("another class", 0), (CLASSES[0], 2)):
        sets = {first: {"similar": [CLASSES[1]], "dissimilar": [CLASSES[2]]}}
        (runs / "results" / "sets.json").write_text(json.dumps({"origin": {"by": "groups"}, "sets": sets}))
        collect(runs, tmp_path / "tables")
        assert len(read_rows(tmp_path / "tables" / "measures.csv")) == measured
        assert len(read_rows(tmp_path / "tables" / "eta.csv")) == measured // 2


@pytest.mark.parametrize("add", [False, True])
def test_no_table_is_touched_where_a_run_is_of_no_study(add, tmp_path):
    run_of(tmp_path / "runs", 1, 11)
    collect(tmp_path / "runs", tmp_path / "tables")
    image_run(tmp_path / "stray", temperature=3.0)
    with pytest.raises(InputError, match="must be an output of lskd reproduce"):
        collect(tmp_path / "stray", tmp_path / "tables", add=add)
    assert columns(tmp_path / "tables" / "students.csv", "seed") == [("11",)]
    assert len(read_rows(tmp_path / "tables" / "epochs.csv")) == 2


def test_no_table_is_touched_where_there_is_no_run_of_the_data_set(tmp_path):
    run_of(tmp_path / "runs", 1, 11)
    collect(tmp_path / "runs", tmp_path / "tables")
    with pytest.raises(InputError, match="must be of letters"):
        collect(tmp_path / "runs", tmp_path / "tables", "capitals")
    assert columns(tmp_path / "tables" / "students.csv", "seed") == [("11",)]
