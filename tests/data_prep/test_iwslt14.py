import functools
import gzip
import hashlib
import io
import json
import random
import subprocess
import sys
import tarfile
import urllib.request
from email.message import Message
from pathlib import Path
from urllib.response import addinfourl

import iwslt14
import pytest
import tgz
from corpus import Pairs
from hypothesis import given
from hypothesis import strategies as st
from iwslt14_archive import BAD_RATIO, ENTITIES, LONGEST, TEST_SETS, TOO_LONG, official, write_tgz

from lskd.errors import InputError, run_command

SCRIPT = Path(iwslt14.__file__)
LINK, DEVICE = tarfile.SYMTYPE, tarfile.CHRTYPE


@functools.cache
def read(pair: str, tokenisation: str, below: Path) -> tuple[Path, subprocess.CompletedProcess]:
    """The directory that the real command makes of the small archive, and what it printed."""
    dest = below / f"{pair}.{tokenisation}"
    archive = below / f"{iwslt14.folder_of(pair)}.tgz"
    if not archive.exists():
        write_tgz(archive, official(pair)[0])
    command = [sys.executable, SCRIPT, "--pair", pair, "--dest", dest, "--archive", archive]
    command += ["--tokenisation", tokenisation, "--vocab-size", "400"]
    return dest, subprocess.run(command, capture_output=True, text=True)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return functools.partial(read, below=tmp_path_factory.mktemp("iwslt14"))


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the command in this process: its exit status, what it printed and what it complained about."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["iwslt14.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            run_command(iwslt14.parser(), iwslt14.main)
        return ended.value.code, *capsys.readouterr()

    return run


@pytest.fixture
def refused(run, tmp_path):
    """Run the command, which must answer with status 2 and one line, and leave no file or folder behind."""

    def refused(*arguments: object) -> str:
        before = sorted(tmp_path.rglob("*"))
        status, printed, complaint = run(*arguments)
        assert (status, printed) == (2, "")
        assert complaint.startswith("iwslt14.py: error: --")
        assert complaint.endswith("\n")
        assert complaint.count("\n") == 1
        assert sorted(tmp_path.rglob("*")) == before
        return complaint

    return refused


@pytest.fixture
def refused_archive(refused, tmp_path):
    """Refuse an archive of en-de with these files and members."""

    def refused_archive(files: dict, *members: tarfile.TarInfo) -> str:
        path = write_tgz(tmp_path / "de-en.tgz", files, *members)
        return refused("--pair", "en-de", "--dest", tmp_path / "below" / "dest", "--archive", path)

    return refused_archive


@pytest.fixture
def made(monkeypatch):
    """What would be handed over to be written, instead of writing it."""
    calls = []

    def write_data_bin(dest, pair, splits, vocab_size, parameters, origin, tokenise=None):
        calls.append({"splits": splits, "parameters": parameters, "origin": origin, "tokenise": tokenise})
        counts = {name: {"sentences": len(pairs)} for name, pairs in splits.items()}
        return {"pair": pair, "parameters": parameters, "counts": counts}

    monkeypatch.setattr(iwslt14, "write_data_bin", write_data_bin)
    return calls


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, target
    return entry


def raw(dest: Path, split: str, pair: str) -> list[tuple[str, str]]:
    sides = [(dest / "raw" / f"{split}.{language}").read_text("utf-8") for language in pair.split("-")]
    assert all(side.endswith("\n") for side in sides)
    return list(zip(*(side.removesuffix("\n").split("\n") for side in sides), strict=True))


def binarised(dest: Path, split: str, pair: str, language: str) -> list[str]:
    """The text that fairseq reads, put together again from its subwords."""
    from fairseq.data import Dictionary, data_utils

    dictionary = Dictionary.load(str(dest / f"dict.{language}.txt"))
    lines = data_utils.load_indexed_dataset(str(dest / f"{split}.{pair}.{language}"), dictionary)
    return [dictionary.string(line, bpe_symbol="sentencepiece") for line in lines]


# ---- the real command


