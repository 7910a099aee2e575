"""The examples run, and print what they promise."""

import re

import nbclient
import nbformat
import pytest
from helpers.commands import ROOT, run

pytestmark = pytest.mark.slow
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


def test_the_training_loop_distils_at_three_temperatures():
    output = run("python examples/training_loop.py").stdout
    assert float(re.search(r"^teacher.* (\S+) %", output)[1]) > 85
    students = re.findall(r"student, T = (\d+) +(\S+) ± \S+ %, n = 3", output)
    assert [T for T, _ in students] == ["1", "3", "64"]
    assert all(float(top1) > 80 for _, top1 in students)


def test_the_trainer_of_hugging_face_distils():
    pytest.importorskip("transformers", reason="the extra `hugging-face` is not installed")
    pytest.importorskip("accelerate", reason="the extra `hugging-face` is not installed")
    output = run("python examples/hugging_face_trainer.py").stdout
    top1 = [float(each) for each in re.findall(r"^(?:teacher|student), .* (\S+) %$", output, re.MULTILINE)]
    assert len(top1) == 3
    assert min(top1) > 60  # of four classes


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_top_to_bottom_and_is_committed_without_outputs(notebook, tmp_path):
    content = nbformat.read(notebook, as_version=4)
    nbformat.validate(content)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in content.cells)
    place = {"metadata": {"path": str(tmp_path)}}
    ran = nbclient.NotebookClient(content, timeout=600, kernel_name="python3", resources=place).execute()
    outputs = [output for cell in ran.cells for output in cell.get("outputs", [])]
    printed = "".join(output["text"] for output in outputs if output["output_type"] == "stream")
    assert "η(S1) = -" in printed or "student, T = 64" in printed
