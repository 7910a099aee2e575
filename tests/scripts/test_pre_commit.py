"""pre-commit's hooks and `make lint` use the same versions of the tools that both run."""

import re
import tomllib

import yaml
from helpers.commands import ROOT

EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
HOOKS = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]


def test_hooks_have_the_version_of_the_extra():
    extra = dict(re.findall(r"(\S+)==(\S+)", "\n".join(EXTRAS["dev"])))
    hooks = {
        name: repository["rev"].removeprefix("v")
        for repository in HOOKS
        for name in [repository["repo"].rpartition("/")[2].removesuffix("-pre-commit")]
        if name != "pre-commit-hooks"
    }
    assert hooks == extra
