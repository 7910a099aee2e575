"""Debian's package descriptions: what is fetched, read, paired and left out, and the data set that they make."""

import bz2
import gzip
import hashlib
import json
import lzma
import os
import shutil
from pathlib import Path

import ddtp
import pytest
from ddtp_packages import align, blocks, descriptions, fetch, read
from helpers.commands import last_line
from helpers.commands import run as run_command_line
from hypothesis import given
from hypothesis import strategies as st
from libreoffice_help import SAMPLES, read_sample, split_of_page, split_pairs

from lskd.io.errors import InputError
from lskd.io.files import sha256

COMMAND = ddtp

# What the English descriptions are, and the translation of each: short line, paragraphs, items and verbatim lines.
ENGLISH = {
    "kettle": """program that boils water
 Kettle boils water for up to ten cups, and tells
 you when the water is hot. It needs a kettle that
 understands the command-
 line protocol.
 .
 It has these features:
  * a timer that counts
    backwards, with pauses
  - a lamp that is red
 .
 It also makes some noise.""",
    "kettle-doc": """program that boils water (documentation)
 It also makes some noise.
 .
 Nobody has translated this line.""",
    "spoon": """tool to stir the tea
 The English has two paragraphs.
 .
 This is the other one.""",
    "cup": """nobody has translated this package""",
    "saucer": """place to put a cup
 A saucer is called like this:
   saucer --cup 1 --spoon 2 put it there
 .
 It is made of porcelain.""",
}
GERMAN = {
    "kettle": """Programm, das Wasser kocht
 Kettle kocht Wasser für bis zu zehn Tassen und
 meldet, wenn es heiß ist. Es braucht einen Kessel, der das Kommandozeilen-
 Protokoll versteht.
 .
 Es bietet diese Ein-
 und Ausgaben:
 .
   - eine Uhr, die rückwärts zählt,
     auch mit Pausen
   - eine Lampe, die rot ist
 .
 Es macht auch etwas Lärm.""",
    "kettle-doc": """Programm, das Wasser kocht (Dokumentation)
 Es macht ebenfalls etwas Lärm.
 .
 Nobody has translated this line.""",
    "spoon": """Werkzeug, um Tee umzurühren
 Auf Deutsch ist es nur ein Absatz, und dies ist der andere.""",
    "saucer": """Platz, um eine Tasse abzustellen
 Eine Untertasse wird so aufgerufen:
   saucer --cup 1 --spoon 2 dort abstellen
 .
 Sie besteht aus Porzellan.""",
    "teapot": """dieses Paket gibt es auf Englisch nicht""",
}
PAIRS = [
    ("ddtp/kettle", "program that boils water", "Programm, das Wasser kocht"),
    (
        "ddtp/kettle",
        "Kettle boils water for up to ten cups, and tells you when the water is hot.",
        "Kettle kocht Wasser für bis zu zehn Tassen und meldet, wenn es heiß ist.",
    ),
    (
        "ddtp/kettle",
        "It needs a kettle that understands the command-line protocol.",
        "Es braucht einen Kessel, der das Kommandozeilen-Protokoll versteht.",
    ),
    ("ddtp/kettle", "It has these features:", "Es bietet diese Ein- und Ausgaben:"),
    ("ddtp/kettle", "a timer that counts backwards, with pauses", "eine Uhr, die rückwärts zählt, auch mit Pausen"),
    ("ddtp/kettle", "a lamp that is red", "eine Lampe, die rot ist"),
    ("ddtp/kettle", "It also makes some noise.", "Es macht auch etwas Lärm."),
    (
        "ddtp/kettle-doc",
        "program that boils water (documentation)",
        "Programm, das Wasser kocht (Dokumentation)",
    ),
    ("ddtp/saucer", "place to put a cup", "Platz, um eine Tasse abzustellen"),
    ("ddtp/saucer", "A saucer is called like this:", "Eine Untertasse wird so aufgerufen:"),
    ("ddtp/saucer", "It is made of porcelain.", "Sie besteht aus Porzellan."),
    ("ddtp/spoon", "tool to stir the tea", "Werkzeug, um Tee umzurühren"),
]
COUNTS = {
    "descriptions": 4,
    "descriptions_built_differently": 1,
    "read": 14,
    "kept": 12,
    "dropped": {"repeated": 1, "untranslated": 1},
}


