import hashlib
import sys
from pathlib import Path

import pytest
import torch
import torchvision
import torchvision_weights
from helpers.full_disks import no_file_above
from torchvision.models import MobileNet_V2_Weights

from lskd_vision.checkpoints import read_checkpoint
from lskd_vision.models import rebuild

COMMAND = torchvision_weights
WORDS = ("--model", "mobilenet_v2", "--weights", "IMAGENET1K_V1")


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """torch's cache, empty."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    return tmp_path / "torch" / "hub" / "checkpoints"


@pytest.fixture
def publish(home, tmp_path, monkeypatch):
    """Let these be the published weights: a file whose name has the beginning of its checksum, as theirs do."""

    def publish(state: object, checksum: str | None = None) -> Path:
        torch.save(state, tmp_path / "state")
        digest = checksum or hashlib.sha256((tmp_path / "state").read_bytes()).hexdigest()
        file = (tmp_path / "state").rename(tmp_path / f"mobilenet_v2-{digest[:8]}.pth")
        monkeypatch.setattr(MobileNet_V2_Weights.IMAGENET1K_V1.value, "url", file.as_uri())
        return file

    return publish


@pytest.fixture
def refused(run, tmp_path):
    """Run the command, which must answer with status 2 and one line, and write nothing; torch may say what it does."""

    def refused(*words: object) -> str:
        status, printed, complaint = run("--dest", tmp_path / "below" / "weights.pth", *words)
        *before, line = complaint.splitlines()
        assert (status, printed) == (2, "")
        assert all(each.startswith("Downloading: ") for each in before)
        assert not (tmp_path / "below").exists()
        return line.removeprefix("torchvision_weights.py: error: ")

    return refused


def network() -> dict:
    """The state of torchvision's network without any training."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return torchvision.models.mobilenet_v2().state_dict()


@pytest.mark.slow
def test_the_published_weights_become_a_file_that_a_training_starts_from(run, publish, tmp_path):
    state = network()
    published, dest = publish(state), tmp_path / "below" / "weights.pth"
    status, printed, _ = run(*WORDS, "--dest", dest)
    assert status == 0
    assert printed.startswith(f"{dest}: torchvision's MobileNet_V2_Weights.IMAGENET1K_V1, {len(state)} tensors, ")
    assert printed.endswith(f"SHA-256 {hashlib.sha256(dest.read_bytes()).hexdigest()}\n")
    found = torch.load(dest, weights_only=True)
    assert (type(found), list(found)) == (dict, list(state))
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items())
    model = rebuild(read_checkpoint(dest, "--initial-checkpoint"), "mobilenetv2_100", "--initial-checkpoint")
    assert torch.equal(model.classifier.weight, state["classifier.1.weight"])
    # Another time torch has them, and the file is the same.
    published.unlink()
    before = dest.read_bytes()
    assert run(*WORDS, "--dest", dest)[:2] == (0, printed)
    assert dest.read_bytes() == before
    assert [path.name for path in dest.parent.iterdir()] == [dest.name]


def test_weights_that_cannot_be_fetched_are_refused(refused, publish):
    publish({}).unlink()
    expected = "--weights: MobileNet_V2_Weights.IMAGENET1K_V1 (cannot be downloaded, or read from torch's cache: "
    assert refused(*WORDS).startswith(expected)


def test_weights_with_another_checksum_are_refused_and_not_kept(refused, publish, home):
    publish({"a": torch.ones(2)}, checksum="0" * 64)
    assert 'invalid hash value (expected "00000000"' in refused(*WORDS)
    assert not list(home.iterdir())


@pytest.mark.parametrize("damage", [lambda content: content[:100], lambda _: b"", lambda _: b"<html>"])
def test_a_damaged_file_in_torchs_cache_is_refused(damage, refused, publish, home):
    file = publish({"a": torch.ones(2)})
    home.mkdir(parents=True)
    (home / file.name).write_bytes(damage(file.read_bytes()))
    assert "cannot be downloaded, or read from torch's cache" in refused(*WORDS)


def test_nothing_in_the_file_is_run(refused, publish, tmp_path):
    publish({"a": Hostile(tmp_path / "was-here")})
    assert "cannot be downloaded, or read from torch's cache" in refused(*WORDS)
    assert not (tmp_path / "was-here").exists()


class Hostile:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize(
    ("model", "weights", "complaint"),
    [
        (
            "mobilenetv2",
            "IMAGENET1K_V1",
            "--model: mobilenetv2 (must be a classification network of torchvision, perhaps ",
        ),
        ("xyzzy", "IMAGENET1K_V1", "--model: xyzzy (must be a classification network of torchvision, one of alexnet, "),
        ("fcn_resnet50", "DEFAULT", "--model: fcn_resnet50 (must be a classification network"),
        ("mobilenet_v2", "V3", "--weights: V3 (torchvision has IMAGENET1K_V1, IMAGENET1K_V2, DEFAULT of mobilenet_v2)"),
    ],
)
def test_an_unknown_network_or_weights_are_refused_with_what_there_is(model, weights, complaint, refused, home):
    assert refused("--model", model, "--weights", weights).startswith(complaint)


def test_a_file_of_another_kind_is_refused(run, home, tmp_path):
    status, _, complaint = run(*WORDS, "--dest", tmp_path / "weights.safetensors")
    assert (status, "weights.safetensors (must end in .pth)" in complaint) == (2, True)


def test_a_missing_torchvision_is_one_line(refused, home, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    assert "needs the package torchvision" in refused(*WORDS)


def test_a_full_disk_is_told_in_one_line_and_an_earlier_file_stays(run, publish, tmp_path):
    publish(network())
    dest = tmp_path / "weights.pth"
    assert run(*WORDS, "--dest", dest)[0] == 0  # now the weights are in torch's cache
    before = dest.read_bytes()
    with no_file_above(100_000):
        status, printed, complaint = run(*WORDS, "--dest", dest)
    assert (status, printed) == (2, "")
    assert complaint == f"torchvision_weights.py: error: [Errno 27] File too large: '{dest}'\n"
    assert dest.read_bytes() == before
    assert not list(tmp_path.glob(".*"))