@pytest.mark.slow
@pytest.mark.parametrize(("pair", "tokenisation"), [("en-de", "sentencepiece"), ("en-ru", "moses")])
def test_every_23rd_clean_pair_is_held_out_for_validation_and_all_test_sets_are_the_test_split(
    pair, tokenisation, prepared
):
    dest, result = prepared(pair, tokenisation)
    assert (result.returncode, result.stderr) == (0, "")
    expected = official(pair)[1]
    clean = expected["clean"]
    assert raw(dest, "valid", pair) == [both for number, both in enumerate(clean, 1) if number % 23 == 0]
    assert raw(dest, "train", pair) == [both for number, both in enumerate(clean, 1) if number % 23]
    assert raw(dest, "test", pair) == expected["test"]


@pytest.mark.slow
def test_raw_text_goes_to_the_subwords_unless_moses_is_asked_for(prepared):
    dest, _ = prepared("en-de", "sentencepiece")
    for side, language in enumerate(("en", "de")):
        expected = [both[side] for both in raw(dest, "train", "en-de")]
        assert binarised(dest, "train", "en-de", language) == expected


@pytest.mark.slow
def test_moses_tokenised_and_lower_cased_text_goes_to_the_subwords_when_asked_for(prepared):
    dest, _ = prepared("en-ru", "moses")
    for side, language in enumerate(("en", "ru")):
        sentences = [both[side] for both in raw(dest, "train", "en-ru")]
        lines = binarised(dest, "train", "en-ru", language)
        plain = [(sentence, line) for sentence, line in zip(sentences, lines, strict=True) if sentence[-2:] != " ."]
        assert len(plain) > 350
        assert all(
            line == sentence.removesuffix(".").lower() + " ." or "longest" in line for sentence, line in plain[:99]
        )
    assert "we & you said \" don 't \" <' ' ." in binarised(dest, "train", "en-ru", "ru")


@pytest.mark.slow
def test_the_sentences_are_the_same_whichever_tokenisation(prepared):
    for split in ("train", "valid", "test"):
        first, second = (raw(prepared("en-ru", tokens)[0], split, "en-ru") for tokens in ("sentencepiece", "moses"))
        assert first == second


@pytest.mark.slow
@pytest.mark.parametrize(("pair", "tokenisation"), [("en-de", "sentencepiece"), ("en-ru", "moses")])
def test_the_manifest_tells_where_the_sentences_come_from_and_which_were_dropped(pair, tokenisation, prepared):
    dest, _ = prepared(pair, tokenisation)
    manifest = json.loads((dest / "manifest.json").read_text("utf-8"))
    folder = iwslt14.folder_of(pair)
    archive = dest.parent / f"{folder}.tgz"
    checksum = hashlib.sha256(archive.read_bytes()).hexdigest()
    origin = manifest["origin"]
    assert (origin["archive"], origin["sha256"]) == (f"{folder}.tgz", checksum)
    assert "url" not in origin
    assert "CC BY-NC-ND" in origin["licence"]
    assert [one["name"] for one in origin["test_sets"]] == [f"IWSLT14.{name}.{folder}" for name in TEST_SETS[pair]]
    assert [(one["sentences"], one["dropped_empty"]) for one in origin["test_sets"]] == [
        (6, 2) if "TED.tst2010" in one["name"] else (5, 0) for one in origin["test_sets"]
    ]
    assert origin["test_sets"][0]["members"] == [
        f"IWSLT14.TED.dev2010.{folder}.{language}.xml" for language in pair.split("-")
    ]
    kept = len(official(pair)[1]["clean"])
    dropped = {"empty": 2, "length": 1, "ratio": 1}
    assert origin["cleaning"] == {"read": kept + 4, "kept": kept, "dropped": dropped}
    assert manifest["parameters"]["tokenisation"] == tokenisation
    assert manifest["parameters"]["archive_sha256"] == checksum


@pytest.mark.slow
def test_what_is_prepared_is_recognised_and_never_written_over(prepared, run):
    dest, _ = prepared("en-de", "sentencepiece")
    archive = dest.parent / "de-en.tgz"
    before = {path: path.stat().st_mtime_ns for path in dest.rglob("*")}
    same = ("--dest", dest, "--archive", archive, "--vocab-size", "400")
    assert run("--pair", "en-de", *same) == (0, f"{dest} is ready\n", "")
    for changes in (("--pair", "en-de", "--tokenisation", "moses"), ("--pair", "en-ru")):
        status, _, complaint = run(*changes, *same)
        assert status == 2
        assert "name a new directory" in complaint
    assert {path: path.stat().st_mtime_ns for path in dest.rglob("*")} == before