def stanzas(language: str, texts: dict[str, str]) -> str:
    """A Translation file."""
    return "".join(
        f"Package: {package}\nDescription-md5: {hashlib.md5(ENGLISH.get(package, text).encode()).hexdigest()}\n"  # noqa: S324
        f"Description-{language}: {text}\n\n"
        for package, text in texts.items()
    )


def parsed(language: str, texts: dict[str, str]):
    """What is read from it."""
    return descriptions(stanzas(language, texts).encode(), language, Path("Translation"))


@pytest.fixture
def files(tmp_path):
    """The Translation files of English and German, in a directory of their own."""
    directory = tmp_path / "files"
    directory.mkdir()
    paths = [directory / "Translation-en", directory / "Translation-de"]
    for path, texts in zip(paths, (ENGLISH, GERMAN), strict=True):
        path.write_text(stanzas(path.name[-2:], texts), encoding="utf-8")
    return paths


@pytest.fixture
def apt_get(tmp_path, monkeypatch):
    """Puts a shell script in the place of ``apt-get``, which finds its words in ``$lists`` and ``$conf``."""

    def install(script: str) -> None:
        directory = tmp_path / "bin"
        directory.mkdir(exist_ok=True)
        (directory / "apt-get").write_text(
            '#!/bin/sh\n[ "$1" = update ] || exit 9\nfor word; do case $word in\n'
            "--option=Dir::State::Lists=*) lists=${word#--option=Dir::State::Lists=};;\n"
            f"--config-file=*) conf=${{word#--config-file=}};;\nesac; done\n{script}\n"
        )
        (directory / "apt-get").chmod(0o755)
        monkeypatch.setenv("PATH", str(directory), prepend=os.pathsep)

    return install


def fetching(files: list[Path]) -> str:
    """An ``apt-get update`` that has these files to give, under the names that apt gives them."""
    name = "mirror.example.org_debian_dists_stable_main_i18n_"
    return "\n".join(f"cp {path} $lists/{name}{path.name} || exit 8" for path in files)


@pytest.fixture
def made(monkeypatch):
    """What would be handed over to be written, and a manifest in its place, instead of the whole directory."""
    calls = []

    def write_data_bin(dest, pair, splits, vocab_size, parameters, origin):
        calls.append({"splits": splits, "parameters": parameters, "origin": origin})
        counts = {name: {"sentences": len(pairs)} for name, pairs in splits.items()}
        manifest = {"pair": pair, "parameters": parameters, "origin": origin, "counts": counts}
        dest.mkdir()
        (dest / "manifest.json").write_text(json.dumps(manifest))
        return manifest

    monkeypatch.setattr(ddtp, "write_data_bin", write_data_bin)
    return calls


@pytest.fixture
def refuse(run, tmp_path):
    """Run the command, which must answer with status 2 and one line, and leave DEST unwritten."""

    def refuse(*arguments: object) -> str:
        status, printed, complaint = run("--pair", "en-de", "--dest", tmp_path / "below" / "dest", *arguments)
        assert (status, printed, complaint.count("\n")) == (2, "", 1)
        assert not (tmp_path / "below").exists()
        return complaint.strip().removeprefix("ddtp.py: error: ")

    return refuse


def test_short_lines_paragraphs_and_items_are_paired_sentence_by_sentence():
    assert align(parsed("en", ENGLISH), parsed("de", GERMAN)) == (PAIRS, COUNTS)


def test_a_translation_of_another_version_of_the_description_is_no_pair():
    english = {("kettle", "1" * 32): [("short", "program that boils water")]}
    german = {("kettle", "2" * 32): [("short", "Programm, das Wasser kocht")]}
    assert align(english, german)[0] == []


