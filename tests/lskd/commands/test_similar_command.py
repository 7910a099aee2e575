import csv
import json
from pathlib import Path

import numpy as np
import pytest
from helpers.commands import ROOT, last_line, run
from helpers.lskd_commands import here

from lskd.measure.class_sets import ClassSets, read_sets
from lskd.measure.representation_collector import RepresentationCollector
from lskd.measure.representations import collect, read_representations, write_representations
from lskd.measure.similar_classes import sets_by_distance, sets_by_wordnet
from lskd.measure.wordnet import find_hierarchy, imagenet_classes

FASHION = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
GROUPS = ROOT / "data_prep" / "samples" / "fashion_mnist_groups.json"
WNIDS = list(imagenet_classes())


def similar(*options, **keywords):
    return here("similar", *options, **keywords)


def write(path: Path, names: list[str], samples: int = 4, weight: bool = True, seed: int = 1) -> Path:
    """A representation file of random features, of ``samples`` and one more for each class than the one before."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(names)), samples + np.arange(len(names)))
    last = {"weight": rng.normal(size=(len(names), 3)).astype(np.float32)} if weight else {}
    write_representations(path, collect(rng.normal(size=(len(labels), 3)), labels, names, **last))
    return path


@pytest.fixture(scope="module")
def fashion(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("fashion") / "teacher.representations.safetensors", FASHION)


def test_imagenets_classes_need_no_file_and_are_shown_by_name(tmp_path):
    result = similar("--by wordnet --targets golden_retriever n02113799 52 --output", tmp_path / "sets.json")
    expected = sets_by_wordnet(find_hierarchy(WNIDS), [207, 267, 52])
    assert read_sets(tmp_path / "sets.json", WNIDS) == expected
    assert list(json.loads((tmp_path / "sets.json").read_text())["sets"]) == [WNIDS[index] for index in (207, 267, 52)]
    lines = result.stdout.splitlines()
    assert [line for line in lines if line[0] != " "] == ["golden retriever", "standard poodle", "thunder snake"]
    shown = ", ".join(imagenet_classes()[WNIDS[index]] for index in expected[207].similar)
    assert lines[1] == f"  similar     {shown}"


def test_the_example_of_the_help_works(tmp_path):
    from lskd.commands.similar import EXAMPLE

    words = EXAMPLE.replace("'king snake'", "king_snake").removeprefix("lskd similar ")
    similar(words.replace("sets.json", str(tmp_path / "sets.json")))
    assert len(read_sets(tmp_path / "sets.json", WNIDS)) == 3


def test_numbers_seed_and_apart_are_taken(tmp_path):
    similar(
        "--by wordnet --targets 207 --similar 2 --dissimilar 3 --seed 5 --apart 0.9 --output", tmp_path / "sets.json"
    )
    expected = sets_by_wordnet(find_hierarchy(WNIDS), [207], 2, 3, 0.9, 5)
    assert read_sets(tmp_path / "sets.json", WNIDS) == expected


@pytest.mark.parametrize("points", ["centroids", "templates"])
def test_distances_are_between_centroids_or_templates(fashion, tmp_path, points):
    similar(fashion, "--by distance --rates 0.3 2 --from", points, "--output", tmp_path / "sets.json")
    read = read_representations(fashion)
    expected = sets_by_distance(read.moments.centroids() if points == "centroids" else read.weight, None, 0.3, 2)
    assert {len(each.similar) for each in expected.values()} == {3}
    assert read_sets(tmp_path / "sets.json", FASHION) == expected


def test_only_classes_of_enough_samples_and_words_are_taken(tmp_path):
    names = ["<s>", "▁the", "ing", "▁cat", "▁of", "▁7", "▁dog"]
    file = write(tmp_path / "nmt.representations.safetensors", names, samples=1)  # the class i has i + 1
    similar(file, "--by distance --least 4 --words --targets ▁the --rates 1 9 --output", tmp_path / "sets.json")
    (sets,) = json.loads((tmp_path / "sets.json").read_text())["sets"].values()
    assert {*sets["similar"], *sets["dissimilar"]} == {"▁cat", "▁of", "▁dog"}
    similar(file, "--by distance --least 4 --output", tmp_path / "sets.json")
    assert list(json.loads((tmp_path / "sets.json").read_text())["sets"]) == names[3:]


def test_groups_are_read_from_their_file(fashion, tmp_path):
    result = similar(fashion, "--by groups --groups", GROUPS, "--output", tmp_path / "sets.json")
    sets = read_sets(tmp_path / "sets.json", FASHION)
    assert list(sets) == [0, 2, 3, 4, 5, 6, 7, 9]
    assert sets[5] == ClassSets([7, 9], [0, 1, 2, 3, 4, 6, 8])
    assert "Sandal\n  similar     Sneaker, Ankle boot\n  dissimilar  T-shirt/top, Trouser, " in result.stdout


def test_agreement_is_shown_with_its_mean_and_with_chance(fashion):
    result = similar(fashion, "--by groups --targets Sandal Sneaker --agree-with distance --rates 2 5 --groups", GROUPS)
    by_distance = sets_by_distance(read_representations(fashion).moments.centroids(), [5, 7], 2, 5)
    expected = []
    for target, other in ((5, 7), (7, 5)):
        s1, s2 = {other, 9}, {0, 1, 2, 3, 4, 6, 8}
        found = by_distance[target]
        expected.append([len(s1 & set(found.similar)) / 2, len(s2 & set(found.dissimilar)) / 7])
    lines = [line.rsplit(maxsplit=2) for line in result.stdout.splitlines()]
    assert lines[0] == ["target", "S1", "S2"]
    assert [line[0] for line in lines[1:]] == ["Sandal", "Sneaker", "mean", "by chance"]
    figures = [[float(figure) for figure in line[1:]] for line in lines[1:]]
    assert figures[:2] == [pytest.approx(each, abs=5e-4) for each in expected]
    assert figures[2] == pytest.approx(np.mean(expected, 0), abs=1e-3)
    assert figures[3] == pytest.approx([2 / 9, 5 / 9], abs=5e-4)


@pytest.mark.parametrize("suffix", ["csv", "json"])
def test_the_agreement_is_written_with_the_names_of_the_file_and_those_that_people_read(suffix, tmp_path):
    file = write(tmp_path / "imagenet.representations.safetensors", WNIDS, samples=1)
    table = tmp_path / f"agreement.{suffix}"
    groups = ROOT / "data_prep" / "samples" / "imagenet_groups.json"  # the paper's two groups of five classes
    words = (file, "--by groups --dissimilar 20 --agree-with distance --from templates --groups", groups)
    result = similar(*words, "--agreement", table, "--output", tmp_path / "sets.json")
    if suffix == "json":
        content = json.loads(table.read_text())
        rows = content.pop("rows")
        about = {"by": "groups", "agree_with": "distance", "file": str(file), "from": "templates", "seed": 1}
        assert content.pop("provenance") == read_representations(file).provenance
        assert content == about
    else:
        with open(table, newline="") as text:
            rows = list(csv.DictReader(text))
    assert [list(row) for row in rows] == [["target", "shown", "similar", "dissimilar"]] * 12
    by_groups = read_sets(tmp_path / "sets.json", WNIDS)
    assert [row["target"] for row in rows] == [*(WNIDS[target] for target in by_groups), "mean", "by chance"]
    by_distance = sets_by_distance(read_representations(file).weight, list(by_groups))
    for row, (target, sets), line in zip(rows, by_groups.items(), result.stdout.splitlines()[1:], strict=False):
        assert (len(sets.similar), len(sets.dissimilar)) == (4, 20)
        found = by_distance[target]
        assert float(row["similar"]) == len(set(sets.similar) & set(found.similar)) / 4
        assert float(row["dissimilar"]) == len(set(sets.dissimilar) & set(found.dissimilar)) / 20
        assert row["shown"] == imagenet_classes()[WNIDS[target]]
        assert line.startswith(row["shown"])
    for key in ("similar", "dissimilar"):
        assert float(rows[-2][key]) == pytest.approx(np.mean([float(row[key]) for row in rows[:-2]]))
    assert [float(rows[-1][key]) for key in ("similar", "dissimilar")] == pytest.approx([10 / 999, 900 / 999])
    assert [row["shown"] for row in rows[-2:]] == ["mean", "by chance"]


def test_of_a_file_without_samples_templates_are_compared_and_centroids_missed(tmp_path):
    weight = np.random.default_rng(3).normal(size=(len(FASHION), 4)).astype(np.float32)
    file = tmp_path / "a.representations.safetensors"
    write_representations(file, RepresentationCollector(FASHION, 4).result(weight=weight))
    words = (file, "--by distance --rates 3 4 --output", tmp_path / "sets.json")
    similar(*words, "--from templates")
    assert read_sets(tmp_path / "sets.json", FASHION) == sets_by_distance(weight, None, 3, 4)
    expected = f"--from: centroids (must be templates: {file} has no samples)"
    assert last_line(similar(*words, status=2)).endswith(expected)
    assert "candidates: 0" in last_line(similar(*words, "--from templates --least 1", status=2))


def test_long_sets_are_cut_on_the_screen_but_not_in_the_file(tmp_path):
    result = similar("--by wordnet --targets 207 --dissimilar 500 --output", tmp_path / "sets.json")
    assert result.stdout.rstrip().endswith("and 476 more")
    assert len(read_sets(tmp_path / "sets.json", WNIDS)[207].dissimilar) == 500


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--by distance", "FILE: none (must be a representation file, for distances)"),
        ("--by wordnet --targets 207 --agree-with distance", "FILE: none (must be"),
        ("--by groups", "--groups: none (must be a file of groups)"),
        ("--by groups --groups nothing.json", "nothing.json"),
        ("--by wordnet --targets retreiver", "--targets: 'retreiver' (must be a class, such as "),
        ("--by wordnet --targets 207 --similar 1000", "similar: 1000 (must be between 1 and 999"),
        ("--by wordnet --targets 207 --similar 0", "--similar: '0' (must be a whole number above 0)"),
        ("--by wordnet --targets 207 --apart 1", "apart: 1.0 (must be at least 0 and below 1)"),
        ("--by likeness", "--by: invalid choice"),
        ("nothing --by distance", "representations: nothing (must be a file"),
        ("FASHION --by distance --rates 0 0.9", "similar: 0 (must be a share"),
        ("FASHION --by distance --rates a 0.9", "'a' (must be a share below 1 or a whole number)"),
        ("FASHION --by distance --least 99", "candidates: 0 (must be at least three classes with samples)"),
        ("FASHION --by distance --targets Shirt Purse", "'Purse' (must be a class"),
        ("--by wordnet --agreement a.csv", "--agreement: a.csv (needs a second method: --agree-with)"),
        ("--by wordnet --agree-with wordnet --agreement a.txt", "a.txt (must end in .csv or .json)"),
        ("--by wordnet --output sets.csv", "sets.csv (must end in .json)"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line_and_nothing_is_written(fashion, tmp_path, options, message):
    output = [] if "--output" in options else ["--output", tmp_path / "sets.json"]
    result = similar(options.replace("FASHION", str(fashion)), *output, status=2, cwd=ROOT)
    assert message in last_line(result)
    assert len(result.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_templates_that_are_not_in_the_file_are_missed(tmp_path):
    file = write(tmp_path / "a.representations.safetensors", FASHION, weight=False)
    result = similar(file, "--by distance --from templates", status=2)
    assert last_line(result).endswith(f"--from: templates (must be centroids: {file} has no last layer)")


@pytest.mark.slow
def test_classes_beyond_imagenet_are_read_with_nltk(fashion, tmp_path):
    pytest.importorskip("nltk", reason="nltk is not installed")
    if not Path("/usr/share/wordnet/data.noun").exists():
        pytest.skip("WordNet's own files are not installed (Debian's package wordnet-base)")
    (tmp_path / "synsets.json").write_text('{"T-shirt/top": "shirt.n.01"}')
    result = similar(
        *(fashion, "--by wordnet --wordnet /usr/share/wordnet --similar 2 --synsets", tmp_path / "synsets.json"),
        *("--output", tmp_path / "sets.json"),
    )
    sets = read_sets(tmp_path / "sets.json", FASHION)
    assert set(sets[5].similar) == {7, 9}
    assert sets[0].similar[0] == 6
    assert "T-shirt/top: shirt.n.01, Trouser: trouser.n.01" in result.stderr


@pytest.mark.slow
def test_the_table_of_wordnets_agreement_with_a_model_that_learned_nothing_is_at_chance(tmp_path):
    import timm
    import torch

    model = timm.create_model("test_resnet", num_classes=1000)
    torch.nn.init.normal_(model.get_classifier().weight, generator=torch.Generator().manual_seed(1))
    state = {f"other.{name}": value for name, value in model.state_dict().items()}
    torch.save(state, tmp_path / "weights.pth")
    command = [
        "python scripts/wordnet_agreement.py --model test_resnet --seeds 1 --checkpoint",
        tmp_path / "weights.pth",
    ]
    run(*command, "--output", tmp_path / "table.json")
    rows = json.loads((tmp_path / "table.json").read_text())["rows"]
    assert [row["similar"] for row in rows] == [1, 2, 4, 8, 16, 1, 2, 4, 8, 16, 4]
    assert rows[2]["S1"] == pytest.approx(rows[2]["S1 by chance"], abs=0.8)
    assert rows[2]["S2"] == pytest.approx(90.1, abs=1)
    torch.save(dict(list(state.items())[:-1]), tmp_path / "weights.pth")
    assert "must have the model's parameters" in last_line(run(*command, status=2))