# ---- what a sentence is


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("R&amp;D &lt;b&gt; &quot;x&quot; &apos;y&apos;", "R&D <b> \"x\" 'y'"),
        ("&#39;&#x27;&#X27;", "'''"),
        ("caf&eacute; &hellip;", "café …"),
        ("it’s &rsquo;90s &#8217;", "it's '90s '"),
        ("&amp;lt; is decoded once", "&lt; is decoded once"),
        ("AT&T, R&para, a&b; &unknown;", "AT&T, R&para, a&b; &unknown;"),
        ("  two \t spaces\u00a0and\u2028lines &#10;", "two spaces and lines"),
        ("&#99999999999999999999;", "&#99999999999999999999;"),
        ("‘left’ and „German“", "‘left' and „German“"),
    ],
)
def test_entities_become_characters_and_the_right_quote_an_apostrophe(written, meant):
    assert iwslt14.plain(written) == meant


@given(st.text(), st.randoms())
def test_a_sentence_is_always_one_line_without_outer_spaces(text, _):
    sentence = iwslt14.plain(text)
    assert sentence.splitlines() in ([], [sentence])
    assert sentence == sentence.strip()


@pytest.mark.parametrize(
    "line",
    [
        "<url>http://example.org</url>",
        "<keywords>a, b</keywords>",
        "<speaker>A</speaker>",
        "<talkid>1</talkid>",
        '<reviewer href="http://example.org">A</reviewer>',
        '<translator href="http://example.org">A</translator>',
        '<doc docid="1" genre="lectures">',
        "</doc>",
        "  <url>http://example.org</url>",
    ],
)
def test_header_lines_are_not_sentences(line):
    assert iwslt14.train_sentences(f"before\n{line}\nafter\n") == ["before", "after"]


def test_titles_descriptions_and_empty_lines_are_sentences_of_the_training_text():
    text = "<title>One: a title</title>\n<description>Two.</description>\n\n Three, &lt;url&gt; is a tag. \r\nFour"
    assert iwslt14.train_sentences(text) == ["One: a title", "Two.", "", "Three, <url> is a tag.", "Four"]


def test_a_line_ends_at_a_newline_only():
    assert iwslt14.train_sentences("one\u2028still\u0085one\x0bone\ntwo\n") == ["one still one one", "two"]


def test_only_segments_are_sentences_of_a_test_set():
    text = '<doc>\n<title>No</title>\n<seg id="1"> One &amp; all </seg>\n<seg id="2"></seg>\n<seg id="3">It’s\nlong</seg>\n'
    assert iwslt14.segments(text + "<description>No</description>\n</doc>") == ["One & all", "", "It's long"]


# ---- cleaning


@pytest.mark.parametrize(
    ("lengths", "reason"),
    [
        ((1, 1), None),
        ((175, 175), None),
        ((2, 3), None),
        ((3, 2), None),
        ((117, 175), None),
        ((0, 5), "empty"),
        ((5, 0), "empty"),
        ((0, 176), "empty"),
        ((176, 176), "length"),
        ((175, 176), "length"),
        ((176, 1), "length"),
        ((2, 4), "ratio"),
        ((4, 2), "ratio"),
        ((116, 175), "ratio"),
    ],
)
def test_pairs_are_dropped_that_are_empty_too_long_or_too_unequal(lengths, reason):
    assert iwslt14.reason_to_drop(*lengths) == reason


def test_lengths_are_counted_in_moses_tokens_of_each_language():
    english, german = iwslt14.moses_tokeniser("en"), iwslt14.moses_tokeniser("de")
    assert english('Well-known & isn\'t "it"?') == 'Well @-@ known & isn \'t " it " ?'
    assert german("Dr. Müller kommt z.B. heute.") == "Dr. Müller kommt z.B. heute ."
    source = ["It is a well-known one.", "One two three four."]  # 6 words and a dash and a stop: 8 tokens
    target = ["Eins zwei drei vier.", "Eins zwei drei vier."]  # 5 tokens
    kept, counts = iwslt14.clean(Pairs(source, target), english, german)
    assert kept == Pairs(source[1:], target[1:])
    assert counts == {"read": 2, "kept": 1, "dropped": {"empty": 0, "length": 0, "ratio": 1}}