def test_items_and_paragraphs_are_not_paired_with_each_other():
    english = {("kettle", "1"): [("short", "it boils water"), ("item", "it is red")]}
    german = {("kettle", "1"): [("short", "es kocht Wasser"), ("paragraph", "es ist rot")]}
    rows, counts = align(english, german)
    assert rows == [("ddtp/kettle", "it boils water", "es kocht Wasser")]
    assert counts["descriptions_built_differently"] == 1


def test_russian_that_is_still_english_is_left_out():
    english = {("kettle", "1"): [("short", "it boils water"), ("paragraph", "It is very red.")]}
    russian = {("kettle", "1"): [("short", "он кипятит воду"), ("paragraph", "It is quite red.")]}
    rows, counts = align(english, russian, cyrillic=True)
    assert rows == [("ddtp/kettle", "it boils water", "он кипятит воду")]
    assert counts["dropped"] == {"not Cyrillic": 1}


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ([" * one", "   and on", " * two"], [("item", "one and on"), ("item", "two")]),
        (["  o one", "  1. two", "  2) three"], [("item", "one"), ("item", "two"), ("item", "three")]),
        (["  - one", " And on."], [("item", "one"), ("paragraph", "And on.")]),
        (["  - one", " .", "    $ run it"], [("item", "one"), ("verbatim", "$ run it")]),
        ([" One", "   $ run it", "   $ and again", " two."],
         [("paragraph", "One"), ("verbatim", "$ run it $ and again"), ("paragraph", "two.")]),
        ([" One", " .", " .", " two.", " ."], [("paragraph", "One"), ("paragraph", "two.")]),
        ([" A client-", " and a server-", " side."], [("paragraph", "A client- and a server-side.")]),
        ([" In- oder", " Aus- und Ein-", " gabe"], [("paragraph", "In- oder Aus- und Ein-gabe")]),
        ([" tab\tand\r", " no\u00a0break,\u2028mon\u00adday\x00"], [("paragraph", "tab and no break, monday")]),
        ([" Version", " -1 is negative", "  -2 too"],
         [("paragraph", "Version -1 is negative"), ("verbatim", "-2 too")]),
    ],
)  # fmt: skip
def test_the_lines_of_a_description_are_put_together_as_they_are_shown(lines, found):
    assert blocks(["short line", *lines]) == [("short", "short line"), *found]


WORDS = st.text(alphabet="abcÄяñ,;", min_size=1, max_size=8)
TEXTS = st.lists(WORDS, min_size=1, max_size=12)


@pytest.mark.slow
@given(st.lists(st.tuples(st.booleans(), TEXTS), max_size=6), st.integers(1, 5))
def test_wherever_the_lines_break_the_blocks_are_the_same(parts, words_in_line):
    lines = ["short line"]
    for item, words in parts:
        broken = [" ".join(words[i : i + words_in_line]) for i in range(0, len(words), words_in_line)]
        lines.append(" .")
        lines += [f"  * {broken[0]}", *(f"    {line}" for line in broken[1:])] if item else [f" {x}" for x in broken]
    expected = [("item" if item else "paragraph", " ".join(words)) for item, words in parts]
    assert blocks(lines) == [("short", "short line"), *expected]


