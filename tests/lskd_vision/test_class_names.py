"""What a model's classes are called, and when that is not what the data's are called."""

import hashlib
import json
import random
from argparse import Namespace

import pytest
import timm
import torch
import torchvision
from timm.data import ImageNetInfo
from timm.models import save_for_hf

from lskd.io.errors import InputError
from lskd.measure.wordnet import imagenet_classes
from lskd_vision import class_names
from lskd_vision.checkpoints import read_checkpoint
from lskd_vision.class_names import check_classes, names_in, names_of_pretrained

NAMES = ["Bag", "Dress", "Sneaker"]
INFO = ImageNetInfo("imagenet-1k")
WNIDS = list(INFO.label_names())
DESCRIPTIONS = [INFO.label_name_to_description(wnid) for wnid in WNIDS]
STYLES = {
    "synset ids": WNIDS,
    "descriptions": DESCRIPTIONS,
    "first lemmas": [each.split(",")[0] for each in DESCRIPTIONS],
    "folders of lemmas": [each.split(",")[0].replace(" ", "_").lower() for each in DESCRIPTIONS],
    "torchvision's": torchvision.models.ResNet18_Weights.DEFAULT.meta["categories"],
    "here": list(imagenet_classes().values()),
    "id and lemma": [f"{wnid}-{each.split(',')[0]}" for wnid, each in zip(WNIDS, DESCRIPTIONS, strict=True)],
}


def check(theirs, ours, classes=None):
    check_classes(classes or len(ours), theirs, ours, "--kd-checkpoint", "t.pth")


def refusal(theirs, ours, classes=None) -> str:
    with pytest.raises(InputError) as error:
        check(theirs, ours, classes)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def said(monkeypatch) -> list[str]:
    """The lines that are said once, of this test alone."""
    lines = []
    monkeypatch.setattr(class_names, "say_once", lines.append)
    return lines


# ---- comparing


def test_composed_and_decomposed_characters_are_the_same(said):
    check(["Bag", "Ta\u0308sche"], ["Bag", "T\xe4sche"])
    assert not said


def test_the_first_class_that_differs_is_named(said):
    check(NAMES, NAMES)
    expected = "--kd-checkpoint: t.pth (has 'Dress' as class 0, the data have 'Bag')"
    assert refusal(["Dress", "Bag", "Sneaker"], NAMES) == expected
    assert "has 'Boot' as class 2, the data have 'Sneaker'" in refusal([*NAMES[:2], "Boot"], NAMES)
    assert "has 3 classes, must be the data's 2" in refusal(NAMES, NAMES[:2], classes=3)
    assert said == []


def test_what_cannot_be_compared_is_said_in_a_line(said):
    check(None, NAMES)
    check(["LABEL_0", "LABEL_1", "LABEL_2"], NAMES)
    assert said == [
        "--kd-checkpoint: t.pth (has no class names: cannot check that their order matches the data)",
        "--kd-checkpoint: t.pth (names its classes 'LABEL_0', …, the data's 'Bag', …: nothing in common, their order "
        "is not compared)",
    ]


def test_a_line_is_said_once(caplog):
    for _ in range(3):
        class_names.say_once("a line of this test")
    assert caplog.messages == ["a line of this test"]


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (["bag", "ankle boot"], ["Bag", "Ankle_Boot"]),
        (["T-shirt/top", "Trouser"], ["T-shirt_top", "trouser"]),
        (["001.Black_footed_Albatross", "002.Laysan_Albatross"], ["Black footed albatross", "Laysan albatross"]),
        (["a", "A"], ["a", "A"]),
        (["+", "-"], ["+", "-"]),
    ],
)
def test_case_and_punctuation_do_not_matter_where_names_are_of_other_spelling(theirs, ours, said):
    check(theirs, ours)
    assert refusal(theirs[::-1], ours)
    assert said == []


