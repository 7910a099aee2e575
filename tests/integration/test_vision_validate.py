"""``lskd_vision.validate`` as a user runs it, on checkpoints of short real trainings."""

import json
import shutil

import numpy as np
import pytest
import timm
import torch
import torchvision
from helpers.commands import last_line, run
from helpers.refusals import refusal as refused
from helpers.vision_commands import state_of, train_images

from lskd.io.errors import run_command
from lskd_vision import validate as validation

pytestmark = pytest.mark.slow
DATA = "--dataset torch/fashion_mnist --device cpu --workers 0"
FOREIGN = f"{DATA} --img-size 28 --crop-pct 1"


@pytest.fixture(scope="module")
def trained(images, image_teachers, tmp_path_factory):
    """The run directory of a student with a moving average of its weights, after two epochs."""
    output = tmp_path_factory.mktemp("trained")
    options = ("--model test_resnet --kd-checkpoint", image_teachers[0], "--kd-temperature 2 --epochs 2 --seed 4")
    train_images(images, output, *options, "--mean 0.3 --std 0.4 --model-ema --model-ema-decay 0.8")
    return output / "fashion_mnist" / "test_resnet_a0_T2_s4"


@pytest.fixture
def directory(trained, tmp_path):
    """A copy of it, to write to."""
    return shutil.copytree(trained, tmp_path / trained.name)


def validate(checkpoint, images, *options, data=DATA, **keywords):
    return run("python -m lskd_vision.validate", checkpoint, "--data-dir", images, data, *options, **keywords)


def record_of(directory):
    return json.loads((directory / "run.json").read_text())


def independent(checkpoint, images, train=False, key="state_dict"):
    """The figures in float64: timm's model on torchvision's images, counted with numpy."""
    state = state_of(checkpoint)
    config = state["lskd"]["configuration"]["host"]["data_config"]
    model = timm.create_model("test_resnet", num_classes=10, in_chans=1)
    model.load_state_dict(state[key])
    data = torchvision.datasets.FashionMNIST(images, train=train)
    pixels = (data.data[:, None].double() / 255 - config["mean"][0]) / config["std"][0]
    with torch.no_grad():
        logits = model.double().eval()(pixels).numpy()
    target = data.targets.numpy()
    order = np.argsort(-logits, axis=1, kind="stable")
    right = order[:, 0] == target
    nll = np.log(np.exp(logits).sum(1)) - logits[range(len(target)), target]
    return {
        "samples": len(target),
        "top1": 100 * right.mean(),
        "top5": 100 * (order[:, :5] == target[:, None]).any(1).mean(),
        "nll_loss": nll.mean(),
        "classwise": {name: 100 * right[target == label].mean() for label, name in enumerate(data.classes)},
    }


def assert_same(found, expected):
    assert found["samples"] == expected["samples"]
    for name in ("top1", "top5"):
        assert found[name] == pytest.approx(expected[name], rel=1e-12), name
    assert found["nll_loss"] == pytest.approx(expected["nll_loss"], rel=1e-5)
    assert found["classwise"] == pytest.approx(expected["classwise"], rel=1e-12)


def of_average(metrics):
    return {name.removesuffix("_ema"): value for name, value in metrics.items() if name.endswith("_ema")}


def test_figures_are_those_of_the_training_and_of_numpy_and_join_the_record(directory, images):
    before = record_of(directory)
    earlier = before["figures"]["valid"]
    result = validate(directory / "last.pth.tar", images)
    after = record_of(directory)
    found = after["figures"]["valid"]["last.pth.tar"]
    assert_same(found, independent(directory / "last.pth.tar", images))
    assert_same(found, earlier["last.pth.tar"])
    assert len(found["fingerprint"]) == 64
    # Everything else in the record stays.
    assert found.keys() == earlier["last.pth.tar"].keys() | {"fingerprint"}
    assert of_average(found) == of_average(earlier["last.pth.tar"])
    del after["figures"]["valid"]["last.pth.tar"], earlier["last.pth.tar"]
    del after["updated"], before["updated"]
    assert after == before

    lines = result.stdout.splitlines()
    assert f"top-1 {found['top1']:.2f} %   top-5 {found['top5']:.2f} %   loss {found['nll_loss']:.4f} nats" in lines
    assert f"  Trouser     {found['classwise']['Trouser']:6.2f} %" in lines
    assert lines[-1] == f"recorded in {directory / 'run.json'}"


