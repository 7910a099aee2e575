"""A model as a folder that timm loads, with a card that says how it was made."""

import json

import pytest
import timm
import torch
from timm.data import resolve_model_data_config

from lskd.io.errors import run_command
from lskd.records.runs import RunRecord, read_run, write_run
from lskd_vision import export

NAMES = ["cat", "dog", "eel"]


@pytest.fixture
def checkpoint(tmp_path):
    """A narrow ResNet with random weights, as timm saves it, and its run record."""
    torch.manual_seed(1)
    kwargs = {"channels": [16, 16, 32, 32]}
    model = timm.create_model("resnet10t", num_classes=3, in_chans=1, **kwargs)
    ema = timm.create_model("resnet10t", num_classes=3, in_chans=1, **kwargs)
    args = {"mean": [0.1], "std": [0.25], "img_size": 48, "in_chans": 1, "crop_pct": 1.0, "model_kwargs": kwargs}
    path = tmp_path / "run" / "last.pth.tar"
    path.parent.mkdir()
    state = {"arch": "resnet10t", "args": args, "state_dict": model.state_dict(), "state_dict_ema": ema.state_dict()}
    teacher = {"model": "resnet50", "label_smoothing": {"alpha": 0.1}}
    configuration = {"temperature": 3.0, "kd_weight": 1.0, "kd_gradient_scale": "match", "label_smoothing": 0.0}
    host = {"data_config": {"mean": [0.1], "std": [0.25]}}
    made = {
        "configuration": configuration | {"host": host | {"resume": False}},
        "history": [{}, {}],
        "data": {"classes": NAMES},
    }
    torch.save(state | {"class_names": NAMES, "lskd": made}, path)
    configuration |= {"host": host | {"resume": True}}  # the run has been resumed after this checkpoint
    metrics = {"valid": {"last.pth.tar": {"top1": 81.25, "top1_ema": 82.5}}}
    data = {"dataset": "torch/pets", "classes": NAMES}
    write_run(RunRecord(configuration, seed=7, data=data, teacher=teacher, metrics=metrics), path.parent)
    return path, model.eval(), ema.eval()


@pytest.fixture
def command(monkeypatch, capsys):
    def command(*words, status=0):
        monkeypatch.setattr("sys.argv", ["export", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            run_command(export.parser(), export.main)
        said = capsys.readouterr()
        assert left.value.code == status, said.err
        return said.out if not status else said.err.strip().splitlines()[-1]

    return command


@pytest.mark.parametrize(("options", "which"), [([], 1), (["--use-ema"], 2)])
def test_timm_loads_the_folder_to_the_same_outputs_and_the_same_preparation(
    command, checkpoint, tmp_path, options, which
):
    path, *models = checkpoint
    said = command(path, tmp_path / "exported", *options)
    assert f"local-dir:{tmp_path / 'exported'}" in said
    loaded = timm.create_model(f"local-dir:{tmp_path / 'exported'}", pretrained=True).eval()
    images = torch.randn(4, 1, 48, 48)
    with torch.no_grad():
        assert torch.equal(loaded(images), models[which - 1](images))
    prepared = resolve_model_data_config(loaded)
    assert (prepared["input_size"], prepared["mean"], prepared["std"]) == ((1, 48, 48), [0.1], [0.25])
    assert prepared["crop_pct"] == 1.0


def test_the_card_says_how_the_model_was_made_and_how_good_it_is(command, checkpoint, tmp_path):
    command(checkpoint[0], tmp_path / "exported")
    card = (tmp_path / "exported" / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: timm\n")
    for line in (
        "| data | pets |",
        "| epochs trained | 2 |",
        "| teacher | resnet50, label smoothing α = 0.1 |",
        "| distilled at | T = 3.0, β = 1.0 |",
        "| loss | kl, gradient scale match |",
        "| top-1, valid | 81.25 % |",
        "| input | 1×48×48, mean [0.1], std [0.25] |",
    ):
        assert line in card.splitlines()
    command(checkpoint[0], tmp_path / "ema", "--use-ema")
    assert "| top-1, valid | 82.50 % |" in (tmp_path / "ema" / "README.md").read_text()
    assert json.loads((tmp_path / "exported" / "config.json").read_text())["num_classes"] == 3


def test_a_checkpoint_without_a_record_has_a_card_too(command, checkpoint, tmp_path):
    (checkpoint[0].parent / "run.json").unlink()
    command(checkpoint[0], tmp_path / "exported")
    assert "| classes | 3 |" in (tmp_path / "exported" / "README.md").read_text()


def test_nothing_is_written_over_and_nothing_is_left_behind(command, checkpoint, tmp_path):
    (tmp_path / "there").mkdir()
    assert "there (exists; name a new directory)" in command(checkpoint[0], tmp_path / "there", status=2)
    assert "must be a directory" in command(checkpoint[0], tmp_path / "no" / "folder", status=2)
    before = sorted(tmp_path.iterdir())
    assert "checkpoint" in command(tmp_path / "nothing.pth", tmp_path / "exported", status=2)
    assert sorted(tmp_path.iterdir()) == before


def test_the_record_of_another_training_does_not_get_onto_the_card(command, checkpoint, tmp_path):
    path = checkpoint[0]
    record = read_run(path.parent)
    record.configuration["temperature"] = 1.0
    write_run(record, path.parent)
    command(path, tmp_path / "exported")
    card = (tmp_path / "exported" / "README.md").read_text()
    assert "distilled at" not in card
    assert "81.25" not in card
