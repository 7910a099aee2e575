"""The distribution as a user gets it, and what the repository may hold."""

import email
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections import defaultdict
from email.message import Message
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("lskd", "lskd_fairseq", "lskd_vision")
USES = ("nmt", "vision", "report", "workflow")
MEGABYTES = 1.5

# A path that starts here: neither the end of a longer one nor of a URL.
START = r"(?<![\w.~})-])"
MACHINE = [START + r"/(?:root|home/\w+)/", START + re.escape(str(ROOT)) + r"(?![\w.-])"]
REGISTRY = r"(?i:index|find)[-_](?i:url|links)"
TEMPORARY = START + r"(?:/tmp/)"


def python(executable: Path | str, code: str, cwd: Path) -> subprocess.CompletedProcess:
    """Run ``code`` seeing nothing but what is installed: neither the working directory nor PYTHONPATH."""
    return subprocess.run([executable, "-I", "-c", code], cwd=cwd, capture_output=True, text=True)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel that pip builds of a copy of this checkout, in which no earlier build has left anything."""
    copy, dest = tmp_path_factory.mktemp("copy") / "lskd", tmp_path_factory.mktemp("wheel")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", dest, copy]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    (file,) = dest.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def metadata(wheel) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(archive.read(name))


@pytest.fixture(scope="module")
def empty_python(wheel, tmp_path_factory) -> Path:
    """The Python of an environment that holds the wheel and what it requires, nothing else."""
    directory = tmp_path_factory.mktemp("empty") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", directory], check=True)
    executable = directory / "bin" / "python"
    command = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        executable,
        "install",
        "-q",
        "--no-compile",
        "--retries",
        "1",
        wheel,
    ]
    installed = subprocess.run(command, capture_output=True, text=True)
    if re.search(r"requirement numpy[<>=]\S* .*\(from versions: none\)", installed.stderr):
        pytest.skip(f"no package registry can be reached: {installed.stderr.splitlines()[0]}")
    assert installed.returncode == 0, installed.stderr
    return executable


@pytest.mark.slow
def test_the_wheel_holds_every_module_and_configuration_of_the_three_packages_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    ends = ("py", "typed", "yaml", "css", "html")
    files = {path for package in PACKAGES for end in ends for path in (ROOT / package).rglob(f"*.{end}")}
    files |= set((ROOT / "lskd" / "data").iterdir())
    assert packed == {path.relative_to(ROOT).as_posix() for path in files}


@pytest.mark.slow
def test_the_wheel_offers_an_extra_for_each_use_and_one_for_all_of_them(metadata):
    assert set(metadata.get_all("Provides-Extra")) == {*USES, "all", "dev", "docs", "hugging-face"}
    requirements = defaultdict(set)
    for requirement in map(Requirement, metadata.get_all("Requires-Dist")):
        extra = re.fullmatch(r'extra == "([\w-]+)"', str(requirement.marker or 'extra == "base"'))[1]
        requirements[extra].add(f"{requirement.name}{requirement.specifier}")
    assert {name.split(">")[0] for name in requirements["base"]} == {"msgspec", "numpy", "safetensors", "tqdm"}
    assert all(requirements[use] for use in USES)
    (everything,) = map(Requirement, (each for each in metadata.get_all("Requires-Dist") if 'extra == "all"' in each))
    assert (everything.name, everything.extras) == ("lskd", set(USES))


@pytest.mark.slow
def test_the_wheel_asks_for_python_3_11_or_newer(metadata):
    assert metadata["Requires-Python"] == ">=3.11"


@pytest.mark.slow
def test_the_base_install_is_small_and_analyses_files_from_elsewhere(empty_python, tmp_path):
    code = "import importlib.metadata as m; print(*sorted(d.name for d in m.distributions()))"
    assert python(empty_python, code, tmp_path).stdout.split() == ["lskd", "msgspec", "numpy", "safetensors", "tqdm"]
    code = "import lskd, lskd.records.runs, lskd_vision; print(lskd.__file__)"
    imported = python(empty_python, code, tmp_path)
    assert imported.returncode == 0, imported.stderr
    assert Path(imported.stdout.strip()).is_relative_to(empty_python.parents[1])
    command = empty_python.with_name("lskd")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    listed = subprocess.run([command, "published"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (listed.returncode, listed.stderr) == (0, "")
    assert "K.1" in listed.stdout
    words = [command, "reproduce", "2A"]
    refused = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert refused.returncode == 2
    assert refused.stderr == (
        "lskd: error: lskd: installed (must be a checkout for this command: the workflow is in its scripts/Snakefile)\n"
    )


@pytest.mark.slow
def test_lskd_fairseq_without_fairseq_says_in_one_message_what_to_install(empty_python, tmp_path):
    imported = python(empty_python, "import lskd_fairseq", tmp_path)
    assert imported.returncode == 1
    assert len(re.findall("^Traceback", imported.stderr, re.MULTILINE)) == 1
    message = imported.stderr.splitlines()[-1]
    assert re.fullmatch(r"\w+Error: lskd_fairseq needs fairseq .*: pip install 'lskd\[nmt\]'", message)


def test_importing_lskd_loads_neither_torch_nor_numpy():
    code = "import sys, lskd; print(*{'torch', 'numpy'} & set(sys.modules))"
    imported = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (imported.returncode, imported.stdout.strip(), imported.stderr) == (0, "", "")


@pytest.fixture(scope="module")
def tracked() -> list[Path]:
    """The files of this checkout that git tracks and that are there."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "-C", ROOT, "ls-files", "-z"], capture_output=True, text=True
    )
    assert listed.returncode == 0, listed.stderr
    files = [ROOT / name for name in listed.stdout.split("\0") if name]
    assert ROOT / "setup.py" in files
    return [file for file in files if file.is_file()]


def test_no_file_is_large_apart_from_the_samples(tracked):
    sizes = {file: file.stat().st_size for file in tracked if not file.is_relative_to(ROOT / "data_prep" / "samples")}
    assert {file: size for file, size in sizes.items() if size > MEGABYTES * 1e6} == {}


def machine_traces(text: str, temporary: bool = True) -> list[str]:
    """The lines of ``text`` that hold only on one machine: paths in its file system, and where its pip looks."""
    pattern = "|".join([*MACHINE, REGISTRY, *([TEMPORARY] if temporary else [])])
    return [line.strip() for line in text.splitlines() if re.search(pattern, line)]


@pytest.mark.parametrize(
    "line",
    [
        "cd " + "/".join(("", "root", "lskd")),
        'DATA = "' + "/".join(("", "home", "ada", "data")) + '"',
        "--save-dir " + "/".join(("", "tmp", "run")),
        "file://" + "/".join(("", "tmp", "run")),
        f"cd {ROOT}",
        "-".join(("pip install --extra-index", "url https://example.org")),
        "_".join(("PIP_INDEX", "URL=https://example.org")),
        "-".join(("pip install --find", "links wheels")),
    ],
)
def test_a_trace_of_one_machine_is_found(line):
    assert machine_traces(f"above\n{line}\nbelow") == [line]


@pytest.mark.parametrize(
    "line", ["https://example.org/home/ada/", "$HOME/tmp/run", "~/tmp/run", "~/.cache/pip", "runs/"]
)
def test_what_holds_on_every_machine_is_no_trace(line):
    assert machine_traces(line) == []


def test_no_file_mentions_what_holds_on_one_machine_only(tracked):
    found = {}
    for file in tracked:
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        name = file.relative_to(ROOT)
        if lines := machine_traces(text, temporary=name.parts[0] != "tests"):
            found[str(name)] = lines
    assert found == {}