@pytest.mark.slow
@given(st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")) | st.binary(max_size=200))
def test_a_file_of_any_content_is_read_or_refused_in_one_line(content):
    try:
        descriptions(b"Package: a\nDescription-md5: b\nDescription-en: " + content, "en", Path("file"))
    except InputError as error:
        assert str(error).startswith("--translations: file (must")  # noqa: PT017


@given(st.lists(st.text(max_size=40), max_size=8))
def test_what_is_kept_is_one_line_without_marks_at_its_ends(lines):
    for _, text in blocks(["short", *(f" {line}" for line in lines)]):
        assert text == " ".join(text.split())
        assert text.splitlines() in ([], [text])


def test_of_a_description_that_comes_twice_the_first_counts():
    text = stanzas("de", {"kettle": "Programm"}) + stanzas("de", {"kettle": "Anderes"})
    assert list(descriptions(text.encode(), "de", Path("f")).values()) == [[("short", "Programm")]]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "holds no description"),
        (b"\n\n", "holds no description"),
        (b"<html>Not found</html>", "line 1 is not part of one"),
        (b" a line of nothing", "line 1 is not part of one"),
        (b"Package: a\nDescription-md5: b\nDescription-de: c\n\n d\n", "line 5 is not part of one"),
        (b"Package: a\nDescription-md5: b\n\n", "Description-de before line 3"),
        (b"Package: a\nDescription-md5: b\nDescription-en: c\n", "Description-de before line 4"),
        (b"Package: a\nDescription-md5: b\nDescription-de: \xff\n", "plain, .gz, .xz or .bz2: 'utf-8'"),
    ],
)
def test_a_file_that_is_no_translation_file_of_its_language_is_refused(refuse, files, content, words):
    files[1].write_bytes(content)
    complaint = refuse("--translations", *files)
    assert complaint.startswith(f"--translations: {files[1]} (must")
    assert words in complaint


def test_the_files_in_the_wrong_order_are_refused(refuse, files):
    assert "Description-en before line" in refuse("--translations", *reversed(files))


@pytest.mark.parametrize(("end", "compress"), [(".gz", gzip.compress), (".xz", lzma.compress), (".bz2", bz2.compress)])
def test_a_compressed_file_gives_what_is_in_it_and_a_damaged_one_is_refused(refuse, files, end, compress):
    content = files[1].read_bytes()
    whole, cut, other = (files[1].with_name(f"{name}{end}") for name in ("whole", "cut", "other"))
    whole.write_bytes(compress(content))
    cut.write_bytes(compress(content)[:-20])
    other.write_bytes(content)
    assert read(whole) == content
    for damaged in (cut, other):
        assert refuse("--translations", files[0], damaged).startswith(f"--translations: {damaged} (cannot be read: ")


def test_a_file_that_is_missing_or_too_large_is_refused(refuse, files, monkeypatch):
    assert "No such file" in refuse("--translations", files[0], files[0].with_name("missing"))
    monkeypatch.setattr("ddtp_packages.MAX_BYTES", 100)
    assert "must hold at most 100 bytes" in refuse("--translations", *files)


def test_files_without_a_usable_pair_are_refused(refuse, files):
    files[1].write_text(stanzas("de", {"teapot": "dieses Paket gibt es auf Englisch nicht"}))
    assert "no description in one has a translation in the other" in refuse("--translations", *files)


@pytest.mark.slow
def test_the_data_set_has_both_origins_and_says_what_it_is_made_of(run, files, made, tmp_path):
    status, printed, _ = run("--pair", "en-de", "--dest", tmp_path / "dest", "--translations", *files)
    assert (status, "sentences, 8000 subwords" in printed) == (0, True)
    (call,) = made
    help_alone = split_pairs(read_sample(SAMPLES / "lohelp.en-de.tsv.xz"))
    for name, pairs in call["splits"].items():
        found = set(zip(pairs.source, pairs.target, strict=True))
        ours = {(english, german) for page, english, german in PAIRS if split_of_page(page) == name}
        assert found == ours | set(zip(help_alone[name].source, help_alone[name].target, strict=True))
        counts = {"libreoffice_help": len(help_alone[name]), "package_descriptions": len(ours)}
        assert call["origin"]["pairs"][name] == counts
    assert call["origin"]["package_descriptions"] == COUNTS
    assert call["origin"]["translation_files"] == [{"file": p.name, "sha256": sha256(p)} for p in files]