def test_figures_of_the_moving_average_have_a_suffix(directory, images):
    before = record_of(directory)["figures"]["valid"]["last.pth.tar"]
    validate(directory / "last.pth.tar", images, "--use-ema")
    after = record_of(directory)["figures"]["valid"]["last.pth.tar"]
    expected = independent(directory / "last.pth.tar", images, key="state_dict_ema")
    assert_same(of_average(after), expected)
    assert_same(of_average(after), of_average(before))
    assert expected["nll_loss"] != pytest.approx(before["nll_loss"], rel=1e-3)  # else nothing would be told apart
    assert {name: value for name, value in after.items() if not name.endswith("_ema")} == {
        name: value for name, value in before.items() if not name.endswith("_ema")
    }


def test_a_record_of_another_run_beside_the_checkpoint_is_left_alone(directory, images, tmp_path):
    shutil.copy(directory / "last.pth.tar", tmp_path)
    record = record_of(directory)
    record["configuration"]["temperature"] = 3
    (tmp_path / "run.json").write_text(json.dumps(record))
    result = validate(tmp_path / "last.pth.tar", images)
    assert (
        f"not recorded in {tmp_path / 'run.json'}: it belongs to another training run than last.pth.tar"
        in result.stdout
    )
    assert record_of(tmp_path) == record


def test_another_split_has_figures_of_its_own(directory, images, tmp_path):
    before = record_of(directory)["figures"]
    results = tmp_path / "train.json"
    validate(directory / "last.pth.tar", images, "--split train --validation-batch-size 100 --results-file", results)
    after = record_of(directory)["figures"]
    assert after.pop("train").keys() == {"last.pth.tar"}
    assert after == before
    written = json.loads(results.read_text())
    assert (written["checkpoint"], written["split"]) == (str(directory / "last.pth.tar"), "train")
    assert_same(written, independent(directory / "last.pth.tar", images, train=True))
    assert written["fingerprint"] != before["valid"]["last.pth.tar"].get("fingerprint")


@pytest.mark.parametrize(
    ("options", "difference", "split", "earlier"),
    [
        ("", "has other images or labels than the run's data", "validation", False),
        ("", "has other images or labels than the run's data", "validation", True),
        ("", "has other images or labels than the run's data", "train", False),
        ("--crop-pct 0.5", "crop_pct is 0.5, and was 1.0 in the training", "validation", False),
        ("--max-pixel-value 4095", "max_pixel_value is 4095.0, and was None in the training", "train", False),
    ],
)
def test_figures_of_other_images_stay_out_of_the_record(
    options, difference, split, earlier, directory, images, tmp_path, capsys
):
    record = record_of(directory)
    if earlier:  # one fingerprint of both splits, as earlier versions have written it
        del record["data"]["split_fingerprints"]
    (directory / "run.json").write_text(json.dumps(record))
    data = shutil.copytree(images, tmp_path / "others")
    if not options:
        for kind in ("train", "t10k"):
            path = next(data.rglob(f"{kind}-images-idx3-ubyte"))
            content = bytearray(path.read_bytes())
            content[-1] ^= 1
            path.write_bytes(content)
    words = [directory / "last.pth.tar", "--data-dir", data, "--split", split, "--results-file", tmp_path / "f.json"]
    words = [*map(str, words), *DATA.split(), *options.split()]
    validation.main(validation.parser().parse_args(words))
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith(f"not recorded in {directory / 'run.json'}: ")
    assert last.endswith(difference)
    assert record_of(directory) == record
    assert json.loads((tmp_path / "f.json").read_text())["split"] == split