@pytest.mark.slow
@pytest.mark.parametrize("theirs", STYLES)
@pytest.mark.parametrize("ours", STYLES)
def test_imagenets_classes_are_known_by_all_of_their_names(theirs, ours, said):
    theirs, ours = list(STYLES[theirs]), STYLES[ours]
    check(theirs, ours)
    assert said == []
    pick = random.Random(0)
    for _ in range(20):
        # Classes 134 and 517 are both cranes, 638 and 639 both maillots, and some share a lemma: not these.
        one, other = pick.sample([index for index in range(400) if index not in (134, 65, 57, 264)], 2)
        swapped = list(theirs)
        swapped[one], swapped[other] = swapped[other], swapped[one]
        assert f"as class {min(one, other)}, the data have" in refusal(swapped, ours)


def test_a_teacher_in_torchvisions_order_is_refused_with_the_option_that_takes_it():
    natural, torchvisions = ["a", "B", "c"], ["B", "a", "c"]
    expected = "has 'B' as class 0, the data have 'a'; --class-order torchvision gives them the model's order"
    assert expected in refusal(torchvisions, natural)
    assert "; --class-order natural gives" in refusal(natural, torchvisions)
    assert "class-order" not in refusal(["c", "B", "a"], natural)


# ---- where names are


@pytest.mark.parametrize(
    "content",
    [
        {"label_names": NAMES},
        {"label_names": {"2": "Sneaker", "0": "Bag", "1": "Dress"}},
        {"id2label": {2: "Sneaker", 0: "Bag", 1: "Dress"}},
        {"label2id": {"Sneaker": 2, "Bag": 0, "Dress": 1}},
        {"class_to_idx": {"Sneaker": 2, "Bag": 0, "Dress": 1}},
        {"idx_to_class": {0: "Bag", 1: "Dress", 2: "Sneaker"}},
        {"classes": tuple(NAMES)},
        {"class_names": NAMES},
        {"meta": {"CLASSES": NAMES}},
        {"meta": {"categories": NAMES}},
        {"pretrained_cfg": {"label_names": NAMES}},
        {"classes": 3, "class_names": NAMES},
    ],
)
def test_names_are_found_under_all_of_their_names(content):
    assert names_in(content) == NAMES


@pytest.mark.parametrize(
    "content",
    [
        *({}, None, [], {"classes": 10}, {"classes": ["one"]}, {"classes": [1, 2]}),
        *({"id2label": {"0": "a", "2": "b"}}, {"id2label": {float("inf"): "a", 0: "b"}}),
        *({"id2label": {"x": "a", "y": "b"}}, {"class_to_idx": {"a": 0, "b": 0}}, {"class_to_idx": {"a": None}}),
    ],
)
def test_what_are_no_names_is_left_alone(content):
    assert names_in(content) is None


def save(path, **state):
    weights = timm.create_model("test_resnet", num_classes=3).state_dict()
    torch.save({"arch": "test_resnet", "state_dict": weights} | state, path)
    return path


def test_a_checkpoint_of_others_tells_its_names(tmp_path):
    def names(**state):
        return read_checkpoint(save(tmp_path / "c.pth.tar", **state), "checkpoint").class_names

    assert names(class_to_idx={"Sneaker": 2, "Bag": 0, "Dress": 1}) == NAMES
    assert names(args={"class_names": NAMES}) == names(args=Namespace(class_names=NAMES)) == NAMES
    assert names(lskd={"data": {"classes": NAMES}}, classes=["not", "these", "three"]) == NAMES
    assert names() is None


def publish(folder, tag="", **config):
    model = timm.create_model("test_resnet", num_classes=config.get("num_classes", 3))
    model.pretrained_cfg = dict(model.pretrained_cfg) | {"tag": tag}
    save_for_hf(model, folder, safe_serialization=True, model_config={"num_classes": 3} | config)
    return folder