def test_a_sentence_is_tokenised_once(monkeypatch):
    seen = []

    class Counting:
        def __init__(self, lang):
            pass

        def tokenize(self, text, **_):
            seen.append(text)
            return text.split()

    monkeypatch.setattr(iwslt14, "MosesTokenizer", Counting)
    tokenise = iwslt14.moses_tokeniser("en")
    assert [tokenise("a b"), tokenise("a b"), tokenise("c")] == ["a b", "a b", "c"]
    assert seen == ["a b", "c"]


@given(st.integers(0, 100))
def test_the_held_out_pairs_are_the_23rd_the_46th_and_so_on(number):
    lines = [str(i) for i in range(1, number + 1)]
    splits = iwslt14.hold_out(Pairs(lines, [line + "!" for line in lines]))
    assert splits["valid"].source == [line for line in lines if int(line) in (23, 46, 69, 92)]
    assert splits["train"].source == [line for line in lines if int(line) not in (23, 46, 69, 92)]
    for pairs in splits.values():
        assert pairs.target == [line + "!" for line in pairs.source]


def test_the_test_split_is_not_cleaned_and_is_sorted_by_the_names_of_the_sets(run, made, tmp_path):
    files, expected = official("en-de")
    files["de-en/IWSLT14.TED.aaa.de-en.en.xml"] = f'<seg id="1">{TOO_LONG[0]}</seg><seg id="2">{BAD_RATIO[0]}</seg>'
    files["de-en/IWSLT14.TED.aaa.de-en.de.xml"] = f'<seg id="1">{TOO_LONG[1]}</seg><seg id="2">{BAD_RATIO[1]}</seg>'
    shuffled = list(files.items())
    random.Random(3).shuffle(shuffled)
    archive = write_tgz(tmp_path / "a.tgz", dict(shuffled))
    status, *_ = run("--pair", "en-de", "--dest", tmp_path / "dest", "--archive", archive)
    assert status == 0
    test = made[0]["splits"]["test"]
    unclean = [(TOO_LONG[0].strip(), TOO_LONG[1].strip()), BAD_RATIO]
    assert list(zip(test.source, test.target, strict=True)) == unclean + expected["test"]


def test_english_is_the_source_of_both_pairs(run, made, tmp_path):
    for pair in ("en-de", "en-ru"):
        archive = write_tgz(tmp_path / f"{pair}.tgz", official(pair)[0])
        assert run("--pair", pair, "--dest", tmp_path / pair, "--archive", archive)[0] == 0
        first = made[-1]["splits"]["train"]
        assert (first.source[0], first.target[0]) == official(pair)[1]["clean"][0]
        assert first.source[0].isascii()


def test_the_vocabulary_is_10000_and_the_text_raw_unless_told_otherwise(run, made, tmp_path):
    archive = write_tgz(tmp_path / "de-en.tgz", official("en-de")[0])
    same = ("--pair", "en-de", "--dest", tmp_path / "dest", "--archive", archive)
    run(*same)
    run(*same, "--tokenisation", "moses", "--vocab-size", "7000")
    assert [call["parameters"]["vocab_size"] for call in made] == [10000, 7000]
    assert [call["parameters"]["tokenisation"] for call in made] == ["sentencepiece", "moses"]
    assert made[0]["tokenise"] is None
    assert made[1]["tokenise"]["en"]("It isn't MINE.") == "it isn 't mine ."
    assert made[1]["tokenise"]["de"]("Ätna-Lava, z.B. HEUTE.") == "ätna @-@ lava , z.b. heute ."


# ---- archives that are refused


def changed(name: str, content: str | bytes | None) -> dict:
    files, _ = official("en-de")
    assert f"de-en/{name}" in files
    return {
        key: value if key != f"de-en/{name}" else content
        for key, value in files.items()
        if key != f"de-en/{name}" or content is not None
    }


def test_without_an_archive_its_name_and_official_source_are_told(refused, tmp_path):
    complaint = refused("--pair", "en-ru", "--dest", tmp_path / "below" / "dest")
    assert all(word in complaint for word in ("--archive", "ru-en.tgz", "WIT3", "FBK", "2014-01"))