def test_a_run_that_cannot_be_written_to_is_scored_all_the_same(directory, images, tmp_path, monkeypatch, capsys):
    # Root may write everywhere, so that permissions are none to test with.
    monkeypatch.setattr("os.access", lambda path, mode: path != directory)
    before = (directory / "run.json").read_bytes()
    words = [str(directory / "last.pth.tar"), "--data-dir", str(images), "--results-file", str(tmp_path / "f.json")]
    validation.main(validation.parser().parse_args([*words, *DATA.split()]))
    said = f"not recorded in {directory / 'run.json'}: the directory cannot be written to"
    assert capsys.readouterr().out.splitlines()[-1] == said
    assert (directory / "run.json").read_bytes() == before
    assert json.loads((tmp_path / "f.json").read_text())["samples"] > 0


def test_representations_of_other_images_need_another_name(directory, images, monkeypatch, capsys):
    words = ["lskd_vision.representations", directory / "last.pth.tar", "--data-dir", images, *DATA.split()]
    line = refused([*map(str, words), "--crop-pct", "0.5"], directory, monkeypatch, capsys)
    assert f"--data-dir: {images} (must be the run's for last.validation.representations.safetensors, or name" in line
    assert line.endswith("name another --output: crop_pct is 0.5, and was 1.0 in the training)")


@pytest.mark.parametrize("split", ["validation", "train"])
def test_the_runs_data_are_known_by_an_earlier_record_too(split, directory, images, capsys):
    record = record_of(directory)
    del record["data"]["split_fingerprints"]
    (directory / "run.json").write_text(json.dumps(record))
    words = [str(directory / "last.pth.tar"), "--data-dir", str(images), "--split", split, *DATA.split()]
    validation.main(validation.parser().parse_args(words))
    assert capsys.readouterr().out.splitlines()[-1] == f"recorded in {directory / 'run.json'}"


def test_a_checkpoint_of_others_needs_a_model_and_leaves_no_record(directory, images, tmp_path):
    weights = state_of(directory / "last.pth.tar")["state_dict"]
    foreign = directory / "weights.pth"  # beside a run record that is not its own
    torch.save(weights, foreign)
    before = (directory / "run.json").read_bytes()
    refused = validate(foreign, images, data=FOREIGN, status=2)
    assert last_line(refused).endswith("weights.pth (does not name its model; give the name)")
    options = ("--model test_resnet --mean 0.3 --std 0.4 --results-file", tmp_path / "figures.json")
    result = validate(foreign, images, *options, data=FOREIGN)
    assert (directory / "run.json").read_bytes() == before
    assert "it belongs to another training run than weights.pth" in result.stdout
    assert_same(json.loads((tmp_path / "figures.json").read_text()), independent(directory / "last.pth.tar", images))


def test_our_own_checkpoint_is_scored_away_from_its_run(trained, images, tmp_path):
    shutil.copy(trained / "model_best.pth.tar", tmp_path / "best.pth.tar")
    validate(tmp_path / "best.pth.tar", images, "--results-file", tmp_path / "figures.json")
    found = json.loads((tmp_path / "figures.json").read_text())
    assert_same(found, record_of(trained)["figures"]["valid"]["model_best.pth.tar"])
    assert {path.name for path in tmp_path.iterdir()} == {"best.pth.tar", "figures.json"}


def test_a_model_that_gives_no_numbers_is_scored_as_wrong_throughout(directory, images):
    state = state_of(directory / "last.pth.tar")
    state["state_dict"]["fc.bias"].fill_(float("nan"))
    torch.save(state, directory / "last.pth.tar")
    result = validate(directory / "last.pth.tar", images)
    assert "top-1 0.00 %   top-5 0.00 %   loss not finite" in result.stdout
    found = record_of(directory)["figures"]["valid"]["last.pth.tar"]
    assert (found["top1"], found["nll_loss"]) == (0, None)


