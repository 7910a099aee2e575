"""The `lskd` command as a whole: each subcommand is tested in a module of its own."""

import importlib
import re
import shlex
import subprocess
import sys

import pytest
from helpers.commands import ROOT, last_line, run
from helpers.lskd_commands import here

from lskd import __version__
from lskd.commands.main import COMMANDS, parser
from lskd.commands.workflow import DATA
from lskd.io.errors import InputError, not_installed


def test_help_lists_every_command_with_a_line_on_what_it_does():
    help_text = parser().format_help()
    for name in COMMANDS:
        summary = importlib.import_module(f"lskd.commands.{name}").__doc__.splitlines()[0]
        assert name.replace("_", "-") in help_text
        assert summary.split()[0] in help_text
        assert summary[0].isupper()
        assert summary.endswith(".")


@pytest.mark.parametrize(
    ("group", "names"),
    [("vision", ["train", "validate", "representations"]), ("nmt", ["score", "cache", "export", "representations"])],
)
def test_help_lists_what_the_two_sides_add_without_importing_them(group, names):
    heavy = {"numpy", "torch", "timm", "fairseq", "lskd_vision", "lskd_fairseq"}
    code = "import sys; from lskd.commands.main import parser\n"
    code += f"try: parser().parse_args(['{group}', '--help'])\n"
    code += f"except SystemExit: print({heavy} & set(sys.modules))"
    *listed, imported = run("python", "-c", code + "\n").stdout.splitlines()
    assert imported == "set()"
    for name in names:
        assert any(re.match(rf" +{name} +[A-Z]", line) or line.strip() == name for line in listed)


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [f"vision {name}" for name in ("train", "validate", "representations", "export")]
    + [f"nmt {name}" for name in ("score", "cache", "distil-data", "export", "representations")],
)
def test_a_command_of_a_side_is_called_by_its_name_in_help_and_errors(words):
    usage, _, example, command = run("lskd", words, "--help").stdout.splitlines()[:4]
    assert usage.startswith(f"usage: lskd {words} ")
    assert example == "example:"
    assert command.startswith(f"    lskd {words} ")
    assert last_line(run("lskd", words, "--no-such-option", status=2)).startswith(f"lskd {words}: error: ")


@pytest.mark.slow
def test_a_refusal_of_a_side_is_one_line_whatever_the_packages_say_that_it_imports():
    command = [sys.executable, "-m", "lskd.commands.main", *["nmt", "score", "--data", "/no", "--path", "x.pt"]]
    refused = subprocess.run(command, capture_output=True, text=True)  # a process that has imported nothing yet
    assert refused.returncode == 2
    assert refused.stderr == "lskd nmt score: error: --path: x.pt (must be the path of an existing checkpoint file)\n"


@pytest.mark.parametrize("words", ["vision train --data-dir .", "vision validate a.pth.tar --data-dir ."])
def test_a_command_of_a_side_gets_the_arguments_that_it_has_by_itself(words, monkeypatch, capsys):
    given = []
    _, name, *rest = words.split()
    module = importlib.import_module(f"lskd_vision.{name}")
    monkeypatch.setattr(module, "main", given.append)
    arguments = parser().parse_args(words.split())
    arguments.run(arguments)
    assert given == [module.parser().parse_args(rest)]