@pytest.mark.slow
def test_the_real_command_refuses_with_status_2_and_one_line(tmp_path):
    command = [sys.executable, SCRIPT, "--pair", "en-de", "--dest", tmp_path / "dest"]
    result = subprocess.run([*command, "--archive", tmp_path / "none.tgz"], capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert "none.tgz" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (member("/de-en/README"), "points out of the archive"),
        (member("de-en/../../README"), "points out of the archive"),
        (member("../README"), "points out of the archive"),
        (member("de-en/link", LINK, "README"), "neither a plain file nor a folder"),
        (member("de-en/hard", tarfile.LNKTYPE, "de-en/README"), "neither a plain file nor a folder"),
        (member("other/device", DEVICE), "neither a plain file nor a folder"),
        (member("de-en/pipe", tarfile.FIFOTYPE), "neither a plain file nor a folder"),
    ],
)
def test_an_archive_with_one_dangerous_member_is_refused_as_a_whole(entry, reason, refused_archive):
    complaint = refused_archive(official("en-de")[0], entry)
    assert reason in complaint
    assert entry.name in complaint


def test_an_archive_that_unpacks_to_more_than_the_limit_is_refused(refused_archive, monkeypatch):
    monkeypatch.setattr(tgz, "MAX_BYTES", 10**6)
    assert "more than 1 MB" in refused_archive({"de-en/zeros": bytes(10**6)})
    monkeypatch.setattr(tgz, "MAX_BYTES", 2 * 10**6)
    assert "has no" in refused_archive({"de-en/zeros": bytes(10**6)})


def test_the_limit_is_200_million_bytes():
    assert tgz.MAX_BYTES == 200_000_000


def test_a_sparse_member_that_claims_a_huge_size_is_refused(refused, tmp_path):
    entry = member("de-en/sparse", tarfile.GNUTYPE_SPARSE)
    block = bytearray(entry.tobuf(tarfile.GNU_FORMAT))
    block[483:495] = b"%011o\0" % 10**9  # the real size, after four pieces of the map, of which none is used
    block[148:156] = b"%06o\0 " % (256 + sum(block[:148]) + sum(block[156:]))
    path = tmp_path / "de-en.tgz"
    path.write_bytes(gzip.compress(bytes(block) + bytes(1024)))
    complaint = refused("--pair", "en-de", "--dest", tmp_path / "dest", "--archive", path)
    assert "impossible size, 1000000000 bytes" in complaint


@pytest.mark.parametrize("keep", [1, 2, 500, -9])
def test_an_archive_cut_short_is_refused(keep, refused, tmp_path):
    path = write_tgz(tmp_path / "de-en.tgz", official("en-de")[0])
    path.write_bytes(path.read_bytes()[:keep])
    complaint = refused("--pair", "en-de", "--dest", tmp_path / "dest", "--archive", path)
    assert "cannot be read as a .tgz file" in complaint


def test_an_archive_with_a_broken_header_inside_is_refused_rather_than_read_up_to_there(refused, tmp_path):
    path = write_tgz(tmp_path / "de-en.tgz", official("en-de")[0])
    content = bytearray(gzip.decompress(path.read_bytes()))
    start = content.index(b"de-en/README\0")
    content[start + 148 : start + 156] = b"7777777\0"
    path.write_bytes(gzip.compress(bytes(content)))
    complaint = refused("--pair", "en-de", "--dest", tmp_path / "dest", "--archive", path)
    assert f"damaged at byte {start}" in complaint


def test_something_other_than_a_tgz_is_refused(refused, tmp_path):
    for content in (b"<html>not found</html>", gzip.compress(b"text" * 1000)):
        path = tmp_path / "de-en.tgz"
        path.write_bytes(content)
        complaint = refused("--pair", "en-de", "--dest", tmp_path / "dest", "--archive", path)
        assert "cannot be read as a .tgz file" in complaint
    complaint = refused("--pair", "en-de", "--dest", tmp_path / "dest", "--archive", tmp_path)
    assert "cannot be read" in complaint


def test_the_archive_of_another_pair_is_refused(refused, tmp_path):
    path = write_tgz(tmp_path / "ru-en.tgz", official("en-ru")[0])
    complaint = refused("--pair", "en-de", "--dest", tmp_path / "dest", "--archive", path)
    assert "de-en" in complaint


@pytest.mark.parametrize("language", ["de", "en"])
def test_an_archive_without_a_training_file_is_refused(language, refused_archive):
    name = f"train.tags.de-en.{language}"
    assert f"de-en/{name}" in refused_archive(changed(name, None))


