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
MEGABYTES_PACKED = 12  # of a distribution; the data that ship are 9

# A path that starts here: neither the end of a longer one nor of a URL.
START = r"(?<![\w.~})-])"
MACHINE = [START + r"/(?:root|home/\w+)/", START + re.escape(str(ROOT)) + r"(?![\w.-])"]
REGISTRY = r"(?i:index|find)[-_](?i:url|links)"
TEMPORARY = START + r"(?:/tmp/)"


def python(executable: Path | str, code: str, cwd: Path) -> subprocess.CompletedProcess:
    """Run ``code`` seeing nothing but what is installed: neither the working directory nor PYTHONPATH."""
    return subprocess.run([executable, "-I", "-c", code], cwd=cwd, capture_output=True, text=True)


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """The directory of the source distribution of a copy of this checkout, and of the wheel that is built from it."""
    copy, dest = tmp_path_factory.mktemp("copy") / "lskd", tmp_path_factory.mktemp("dist")
    for tree in (*PACKAGES, "data_prep", "scripts"):
        shutil.copytree(ROOT / tree, copy / tree, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "CHANGELOG.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", dest, copy]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return dest


@pytest.fixture(scope="module")
def wheel(built) -> Path:
    (file,) = built.glob("*.whl")
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


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The programs of an environment in which the wheel is installed, and all that it needs comes from this one."""
    directory = tmp_path_factory.mktemp("installed") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", directory], check=True)
    programs = directory / "bin"
    (packages,) = directory.glob("lib/python*/site-packages")
    here = [path for path in sys.path if path.endswith("site-packages")]  # links of editable installs are not followed
    (packages / "dependencies.pth").write_text("\n".join(here))
    command = [sys.executable, "-m", "pip", "--python", programs / "python", "install", "-q", "--no-deps", "--no-index"]
    subprocess.run([*command, wheel], check=True)
    return programs


def outside(*command: Path | str, cwd: Path) -> subprocess.CompletedProcess:
    """Run a command of another environment, which sees nothing of this checkout."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=environment | {"OMP_NUM_THREADS": "1"})


def needed(*scripts: str) -> set[Path]:
    """Scripts, and those that they import."""
    found = {ROOT / "scripts" / f"{script}.py" for script in scripts}
    while (
        more := {
            path
            for script in found
            for name in re.findall(r"^(?:from|import) (\w+)", script.read_text(encoding="utf-8"), re.MULTILINE)
            if (path := ROOT / "scripts" / f"{name}.py").is_file()
        }
        - found
    ):
        found |= more
    return found


def test_setup_names_the_scripts_that_the_workflow_imports():
    named = re.findall(r'^ +"(\w+)",$', (ROOT / "setup.py").read_text(encoding="utf-8"), re.MULTILINE)
    assert {ROOT / "scripts" / f"{name}.py" for name in named} == needed("plan", "run_job")


@pytest.mark.slow
def test_the_wheel_holds_the_three_packages_and_what_their_commands_run_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    ends = ("py", "typed", "yaml", "css", "html")
    files = {path for package in PACKAGES for end in ends for path in (ROOT / package).rglob(f"*.{end}")}
    files |= set((ROOT / "lskd" / "data").iterdir())
    workflow = {*needed("plan", "run_job"), ROOT / "scripts" / "Snakefile", *(ROOT / "scripts").rglob("*.yaml")}
    workflow |= {*(ROOT / "data_prep").glob("*.py"), *(ROOT / "data_prep" / "samples").iterdir()}
    expected = {path.relative_to(ROOT).as_posix() for path in files}
    assert packed == expected | {f"lskd/workflow/{path.relative_to(ROOT).as_posix()}" for path in workflow}


@pytest.mark.slow
def test_the_package_index_would_take_both_distributions(built):
    files = sorted(built.iterdir())
    assert [file.name.partition("-")[0] for file in files] == ["lskd", "lskd"]
    assert all(file.stat().st_size < MEGABYTES_PACKED * 1e6 for file in files)
    command = [sys.executable, "-m", "twine", "check", "--strict", *files]
    checked = subprocess.run(command, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.slow
def test_the_installed_package_prepares_the_data_that_ship_and_knows_every_experiment(installed, tmp_path):
    made = outside(installed / "lskd", "data", "letters", "--dest", "letters", "--fonts", "3", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert (tmp_path / "letters" / "manifest.json").exists()
    counted = outside(installed / "lskd", "reproduce", "all", "studies", "--dry-run", cwd=tmp_path)
    assert counted.returncode == 0, counted.stderr
    assert f"at mini scale, in {tmp_path / 'runs' / 'mini'}\n" in counted.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["letters"]
    place = outside(installed / "python", "-m", "lskd.commands.workflow", cwd=tmp_path).stdout.strip()
    assert Path(place).is_relative_to(installed.parent)
    assert (Path(place) / "scripts" / "profiles" / "slurm" / "config.yaml").exists()
    plan = outside(installed / "python", f"{place}/scripts/plan.py", "D.3", "--commands", cwd=tmp_path).stdout
    (user_dir,) = set(re.findall(r"--user-dir (\S+)", plan))
    assert (Path(user_dir), Path(user_dir).name) == (Path(place).parents[1] / "lskd_fairseq", "lskd_fairseq")


@pytest.mark.slow
def test_the_installed_package_trains(installed, tmp_path):
    shown = outside(installed / "lskd", "vision", "train", "--help", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith("usage: lskd vision train ")


@pytest.mark.slow
def test_the_installed_package_makes_a_table_of_the_paper_in_an_empty_directory(installed, tmp_path):
    made = outside(installed / "lskd", "reproduce", "G.1", cwd=tmp_path)
    if "pip cannot download" in made.stderr:
        pytest.skip(f"no package registry can be reached: {made.stderr.splitlines()[0]}")
    assert made.returncode == 0, made.stderr
    assert "Table G.1 (Chandrasegaran" in made.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
    assert (tmp_path / "runs" / "mini" / "report.G.1.html").exists()


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
    listed = outside(command, "published", cwd=tmp_path)
    assert (listed.returncode, listed.stderr) == (0, "")
    assert "K.1" in listed.stdout
    refused = outside(command, "reproduce", "2A", cwd=tmp_path)
    assert refused.returncode == 2
    how = "is not installed (in a checkout of lskd: pip install"
    assert refused.stderr == f"lskd reproduce: error: snakemake {how} '.[workflow]')\n"
    refused = outside(command, "data", "letters", "--dest", "letters", cwd=tmp_path)
    assert refused.returncode == 2
    assert refused.stderr == f"lskd data letters: error: PIL {how} '.[vision]')\n"


@pytest.mark.slow
def test_lskd_fairseq_without_fairseq_says_in_one_message_what_to_install(empty_python, tmp_path):
    imported = python(empty_python, "import lskd_fairseq", tmp_path)
    assert imported.returncode == 1
    assert len(re.findall("^Traceback", imported.stderr, re.MULTILINE)) == 1
    message = imported.stderr.splitlines()[-1]
    assert re.fullmatch(r"\w+Error: lskd_fairseq needs fairseq .*: pip install '\.\[nmt\]'", message)


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