def test_no_english_sentence_of_valid_or_test_is_in_train(run, files, made, tmp_path):
    (sentence,) = split_pairs(read_sample(SAMPLES / "lohelp.en-de.tsv.xz"), max_pairs=1)["test"].source
    names = [
        f"p{number}" for number in range(200)
    ]  # some of each split; all of them have a sentence of the help's test
    files[0].write_text(stanzas("en", {name: f"{sentence}\n It is called the {name}." for name in names}))
    for path, text in zip(
        files, (f"{sentence}\n It is called the ", "Etwas anderes steht hier\n Es heißt "), strict=True
    ):
        path.write_text(
            "".join(
                f"Package: {name}\nDescription-md5: {name}\nDescription-{path.name[-2:]}: {text}{name}.\n\n"
                for name in names
            )
        )
    run("--pair", "en-de", "--dest", tmp_path / "dest", "--translations", *files)
    train, valid, test = (set(made[0]["splits"][name].source) for name in ("train", "valid", "test"))
    assert not train & valid | train & test | valid & test
    assert sentence in test
    assert all(sum(f"It is called the {name}." in split for name in names) > 2 for split in (train, valid, test))


@pytest.mark.slow
def test_max_pairs_keeps_a_share_of_both_origins(run, files, made, tmp_path):
    texts = [{f"p{n}": f"{word} {'x' * (n % 90 + 1)} {'y' * (n // 90 + 1)} {word}" for n in range(8000)}
             for word in ("one", "eins")]  # fmt: skip
    for path, descriptions_ in zip(files, texts, strict=True):
        path.write_text(
            "".join(
                f"Package: {name}\nDescription-md5: {name}\nDescription-{path.name[-2:]}: {text}\n\n"
                for name, text in descriptions_.items()
            )
        )
    run("--pair", "en-de", "--dest", tmp_path / "dest", "--max-pairs", 1000, "--translations", *files)
    counts = made[0]["origin"]["pairs"]["train"]
    assert sum(counts.values()) == 1000
    assert counts["package_descriptions"] == pytest.approx(200, abs=80)  # 8 000 of 42 934 pairs


def test_given_files_decide_whether_a_directory_is_ready(run, files, made, tmp_path):
    arguments = ("--pair", "en-de", "--dest", tmp_path / "dest", "--translations", *files)
    assert run(*arguments)[0] == 0
    assert run(*arguments) == (0, f"{tmp_path / 'dest'} is ready\n", "")
    compressed = files[1].with_name("other.gz")  # the content counts, not how it is stored
    compressed.write_bytes(gzip.compress(files[1].read_bytes()))
    assert "is ready" in run(*arguments[:-1], compressed)[1]
    files[1].write_text(files[1].read_text() + stanzas("de", {"cup": "niemand hat dieses Paket übersetzt"}))
    status, _, complaint = run(*arguments)
    assert (status, "was made with translations_sha256" in complaint) == (2, True)
    assert len(made) == 1


def test_apt_get_is_asked_for_nothing_but_the_two_languages_in_private_directories(files, apt_get, tmp_path):
    apt_get(fetching(files) + f"\ncp $conf {tmp_path}/conf\nls -d $lists/partial || exit 7")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    found = fetch(["en", "de"], scratch)
    assert {language: [path.read_bytes() for path in paths] for language, paths in found.items()} == {
        path.name[-2:]: [path.read_bytes()] for path in files
    }
    assert all(path.is_relative_to(scratch) for paths in found.values() for path in paths)
    assert 'Acquire::Languages { "en"; "de"; };' in (tmp_path / "conf").read_text()


def test_what_apt_gave_is_named_without_its_host_and_stays_ready_when_apt_has_something_else(
    run, files, apt_get, made, tmp_path
):
    arguments = ("--pair", "en-de", "--dest", tmp_path / "dest")
    apt_get(fetching(files))
    assert run(*arguments)[0] == 0
    assert made[0]["origin"]["translation_files"] == [
        {"file": f"dists_stable_main_i18n_{path.name}", "sha256": sha256(path)} for path in files
    ]
    apt_get("echo 'E: there is no network' >&2; exit 100")
    assert run(*arguments) == (0, f"{tmp_path / 'dest'} is ready\n", "")
    status, _, complaint = run(*arguments, "--vocab-size", 99)
    assert (status, "was made with vocab_size 8000 instead of 99" in complaint) == (2, True)


