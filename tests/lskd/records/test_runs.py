import csv
import json
import os
import platform
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from lskd.io.errors import InputError
from lskd.records import provenance
from lskd.records.runs import (
    SCHEMA_VERSION,
    RunRecord,
    add_to_run,
    read_run,
    teacher_smoothing,
    write_run,
    write_training_record,
)


def make_record(**changes):
    values = {
        "configuration": {"temperature": 2.0, "kd_weight": 1.0, "host": {"arch": "größe"}},
        "seed": 7,
        "data": {"path": "/data/en-de", "fingerprint": "0" * 64},
    }
    return RunRecord(**values | changes)


def content_of(directory):
    return json.loads((directory / "run.json").read_text(encoding="utf-8"))


def test_a_record_comes_back_as_it_was_written(tmp_path):
    teacher = {"path": "teacher.pt", "fingerprint": "1" * 64, "label_smoothing": {"value": 0.1, "source": "checkpoint"}}
    record = make_record(teacher=teacher, command=["train", "--seed", "7"], warnings=["one GPU of two was used"])
    record.add_validation({"updates": 10, "nll_loss": 0.1 + 0.2, "accuracy": None})
    record.add_metrics("test", "checkpoint_best.pt", {"bleu": 34.5})
    write_run(record, tmp_path)
    assert read_run(tmp_path) == record


def test_what_is_written_is_readable_json_in_utf8(tmp_path):
    write_run(make_record(), tmp_path)
    text = (tmp_path / "run.json").read_bytes().decode("utf-8")
    assert "größe" in text
    assert text.count("\n") > 10
    assert text.endswith("}\n")


def test_there_is_no_record_in_a_directory_without_one(tmp_path):
    assert read_run(tmp_path) is None
    assert read_run(tmp_path / "nowhere") is None


def test_a_record_says_where_and_with_what_it_was_made():
    record = make_record()
    assert record.versions["python"] == platform.python_version()
    assert torch.__version__.startswith(record.versions["torch"])
    assert record.hardware["cores"] >= 1
    assert record.hardware["processor"]
    assert record.hardware["threads"] == torch.get_num_threads()
    assert len(record.hardware["gpus"]) == torch.cuda.device_count()
    assert record.started.endswith("+00:00")
    assert record.schema_version == 1


def test_packages_that_are_not_installed_are_left_out(monkeypatch):
    monkeypatch.setattr(provenance, "PACKAGES", ("torch", "no-such-package"))
    assert set(provenance.versions()) == {"python", "torch"}


def test_a_record_has_the_command_that_was_typed(monkeypatch):
    monkeypatch.setattr("sys.argv", ["/usr/bin/fairseq-train", "data", "--seed", "7"])
    assert make_record().command == ["fairseq-train", "data", "--seed", "7"]


def test_writing_sets_the_time_of_the_update_and_leaves_that_of_the_start(tmp_path):
    record = make_record(started="2020-01-01T00:00:00+00:00", updated="2020-01-01T00:00:00+00:00")
    write_run(record, tmp_path)
    assert content_of(tmp_path)["started"] == "2020-01-01T00:00:00+00:00"
    assert content_of(tmp_path)["updated"] > "2025"


def test_two_records_share_nothing():
    one, other = make_record(), make_record()
    one.add_validation({"updates": 1})
    one.add_metrics("test", "best", {"bleu": 1.0})
    one.warnings.append("a warning")
    assert (other.history, other.metrics, other.warnings) == ([], {}, [])


def test_a_resumed_run_replaces_validations_of_the_same_and_of_later_updates():
    record = make_record()
    for updates in (100, 200, 300, 400):
        record.add_validation({"updates": updates, "nll_loss": 1.0})
    record.add_validation({"updates": 300, "nll_loss": 2.0})
    assert record.history == [
        {"updates": 100, "nll_loss": 1.0},
        {"updates": 200, "nll_loss": 1.0},
        {"updates": 300, "nll_loss": 2.0},
    ]
    record.add_validation({"updates": 400, "nll_loss": 2.0})
    assert [row["updates"] for row in record.history] == [100, 200, 300, 400]


