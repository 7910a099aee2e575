"""The commands in README and guides are ones that the programs understand."""

import importlib
import re
import shlex

import pytest
from helpers.commands import ROOT

from lskd.commands.main import parser as lskd_parser

GUIDES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs" / "guides").glob("*.md"))
PAGES = ["README.md", *GUIDES, "docs/index.md", "docs/which-temperature.md", "docs/measures.md"]
BLOCK = re.compile(r"^```(.*?)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands(page: str) -> list[list[str]]:
    """The words of every command line in a page's blocks, without comments."""
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = [block for language, block in BLOCK.findall(text) if not language]
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def parse(words: list[str]) -> None:
    """Give the words to the program's own parser."""
    match words:
        case ["lskd", *rest]:
            lskd_parser().parse_args(rest)
        case ["fairseq-train", *rest]:
            from fairseq import options

            options.parse_args_and_arch(options.get_training_parser(), rest)
        case ["torchrun", "--nproc-per-node", _, "-m", module, *rest]:
            importlib.import_module(module).parser().parse_args(rest)
        case ["python", script, *rest] if module := script.removesuffix(".py").rpartition("/")[2]:
            importlib.import_module(module).parser().parse_args(rest)
        case ["make", goal]:
            assert f"\n{goal}:" in (ROOT / "Makefile").read_text("utf-8")
        case ["docker", "run", *options] if "--entrypoint" not in options:
            lskd_parser().parse_args(options[options.index("lskd") + 1 :])
        case ["pip" | "cp" | "docker", *_] | ["source", ".venv/bin/activate"]:
            pass
        case _:
            raise AssertionError(f"not a command that this test knows: {shlex.join(words)}")


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_the_programs_understand_the_commands_of_a_page(page, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    refused = {}
    for words in commands(page):
        try:
            parse(words)
        except SystemExit:
            refused[shlex.join(words)] = capsys.readouterr().err.splitlines()[-1]
    assert refused == {}


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 130