@pytest.mark.slow
def test_the_same_files_from_apt_and_by_hand_give_the_same_pairs(run, files, apt_get, made, tmp_path):
    apt_get(fetching(files))
    run("--pair", "en-de", "--dest", tmp_path / "apt")
    run("--pair", "en-de", "--dest", tmp_path / "hand", "--translations", *files)
    assert made[0]["splits"] == made[1]["splits"]
    checksums = {call["parameters"]["translations_sha256"] for call in made}
    assert len(checksums) == 1


def test_a_missing_apt_get_is_one_line_that_says_what_to_do(refuse, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert refuse() == (
        "--translations: apt-get (is not installed; name two Translation files, English and translated, instead)"
    )


def test_a_failing_apt_get_is_one_line_with_the_reason(refuse, apt_get):
    apt_get("echo 'E: The list of sources could not be read.' >&2; exit 100")
    assert refuse() == "--translations: apt-get update failed: E: The list of sources could not be read."


def test_an_apt_get_that_gives_no_translations_is_one_line_with_the_first_warning(refuse, apt_get, files):
    apt_get("echo 'W: Failed to fetch it: no route to host' >&2; echo 'W: Some files failed' >&2")
    assert "gave no Translation-en: W: Failed to fetch it: no route to host" in refuse()
    apt_get(fetching(files[:1]))
    assert "gave no Translation-de: its sources offer none" in refuse()


@pytest.mark.slow
def test_the_command_makes_a_directory_that_is_what_its_manifest_says(files, tmp_path):
    dest = tmp_path / "medium"
    options = ("--vocab-size 400 --max-words 10 --max-pairs 600 --translations", *files)
    run_command_line("python data_prep/ddtp.py --pair en-de --dest", dest, *options)
    manifest = json.loads((dest / "manifest.json").read_text(encoding="utf-8"))
    assert {name: sha256(dest / name) for name in manifest["sha256"]} == manifest["sha256"]
    assert manifest["counts"]["train"]["sentences"] == 600
    for name, counts in manifest["origin"]["pairs"].items():
        assert sum(counts.values()) == manifest["counts"][name]["sentences"]
    again = run_command_line("python data_prep/ddtp.py --pair en-de --dest", dest, *options)
    assert again.stdout == f"{dest} is ready\n"
    files[0].write_bytes(b"broken")
    refused = run_command_line("python data_prep/ddtp.py --pair en-de --dest", tmp_path / "new", *options, status=2)
    assert last_line(refused).startswith(f"ddtp.py: error: --translations: {files[0]} (must be a Translation file")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["files", "medium"]


@pytest.mark.slow
def test_the_real_descriptions_of_the_systems_sources_give_thousands_of_pairs(tmp_path):
    if shutil.which("apt-get") is None:
        pytest.skip("apt-get is not installed")
    before = {path: path.stat().st_mtime_ns for path in Path("/var/lib/apt/lists").glob("*")}
    try:
        found = fetch(["en", "ru"], tmp_path)
    except InputError as error:
        pytest.skip(f"apt-get cannot fetch the lists: {error}")
    assert {path: path.stat().st_mtime_ns for path in Path("/var/lib/apt/lists").glob("*")} == before
    rows, counts = ddtp.rows_of(found, ddtp.read_all(found)[0])
    assert len(rows) == counts["kept"] > 5000
    assert counts["kept"] + sum(counts["dropped"].values()) == counts["read"]
    assert counts["descriptions_built_differently"] < 0.1 * counts["descriptions"]
    assert len({english.lower() for _, english, _ in rows}) == len(rows)
    assert not any(mark in text for _, *texts in rows for text in texts for mark in ("\t", "\n", "<trans>"))