@pytest.mark.parametrize("language", ["de", "en"])
def test_a_test_set_without_one_side_is_refused(language, refused_archive):
    name = f"IWSLT14.TED.tst2011.de-en.{language}.xml"
    assert f"de-en/{name}" in refused_archive(changed(name, None))


def test_an_archive_without_a_test_set_is_refused(refused_archive):
    files = {name: text for name, text in official("en-de")[0].items() if not name.endswith((".en.xml", ".de.xml"))}
    assert "no test set" in refused_archive(files)


@pytest.mark.parametrize("name", ["train.tags.de-en.de", "IWSLT14.TEDX.dev2012.de-en.en.xml"])
def test_text_that_is_not_utf_8_is_refused(name, refused_archive):
    text = official("en-de")[0][f"de-en/{name}"]
    complaint = refused_archive(changed(name, text.encode() + "Käse".encode("latin-1")))
    assert f"{name} is not UTF-8 text" in complaint
    assert f"byte {len(text.encode()) + 1}" in complaint


def test_training_files_of_different_length_are_refused_with_their_names_and_counts(refused_archive):
    name = "train.tags.de-en.de"
    complaint = refused_archive(changed(name, official("en-de")[0][f"de-en/{name}"] + "Noch einer.\n"))
    assert "train.tags.de-en.en has 407 sentences and train.tags.de-en.de has 408" in complaint


def test_a_test_set_with_sides_of_different_length_is_refused_with_names_and_counts(refused_archive):
    name = "IWSLT14.TED.tst2012.de-en.en.xml"
    text = official("en-de")[0][f"de-en/{name}"]
    complaint = refused_archive(changed(name, text.replace('<seg id="2">', "<lost>")))
    assert f"{name} has 4 sentences and IWSLT14.TED.tst2012.de-en.de.xml has 5" in complaint


def test_too_few_sentences_to_hold_any_out_are_refused(refused, tmp_path):
    files, _ = official("en-de")
    for language in ("en", "de"):
        files[f"de-en/train.tags.de-en.{language}"] = "one two three\n" * 22
    path = write_tgz(tmp_path / "de-en.tgz", files)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match="valid split is empty"):
        iwslt14.main(iwslt14.parser().parse_args(f"--pair en-de --dest {tmp_path}/dest --archive {path}".split()))
    assert sorted(tmp_path.rglob("*")) == before


def test_a_checksum_that_does_not_fit_is_refused(refused, tmp_path):
    path = write_tgz(tmp_path / "de-en.tgz", official("en-de")[0])
    same = ("--pair", "en-de", "--dest", tmp_path / "dest")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    assert found in refused(*same, "--archive", path, "--sha256", "0" * 64)
    assert found in refused(*same, "--url", path.as_uri(), "--sha256", "0" * 64)


def test_a_checksum_is_64_hexadecimal_digits_in_either_case(run, made, tmp_path):
    path = write_tgz(tmp_path / "de-en.tgz", official("en-de")[0])
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    same = ("--pair", "en-de", "--dest", tmp_path / "dest", "--archive", path, "--sha256")
    assert run(*same, found.upper())[0] == 0
    status, _, complaint = run(*same, found[:-1])
    assert status == 2
    assert "64 hexadecimal digits" in complaint


# ---- download


def answers(monkeypatch, *replies: tuple[int, bytes, dict]) -> list[str]:
    """Let https requests be answered by these (status, body, headers), in order; the addresses asked for."""
    asked, waiting = [], list(replies)

    def https_open(_, request):
        asked.append(request.full_url)
        status, body, fields = waiting.pop(0)
        headers = Message()
        for name, value in fields.items():
            headers[name] = value
        reply = addinfourl(io.BytesIO(body), headers, request.full_url, status)
        reply.msg = "reason"
        return reply

    monkeypatch.setattr(urllib.request.HTTPSHandler, "https_open", https_open)
    return asked


