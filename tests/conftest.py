"""Real sample data, prepared by the real command, and a teacher trained on it.

pytest imports this module also in the process that only starts the workers, so it imports no torch by itself.
"""

import gc
import signal
from collections import Counter
from pathlib import Path

import pytest
from helpers.commands import SMALL, prepare, run
from helpers.forked_commands import hand_over

# Python's own name for what it runs first, and what only the process that forks should import.
collect_ignore = ["helpers/handed_over", "helpers/preloaded.py"]


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Look for no garbage among modules and tests: there are many, and none of them is."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


# The longest files start first: what starts last should be short, as the other processes have nothing else to do then.
# :func:`pytest_terminal_summary` says when a file is missing here.
LONGEST = (
    "test_slurm.py",
    "test_reproduce.py",
    "test_torture.py",
    "test_nmt_training.py",
    "test_nmt_cache.py",
    "test_vision_training.py",
)
LONG = 0.05  # of the time of all files


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files come first, then those with slow tests; quick ones fill the gaps that they leave at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    order = [*LONGEST, True, False]
    items.sort(key=lambda item: order.index(item.path.name if item.path.name in LONGEST else item.path in slow))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name the files that take long and do not start first, where all were run."""
    if terminalreporter.config.option.markexpr or terminalreporter.config.option.keyword:
        return
    seconds = Counter[str]()
    for reports in terminalreporter.stats.values():
        for report in reports:
            seconds[(getattr(report, "nodeid", "") or "").partition("::")[0]] += getattr(report, "duration", 0)
    late = {file: each for file, each in seconds.items() if Path(file).name not in LONGEST}
    for file, each in late.items():
        if len(seconds) > 100 and each > LONG * seconds.total():
            terminalreporter.write_line(f"{file} takes {each:.0f} s: name it in LONGEST of tests/conftest.py")


@pytest.fixture(autouse=True)
def allowed_types_stay_allowed():
    """timm's loading takes ``argparse.Namespace`` from the types that files may hold, also where fairseq needs it."""
    import torch

    allowed = torch.serialization.get_safe_globals()
    yield
    torch.serialization.add_safe_globals(allowed)


@pytest.fixture(autouse=True)
def signals_are_answered_as_before():
    """A command that runs in this process answers Ctrl-C and SIGTERM in its own way."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def programs_are_forked():
    """What commands start is forked too, as they themselves are: for tests of what comes of it, not of a kill."""
    with hand_over():
        yield


@pytest.fixture(scope="session")
def data_bin(tmp_path_factory) -> Path:
    """About 600 English-German pairs of at most 10 words: 19 for validation, 33 for the test."""
    return prepare(
        tmp_path_factory.mktemp("data") / "help.en-de", "--pair en-de --vocab-size 400 --max-words 10 --max-pairs 600"
    )


@pytest.fixture(scope="session")
def teacher(data_bin, tmp_path_factory) -> Path:
    """A checkpoint trained with label smoothing .1, without this project's plugin, as a user's own teacher is."""
    save_dir = tmp_path_factory.mktemp("teacher")
    run(
        "fairseq-train",
        data_bin,
        "--save-dir",
        save_dir,
        SMALL,
        "--max-epoch 2 --no-epoch-checkpoints",
        "--criterion label_smoothed_cross_entropy --label-smoothing 0.1",
    )
    return save_dir / "checkpoint_best.pt"


@pytest.fixture(scope="session")
def images(tmp_path_factory) -> Path:
    """320 training images of Fashion-MNIST and some for validation, in torchvision's layout."""
    dest = tmp_path_factory.mktemp("images") / "fashion"
    run("python data_prep/fashion_mnist.py --max-images 320 --dest", dest)
    return dest


@pytest.fixture(scope="session")
def image_teachers(images, tmp_path_factory) -> list[Path]:
    """Checkpoints of small ResNets with α = 0 and .1, trained in one process."""
    from helpers.vision_commands import train_images

    output = tmp_path_factory.mktemp("image-teachers")
    train_images(images, output, "--model test_resnet --smoothing 0 0.1 --epochs 1 --seed 7")
    return [output / "fashion_mnist" / f"test_resnet_a{alpha}_s7" / "last.pth.tar" for alpha in (0, 0.1)]


@pytest.fixture(scope="module")
def task(data_bin):
    """A translation task with its training sentences."""
    from helpers.small_nmt import make_task

    task = make_task(data_bin)
    task.load_dataset("train")
    return task


@pytest.fixture(scope="module")
def teacher_model(task):
    """A small translation model that was not trained."""
    from helpers.small_nmt import make_model

    return make_model(task, seed=1).eval()


@pytest.fixture(scope="module")
def teacher_path(task, teacher_model, tmp_path_factory) -> Path:
    """Its checkpoint."""
    from helpers.small_nmt import save_checkpoint

    return save_checkpoint(tmp_path_factory.mktemp("teacher") / "teacher.pt", teacher_model, task)
