"""Representation files of image models: compared with the models themselves, in float64 and image by image."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from helpers.image_folders import CLASSES, write_folders
from PIL import Image
from torch import nn

from lskd.io.errors import InputError, run_command
from lskd.measure import representation_command
from lskd.measure.representations import read_representations
from lskd.measure.wordnet import imagenet_classes
from lskd.records.fingerprints import weights_fingerprint
from lskd_vision import representations
from lskd_vision.checkpoints import save_checkpoint
from lskd_vision.last_layer import last_layer

TRAIN, VALIDATION = 18, 7  # images of a class; no batch size below divides their number
MEAN, STD = 0.4, 0.3
DATA = f"--img-size 32 --crop-pct 1 --mean {MEAN} --std {STD} --device cpu --workers 0"
FAMILIES = (
    "test_resnet",
    "test_convnext",
    "test_efficientnet",
    "test_nfnet",
    "mobilenetv2_035",
    "mobilenetv3_small_050",
)


def make(name="test_resnet", classes=3, seed=0, **options):
    """A model whose logits depend on the image, as after a training."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = timm.create_model(name, num_classes=classes, **options)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.data.uniform_(0.5, 1.5)
                module.running_mean.uniform_(-0.5, 0.5)
                module.running_var.uniform_(0.5, 1.5)
        head = model.get_classifier()
        for layer in head if isinstance(head, tuple) else (head,):
            for part in layer.modules():
                if isinstance(part, nn.Linear | nn.Conv2d):
                    part.weight.data.normal_()
                    part.bias.data.normal_()
    return model.eval()


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> Path:
    return write_folders(tmp_path_factory.mktemp("folders") / "clothes", TRAIN, VALIDATION)


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    """A checkpoint of ``make()``, in a directory of its own."""
    (tmp_path / "run").mkdir()
    path = tmp_path / "run" / "last.pth.tar"
    save_checkpoint(path, {"arch": "test_resnet", "state_dict": make().state_dict()})
    return path


@pytest.fixture
def command(folders, monkeypatch, capsys):
    """Run the command in this process; gives its output, or the line of its refusal."""

    def command(*words, data=folders, status=0, options=DATA):
        words = [str(word) for part in words for word in (part.split() if isinstance(part, str) else [part])]
        monkeypatch.setattr("sys.argv", ["representations", "--data-dir", str(data), *options.split(), *words])
        with pytest.raises(SystemExit) as left:
            run_command(representations.parser(), representations.main)
        said = capsys.readouterr()
        assert left.value.code == status, said.err
        return said.out if not status else said.err.strip().splitlines()[-1]

    return command


def beside(checkpoint: Path, split: str):
    return read_representations(checkpoint.with_name(f"last.{split}.representations.safetensors"))


def files(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def images_of(folders: Path, split: str) -> tuple[torch.Tensor, np.ndarray]:
    """All images of a split as the model wants them, read without timm, and their labels."""
    paths = [path for name in CLASSES for path in sorted((folders / split / name).iterdir())]
    pixels = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in paths])
    labels = np.array([CLASSES.index(path.parent.name) for path in paths])
    return (torch.from_numpy(pixels).permute(0, 3, 1, 2).double() / 255 - MEAN) / STD, labels


