import argparse
import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import lskd
from lskd.io.argument_types import joinable_path, positive
from lskd.io.errors import (
    InputError,
    OneLineParser,
    error_context,
    file_error_context,
    input_error,
    report,
    run_command,
)


def call(command, *arguments, monkeypatch, resumes=False):
    """The exit status of ``command`` run from the command line ``tool ARGUMENTS``."""
    monkeypatch.setattr(sys, "argv", ["tool", *arguments])
    parser = argparse.ArgumentParser(prog="tool")
    parser.add_argument("--number", type=positive, default=1)
    parser.set_defaults(resumes=resumes)
    with pytest.raises(SystemExit) as stop:
        run_command(parser, command)
    return stop.value.code


def raising(error):
    def command(_):
        raise error

    return command


def test_the_message_names_argument_value_and_what_is_valid():
    error = input_error("--temperature", 0.0, "must be above 0")
    assert isinstance(error, InputError)
    assert isinstance(error, ValueError)
    assert str(error) == "--temperature: 0.0 (must be above 0)"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (input_error("--temperature", 0.0, "must be above 0"), "tool: error: --temperature: 0.0 (must be above 0)\n"),
        (InputError("two\nlines\r\n\tand more"), "tool: error: two lines and more\n"),
        (OSError(28, "No space left on device", "run.json"), "[Errno 28] No space left on device: 'run.json'\n"),
        (PermissionError(13, "Permission denied", "out"), "[Errno 13] Permission denied: 'out'\n"),
    ],
)
def test_bad_input_and_a_failing_system_are_one_line_and_status_2(error, line, monkeypatch, capsys):
    assert call(raising(error), monkeypatch=monkeypatch) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert err.startswith("tool: error: ")
    assert err.endswith(line)
    assert "Traceback" not in err


@pytest.mark.parametrize("error", [input_error("--temperature", 0.0, "must be above 0"), OSError(28, "full")])
def test_debug_shows_where_an_error_comes_from(error, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["tool", "--debug"])
    with pytest.raises(type(error)) as raised:
        run_command(argparse.ArgumentParser(prog="tool"), raising(error))
    assert raised.value is error
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("resumes", "line"),
    [(False, "tool: interrupted\n"), (True, "tool: interrupted; the same command resumes where it stopped\n")],
)
def test_ctrl_c_is_one_line_and_status_130(monkeypatch, capsys, resumes, line):
    assert call(raising(KeyboardInterrupt()), monkeypatch=monkeypatch, resumes=resumes) == 130
    assert capsys.readouterr().err == line


def test_sigterm_is_one_line_and_status_130_too():
    process = start("import time\nrun_command(parser, lambda _: (print('x', flush=True), time.sleep(60)))", stdout=-1)
    assert process.stdout.readline() == "x\n"
    process.terminate()
    _, complaint = process.communicate(timeout=60)
    assert process.returncode == 130
    assert complaint.startswith("tool: interrupted")
    assert len(complaint.splitlines()) == 1


def test_debug_shows_where_ctrl_c_was_pressed(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["tool", "--debug"])
    with pytest.raises(KeyboardInterrupt):
        run_command(argparse.ArgumentParser(prog="tool"), raising(KeyboardInterrupt()))


@pytest.mark.parametrize("error", [ValueError("a defect"), TypeError("a defect"), RuntimeError("a defect")])
def test_a_defect_of_the_program_is_not_passed_off_as_bad_input(error, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["tool"])
    with pytest.raises(type(error), match="a defect"):
        run_command(argparse.ArgumentParser(prog="tool"), raising(error))


@pytest.mark.parametrize(("returned", "status"), [(None, 0), (0, 0), (1, 1), (3, 3)])
def test_the_status_is_what_the_command_returns(returned, status, monkeypatch, capsys):
    assert call(lambda _: returned, monkeypatch=monkeypatch) == status
    assert capsys.readouterr().err == ""


def test_the_command_gets_the_arguments(monkeypatch):
    seen = []
    assert call(lambda arguments: seen.append(arguments.number), "--number", "5", monkeypatch=monkeypatch) == 0
    assert seen == [5]


def test_a_number_that_is_not_positive_is_status_2_and_named(monkeypatch, capsys):
    assert call(lambda _: pytest.fail("the command ran"), "--number", "0", monkeypatch=monkeypatch) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == "tool: error: argument --number: '0' (must be a whole number above 0)"


def test_report_writes_one_line_and_gives_status_2(capsys):
    assert report("tool", OSError("a\nb")) == 2
    assert capsys.readouterr().err == "tool: error: a b\n"


def test_a_value_that_would_command_a_terminal_is_shown_and_does_not(capsys):
    report("tool", input_error("class", "\x1b]0;gone\x07\x1b[2Jα", "must be a name"))
    assert capsys.readouterr().err == "tool: error: class: �]0;gone��[2Jα (must be a name)\n"


def test_of_a_long_value_the_beginning_is_shown():
    assert str(input_error("class", "x" * 20_000, "must be a name")) == f"class: {'x' * 500}… (must be a name)"


