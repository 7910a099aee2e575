import json
import subprocess
import sys

import pytest
from helpers.commands import last_line
from helpers.lskd_commands import here
from helpers.small_runs import image_run

from lskd.io.errors import InputError
from lskd.paper.results import read_result


@pytest.fixture
def runs(tmp_path):
    for alpha in (0.0, 0.1):
        image_run(tmp_path, alpha, top1=82.0)
        for temperature in (1.0, 3.0):
            for seed, top1 in ((1, 80.0), (2, 81.0)):
                image_run(tmp_path, alpha, temperature, seed=seed, top1=top1 - temperature)
    return tmp_path / "data"


def lskd(*words, **keywords):
    return here("compare", *words, **keywords)


def test_the_measured_table_stands_above_the_published_one(runs, tmp_path):
    words = ["--as", "student_net=ResNet-18", "--scale", "mini", "--note"]
    done = lskd("2B", *sorted(runs.iterdir()), *words, "clothes\nfor birds", "--output", tmp_path / "2B.json")
    measured, published, *_ = done.stdout.split("Table 2B")
    lines = measured.splitlines()
    assert lines[1] == "measured, scale mini: clothes, teacher teacher_net"
    assert lines[3].split("  ")[0] == "student"
    assert "top-1 % α = 0.1" in lines[3]
    assert lines[4].split()[:5] == ["teacher", "teacher_net", "–", "82.000", "(1)"]
    # 79 and 80 at T = 1: 79.5, and a standard deviation of 1/√2
    assert lines[5].startswith("student_net for ResNet-18  1  79.500 ± 0.707 (2)")
    assert "80.169 (3)" in published
    assert "rises from T = 1" in published
    assert done.stdout.endswith("clothes for birds\n") or done.stdout.endswith("clothes\nfor birds\n")

    content = json.loads((tmp_path / "2B.json").read_text())
    assert list(content) == ["table", "title", "scale", "notes", "inputs", "rows"]
    assert (content["table"], content["scale"]) == ("2B", "mini")
    assert content["inputs"] == [str(path) for path in sorted(runs.iterdir())]
    assert len(content["rows"]) == 2 * (2 + 2 * 2)
    assert content["rows"][4] == {
        "table": "2B",
        "data": "clothes",
        "teacher": "teacher_net",
        "student": "student_net",
        "distill_type": "logit",
        "label_smoothing": 0.0,
        "temperature": 1.0,
        "reference_temperature": None,
        "split": None,
        "target_class": None,
        "metric": "top1",
        "unit": "%",
        "mean": 79.5,
        "standard_deviation": pytest.approx(0.5**0.5),
        "n": 2,
        "flag": None,
        "stands_for": "ResNet-18",
    }


def test_what_is_written_is_read_back(runs, tmp_path):
    path = tmp_path / "r.json"
    lskd("2B", runs, "--title", "Mine", "--note", "one", "--note", "two", "--output", path)
    result = read_result(path)
    assert (result.title, result.notes, result.scale, result.inputs) == ("Mine", ["one", "two"], None, [str(runs)])
    assert len(result.rows) == 12
    assert result.rows[0].mean == 82.0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("2Z {runs}", "table: 2Z"),
        ("3 {runs}", "must have a result of Table 3"),
        ("2B {runs} --as student_net", "must be NAME=PAPER"),
        ("2B {runs} --as student_net=ResNet-9", "PAPER one of ResNet-18"),
        ("2B {runs} --as net=ResNet-18", "--as: net"),
        ("2B {runs} --output {runs}/x.csv", "must end in .json"),
        ("2B {runs}/none.json", "none.json (must be a run"),
        ("2B", "INPUT"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(runs, words, message):
    before = sorted(runs.rglob("*"))
    done = lskd(words.format(runs=runs), status=2)
    assert message in last_line(done)
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stdout == ""
    assert sorted(runs.rglob("*")) == before


def test_the_base_install_is_enough(runs):
    code = (
        "import sys\n"
        "for name in ('torch', 'matplotlib', 'fairseq', 'timm', 'nltk'): sys.modules[name] = None\n"
        "from lskd.commands.main import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code, "compare", "2B", runs], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


ROW = {"metric": "top1", "unit": "%", "mean": 80.0, "student": "s", "teacher": "t", "temperature": 1.0, "n": 2}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"table": "9"}, "must be a table"),
        ({"title": 3}, "title (must be text, not a whole number)"),
        ({"title": None}, "title (must be text, not null)"),
        ({"rows": []}, "must hold at least one measurement"),
        ({"rows": 3}, "rows (must be a list, not a whole number)"),
        ({"rows": [3]}, "rows[0] (must be an object, not a whole number)"),
        ({"rows": [ROW, ROW]}, "must occur once"),
        ({"rows": [ROW | {"mean": "80"}]}, "rows[0].mean (must be a number, not text)"),
        ({"rows": [ROW | {"mean": True}]}, "rows[0].mean (must be a number, not true or false)"),
        ({"rows": [ROW | {"mean": 1e300}]}, "rows[0].mean (must be a number of at most 1e15)"),
        ({"rows": [ROW | {"mean": 10**400}]}, "rows[0].mean (number out of range)"),
        ({"rows": [ROW | {"mean": float("nan")}]}, "must be JSON"),
        ({"rows": [ROW | {"mean": None}]}, "rows[0].mean (must be a number, not null)"),
        ({"rows": [ROW | {"metric": "speed"}]}, "rows[0].metric: speed (must be one of top1"),
        ({"rows": [ROW | {"unit": "<b>"}]}, "rows[0].unit: <b> (must be one of %"),
        ({"rows": [ROW | {"temperature": -1}]}, "rows[0].temperature (must be a number > 0"),
        ({"rows": [ROW | {"student": ["s"]}]}, "rows[0].student (must be text or null, not a list)"),
        ({"rows": [ROW | {"student": "\ud800"}]}, "must be JSON"),
        ({"title": "\x1b[2J"}, "title (must be text without control characters)"),
        ({"notes": "one"}, "notes (must be a list, not text)"),
        ({"inputs": [1]}, "inputs[0] (must be text, not a whole number)"),
    ],
)
def test_a_result_of_absurd_types_is_refused_in_one_line(tmp_path, change, message):
    path = tmp_path / "r.json"
    path.write_text(json.dumps({"table": "2B", "title": "T", "scale": None, "notes": [], "rows": [ROW]} | change))
    with pytest.raises(InputError) as error:
        read_result(path)
    assert str(path) in str(error.value)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["{", "[]", "[" * 100_000, "\ufeff{}", '{"a": ' * 50_000])
def test_a_result_that_is_no_json_object_is_refused(tmp_path, text):
    path = tmp_path / "r.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"r\.json"):
        read_result(path)
