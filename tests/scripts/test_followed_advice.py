"""What `lskd advise` names for each teacher of a study is asked of it, with the students of the other seeds alone."""

import shutil

import followed_advice
import numpy as np
import pytest
from helpers.known_teachers import NAMES, TEACHER, logits_of
from helpers.small_runs import image_run
from planned_tests import read_rows

from lskd.io.errors import InputError
from lskd.measure.representation_collector import RepresentationCollector
from lskd.measure.representations import write_representations

SEEDS = (11, 12, 13, 14)


def study(place, alpha, top1, seeds=SEEDS):
    """Teachers of α with their representations, and students at T = 1 and 2 with ``top1(T, seed)``."""
    for directory in ("data/letters", "letters"):
        (place / directory).mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        weights = f"weights of {alpha}, {seed}"
        made = [image_run(place.parent, alpha, None, seed)]
        made += [image_run(place.parent, alpha, T, seed, top1(T, seed), fingerprint=weights) for T in (1.0, 2.0)]
        logits, labels = logits_of(alpha)
        recorder = RepresentationCollector(NAMES, len(NAMES), dtype=np.float64)
        recorder.add(logits, labels)
        about = TEACHER | {"configuration": {"label_smoothing": alpha, "kd_weight": 0.0}, "fingerprint": weights}
        path = made[0] / "last.validation.representations.safetensors"
        write_representations(path, recorder.result(weight=np.eye(len(NAMES), dtype=np.float32), provenance=about))
        for run in made:
            shutil.move(run, place / "letters" / run.name)


def asked(place, dest):
    words = [str(place), str(dest), "--student", "student_net", "--teacher", "teacher_net"]
    followed_advice.run(followed_advice.parser().parse_args(words))
    return {
        (row["label_smoothing"], row["seed"]): (row["alone"], row["runs"]) for row in read_rows(dest / "advice.csv")
    }


def test_the_advice_from_runs_is_of_the_other_seeds_and_that_from_the_teacher_alone_is_the_rule(tmp_path):
    def smoothed(T, seed):  # T = 2 is better in every seed but 14, where it is so bad that runs with it decide nothing
        gain = -30 if seed == 14 else 2 + 0.05 * (seed - 12)
        return 80 + 0.1 * seed + (gain if T == 2 else 0)

    study(tmp_path / "runs", 0.1, smoothed)
    study(tmp_path / "runs", 0.0, lambda T, seed: 80 + 0.1 * seed - (3 + 0.1 * (seed - 12) if T == 2 else 0))
    found = asked(tmp_path / "runs", tmp_path / "tables")
    assert [found["0.1", str(seed)] for seed in SEEDS] == [("1", "1"), ("1", "1"), ("1", "1"), ("1", "2")]
    assert [found["0", str(seed)] for seed in SEEDS] == [("1 2 3 4", "1")] * 4


def test_no_students_or_no_teacher_is_refused_and_the_table_stays(tmp_path):
    study(tmp_path / "runs", 0.1, lambda T, seed: 80 + 0.1 * seed + T)
    table = tmp_path / "tables" / "advice.csv"
    table.parent.mkdir()
    table.write_text("as it was")
    words = [str(tmp_path / "runs"), str(table.parent), "--student", "other_net", "--teacher", "teacher_net"]
    with pytest.raises(InputError, match="must have plain students other_net of image teachers"):
        followed_advice.run(followed_advice.parser().parse_args(words))
    shutil.rmtree(tmp_path / "runs" / "letters" / "teacher_net_a0.1_s12")
    with pytest.raises(InputError, match=r"must have the teachers teacher_net of α = 0\.1, seed 12 too"):
        asked(tmp_path / "runs", table.parent)
    assert table.read_text() == "as it was"


def test_one_seed_has_no_others_to_advise_it(tmp_path):
    study(tmp_path / "runs", 0.1, lambda T, seed: 80, seeds=[11])
    with pytest.raises(InputError, match=r"must have students of several seeds, of α = 0\.1 too"):
        asked(tmp_path / "runs", tmp_path / "tables")
