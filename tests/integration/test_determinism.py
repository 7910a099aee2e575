"""The same seeds on the same machine give the same to the bit, in another process and with loader processes."""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from helpers.commands import train
from helpers.refusals import run as run_here
from helpers.refusals import snapshot
from helpers.vision_commands import DROPOUT, state_of, train_images

from lskd.io.tensor_files import mapped_tensors
from lskd.records.inputs import SUFFIX

pytestmark = pytest.mark.slow
# The first time, forked, and again in a fresh process, whose hash seed is another, with two processes beside.
WORKERS = (0, 2)


def here(command: str) -> None:
    """Run a command in this process; it must end well."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", command.split())
        with pytest.raises(SystemExit) as ended:
            run_here(command.split()[0])
    assert ended.value.code == 0


def leaves(value: object, name: str = "") -> Iterator[tuple[str, object]]:
    """All that is in dictionaries and lists within each other, by where it is."""
    if isinstance(value, dict | list | tuple):
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(each, f"{name}/{key}")
    else:
        yield name, value


def same(first: object, second: object) -> bool:
    """Whether two states hold the same, tensors to the bit."""
    one, other = dict(leaves(first)), dict(leaves(second))
    assert one.keys() == other.keys()
    return all(
        torch.equal(one[name], other[name]) if isinstance(one[name], torch.Tensor) else one[name] == other[name]
        for name in one
    )


def record(directory: Path) -> dict:
    """The run's record; the times are taken out of its history."""
    content = json.loads((directory / "run.json").read_text())
    for row in content["history"]:
        del row["time"], row["seconds"]
    return content


def compare(directories: list[Path], checkpoint: str, keys: tuple[str, ...]) -> None:
    """Check that these parts of the checkpoints, the histories and figures are the same, and the records say so."""
    first, *others = directories
    state, made = state_of(first / checkpoint), record(first)
    assert any(isinstance(value, torch.Tensor) for _, value in leaves(state[keys[1]]))
    assert made["nondeterminism"] == []
    for other in others:
        assert all(same(state[key], state_of(other / checkpoint)[key]) for key in keys)
        for key in ("history", "figures", "nondeterminism", "data", "seed", "hardware"):
            assert record(other)[key] == made[key], key


@pytest.mark.parametrize("kind", ["teachers", "students"])
def test_image_models(kind, images, image_teachers, tmp_path):
    options = f"--model test_resnet --epochs 2 --seed 5 --model-ema {DROPOUT}"
    if kind == "teachers":
        options += " --smoothing 0 0.1"
    else:
        options += f" --kd-temperature 1 3 --kd-checkpoint {image_teachers[1]}"
    places = [tmp_path / str(number) for number in range(len(WORKERS))]
    for place, workers in zip(places, WORKERS, strict=True):
        train_images(images, place, options, f"--workers {workers}", fresh=workers > 0)
    names = sorted(path.parent.name for path in places[0].rglob("run.json"))
    assert len(names) == 2
    for name in names:
        directories = [place / "fashion_mnist" / name for place in places]
        compare(directories, "last.pth.tar", ("state_dict", "optimizer", "state_dict_ema", "scheduler"))


@pytest.fixture(scope="module")
def caches(data_bin, teacher, tmp_path_factory) -> list[Path]:
    """Two caches of the same teacher."""
    places = [tmp_path_factory.mktemp("caches") / str(number) for number in range(2)]
    for place in places:
        here(f"lskd_fairseq.cache_teacher --cpu --data {data_bin} --path {teacher} --dest {place}")
    return places


def test_caches_of_a_teacher(caches):
    assert snapshot(caches[0]) == snapshot(caches[1])


@pytest.mark.parametrize("kind", ["online", "cached"])
def test_translation_models(kind, data_bin, teacher, caches, tmp_path):
    options = "--criterion kd --temperature 2 --max-epoch 2 --no-epoch-checkpoints --dropout 0.3"
    options += f" --teacher-cache {caches[0]}" if kind == "cached" else f" --teacher-path {teacher}"
    places = [tmp_path / str(number) for number in range(len(WORKERS))]
    for place, workers in zip(places, WORKERS, strict=True):
        train(data_bin, place, options, f"--num-workers {workers}", fresh=workers > 0)
    compare(places, "checkpoint_last.pt", ("model", "last_optimizer_state"))


def test_representations_of_images(images, image_teachers, tmp_path):
    checkpoint = shutil.copy(image_teachers[1], tmp_path / "teacher.pth.tar")
    command = f"lskd_vision.representations {checkpoint} --data-dir {images} --device cpu --split train"
    command += " --temperatures 1 3"
    same_files(tmp_path, [f"{command} --workers {workers}" for workers in WORKERS])


def test_representations_of_translations(data_bin, teacher, tmp_path):
    command = f"lskd_fairseq.representations --data {data_bin} --path {teacher} --cpu"
    same_files(tmp_path, [command] * 2)


def same_files(place: Path, commands: list[str]) -> None:
    """Check that commands write representation files with the same tensors, to the bit."""
    contents = []
    for number, command in enumerate(commands):
        file = place / f"{number}{SUFFIX}"
        here(f"{command} --output {file}")
        contents.append({name: tensor.tobytes() for name, tensor in mapped_tensors(file).items()})
    assert contents[0]["features"]
    assert all(content == contents[0] for content in contents)