def test_a_published_folder_tells_its_names_by_its_name_and_by_its_file(tmp_path):
    folder = publish(tmp_path / "timm", label_names=NAMES)
    model = timm.create_model(f"local-dir:{folder}", pretrained=True)
    assert names_of_pretrained(model, f"local-dir:{folder}") == NAMES
    assert read_checkpoint(folder / "model.safetensors", "checkpoint").class_names == NAMES
    # Another file in the folder, as of a training that was started from it, is not what config.json is about.
    assert read_checkpoint(save(folder / "last.pth.tar"), "checkpoint").class_names is None


def test_a_folder_in_the_style_of_hugging_face_tells_its_names(tmp_path):
    folder = publish(tmp_path / "hf")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"id2label": dict(enumerate(NAMES))}))
    model = timm.create_model(f"local-dir:{folder}", pretrained=True)
    assert names_of_pretrained(model, f"local-dir:{folder}") == NAMES
    assert read_checkpoint(folder / "model.safetensors", "checkpoint").class_names == NAMES
    for damaged in (
        "{",
        "[]",
        '{"pretrained_cfg": [1]}',
        '{"num_classes": [1000], "tag": "in1k"}',
        '{"id2label": {"1e999": 1}}',
    ):
        (folder / "config.json").write_text(damaged)
        assert read_checkpoint(folder / "model.safetensors", "checkpoint").class_names is None


def test_a_repository_of_the_hub_tells_its_names_by_the_file_that_timm_has_fetched(tmp_path, monkeypatch):
    folder = publish(tmp_path / "hub")
    model = timm.create_model(f"local-dir:{folder}", pretrained=True)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"id2label": dict(enumerate(NAMES))}))
    fetched = {("someone/clothes", "config.json", "v2"): str(folder / "config.json")}
    monkeypatch.setattr(
        class_names.huggingface_hub,
        "try_to_load_from_cache",
        lambda repository, file, revision: fetched.get((repository, file, revision)),
    )
    assert names_of_pretrained(model, "hf-hub:someone/clothes@v2") == NAMES
    assert names_of_pretrained(model, "hf-hub:someone/clothes") is None


def test_pretrained_imagenet_models_have_imagenets_classes_in_the_order_of_their_wordnet_ids(tmp_path):
    model = timm.create_model("test_resnet.r160_in1k")
    assert names_of_pretrained(model, "test_resnet.r160_in1k") == WNIDS == sorted(WNIDS)
    assert WNIDS[0] == "n01440764"  # tench
    folder = publish(tmp_path / "timm", tag="a1_in1k", num_classes=1000)
    assert read_checkpoint(folder / "model.safetensors", "checkpoint").class_names == WNIDS
    folder = publish(tmp_path / "tuned", tag="a1_in1k")
    assert read_checkpoint(folder / "model.safetensors", "checkpoint").class_names is None


@pytest.mark.parametrize(
    ("name", "classes", "first"),
    [
        ("vit_tiny_patch16_224.augreg_in21k", None, "n00004475"),
        ("test_resnet.r160_in1k", 10, None),
        ("test_coatnet", 1000, None),
    ],
)
def test_models_of_other_subsets_have_their_ids_and_models_of_other_classes_none(name, classes, first):
    with torch.device("meta"):
        model = timm.create_model(name, **({"num_classes": classes} if classes else {}))
    names = names_of_pretrained(model, name)
    assert (names and names[0]) == first


def test_torchvisions_own_files_are_known_by_their_checksum(tmp_path, monkeypatch):
    network, weights = "resnet18", torchvision.models.ResNet18_Weights.DEFAULT
    path = tmp_path / "renamed.pth"
    save(path)
    assert read_checkpoint(path, "checkpoint").class_names is None
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert class_names._torchvision_categories()[weights.url.rpartition("-")[2][:8]] == weights.meta["categories"]
    monkeypatch.setattr(class_names, "_torchvision_categories", lambda: {digest[:8]: weights.meta["categories"]})
    assert read_checkpoint(path, "checkpoint").class_names[:2] == ["tench", "goldfish"], network
