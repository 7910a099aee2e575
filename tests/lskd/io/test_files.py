import os
import re
import socket
import subprocess
import sys

import pytest

from lskd.io.files import building, parse_json, parse_yaml, remove_partials, replacing, sha256, write_json, write_text


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def test_a_file_is_replaced_when_the_block_ends_and_not_before(tmp_path):
    target = tmp_path / "figures.json"
    target.write_text("old")
    with replacing(target) as beside:
        beside.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert names(tmp_path) == ["figures.json"]


def test_a_file_that_was_not_there_appears_when_the_block_ends(tmp_path):
    target = tmp_path / "figures.json"
    with replacing(str(target)) as beside:
        beside.write_text("half")
        assert not target.exists()
    assert target.read_text() == "half"


def write_half_and_raise(target, error):
    with replacing(target) as beside:
        beside.write_text("half")
        raise error


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize("old", ["old", None])
def test_a_block_that_raises_leaves_everything_as_it_was(tmp_path, error, old):
    target = tmp_path / "figures.json"
    if old:
        target.write_text(old)
    before = names(tmp_path)
    with pytest.raises(error):
        write_half_and_raise(target, error)
    assert names(tmp_path) == before
    assert not old or target.read_text() == old


def test_a_block_that_raises_before_it_writes_raises_its_own_error(tmp_path):
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "figures.json"):
        raise ZeroDivisionError
    assert names(tmp_path) == []


def test_a_block_that_writes_nothing_is_an_error_and_the_old_file_stays(tmp_path):
    target = tmp_path / "figures.json"
    target.write_text("old")
    with pytest.raises(FileNotFoundError), replacing(target):
        pass
    assert target.read_text() == "old"


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_disk_that_fails_leaves_everything_as_it_was(tmp_path, monkeypatch, step):
    target = tmp_path / "figures.json"
    target.write_text("old")

    def fails(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, fails)
    with pytest.raises(OSError, match="No space left"):
        write_text(target, "new")
    assert target.read_text() == "old"
    assert names(tmp_path) == ["figures.json"]


def test_the_file_is_on_disk_before_it_takes_its_name(tmp_path, monkeypatch):
    steps = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (steps.append("fsync"), fsync(file)))
    monkeypatch.setattr(os, "replace", lambda *paths: (steps.append("replace"), replace(*paths)))
    write_text(tmp_path / "figures.json", "new")
    assert steps == ["fsync", "replace"]


def test_two_processes_that_write_the_same_file_do_not_write_to_the_same_partial_one(tmp_path):
    target = tmp_path / "figures.json"
    code = (
        "import sys\nfrom lskd.io.files import replacing\n"
        "with replacing(sys.argv[1]) as beside:\n"
        "    beside.write_text(sys.argv[2]); print(beside, flush=True); sys.stdin.readline()\n"
    )
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(target), text],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        for text in ("first", "second")
    ]
    paths = [writer.stdout.readline().strip() for writer in writers]
    assert len(set(paths)) == 2
    for writer, text in zip(writers, ("first", "second"), strict=True):
        writer.communicate("\n", timeout=60)
        assert writer.returncode == 0
        assert target.read_text() == text
    assert names(tmp_path) == ["figures.json"]


