"""``lskd`` in this process, and teachers whose outputs are known."""

import numpy as np
import pytest
from helpers.known_teachers import NAMES, TEACHER, logits_of

from lskd.commands.main import parser
from lskd.io.errors import run_command
from lskd.measure.representation_collector import RepresentationCollector
from lskd.measure.representations import write_representations
from lskd.measure.smoothness import EntropySums


@pytest.fixture
def teacher(tmp_path):
    """Write a representation file whose features are the logits, and whose last layer leaves them as they are."""

    def teacher(name, alpha=0.1, sharpness=1.0, keep=None, stored=(), weight=True, names=NAMES, samples=240, **about):
        logits, labels = logits_of(alpha, samples, sharpness, len(names))
        recorder = RepresentationCollector(names, len(names), keep_per_class=keep, dtype=np.float64)
        recorder.add(logits, labels)
        sums = EntropySums(stored)
        sums.update(logits)
        path = tmp_path / f"{name}.representations.safetensors"
        provenance = TEACHER | {"configuration": {"label_smoothing": alpha, "kd_weight": 0.0}} | about
        layer = np.eye(len(names), dtype=np.float32) if weight else None
        write_representations(path, recorder.result(weight=layer, entropy=sums.rows(), provenance=provenance))
        return path

    return teacher


@pytest.fixture
def lskd(monkeypatch, capsys):
    """``lskd`` in this process, which must succeed: what it printed."""

    def lskd(*words):
        monkeypatch.setattr("sys.argv", ["lskd", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            run_command(parser(), lambda arguments: arguments.run(arguments))
        printed, complaint = capsys.readouterr()
        assert left.value.code == 0, complaint
        return printed

    return lskd


@pytest.fixture
def refused(monkeypatch, capsys, tmp_path):
    """``lskd``, which must answer with status 2 and one line and write nothing: the line."""

    def refused(*words):
        before = sorted(tmp_path.rglob("*"))
        monkeypatch.setattr("sys.argv", ["lskd", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            run_command(parser(), lambda arguments: arguments.run(arguments))
        printed, complaint = capsys.readouterr()
        assert (left.value.code, printed, complaint.count("\n")) == (2, "", 1)
        assert sorted(tmp_path.rglob("*")) == before
        return complaint.strip()

    return refused