def test_every_script_that_prepares_data_is_a_command_with_the_line_of_its_docstring(capsys):
    scripts = {path.stem for path in (ROOT / "data_prep").glob("*.py") if "\ndef parser(" in path.read_text("utf-8")}
    assert set(DATA) == scripts
    with pytest.raises(SystemExit):
        parser().parse_args(["data", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    for script in scripts:
        first = importlib.import_module(script).__doc__.splitlines()[0]
        assert f" {script.replace('_', '-')} {first[:20]}" in text


def test_a_script_that_prepares_data_gets_its_arguments_and_is_called_by_its_command(tmp_path):
    assert here("data letters --help").stdout.startswith("usage: lskd data letters [-h] --dest DEST ")
    made = here("data letters --fonts 3 --dest", tmp_path / "letters").stdout
    assert "letters" in made
    refused = here("data letters --fonts 4 --dest", tmp_path / "letters", status=2)
    (line,) = refused.stderr.splitlines()
    assert line.startswith("lskd data letters: error: --dest: ")
    assert line.endswith("name a new directory)")


def test_a_script_that_lacks_a_package_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    for name in ("corpus", "libreoffice_help"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(SystemExit) as left:
        parser().parse_args(["data", "libreoffice-help", "--dest", "x"])
    assert left.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"lskd data libreoffice-help: error: {not_installed('sentencepiece', 'nmt')}"


def test_a_package_that_is_missed_later_is_named_with_what_to_install(monkeypatch, tmp_path):
    import imagenet_tree

    imagenet_tree.class_names.cache_clear()
    monkeypatch.setitem(sys.modules, "timm.data", None)
    arguments = parser().parse_args(["data", "imagenet", "--check", str(tmp_path)])
    with pytest.raises(InputError) as refused:
        arguments.run(arguments)
    assert str(refused.value) == str(not_installed("timm", "vision"))


def test_a_side_that_cannot_be_imported_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "timm", None)
    for name in [name for name in sys.modules if name.startswith("lskd_vision")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(SystemExit) as left:
        parser().parse_args(["vision", "train"])
    assert left.value.code == 2
    assert capsys.readouterr().err == f"lskd vision train: error: {not_installed('timm', 'vision')}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help_with_an_example_that_it_understands(name, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    command = name.replace("_", "-")
    with pytest.raises(SystemExit) as left:
        parser().parse_args([command, "--help"])
    assert left.value.code == 0
    example = importlib.import_module(f"lskd.commands.{name}").EXAMPLE
    assert example in capsys.readouterr().out
    words = shlex.split(example)
    assert words[:2] == ["lskd", command]
    assert parser().parse_args(words[1:]).command == command


def test_the_program_says_the_version_of_the_package_and_ends_with_status_2_at_a_mistake():
    assert run("lskd --version").stdout.split() == ["lskd", __version__]
    assert "invalid choice: 'etta'" in last_line(run("lskd etta", status=2))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "COMMAND"),
        ("etta", "invalid choice: 'etta'"),
        ("eta --first a", "--second"),
        ("published 9Z", "9Z"),
        ("published 2A 2B", "unexpected argument: 2B"),
        ("entropy missing.representations.safetensors", "missing.representations.safetensors"),
        ("published 2A --output table.txt", "must end in .csv or .json"),
    ],
)
def test_a_mistake_is_one_line_and_exit_status_2(words, message, tmp_path):
    answer = here(words, cwd=tmp_path, status=2)
    assert message in last_line(answer)
    assert len(answer.stderr.strip().splitlines()) == 1
    assert answer.stdout == ""
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("eta --first a --second b --sets s.json --output ./s.json", "--output: s.json (is given as sets too, must be"),
        ("compare 3 s.json x --output link.json", "--output: link.json (is given as inputs too, must be another file)"),
        ("accuracy . --output run.json", "--output: run.json (is a file of a training, must be another)"),
        ("accuracy . --output summary.csv", "--output: summary.csv (is a file of a training, must be another)"),
        ("project a --classes A B C --table t.csv --coordinates t.csv", "(is given as coordinates too, must be"),
    ],
)
def test_no_input_is_written_over(words, message, tmp_path):
    for name in ("s.json", "run.json", "summary.csv"):
        (tmp_path / name).write_text("{}")
    (tmp_path / "link.json").symlink_to("s.json")
    assert message in last_line(here(words, cwd=tmp_path, status=2))
    assert all((tmp_path / name).read_text() == "{}" for name in ("s.json", "run.json", "summary.csv"))


def test_debug_shows_where_an_error_came_from(tmp_path):
    answer = run("lskd entropy missing.representations.safetensors --debug", cwd=tmp_path, status=1)
    assert "Traceback" in answer.stderr


def test_a_subcommand_of_another_package_says_whether_it_resumes_as_its_own_parser_does():
    resuming = parser().parse_args(["data", "imagenet", "--check", "imagenet"])
    other = parser().parse_args(["data", "letters", "--dest", "letters"])
    assert (resuming.resumes, hasattr(other, "resumes")) == (True, False)