def test_only_partial_files_of_dead_processes_of_this_machine_are_removed(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    host = socket.gethostname()
    ours, living = f".a.json.{host}-{dead.pid}.partial", f".a.json.{host}-{os.getpid()}.partial"
    others = [f".a.json.my{host}-{dead.pid}.partial", ".dest.x1.partial", "a.json"]
    for name in (ours, living, *others):
        (tmp_path / name).write_text("half")
    remove_partials(tmp_path)
    assert names(tmp_path) == sorted([living, *others])


def test_the_partial_file_is_hidden_and_in_the_directory_of_the_file_it_becomes(tmp_path):
    with replacing(tmp_path / "figures.json") as beside:
        assert beside.parent == tmp_path
        assert beside.name.startswith(".figures.json.")
        beside.write_text("")


def test_text_is_written_as_utf8_with_unix_line_ends(tmp_path):
    write_text(tmp_path / "text", "α\nβ\n")
    assert (tmp_path / "text").read_bytes() == b"\xce\xb1\n\xce\xb2\n"


def test_json_is_readable_and_ends_with_a_line_end(tmp_path):
    write_json(tmp_path / "json", {"α": [1, None]})
    assert (tmp_path / "json").read_text(encoding="utf-8") == '{\n  "α": [\n    1,\n    null\n  ]\n}\n'


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"set"}])
def test_what_json_does_not_have_is_refused_before_anything_is_written(tmp_path, value):
    (tmp_path / "json").write_text("old")
    with pytest.raises((ValueError, TypeError)):
        write_json(tmp_path / "json", {"value": value})
    assert (tmp_path / "json").read_text() == "old"
    assert names(tmp_path) == ["json"]


@pytest.mark.parametrize(
    ("content", "digest"),
    [
        (b"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        (b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (b"a" * 10**6, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"),
    ],
)
def test_the_checksum_is_the_standards_own(tmp_path, content, digest):
    (tmp_path / "file").write_bytes(content)
    assert sha256(tmp_path / "file") == digest


def test_the_checksum_of_a_file_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        sha256(tmp_path / "nowhere")


def test_json_with_half_a_letter_is_none():
    with pytest.raises(ValueError, match="unpaired surrogate"):
        parse_json('{"a": ["\\ud800"]}')
    assert parse_json('"\\ud83d\\ude00"') == "😀"


LEVELS = 12
BOMB = "".join(f"a{i}: &a{i} [{', '.join(['x' if not i else f'*a{i - 1}'] * 10)}]\n" for i in range(LEVELS))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (BOMB, f"it holds 1.2e+{LEVELS} values by its aliases"),
        ("&a [*a]", "nested too deeply, or in itself"),
        ("[" * 3000, "nested too deeply"),
        ("9" * 5000, "limit"),
        ("2026-99-99", "month"),
        ("!!python/object/apply:os.getcwd []", "could not determine a constructor"),
        ("a: [", "while parsing"),
    ],
)
def test_yaml_that_would_do_harm_or_is_none_is_refused_in_one_line(text, complaint):
    with pytest.raises(ValueError, match=re.escape(complaint)) as error:
        parse_yaml(text)
    assert "\n" not in str(error.value)


def test_yaml_may_repeat_itself_a_little():
    assert parse_yaml("a: &a {T: 1}\nb: {<<: *a, α: 0.1}") == {"a": {"T": 1}, "b": {"T": 1, "α": 0.1}}


def test_a_directory_appears_when_its_block_ends_and_others_may_read_it(tmp_path):
    dest = tmp_path / "above" / "data"
    with building(dest) as beside:
        (beside / "classes.txt").write_text("a\n")
        assert not dest.exists()
        assert beside.name.startswith(".data.")
    assert (dest / "classes.txt").read_text() == "a\n"
    assert [path.name for path in dest.parent.iterdir()] == ["data"]
    assert dest.stat().st_mode & 0o777 == 0o755


def test_of_a_directory_whose_block_fails_nothing_is_left(tmp_path):
    def make() -> None:
        with building(tmp_path / "data") as beside:
            (beside / "classes.txt").write_text("a\n")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make()
    assert list(tmp_path.iterdir()) == []


def test_an_empty_directory_is_replaced_and_another_is_kept_and_named(tmp_path):
    dest = tmp_path / "data"
    dest.mkdir()
    with building(dest) as beside:
        (beside / "new").touch()
    with pytest.raises(OSError, match="not empty") as refused, building(dest) as beside:
        (beside / "newer").touch()
    assert str(dest) in str(refused.value)
    assert [path.name for path in dest.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [dest]