def test_a_run_resumed_from_its_files_does_not_double_its_history(tmp_path):
    for _ in range(2):
        record = read_run(tmp_path) or make_record()
        for updates in (100, 200):
            record.add_validation({"updates": updates, "nll_loss": 1.5})
            write_run(record, tmp_path)
    assert [row["updates"] for row in read_run(tmp_path).history] == [100, 200]
    assert (tmp_path / "summary.csv").read_text() == "updates,nll_loss\n100,1.5\n200,1.5\n"


def test_the_summary_has_a_row_for_each_validation_and_a_column_for_each_figure(tmp_path):
    record = make_record()
    record.add_validation({"updates": 1, "nll_loss": 2.5})
    record.add_validation({"updates": 2, "nll_loss": 1.25, "accuracy": 0.5})
    write_run(record, tmp_path)
    with open(tmp_path / "summary.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert rows == [
        {"updates": "1", "nll_loss": "2.5", "accuracy": ""},
        {"updates": "2", "nll_loss": "1.25", "accuracy": "0.5"},
    ]


def test_there_is_no_summary_before_the_first_validation(tmp_path):
    write_run(make_record(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_figures_of_the_same_checkpoint_are_merged():
    record = make_record()
    record.add_metrics("test", "checkpoint_best.pt", {"bleu": 30.0, "nll_loss": 2.0})
    record.add_metrics("test", "checkpoint_best.pt", {"bleu": 31.0, "chrf": 50.0})
    record.add_metrics("test", "checkpoint_last.pt", {"bleu": 29.0})
    record.add_metrics("valid", "checkpoint_best.pt", {"bleu": 33.0})
    assert record.metrics == {
        "test": {
            "checkpoint_best.pt": {"bleu": 31.0, "nll_loss": 2.0, "chrf": 50.0},
            "checkpoint_last.pt": {"bleu": 29.0},
        },
        "valid": {"checkpoint_best.pt": {"bleu": 33.0}},
    }


def test_figures_given_to_a_record_stay_the_callers_own():
    record, metrics = make_record(), {"bleu": 30.0}
    record.add_metrics("test", "best", metrics)
    record.add_metrics("test", "best", {"chrf": 50.0})
    assert metrics == {"bleu": 30.0}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_figure_that_is_no_number_is_refused_and_the_old_record_stays(tmp_path, value):
    record = make_record()
    record.add_validation({"updates": 1, "nll_loss": 2.0})
    write_run(record, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    record.add_validation({"updates": 2, "nll_loss": value})
    with pytest.raises(ValueError, match="JSON compliant"):
        write_run(record, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_interrupted_write_leaves_the_old_record_whole_and_nothing_beside_it(tmp_path, monkeypatch):
    record = make_record()
    record.add_validation({"updates": 1, "nll_loss": 2.0})
    write_run(record, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    record.add_validation({"updates": 2, "nll_loss": 1.0})
    with pytest.raises(KeyboardInterrupt):
        write_run(record, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    monkeypatch.undo()
    assert len(read_run(tmp_path).history) == 1


def test_a_kill_between_the_two_files_leaves_the_record_behind_and_not_the_table(tmp_path, monkeypatch):
    record = make_record(history=[{"updates": 1, "nll_loss": 2.0}])
    write_run(record, tmp_path)
    replace, calls = os.replace, []

    def killed_at_the_second(*paths):
        calls.append(paths)
        if len(calls) == 2:
            raise KeyboardInterrupt
        replace(*paths)

    monkeypatch.setattr(os, "replace", killed_at_the_second)
    record.add_validation({"updates": 2, "nll_loss": 1.0})
    with pytest.raises(KeyboardInterrupt):
        write_run(record, tmp_path)
    assert len(read_run(tmp_path).history) == 1
    assert len((tmp_path / "summary.csv").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "must be JSON"),
        ('{"seed": 1', "must be JSON"),
        (b"\xff\xfe{}", "must be JSON"),
        ("[]", "content (must be an object, not a list)"),
        ("null", "content (must be an object, not null)"),
        ("{}", "content (must have the field schema_version)"),
        ('{"schema_version": "1"}', "schema_version (must be a whole number, not text)"),
        ('{"schema_version": 1}', "content (must have the field configuration)"),
        ('{"schema_version": 1, "configuration": {}, "data": {}}', "content (must have the field seed)"),
        ('{"schema_version": 2}', "has schema version 2, this version of lskd reads up to 1"),
    ],
)
def test_what_is_not_a_record_is_refused_in_one_line_that_names_the_file(tmp_path, text, complaint):
    (tmp_path / "run.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError) as error:
        read_run(tmp_path)
    message = str(error.value)
    assert str(tmp_path / "run.json") in message
    assert complaint in message
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [("top1", 100.1), ("top5", -1), ("bleu", 1e9), ("tokenised_lowercased_bleu", "x"), ("samples", -5)],
)
def test_a_figure_that_cannot_be_is_refused(name, value, tmp_path):
    write_run(make_record(metrics={"valid": {"last": {name: value}}}), tmp_path)
    with pytest.raises(InputError, match=rf"run.json: figures of valid: {name} \(must be a number"):
        read_run(tmp_path)


def test_a_newer_version_is_refused_though_the_rest_can_be_read(tmp_path):
    write_run(make_record(schema_version=SCHEMA_VERSION + 1), tmp_path)
    with pytest.raises(InputError, match="schema version"):
        read_run(tmp_path)


def test_keys_that_this_version_does_not_know_are_passed_over(tmp_path):
    record = make_record()
    write_run(record, tmp_path)
    (tmp_path / "run.json").write_text(json.dumps(content_of(tmp_path) | {"a later thing": 1}), encoding="utf-8")
    assert read_run(tmp_path) == record


def test_a_directory_that_is_not_there_cannot_be_written_to(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_run(make_record(), tmp_path / "nowhere")
    assert list(tmp_path.iterdir()) == []


def git_checkout(directory):
    git = ["git", "-C", str(directory), "-c", "user.name=n", "-c", "user.email=e@example.org"]
    (directory / "lskd" / "records").mkdir(parents=True)
    source = directory / "lskd" / "records" / "runs.py"
    source.write_text("first\n")
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        provenance.subprocess.run([*git, *command], check=True, capture_output=True)
    return source


@pytest.fixture
def _git_of_its_own(monkeypatch):
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)


@pytest.mark.usefixtures("_git_of_its_own")
def test_the_revision_says_whether_tracked_files_differ_from_the_commit(tmp_path, monkeypatch):
    source = git_checkout(tmp_path)
    monkeypatch.setattr(provenance, "__file__", str(source))
    revision = provenance.source_revision()
    assert len(revision) == 40
    (tmp_path / "notes.txt").write_text("not tracked\n")
    assert provenance.source_revision() == revision
    source.write_text("second\n")
    assert provenance.source_revision() == revision + "+changes"


@pytest.mark.usefixtures("_git_of_its_own")
def test_there_is_no_revision_outside_a_checkout_or_below_that_of_another_project(tmp_path, monkeypatch):
    other = tmp_path / "other"
    other.mkdir()
    git_checkout(other)
    installed = other / "venv" / "lskd"
    installed.mkdir(parents=True)
    monkeypatch.setattr(provenance, "__file__", str(installed / "records" / "runs.py"))
    assert provenance.source_revision() is None
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "lskd" / "records" / "runs.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    assert provenance.source_revision() is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance.source_revision() is None


@pytest.mark.parametrize(
    ("made", "alpha"),
    [
        ({"configuration": {"label_smoothing": 0.1}}, 0.1),
        ({"configuration": {"label_smoothing": 0.1}, "teacher": {"label_smoothing": {"alpha": 0.2}}}, 0.2),
        ({"configuration": {"label_smoothing": 0.1}, "teacher": {"label_smoothing": {"alpha": None}}}, None),
        ({"configuration": {"label_smoothing": 0.1}, "teacher": "resnet50"}, None),
        ({"configuration": None}, None),
        ({}, None),
    ],
)
def test_a_student_is_told_by_its_teacher_s_smoothing_and_any_other_model_by_its_own(made, alpha):
    assert teacher_smoothing(made) == alpha


def test_a_record_says_what_may_come_out_otherwise_and_an_older_one_does_not(tmp_path):
    assert make_record().nondeterminism is None
    for causes in ([], ["cuDNN may choose algorithms whose order of summation varies."]):
        write_run(make_record(nondeterminism=causes), tmp_path)
        assert content_of(tmp_path)["nondeterminism"] == causes
        assert read_run(tmp_path).nondeterminism == causes
    content = content_of(tmp_path)
    del content["nondeterminism"]
    (tmp_path / "run.json").write_text(json.dumps(content), encoding="utf-8")
    assert read_run(tmp_path).nondeterminism is None
    (tmp_path / "run.json").write_text(json.dumps(content | {"nondeterminism": "cuDNN"}), encoding="utf-8")
    with pytest.raises(InputError, match=r"nondeterminism \(must be a list or null, not text\)"):
        read_run(tmp_path)


def test_figures_are_added_to_the_record_as_it_is_now(tmp_path):
    record = make_record()
    record.add_validation({"updates": 10, "nll_loss": 3.0})
    write_run(record, tmp_path)
    add_to_run(tmp_path, "valid", "checkpoint_best.pt", {"bleu": 33.0})
    record.add_validation({"updates": 20, "nll_loss": 2.0})  # a training that resumes
    write_run(record, tmp_path)
    add_to_run(tmp_path, "test", "checkpoint_best.pt", {"bleu": 34.5})
    found = read_run(tmp_path)
    assert [row["updates"] for row in found.history] == [10, 20]
    assert found.metrics == {"test": {"checkpoint_best.pt": {"bleu": 34.5}}}


def test_scores_that_end_at_the_same_moment_are_all_recorded(tmp_path):
    write_run(make_record(), tmp_path)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: add_to_run(tmp_path, f"split{n}", "a.pt", {"bleu": float(n)}), range(24)))
    assert read_run(tmp_path).metrics == {f"split{n}": {"a.pt": {"bleu": float(n)}} for n in range(24)}


def test_figures_of_a_record_that_is_gone_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"run\.json \(must exist\)"):
        add_to_run(tmp_path, "test", "a.pt", {})


def test_there_is_no_record_below_a_file(tmp_path):
    (tmp_path / "file").touch()
    assert read_run(tmp_path / "file") is None


def test_a_training_keeps_the_figures_that_others_add_while_it_goes_on(tmp_path):
    record = RunRecord({}, seed=1, data={})
    record.add_metrics("valid", "last", {"top1": 50.0})
    write_run(record, tmp_path)
    add_to_run(tmp_path, "test", "best", {"top1": 70.0})
    add_to_run(tmp_path, "valid", "last", {"top1": 51.0, "top5": 90.0})
    record.metrics["valid"]["last"] = {"top1": 60.0}
    write_training_record(record, tmp_path, ["last"])
    assert read_run(tmp_path).metrics == {"valid": {"last": {"top1": 60.0}}, "test": {"best": {"top1": 70.0}}}
    assert record.metrics == read_run(tmp_path).metrics


def test_the_figures_of_another_run_that_lies_there_are_replaced(tmp_path):
    write_run(RunRecord({}, seed=1, data={}, started="2020", metrics={"test": {"best": {"top1": 70.0}}}), tmp_path)
    record = RunRecord({}, seed=2, data={}, metrics={"valid": {"last": {"top1": 60.0}}})
    write_training_record(record, tmp_path, ["last"])
    assert read_run(tmp_path).metrics == record.metrics == {"valid": {"last": {"top1": 60.0}}}
