"""A full disk and a directory that cannot be written: one line with the file and the reason, and nothing is harmed."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import timm
import torch
from helpers.commands import run as run_alone
from helpers.full_disks import KINDS, REASONS, a_disk, full, no_file_above
from helpers.image_folders import write_folders
from helpers.iwslt14_archive import official, write_tgz
from helpers.refusals import answer, run, snapshot
from helpers.small_nmt import make_model, make_task, save_checkpoint
from helpers.small_runs import translation_run, write_runs
from helpers.vision_commands import same_weights

from lskd.io.tensor_files import write_tensors
from lskd.records.inputs import SUFFIX
from lskd.records.nonfinite_batch import keep_batch
from lskd_fairseq import cache_teacher
from lskd_vision.config import RunConfig
from lskd_vision.logs import Logs
from lskd_vision.run import TrainingRun

pytestmark = pytest.mark.slow
TRAIN = "lskd_vision.train --data-dir {images} --model test_resnet --device cpu --workers 0 --batch-size 8 --epochs 2"
TRAIN += " --kd-checkpoint {teacher.pth.tar} --kd-temperature 1 3 --output "
CACHE = "lskd_fairseq.cache_teacher --data {data-bin} --path {teacher.pt} --cpu --shard-mb 0.001 --dest "


def words_of(command: str, place: Path, disk: Path) -> list[str]:
    """The words of a command: ``{name}`` is a file of ``place``, ``{disk}`` the disk, ``.r`` a shorter suffix."""

    def path(name: re.Match) -> str:
        return str(disk if name[1] == "disk" else place / name[1])

    return [re.sub(r"\.r$", SUFFIX, re.sub(r"\{(.+?)\}", path, word)) for word in command.split()]


def quietly(words: list[str]) -> None:
    """Run a command in this process; it must end well."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as ended:
            run(words[0])
    assert ended.value.code == 0


def checked(status: int, complaint: str, disk: Path) -> None:
    """Check that a command has said in one line which file, by its own name, and why."""
    assert status == 2, complaint
    assert "Traceback" not in complaint
    lines = complaint.splitlines()
    assert sum("error: " in line for line in lines) == 1, complaint
    assert "error: " in lines[-1], complaint
    assert re.search(rf"{re.escape(str(disk))}/?(?![.])", lines[-1]), complaint
    assert ".partial" not in lines[-1], complaint
    assert re.search(REASONS, lines[-1]), complaint


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """What the commands read."""
    place = tmp_path_factory.mktemp("inputs")
    write_runs(place / "runs")
    for name, run_name in (("first", "a0.1_T1_s1"), ("second", "a0.1_T3_s1")):
        directory = place / "runs" / "data" / f"student_net_{run_name}"
        shutil.copy(directory / f"last.train{SUFFIX}", place / f"{name}{SUFFIX}")
    sets = {"Coat": {"similar": ["Pullover"], "dissimilar": ["Bag", "Trouser"]}}
    (place / "sets.json").write_text(json.dumps(sets))
    return place


@pytest.fixture(scope="module")
def with_images(place) -> Path:
    """And a teacher of images, and a finished training of two students of it."""
    write_folders(place / "images", train=8, validation=2)
    torch.manual_seed(0)
    state = timm.create_model("test_resnet", num_classes=3).state_dict()
    torch.save({"arch": "test_resnet", "state_dict": state}, place / "teacher.pth.tar")
    quietly(words_of(TRAIN + str(place / "students"), place, place))
    shutil.copytree(students(place / "students")[0], place / "student")
    return place


@pytest.fixture(scope="module")
def with_translation(place, data_bin) -> Path:
    """And a teacher of translations, alone and in a run, and a finished cache of it."""
    shutil.copytree(data_bin, place / "data-bin")
    task = make_task(place / "data-bin")
    save_checkpoint(place / "teacher.pt", make_model(task), task)
    shutil.copytree(translation_run(place / "translations", 1.0), place / "run")
    shutil.copy(place / "teacher.pt", place / "run")
    quietly(words_of(CACHE + "{cache}", place, place))
    return place