def test_mixed_precision_gives_nearly_the_same_figures(directory, images, tmp_path):
    options = ("--amp --amp-dtype bfloat16 --channels-last --results-file", tmp_path / "figures.json")
    validate(directory / "last.pth.tar", images, *options)
    found, exact = json.loads((tmp_path / "figures.json").read_text()), independent(directory / "last.pth.tar", images)
    assert found["nll_loss"] == pytest.approx(exact["nll_loss"], rel=0.02)
    assert found["nll_loss"] != pytest.approx(exact["nll_loss"], rel=1e-6)


@pytest.fixture
def refusal(monkeypatch, capsys):
    """The last line of the command, run in this process, which has to leave with status 2."""

    def refusal(*words):
        monkeypatch.setattr("sys.argv", ["validate", *(str(word) for part in words for word in _split(part))])
        with pytest.raises(SystemExit) as left:
            run_command(validation.parser(), validation.main)
        assert left.value.code == 2
        line = capsys.readouterr().err.strip().splitlines()[-1]
        assert line.startswith("lskd_vision.validate: error: ")
        return line

    return refusal


def _split(part):
    return part.split() if isinstance(part, str) else [part]


def test_what_cannot_be_scored_is_refused_in_one_line_and_the_record_stays(directory, images, refusal, tmp_path):
    last = directory / "last.pth.tar"
    before = (directory / "run.json").read_bytes()
    without = state_of(last)
    del without["state_dict_ema"]
    torch.save(without, tmp_path / "without.pth.tar")
    other = state_of(last)
    classes = other["lskd"]["data"]["classes"]
    classes[0], classes[1] = classes[1], classes[0]
    torch.save(other, tmp_path / "other.pth.tar")
    five = timm.create_model("test_resnet", num_classes=5, in_chans=1)
    torch.save({"arch": "test_resnet", "state_dict": five.state_dict()}, tmp_path / "five.pth.tar")
    (tmp_path / "empty").mkdir()
    results = tmp_path / "figures.json"
    for checkpoint, data, options, words in (
        (tmp_path / "no.pth.tar", images, "", "no.pth.tar (must be the path of an existing checkpoint file)"),
        (images, images, "", "(must be the path of an existing checkpoint file)"),
        (tmp_path / "without.pth.tar", images, "--use-ema", "--use-ema: "),
        (tmp_path / "other.pth.tar", images, "", "has 'Trouser' as class 0, the data have 'T-shirt/top'"),
        (tmp_path / "five.pth.tar", images, FOREIGN, "has 5 classes, must be the data's 10"),
        (last, tmp_path / "empty", "", "--data-dir: "),
        (last, tmp_path / "nowhere", "", "--data-dir: "),
        (last, images, "--split no_such", "--data-dir: "),
        (last, images, "--model test_efficientnet", "test_efficientnet"),
        (last, images, "--in-chans 3", "cannot take images of 3x28x28"),
        (last, images, "--device no_such", "--device: no_such"),
        (last, images, f"--results-file {tmp_path}/no/f.json", "must be in a directory that exists"),
        (last, images, "--no-such-option", "no such option: --no-such-option"),
    ):
        line = refusal(checkpoint, "--results-file", results, "--data-dir", data, DATA, options)
        assert words in line
    assert not results.exists()
    assert (directory / "run.json").read_bytes() == before


def test_a_data_set_that_does_not_name_its_classes_is_refused(trained, images, refusal, monkeypatch):
    monkeypatch.setattr(validation, "class_names", lambda data: None)
    words = refusal(trained / "last.pth.tar", "--data-dir", images, DATA)
    assert words.endswith("--dataset: torch/fashion_mnist (must be one that names its classes)")