def test_an_archive_is_downloaded_once_and_its_address_recorded(run, made, tmp_path, monkeypatch):
    content = write_tgz(tmp_path / "de-en.tgz", official("en-de")[0]).read_bytes()
    other = write_tgz(tmp_path / "other.tgz", official("en-de")[0] | {"de-en/more": ""}).read_bytes()
    length = {"Content-Length": str(len(content))}
    address, elsewhere = "https://example.org/archives/de-en.tgz?x=1", "https://example.org/elsewhere/de-en.tgz"
    asked = answers(monkeypatch, (200, content, length), (200, other, {}))
    same = ("--pair", "en-de", "--dest", tmp_path / "new" / "dest")
    for url in (address, address, elsewhere):
        assert run(*same, "--url", url)[0] == 0
    assert asked == [address, elsewhere]
    origins = [call["origin"] for call in made]
    assert [origin["url"] for origin in origins] == [address, address, elsewhere]
    assert {origin["archive"] for origin in origins} == {"de-en.tgz"}
    checksums = [hashlib.sha256(text).hexdigest() for text in (content, content, other)]
    assert [origin["sha256"] for origin in origins] == checksums
    beside = sorted(path.read_bytes() for path in (tmp_path / "new").iterdir())
    assert beside == sorted([content, other])


def test_a_file_address_works_like_any_other(run, made, tmp_path):
    path = write_tgz(tmp_path / "de-en.tgz", official("en-de")[0])
    assert run("--pair", "en-de", "--dest", tmp_path / "new" / "dest", "--url", path.as_uri())[0] == 0
    assert made[0]["origin"]["url"] == path.as_uri()


@pytest.mark.parametrize("url", ["http://127.0.0.1/de-en.tgz", "ftp://127.0.0.1/de-en.tgz", "data:,x", "de-en.tgz"])
def test_other_kinds_of_address_are_refused(url, refused, tmp_path):
    complaint = refused("--pair", "en-de", "--dest", tmp_path / "new" / "dest", "--url", url)
    assert "must begin with https:// or file://" in complaint


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ((302, b"", {"Location": "http://example.org/de-en.tgz"}), "unknown url type: http"),
        ((302, b"", {"Location": "file:///etc/hostname"}), "not allowed"),
        ((404, b"", {}), "404"),
        ((200, gzip.compress(b"short"), {"Content-Length": "1000"}), "of 1000 bytes"),
        ((200, b"<html>moved</html>", {}), "something other than a .tgz file"),
        ((200, b"", {}), "something other than a .tgz file"),
    ],
)
def test_a_download_that_goes_wrong_leaves_nothing(reply, reason, refused, tmp_path, monkeypatch):
    asked = answers(monkeypatch, reply)
    url = "https://example.org/de-en.tgz"
    assert reason in refused("--pair", "en-de", "--dest", tmp_path / "dest", "--url", url)
    assert asked == [url]


def test_a_redirection_to_https_is_followed(run, made, tmp_path, monkeypatch):
    content = write_tgz(tmp_path / "de-en.tgz", official("en-de")[0]).read_bytes()
    asked = answers(monkeypatch, (301, b"", {"Location": "https://mirror.example.org/x"}), (200, content, {}))
    assert run("--pair", "en-de", "--dest", tmp_path / "dest", "--url", "https://example.org/de-en.tgz")[0] == 0
    assert asked == ["https://example.org/de-en.tgz", "https://mirror.example.org/x"]


def test_a_download_without_end_is_refused(refused, tmp_path, monkeypatch):
    monkeypatch.setattr(tgz, "MAX_BYTES", 10**6)
    answers(monkeypatch, (200, bytes(2 * 10**6), {}))
    complaint = refused("--pair", "en-de", "--dest", tmp_path / "dest", "--url", "https://example.org/de-en.tgz")
    assert "more than 1 MB" in complaint


def test_a_server_that_cannot_be_reached_is_told_in_one_line(refused, tmp_path):
    complaint = refused("--pair", "en-de", "--dest", tmp_path / "dest", "--url", (tmp_path / "none.tgz").as_uri())
    assert "cannot be fetched" in complaint


def test_the_small_archive_is_what_these_tests_think():
    for pair in ("en-de", "en-ru"):
        files, expected = official(pair)
        assert any("TEDX" in name for name in files) == (pair == "en-de")
        assert (LONGEST[0].strip(), LONGEST[1].strip()) in expected["clean"]
        train = files[f"{iwslt14.folder_of(pair)}/train.tags.{iwslt14.folder_of(pair)}.en"]
        assert ENTITIES[0] in train
        assert TOO_LONG[0] in train