@pytest.fixture(scope="module")
def with_archives(place) -> Path:
    """And archives of data sets."""
    write_tgz(place / "de-en.tgz", official("en-de")[0])
    return place


def students(output: Path) -> list[Path]:
    return sorted(path.parent for path in output.rglob("run.json"))


def refuses(
    command: str, earlier: str | None, kind: str, room: int, place: Path, tmp_path, monkeypatch, capsys
) -> None:
    """Check that a command says that the disk is full, and leaves what there was as it was.

    Args:
        command: see :func:`words_of`.
        earlier: what is on the disk before: of this name in ``place``, or else a file that will be replaced.
        kind: of :data:`full_disks.KINDS`.
        room: bytes.
        place: its inputs.
        tmp_path: pytest's, and so on.
    """
    with a_disk(kind, tmp_path / "disk") as disk:
        if earlier and (place / earlier).is_dir():
            shutil.copytree(place / earlier, disk / earlier)
        elif earlier:
            (disk / earlier).write_text("earlier\n")
        with full(kind, disk, room):
            before = snapshot(disk), snapshot(place)
            checked(*answer(words_of(command, place, disk), monkeypatch, capsys), disk)
            assert (snapshot(disk), snapshot(place)) == before


ANALYSIS = [
    ("lskd eta --first {first.r} --second {second.r} --sets {sets.json} --output {disk}/eta.json", "eta.json"),
    ("lskd eta --first {first.r} --second {second.r} --sets {sets.json} --output {disk}/eta.csv", "eta.csv"),
    ("lskd similar --by distance {first.r} --output {disk}/sets.json", "sets.json"),
    (
        "lskd similar --by distance --agree-with distance {first.r} --agreement {disk}/agreement.csv",
        "agreement.csv",
    ),
    ("lskd project {first.r} --classes Coat Pullover Bag --output {disk}/figure.svg", "figure.svg"),
    ("lskd project {first.r} --classes Coat Pullover Bag --output {disk}/figure.png", "figure.png"),
    ("lskd project {first.r} --classes Coat Pullover Bag --output {disk}/figure.pdf", "figure.pdf"),
    ("lskd project {first.r} --classes Coat Pullover Bag --table {disk}/table.csv", "table.csv"),
    ("lskd project {first.r} --classes Coat Pullover Bag --coordinates {disk}/points.json", "points.json"),
    ("lskd entropy {first.r} --output {disk}/entropy.json", "entropy.json"),
    ("lskd entropy {first.r} --classes Coat --figure {disk}/outputs.svg", "outputs.svg"),
    ("lskd match-temperature {first.r} {second.r} --output {disk}/match.csv", "match.csv"),
    ("lskd measure {first.r} --resamples 0 --output {disk}/measures.csv", "measures.csv"),
    ("lskd accuracy {runs}/data/student_net_a0.1_T1_s1 --output {disk}/accuracy.json", "accuracy.json"),
    ("lskd summarise {runs} --output {disk}/summary.csv", "summary.csv"),
    ("lskd published 2A --output {disk}/published.csv", "published.csv"),
    ("lskd compare 2A {runs}/data --output {disk}/2A.json", "2A.json"),
    ("lskd report {runs} --output {disk}/report.html", "report.html"),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("command", "earlier"), ANALYSIS, ids=range(len(ANALYSIS)))