def start(code, **streams):
    program = (
        f"import argparse, sys\nfrom lskd.io.errors import *\nparser = argparse.ArgumentParser(prog='tool')\n{code}"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONUNBUFFERED": ""}
    return subprocess.Popen(
        [sys.executable, "-c", program], stderr=subprocess.PIPE, text=True, env=environment, **streams
    )


def test_a_reader_that_went_away_is_no_error():
    process = start("run_command(parser, lambda _: print('x\\n' * 10**6))", stdout=subprocess.PIPE)
    assert process.stdout.readline() == "x\n"
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(timeout=60) == 1
    process.stderr.close()


def write_to_a_full_disk():
    with open("/dev/full", "w") as full:
        process = start("run_command(parser, lambda _: print('x'))", stdout=full)
    _, err = process.communicate(timeout=60)
    return process.returncode, err.splitlines()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_output_that_cannot_be_written_is_reported():
    assert write_to_a_full_disk()[1][0] == "tool: error: [Errno 28] No space left on device: 'standard output'"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_output_that_cannot_be_written_is_one_line_and_status_2():
    assert write_to_a_full_disk() == (2, ["tool: error: [Errno 28] No space left on device: 'standard output'"])


def test_an_error_of_a_function_gets_the_file_s_name_and_one_that_names_it_keeps_its_own():
    with pytest.raises(InputError, match=r"^a\.file: labels: 3$"), error_context("a.file"):
        raise ValueError("labels: 3")
    with pytest.raises(InputError, match=r"^FILE: none$"), error_context("a.file"):
        raise InputError("FILE: none")


@pytest.mark.parametrize("name", [None, "{place}/.run.json.12.partial", "{place}/.new.abc.partial/raw/train.en"])
def test_an_error_of_the_system_without_a_file_or_with_a_hidden_one_gets_the_file_s_name(name, tmp_path):
    hidden = () if name is None else (name.format(place=tmp_path),)
    with pytest.raises(OSError, match="No space left") as raised, file_error_context(tmp_path / "run.json"):
        raise OSError(28, "No space left on device", *hidden)
    assert (raised.value.errno, raised.value.filename) == (28, str(tmp_path / "run.json"))


@pytest.mark.parametrize(
    "error", [OSError("run.json: cannot be written"), PermissionError(13, "denied", "/other/file")]
)
def test_an_error_of_the_system_that_names_its_file_stays(error, tmp_path):
    with pytest.raises(OSError, match=r"run\.json|other") as raised, file_error_context(tmp_path / "new"):
        raise error
    assert raised.value is error


@pytest.mark.parametrize("empty", ["", " "])
def test_an_empty_path_is_not_the_working_directory(empty, capsys):
    command = OneLineParser(prog="tool")
    command.add_argument_group("files").add_argument("--files", type=Path, nargs="+")
    command.add_subparsers().add_parser("sub").add_argument("--output", type=Path)
    assert command.parse_args(["--files", "a b"]).files == [Path("a b")]
    for words, argument in ((["--files", "a", empty], "--files"), (["sub", "--output", empty], "--output")):
        with pytest.raises(SystemExit):
            command.parse_args(words)
        assert capsys.readouterr().err.endswith(f"error: {argument}: {empty!r} (must be a path)\n")


def test_a_path_for_fairseq_has_no_colon():
    assert joinable_path("data-bin/ü x") == Path("data-bin/ü x")
    with pytest.raises(argparse.ArgumentTypeError, match=r"'a:b' \(must be without ':'"):
        joinable_path("a:b")
    with pytest.raises(argparse.ArgumentTypeError, match="must be a path"):
        joinable_path("")


def test_no_refusal_ends_with_two_closing_brackets():
    """What is valid stands in brackets already: a part of it in brackets of its own is hard to read at the end."""
    root, found = Path(lskd.__file__).parents[1], []
    folders = ("lskd", "lskd_vision", "lskd_fairseq", "data_prep")
    files = [path for folder in folders for path in (root / folder).rglob("*.py")]
    assert len(files) > 100
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "input_error" and len(node.args) == 3:
                valid = node.args[2]
                last = valid.values[-1] if isinstance(valid, ast.JoinedStr) else valid
                if isinstance(last, ast.Constant) and str(last.value).endswith(")"):
                    found.append(f"{path.relative_to(root)}:{node.lineno}")
    assert found == []


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--rate", "abc"], "--rate: abc (must be a finite number)"),
        (["--rate", "nan"], "--rate: nan (must be a finite number)"),
        (["--seed", "1.5"], "--seed: 1.5 (must be a whole number)"),
        (["--sed", "1"], "no such option: --sed 1 (perhaps --seed)"),
        (["--sed=1"], "no such option: --sed=1 (perhaps --seed)"),
        (["--colour", "red"], "no such option: --colour red"),
        (["red"], "unexpected argument: red"),
    ],
)
def test_a_command_line_that_cannot_be_parsed_is_one_line_that_says_what_is_valid(words, line, capsys):
    command = OneLineParser(prog="tool")
    command.add_argument("--rate", type=float)
    command.add_argument("--seed", type=int)
    with pytest.raises(SystemExit) as stop:
        command.parse_args(words)
    assert stop.value.code == 2
    assert capsys.readouterr().err == f"tool: error: {line}\n"


def test_an_error_is_that_of_the_subcommand(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["tool", "saw"])
    command = OneLineParser(prog="tool")
    command.add_subparsers().add_parser("saw").set_defaults(program="tool saw")
    with pytest.raises(SystemExit):
        run_command(command, raising(InputError("blunt")))
    assert capsys.readouterr().err == "tool saw: error: blunt\n"
