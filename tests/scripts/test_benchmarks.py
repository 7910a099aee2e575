import pytest
from helpers.commands import ROOT, run

pytestmark = pytest.mark.slow
SCRIPTS = sorted(path.name for path in (ROOT / "scripts").glob("bench_*.py")) + ["teacher_targets.py"]


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_benchmark_says_what_it_does(script):
    assert "usage: " in run("python scripts/" + script, "--help").stdout


def test_a_benchmark_shows_its_figures_with_where_they_come_from(tmp_path):
    table = tmp_path / "pairwise.csv"
    output = run("python scripts/bench_pairwise.py --samples 60 --rounds 1 --output", table).stdout
    assert table.read_text(encoding="utf-8") == output
    comments = [line for line in output.splitlines() if line.startswith("#")]
    assert any("'torch':" in line for line in comments)
    assert any("'processor':" in line for line in comments)
    header, *rows = [line.split(",") for line in output.splitlines() if not line.startswith("#")]
    assert header[0] == "way"
    assert [row[0] for row in rows] == ["lskd", "scipy cdist", "scikit-learn"]
    assert {row[4] for row in rows} == {rows[0][4]}  # all of them find the same distance


def test_the_loss_is_measured_beside_others(tmp_path):
    words = "python scripts/bench_loss.py --shape 256x1000 --rounds 1"
    rows = [line.split(",") for line in run(words).stdout.splitlines() if line.startswith("256x1000")]
    assert {row[1] for row in rows} >= {"naive", "timm", "lskd", "lskd compiled", "lskd top 8"}
    assert all(float(row[2]) > 0 for row in rows)


def test_our_losses_are_measured_beside_the_papers():
    words = "python scripts/bench_loss.py --of losses --shape 64x100 --rounds 1 --processor-time"
    said = run(words).stdout
    assert "time on the processor" in said.splitlines()[0]
    rows = [line.split(",") for line in said.splitlines() if line.startswith("64x100,")]
    added = {"kl with the gradient's size logged", "kl with match"}
    assert {row[1] for row in rows} == {"kl", "standardised", "mse", "decoupled", "wttm"} | added
    assert rows[0][1:2] + rows[0][3:4] == ["kl", "1.000"]
    assert "(must be tokens x vocabulary, such as 4096x10000)" in run(f"{words} --shape many", status=2).stderr