def test_figures_and_tables_of_before_are_kept(command, earlier, kind, place, tmp_path, monkeypatch, capsys):
    refuses(command, earlier, kind, 0, place, tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize("command", [command for command, earlier in ANALYSIS if earlier != "report.html"])
def test_a_table_that_cannot_be_written_has_been_shown(command, place, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", words_of(command, place, tmp_path))
    with no_file_above(0), pytest.raises(SystemExit) as ended:
        run("lskd")
    shown, complaint = capsys.readouterr()
    assert ended.value.code == 2, complaint
    assert len(shown.splitlines()) > 1


@pytest.mark.parametrize(("command", "written"), ANALYSIS, ids=range(len(ANALYSIS)))
def test_a_table_is_written_though_whoever_reads_what_is_shown_has_left(command, written, place, tmp_path, monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    monkeypatch.setattr(sys, "argv", words_of(command, place, tmp_path))
    with os.fdopen(writer, "w", buffering=1) as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        with pytest.raises(SystemExit) as ended:
            run("lskd")
    assert ended.value.code == 1
    assert (tmp_path / written).stat().st_size


OF_IMAGES = "--data-dir {images} --workers 0 --device cpu"
IMAGES = [
    (f"lskd_vision.validate {{teacher.pth.tar}} {OF_IMAGES} --results-file {{disk}}/figures.json", "figures.json", 0),
    (f"lskd_vision.representations {{disk}}/student/last.pth.tar {OF_IMAGES}", "student", 0),
    (f"lskd_vision.representations {{teacher.pth.tar}} {OF_IMAGES} --output {{disk}}/x.r", f"x{SUFFIX}", 3000),
    ("lskd_vision.representations {student}/last.pth.tar --last-layer-only --output {disk}/x.r", f"x{SUFFIX}", 100),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("command", "earlier", "room"), IMAGES, ids=range(len(IMAGES)))
def test_commands_of_images(command, earlier, room, kind, with_images, tmp_path, monkeypatch, capsys):
    refuses(command, earlier, kind, room, with_images, tmp_path, monkeypatch, capsys)


OF_TRANSLATION = "--data {data-bin} --cpu"
TRANSLATION = [
    ("lskd_fairseq.export {teacher.pt} {disk}/student.pt", None, 0),
    ("lskd_fairseq.export {teacher.pt} {disk}/student.pt", None, 20000),
    (f"lskd_fairseq.representations --path {{disk}}/run/teacher.pt {OF_TRANSLATION}", "run", 0),
    (f"lskd_fairseq.representations --path {{teacher.pt}} {OF_TRANSLATION} --output {{disk}}/x.r", f"x{SUFFIX}", 3000),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("command", "earlier", "room"), TRANSLATION, ids=range(len(TRANSLATION)))
def test_commands_of_translation(command, earlier, room, kind, with_translation, tmp_path, monkeypatch, capsys):
    refuses(command, earlier, kind, room, with_translation, tmp_path, monkeypatch, capsys)


SCORES = {
    "lskd_fairseq.score": (
        f"lskd_fairseq.score --path {{disk}}/run/teacher.pt {OF_TRANSLATION} --beam 1",
        r"  BLEU +\d+\.\d\d  nrefs:1",
        "run cannot be written to: the score is printed only (--output keeps it)",
    ),
    "lskd_vision.validate": (
        f"lskd_vision.validate {{disk}}/student/last.pth.tar {OF_IMAGES}",
        r"top-1 \d+\.\d\d %",
        "student/run.json: the directory cannot be written to",
    ),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("module", SCORES)
def test_a_score_is_printed_also_where_it_cannot_be_kept(module, kind, request, tmp_path, monkeypatch, capsys):
    command, score, kept = SCORES[module]
    place = request.getfixturevalue("with_translation" if module.startswith("lskd_fairseq") else "with_images")
    run_directory = "run" if module.startswith("lskd_fairseq") else "student"
    with a_disk(kind, tmp_path / "disk") as disk:
        shutil.copytree(place / run_directory, disk / run_directory)
        with full(kind, disk):
            before = snapshot(disk)
            monkeypatch.setattr(sys, "argv", words_of(command, place, disk))
            with pytest.raises(SystemExit) as ended:
                run(module)
            said = capsys.readouterr()
            assert snapshot(disk) == before
    assert re.search(score, said.out)
    if kind == "a read-only directory":
        assert ended.value.code == 0
        assert kept in said.out + said.err
    else:
        checked(ended.value.code, said.err, disk)


PREPARATION = [
    ("fashion_mnist --dest {disk}/new --max-images 20", 0),
    ("fashion_mnist --dest {disk}/new --max-images 20", 2000),
    ("fashion_mnist --dest {disk}/new --max-images 20 --classes Bag Coat", 0),
    ("letters --dest {disk}/new --fonts 1", 0),
    ("letters --dest {disk}/new --fonts 1", 100_000),
    ("libreoffice_help --pair en-de --dest {disk}/new --vocab-size 200 --max-pairs 300", 0),
    ("libreoffice_help --pair en-de --dest {disk}/new --vocab-size 200 --max-pairs 300", 20000),
    ("iwslt14 --pair en-de --dest {disk}/new --archive {de-en.tgz} --vocab-size 300", 0),
    ("iwslt14 --pair en-de --dest {disk}/new --url file://{de-en.tgz} --vocab-size 300", 5000),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("command", "room"), PREPARATION, ids=range(len(PREPARATION)))
def test_the_preparation_of_data_leaves_no_directory(command, room, kind, with_archives, tmp_path, monkeypatch, capsys):
    refuses(command, None, kind, room, with_archives, tmp_path, monkeypatch, capsys)


def test_a_disk_that_is_full_only_when_sentences_are_binarised(place, tmp_path, monkeypatch, capsys):
    command = "libreoffice_help --pair en-de --dest {disk}/new --vocab-size 200 --max-pairs 300"
    refuses(command, None, "a full disk", 120_000, place, tmp_path, monkeypatch, capsys)


def histories(output: Path) -> list[list[dict]]:
    """The history of each run, without the times."""
    rows = [json.loads((run / "run.json").read_text())["history"] for run in students(output)]
    return [
        [{key: row[key] for key in row if key not in ("time", "seconds", "together")} for row in each] for each in rows
    ]


@pytest.mark.parametrize(
    ("kind", "epoch", "temperature"),
    [
        ("no larger files", 0, 1),
        ("no larger files", 1, 3),
        ("a full disk", 0, 3),
        ("a full disk", 1, 1),
        ("a read-only directory", 1, 3),
    ],
)
def test_a_training_of_images_keeps_what_it_has_and_goes_on(
    kind, epoch, temperature, with_images, tmp_path, monkeypatch, capsys
):
    """The disk is full when a student saves an epoch."""
    finish_epoch, seen = TrainingRun.finish_epoch, []

    def fill_first(self, number, *metrics):
        if (number, self.config.distillation.temperature) != (epoch, temperature):
            return finish_epoch(self, number, *metrics)
        with full(kind, disk, 300_000):
            seen.append(snapshot(disk))
            try:
                return finish_epoch(self, number, *metrics)
            finally:
                seen.append(snapshot(disk))

    words = words_of(TRAIN + "{disk}", with_images, tmp_path / "disk")
    with a_disk(kind, tmp_path / "disk") as disk:
        with monkeypatch.context() as patch:
            patch.setattr(TrainingRun, "finish_epoch", fill_first)
            checked(*answer(words, monkeypatch, capsys), disk)
        assert seen[0] == seen[1]
        assert len(list(disk.rglob("last.pth.tar"))) == (1 if (epoch, temperature) == (0, 3) else 2 * epoch)
        quietly([*words, "--resume"])
        for found, expected in zip(students(disk), students(with_images / "students"), strict=True):
            assert found.name == expected.name
            for name in ("last.pth.tar", "model_best.pth.tar"):
                assert same_weights(found / name, expected / name)
        assert histories(disk) == histories(with_images / "students")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("number", [0, 2])
def test_a_cached_teacher_keeps_its_whole_files_and_goes_on(
    kind, number, with_translation, tmp_path, monkeypatch, capsys
):
    """The disk is full when a file is written."""
    written = []

    def fill_first(path, *content):
        written.append(path)
        if len(written) <= number:
            return write_tensors(path, *content)
        with full(kind, disk, 200):
            before = snapshot(disk)
            try:
                return write_tensors(path, *content)
            finally:
                assert snapshot(disk) == before

    words = words_of(CACHE + "{disk}", with_translation, tmp_path / "disk")
    with a_disk(kind, tmp_path / "disk") as disk:
        with monkeypatch.context() as patch:
            patch.setattr(cache_teacher, "write_tensors", fill_first)
            checked(*answer(words, monkeypatch, capsys), disk)
        assert len(written) == number + 1
        assert len(json.loads((disk / "cache.json").read_text())["files"]) == number
        quietly(words)
        assert snapshot(disk) == snapshot(with_translation / "cache")


def test_a_training_that_cannot_begin_writes_nothing(with_images, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    command = TRAIN + str(tmp_path / "file" / "runs")
    checked(*answer(words_of(command, with_images, tmp_path), monkeypatch, capsys), tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("command", ["lskd published 2A", "lskd entropy {first.r}", "lskd accuracy {first.r}"])
def test_standard_output_may_be_what_is_full(command, place, tmp_path, monkeypatch, capsys):
    name = " ".join(command.split()[:2])
    with open("/dev/full", "w") as output:
        monkeypatch.setattr(sys, "stdout", output)
        status, complaint = answer(words_of(command, place, tmp_path), monkeypatch, capsys)
    assert (status, complaint) == (2, f"{name}: error: [Errno 28] No space left on device: 'standard output'\n")


def test_standard_error_may_be_what_is_full():
    with open("/dev/full", "w") as output:
        assert subprocess.run([sys.executable, "-m", "lskd", "published", "9Z"], stderr=output).returncode == 2


def test_loader_processes_that_cannot_hand_images_over_do_not_let_a_training_wait(
    with_images, tmp_path, monkeypatch, capsys
):
    words = words_of(TRAIN + "{disk}", with_images, tmp_path)
    with no_file_above(100_000):
        checked(*answer([*words, "--workers", "1"], monkeypatch, capsys), Path("/dev/shm"))  # noqa: S108
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", KINDS)
def test_a_log_for_tensorboard_that_cannot_be_written_is_named(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(threading, "excepthook", lambda failed: pytest.fail(str(failed)))
    with a_disk(kind, tmp_path / "disk") as disk:
        log = Logs(RunConfig(log_tensorboard=True), disk, "run", {}, [])
        log.add({"epoch": 1, "train_loss": 1.0})
        with full(kind, disk), pytest.raises(OSError, match=REASONS) as raised:  # noqa: PT012
            log.add({"epoch": 2} | {f"figure_{number}": 1.0 for number in range(200)})
            log.close()
        assert str(disk / "tensorboard") in str(raised.value)


@pytest.mark.parametrize("kind", KINDS)
def test_a_loss_that_is_no_number_is_told_where_its_batch_cannot_be_kept(kind, tmp_path):
    with a_disk(kind, tmp_path / "disk") as disk, full(kind, disk):
        told = keep_batch(disk / "run", ["a.png"], float("nan"), {}, {"target": torch.zeros(3)})
    assert told.startswith("the loss is nan on the batch of a.png (its logits could not be kept: ")
    assert re.search(REASONS, told)


@pytest.mark.parametrize(("room", "file"), [(0, "contents.A.1.json"), (50_000, "data/letters")])
def test_experiments_tell_which_file_could_not_be_written(room, file, tmp_path):
    """The plan, or what a job writes; the job's own line is passed on."""
    with no_file_above(room):
        ended = run_alone(f"python -m lskd reproduce A.1 --cores 1 --output {tmp_path / 'new'}", status=2)
    lines = [line for line in re.split(r"[\r\n]+", ended.stderr) if "Errno" in line]
    assert len(lines) == 1
    assert f"error: [Errno 27] File too large: '{tmp_path / 'new' / file}'" in lines[0]
    assert "Traceback" not in ended.stderr
    assert not list(tmp_path.rglob("*.partial"))
    assert not (tmp_path / "new" / file).exists()


def test_experiments_where_nothing_can_be_written(tmp_path):
    with a_disk("a read-only directory", tmp_path / "disk") as disk, full("a read-only directory", disk):
        ended = run_alone(f"python -m lskd reproduce A.1 --output {disk / 'new'}", status=2)
        checked(2, ended.stderr, disk)