@torch.no_grad()
def independent(folders: Path, split: str, model=None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, logits and labels in float64; the features are what a hook sees entering the last layer."""
    images, labels = images_of(folders, split)
    model, entering = (model or make()).double(), []
    hook = model.get_classifier().register_forward_pre_hook(lambda _, inputs: entering.append(inputs[0]))
    logits = torch.cat([model(image[None]) for image in images]).numpy()
    hook.remove()
    return torch.cat(entering).numpy(), logits, labels


def entropies(logits: np.ndarray, temperature: float) -> np.ndarray:
    p = torch.from_numpy(logits / temperature).softmax(1)
    return torch.special.entr(p).sum(1).numpy()


def close(found, expected, tolerance=1e-4):
    scale = np.abs(expected).max()
    np.testing.assert_allclose(np.asarray(found, np.float64) / scale, expected / scale, rtol=0, atol=tolerance)


@pytest.mark.parametrize("split", ["train", "validation"])
def test_every_image_is_there_once_in_the_splits_order_with_the_models_logits(split, checkpoint, folders, command):
    command(checkpoint, "--split", split, "--validation-batch-size 8")
    found = beside(checkpoint, split)
    features, logits, labels = independent(folders, split)
    assert found.class_names == list(CLASSES)
    assert found.labels.tolist() == labels.tolist()
    assert found.index.tolist() == list(range(len(labels)))
    assert found.complete
    assert found.features.dtype == np.float32
    close(found.features, features, 1e-5)
    close(found.logits(), logits, 1e-5)


def test_the_checkpoint_may_stand_behind_the_splits_or_behind_other_lists(checkpoint, command):
    for words in ("--split validation", "--use-ema --split train validation", "--mean 0.1 0.2 0.3", "--keep-classes a"):
        found = representations.parser().parse_args([*words.split(), str(checkpoint)])
        assert found.checkpoint == checkpoint
        assert found.split in (None, words.partition("--split ")[2].split())
    assert "required: checkpoint" in command("--split train validation", status=2)
    assert "unexpected argument" in command("other.pth --split train", checkpoint, status=2)


def test_moments_accuracy_and_entropy_are_those_of_all_images(checkpoint, folders, command):
    said = command(checkpoint, "--split train --temperatures 0.5 1 64 --validation-batch-size 8")
    found = beside(checkpoint, "train")
    features, logits, labels = independent(folders, "train")
    for label in range(3):
        own = features[labels == label]
        close(found.moments.centroids()[label], own.mean(0), 1e-6)
        assert found.moments.within_class_variance()[label] == pytest.approx(np.trace(np.cov(own.T)), rel=1e-4)
        right = logits[labels == label].argmax(1) == label
        assert found.correct[:, label].tolist() == [right.sum(), TRAIN]
    assert 0 < found.correct[0].sum() < 3 * TRAIN  # else nothing would be told apart
    assert f"top-1 {100 * found.correct[0].sum() / (3 * TRAIN):.2f} %" in said
    assert found.entropy[:, 0].tolist() == [0.5, 1, 64]
    for temperature, total, deviations in found.entropy:
        expected = entropies(logits, temperature)
        assert total == pytest.approx(expected.sum(), rel=1e-4)
        assert deviations == pytest.approx(((expected - expected.mean()) ** 2).sum(), rel=1e-3)


def test_several_splits_are_several_files_and_the_batch_size_changes_nothing(checkpoint, tmp_path, command):
    command(checkpoint, "--split train validation --validation-batch-size 8")
    assert files(checkpoint.parent) == {
        "last.pth.tar",
        "last.train.representations.safetensors",
        "last.validation.representations.safetensors",
    }
    other = tmp_path / "other.representations.safetensors"
    command(checkpoint, "--validation-batch-size 5 --output", other)
    one, two = beside(checkpoint, "validation"), read_representations(other)
    assert one.labels.tolist() == two.labels.tolist()
    close(one.features, np.asarray(two.features, np.float64), 1e-5)
    close(one.moments.centroids(), two.moments.centroids(), 1e-6)
    assert len(beside(checkpoint, "train").labels) == 3 * TRAIN


def test_features_of_chosen_classes_alone_are_kept_and_moments_cover_all(checkpoint, folders, command):
    command(checkpoint)
    everything = beside(checkpoint, "validation")
    command(checkpoint, "--keep-classes Sneaker Bag --keep-per-class 4 --validation-batch-size 8")
    some = beside(checkpoint, "validation")
    assert some.labels.tolist() == [0] * 4 + [2] * 4
    assert some.index.tolist() == [*range(4), *range(2 * VALIDATION, 2 * VALIDATION + 4)]
    close(some.features, np.asarray(everything.features, np.float64)[some.index], 1e-5)
    assert some.moments.counts.tolist() == [VALIDATION] * 3
    close(some.moments.centroids(), everything.moments.centroids(), 1e-6)
    assert some.correct.tolist() == everything.correct.tolist()
    assert not some.complete
    command(checkpoint, "--keep-per-class 0")
    none = beside(checkpoint, "validation")
    assert none.features.shape == (0, 96)
    assert none.moments.counts.tolist() == [VALIDATION] * 3


def test_half_precision_halves_the_features_and_leaves_the_moments(checkpoint, command):
    command(checkpoint)
    full = beside(checkpoint, "validation")
    command(checkpoint, "--dtype float16")
    half = beside(checkpoint, "validation")
    assert half.features.dtype == np.float16
    close(half.features, np.asarray(full.features, np.float64), 1e-3)
    np.testing.assert_array_equal(half.moments.centroids(), full.moments.centroids())
    assert half.weight.dtype == np.float32


def test_mixed_precision_is_of_the_model_and_not_of_its_last_layer(checkpoint, command):
    command(checkpoint, "--temperatures 1")
    exact = beside(checkpoint, "validation")
    command(checkpoint, "--amp --amp-dtype bfloat16 --channels-last --temperatures 1")
    found = beside(checkpoint, "validation")
    close(found.features, np.asarray(exact.features, np.float64), 0.05)
    assert np.abs(found.features - exact.features).max() > 1e-4
    # Accuracy and entropy are of the logits that the file itself gives.
    assert found.entropy[0, 1] == pytest.approx(entropies(found.logits(), 1).sum(), rel=1e-6)
    right = found.logits().argmax(1) == found.labels
    assert found.correct[0].tolist() == [right[found.labels == label].sum() for label in range(3)]


def test_a_file_says_where_it_came_from(tmp_path, folders, command):
    options = {"smoothing": 0.2, "seed": 5, "mean": [MEAN], "std": [STD]}
    path = tmp_path / "last.pth.tar"
    save_checkpoint(path, {"arch": "test_resnet", "args": options, "state_dict": make().state_dict()})
    command(path, "--split val", options="--img-size 32 --crop-pct 1 --device cpu --workers 0")
    found = beside(path, "validation")
    close(found.logits(), independent(folders, "validation")[1], 1e-5)  # normalised as the checkpoint says
    about = found.provenance
    assert (about["kind"], about["layer"], about["model"]) == ("vision", "penultimate", "test_resnet")
    assert (about["checkpoint"], about["split"]) == (str(path), "validation")
    assert about["fingerprint"] == weights_fingerprint(make().state_dict())
    assert (about["seed"], about["configuration"], about["teacher"]) == (5, {"label_smoothing": 0.2}, None)
    assert (about["samples"], about["moving_average"]) == (3 * VALIDATION, False)
    assert about["data"]["path"] == str(folders)
    assert about["data"]["preparation"]["mean"] == [MEAN] * 3
    assert len(about["data"]["fingerprint"]) == 64
    assert about["command"][0] == "representations"
    assert {"torch", "timm"} <= about["versions"].keys()
    assert about["hardware"]
    assert about["made"]


def test_a_checkpoint_that_tells_nothing_has_no_configuration(tmp_path, command):
    path = tmp_path / "last.pth"
    torch.save(make().state_dict(), path)
    command(path, "--model test_resnet")
    about = beside(path, "validation").provenance
    assert (about["model"], about["seed"], about["configuration"]) == ("test_resnet", None, {})


def test_the_moving_average_has_a_file_of_its_own(tmp_path, folders, command):
    path = tmp_path / "last.pth.tar"
    average = make(seed=1)
    state = {"arch": "test_resnet", "state_dict": make().state_dict(), "state_dict_ema": average.state_dict()}
    save_checkpoint(path, state)
    command(path)
    command(path, "--use-ema")
    for name, model in (("last", make()), ("last_ema", average)):
        found = read_representations(tmp_path / f"{name}.validation.representations.safetensors")
        assert found.provenance["moving_average"] == (model is average)
        close(found.logits(), independent(folders, "validation", model)[1], 1e-5)


@pytest.mark.parametrize("name", [*FAMILIES, "test_vit", "test_coatnet", "deit_tiny_patch16_224"])
def test_features_and_last_layer_of_a_family_give_its_logits(name):
    size = 32 if name in FAMILIES else 64
    options = {"img_size": size} if name.startswith(("test_vit", "test_coat", "deit")) else {}
    model = make(name, **options)
    last = last_layer(model, (3, size, size), "x.pth")
    layer, images = last.linear, torch.randn(2, 3, size, size)
    with torch.no_grad():
        features = last.features(images).double()
        assert torch.equal(features, model.forward_head(model.forward_features(images), pre_logits=True).double())
        logits = features @ layer.weight.double().T + layer.bias.double()
        expected = model(images).double().numpy()
    assert features.shape == (2, layer.in_features)
    assert np.abs(expected[0] - expected[1]).max() > 1e-3  # the logits depend on the image
    close(logits, expected, 1e-5)


class Squashed(nn.Linear):
    def forward(self, features):
        return 5 * torch.tanh(super().forward(features) / 5)


def test_a_model_whose_logits_are_not_linear_in_its_features_is_refused():
    model = make()
    layer = Squashed(96, 3)
    layer.load_state_dict(model.fc.state_dict())
    model.fc = layer
    with pytest.raises(InputError, match=r"^checkpoint: x\.pth \(has logits that are not its last layer's"):
        last_layer(model, (3, 32, 32), "x.pth")


@pytest.mark.parametrize(
    ("name", "options", "width"),
    [
        ("resnetv2_18", {}, 512),  # a 1×1 convolution
        ("repvit_m0_9", {"distillation": False}, 384),  # a linear layer after a batch norm
        ("deit_tiny_distilled_patch16_224", {"img_size": 64, "depth": 2}, 2 * 192),
        ("repvit_m0_9", {"distillation": True}, 2 * 384),
    ],
)
def test_features_of_other_last_layers_give_the_logits_those_of_two_heads_beside_each_other(name, options, width):
    model = make(name, **options)
    last = last_layer(model, (3, 64, 64), "x.pth")
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        features, expected = last.features(images).double(), model(images).double().numpy()
    assert features.shape == (2, width)
    assert last.linear.weight.shape == (3, width)
    assert np.abs(expected[0] - expected[1]).max() > 1e-3
    close(features @ last.linear.weight.double().T + last.linear.bias.double(), expected, 1e-5)


def test_a_model_without_a_linear_last_layer_is_refused():
    model = make()
    model.fc = nn.Tanh()
    with pytest.raises(InputError, match="not linear: Tanh"):
        last_layer(model, (3, 32, 32), "x.pth")


def test_what_cannot_be_recorded_is_refused_in_one_line_and_nothing_is_written(
    checkpoint, tmp_path, folders, command, monkeypatch
):
    run = checkpoint.parent
    kept = run / "last.validation.representations.safetensors"
    kept.write_text("from before")
    save_checkpoint(run / "five.pth.tar", {"arch": "test_resnet", "state_dict": make(classes=5).state_dict()})
    for name, key in (("nan", "layer1.0.conv1.weight"), ("nan_bias", "fc.bias")):
        weights = make().state_dict()
        weights[key].fill_(float("nan"))
        save_checkpoint(run / f"{name}.pth.tar", {"arch": "test_resnet", "state_dict": weights})
    weights = make().state_dict()
    weights["layer4.0.bn2.bias"].fill_(1e6)
    save_checkpoint(run / "large.pth.tar", {"arch": "test_resnet", "state_dict": weights})
    before = files(run)
    for name, words, expected in (
        ("no.pth.tar", "", "must be the path of an existing checkpoint file"),
        ("five.pth.tar", "", "has 5 classes, must be the data's 3"),
        ("nan.pth.tar", "", "features: not a finite number in sample 0"),
        ("nan_bias.pth.tar", "", "logits: "),
        ("large.pth.tar", "--dtype float16", "dtype: float16 (must be float32: a feature is 1"),
        ("last.pth.tar", "--split test", "--data-dir: "),
        ("last.pth.tar", "--split train test", "--data-dir: "),
        ("last.pth.tar", "--split val validation", "--split: val validation (must not repeat a split)"),
        (
            "last.pth.tar",
            "--keep-classes Sneakers",
            "--keep-classes: 'Sneakers' (must be a class, such as Sn",
        ),
        ("last.pth.tar", "--keep-classes zzz", "--keep-classes: 'zzz' (must be a class, such as Bag, Dress"),
        ("last.pth.tar", "--keep-per-class -1", "--keep-per-class: -1 (must be a whole number"),
        ("last.pth.tar", "--temperatures 1 0", "--temperatures: 0 (must be a finite number above 0)"),
        ("last.pth.tar", "--temperatures nan", "--temperatures: nan"),
        ("last.pth.tar", "--temperatures 2 2", "--temperatures: 2 2"),
        ("last.pth.tar", "--dtype bfloat16", "--dtype"),
        ("last.pth.tar", f"--output {run}/figures.safetensors", "must end in .representations.safetensors"),
        ("last.pth.tar", f"--output {run}/no/a.representations.safetensors", "in a directory that exists"),
        (
            "last.pth.tar",
            f"--split train val --output {run}/a.representations.safetensors",
            "must be left out for several",
        ),
        ("last.pth.tar", "--device no_such", "--device: no_such"),
    ):
        line = command(run / name, words, status=2)
        assert line.startswith("lskd_vision.representations: error: "), words
        assert expected in line
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "WORLD_SIZE: 2 (must be 1" in command(checkpoint, status=2)
    assert files(run) == before
    assert kept.read_text() == "from before"


def test_an_image_that_cannot_be_read_ends_the_pass_and_leaves_nothing(checkpoint, folders, tmp_path, command):
    damaged = shutil.copytree(folders, tmp_path / "damaged")
    (damaged / "validation" / "Sneaker" / "003.png").write_bytes(b"no image")
    assert "Sneaker/003.png" in command(checkpoint, data=damaged, status=2)
    assert files(checkpoint.parent) == {"last.pth.tar"}


def test_an_interrupted_pass_leaves_nothing_behind(checkpoint, command, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(representation_command.Recording, "add", interrupted)
    assert "interrupted" in command(checkpoint, status=130)
    assert files(checkpoint.parent) == {"last.pth.tar"}


# ---- the last layer alone


@pytest.fixture
def without_data(monkeypatch, capsys):
    """Run the command without --data-dir, in this process; gives its output, or the line of its refusal."""

    def without_data(*words, status=0):
        words = [str(word) for part in words for word in (part.split() if isinstance(part, str) else [part])]
        monkeypatch.setattr("sys.argv", ["representations", "--device", "cpu", *words])
        with pytest.raises(SystemExit) as left:
            run_command(representations.parser(), representations.main)
        said = capsys.readouterr()
        assert left.value.code == status, said.err
        return said.out if not status else said.err.strip().splitlines()[-1]

    return without_data


def imagenet_checkpoint(path: Path, classes: int = 1000) -> Path:
    """Weights of a model, in a file that tells nothing about its classes."""
    torch.save(make(classes=classes).state_dict(), path)
    return path


def test_the_last_layer_alone_needs_no_images_and_has_imagenets_classes(tmp_path, without_data):
    path = imagenet_checkpoint(tmp_path / "weights.pth")
    said = without_data(path, "--model test_resnet --last-layer-only")
    file = tmp_path / "weights.last-layer.representations.safetensors"
    assert said == f"{file}: no samples, a last layer of 1000 classes and 96 features\n"
    assert files(tmp_path) == {"weights.pth", file.name}
    found, layer = read_representations(file), make(classes=1000).get_classifier()
    assert found.class_names == list(imagenet_classes())
    assert np.array_equal(found.weight, layer.weight.detach().numpy())
    assert np.array_equal(found.bias, layer.bias.detach().numpy())
    assert found.features.shape == (0, 96)
    assert found.moments.counts.tolist() == [0] * 1000
    assert (found.correct, len(found.entropy)) == (None, 0)
    about = found.provenance
    assert (about["model"], about["checkpoint"]) == ("test_resnet", str(path))
    assert (about["split"], about["samples"], about["data"]) == ("last-layer", 0, None)
    other = tmp_path / "other.representations.safetensors"
    without_data(path, "--model test_resnet --last-layer-only --output", other)
    assert np.array_equal(read_representations(other).weight, found.weight)


def test_a_file_of_a_model_whose_labels_were_mixed_says_so(tmp_path, without_data):
    path, file = tmp_path / "last.pth.tar", tmp_path / "a.representations.safetensors"
    options = {"smoothing": 0.0, "mixup": 0.8}
    save_checkpoint(path, {"arch": "test_resnet", "args": options, "state_dict": make(classes=1000).state_dict()})
    without_data(path, "--last-layer-only --output", file)
    assert read_representations(file).provenance["configuration"] == {"label_smoothing": 0.0, "mixed_labels": True}


@pytest.mark.slow
def test_the_last_layer_alone_has_the_classes_that_the_checkpoint_knows(image_teachers, tmp_path, without_data):
    file = tmp_path / "a.representations.safetensors"
    without_data(image_teachers[1], "--last-layer-only --output", file)
    found = read_representations(file)
    assert found.class_names[:2] == ["T-shirt/top", "Trouser"]
    assert found.weight.shape == (10, 96)
    assert found.provenance["configuration"]["label_smoothing"] == 0.1


def test_a_last_layer_of_classes_that_nobody_knows_is_refused(tmp_path, without_data):
    path = imagenet_checkpoint(tmp_path / "weights.pth", classes=3)
    line = without_data(path, "--model test_resnet --last-layer-only", status=2)
    assert f"checkpoint: {path} (does not name its 3 classes" in line
    assert files(tmp_path) == {"weights.pth"}


@pytest.mark.parametrize("words", ["--data-dir .", "--split train", "--keep-classes Bag Dress", "--keep-per-class 3"])
def test_what_is_of_images_is_refused_beside_the_last_layer_alone(words, tmp_path, without_data):
    line = without_data(tmp_path / "weights.pth", "--last-layer-only", words, status=2)
    option, _, value = words.partition(" ")
    assert f"{option}: {value} (cannot be used with --last-layer-only, which reads no images)" in line


def test_everything_else_needs_data(tmp_path, without_data):
    line = without_data(imagenet_checkpoint(tmp_path / "weights.pth"), status=2)
    assert line == "lskd_vision.representations: error: the following arguments are required: --data-dir"


def test_provenance_is_the_same_words_on_every_checkpoint(checkpoint, command):
    command(checkpoint)
    about = beside(checkpoint, "validation").provenance
    assert json.loads(json.dumps(about)) == about
    assert about.keys() == {
        *("kind", "layer", "model", "checkpoint", "fingerprint", "moving_average", "split", "samples", "seed"),
        *("configuration", "teacher", "data", "command", "versions", "hardware", "revision", "made"),
    }
