"""The files that release the package, and build its image, agree with what they are about."""

import re
import shlex
import tomllib

import pytest
import yaml
from helpers.commands import ROOT

from lskd.commands.main import parser

WORKFLOWS = ROOT / ".github" / "workflows"
RELEASE = yaml.safe_load((WORKFLOWS / "release.yml").read_text(encoding="utf-8"))
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def lines(job: str) -> list[str]:
    """The command lines of a job."""
    return [line for step in RELEASE["jobs"][job]["steps"] for line in step.get("run", "").splitlines()]


def uses(workflow: dict) -> set[str]:
    return {step["uses"] for job in workflow["jobs"].values() for step in job["steps"] if "uses" in step}


def test_only_a_tag_releases_and_only_what_was_built_checked_and_tried():
    assert RELEASE[True] == {"push": {"tags": ["v*"]}}  # YAML reads `on` as true
    assert RELEASE["jobs"]["try"]["needs"] == "build"
    assert RELEASE["jobs"]["publish"]["needs"] == "try"
    assert any("GITHUB_REF_NAME" in line and "lskd.__version__" in line for line in lines("build"))
    assert "python -m twine check --strict dist/*" in lines("build")
    for job in ("try", "publish"):
        assert not any("checkout" in step.get("uses", "") for step in RELEASE["jobs"][job]["steps"])


def test_the_release_needs_no_secret_and_only_its_last_job_may_sign():
    assert "secrets." not in (WORKFLOWS / "release.yml").read_text(encoding="utf-8")
    assert RELEASE["permissions"] == {"contents": "read"}
    allowed = {name: job["permissions"] for name, job in RELEASE["jobs"].items() if "permissions" in job}
    assert allowed == {"publish": {"id-token": "write"}}
    assert RELEASE["jobs"]["publish"]["environment"]["name"] == "pypi"


def test_both_workflows_use_the_same_version_of_an_action():
    every = uses(RELEASE) | uses(yaml.safe_load((WORKFLOWS / "ci.yml").read_text(encoding="utf-8")))
    assert len({action.partition("@")[0] for action in every}) == len(every)


def test_the_programs_understand_what_the_release_runs(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    commands = [shlex.split(line)[1:] for line in lines("try") if line.startswith("lskd ")]
    assert len(commands) > 3
    for words in commands:
        if words != ["--version"]:
            parser().parse_args(words)


def test_image_and_release_install_fairseq_as_the_makefile_does():
    (needed,) = re.findall(r'install -q "pip>=25" (.*) torch torchvision\n', MAKEFILE)
    assert f"pip install --no-cache-dir {needed}" in DOCKERFILE
    assert f"python -m pip install {needed} torch torchvision" in lines("try")
    assert re.search(r'--no-build-isolation .*"\.\[all\]"', DOCKERFILE)
    assert "all" in PROJECT["optional-dependencies"]


def test_the_image_has_a_torch_that_the_package_takes():
    (version,) = re.findall(r"^FROM pytorch/pytorch:(\d+\.\d+)\.\d+-cuda", DOCKERFILE, re.MULTILINE)
    found = tuple(map(int, version.split(".")))
    for extra in ("nmt", "vision"):
        (least,) = re.findall(r"^torch>=(\d+\.\d+)$", "\n".join(PROJECT["optional-dependencies"][extra]), re.MULTILINE)
        assert found >= tuple(map(int, least.split(".")))


def copied() -> set[str]:
    return {name for line in re.findall(r"^COPY (.*)$", DOCKERFILE, re.MULTILINE) for name in line.split()[:-1]}


@pytest.mark.parametrize("name", sorted(copied()))
def test_what_the_image_copies_is_there(name):
    assert (ROOT / name).exists()


def test_the_image_copies_all_that_the_wheel_is_built_from():
    packages = {path.parent.name for path in ROOT.glob("lskd*/__init__.py")}
    assert copied() >= packages | {"data_prep", "scripts", "pyproject.toml", "setup.py", PROJECT["readme"], "LICENSE"}
