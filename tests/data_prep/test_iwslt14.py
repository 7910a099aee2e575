import functools
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import iwslt14
import pytest
from corpus import Pairs
from helpers.iwslt14_archive import BAD_RATIO, ENTITIES, LONGEST, TEST_SETS, TOO_LONG, official, write_tgz
from helpers.iwslt14_archive import sentences as clean_sentences
from hypothesis import given
from hypothesis import strategies as st

SCRIPT = Path(iwslt14.__file__)


@functools.cache
def make(pair: str, tokenisation: str, below: Path) -> tuple[Path, subprocess.CompletedProcess]:
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
    return functools.partial(make, below=tmp_path_factory.mktemp("iwslt14"))


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
        words = {both[side] for both in clean_sentences("en-ru")}  # letters and a full stop, nothing else
        plain = [(sentence, line) for sentence, line in zip(sentences, lines, strict=True) if sentence in words]
        assert len(plain) > 350
        assert [line for _, line in plain] == [sentence.lower().removesuffix(".") + " ." for sentence, _ in plain]
    assert "we & you said \" don 't \" < ' ' ." in binarised(dest, "train", "en-ru", "en")
    assert "we & you said \" don ' t \" < ' ' ." in binarised(dest, "train", "en-ru", "ru")


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
        ("&#99999999999999999999; &#xFFFFFFFFFF;", "&#99999999999999999999; &#xFFFFFFFFFF;"),
        ("‘left’ and „German“", "‘left' and „German“"),
    ],
)
def test_entities_become_characters_and_the_right_quote_an_apostrophe(written, meant):
    assert iwslt14.plain(written) == meant


@given(st.text())
def test_a_sentence_is_always_one_line_without_outer_spaces(text):
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
    text = '<doc>\n<title>No</title>\n<seg id="1"> One &amp; all </seg>\n<seg id="2"></seg>\n'
    text += '<seg id="3">It’s\nlong</seg>\n'
    assert iwslt14.segments(text + "<description>No</description>\n</doc>") == ["One & all", "", "It's long"]


def test_a_segment_that_is_not_closed_does_not_swallow_the_next():
    assert iwslt14.segments('<seg id="1"> One\n<seg id="2"> Two </seg>') == ["Two"]


def test_a_byte_order_mark_is_not_text():
    archive = iwslt14.Archive(Path("de-en.tgz"), "en-de", {"README": b"\xef\xbb\xbf<url>\n"})
    assert archive.text("README") == "<url>\n"


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
    assert english('Well-known & isn\'t "it"?') == 'Well-known & isn \'t " it " ?'
    assert german("Dr. Müller kommt z.B. heute.") == "Dr. Müller kommt z.B. heute ."
    source = ["It isn't 'well' known.", "One two three four."]  # It isn 't ' well ' known . are 8 tokens
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
    archive = write_tgz(tmp_path / "a.tgz", dict(reversed(files.items())))
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
    assert made[1]["tokenise"]["de"]("Ätna-Lava, z.B. HEUTE.") == "ätna-lava , z.b. heute ."


def test_the_small_archive_is_what_these_tests_think():
    for pair in ("en-de", "en-ru"):
        files, expected = official(pair)
        assert any("TEDX" in name for name in files) == (pair == "en-de")
        assert (LONGEST[0].strip(), LONGEST[1].strip()) in expected["clean"]
        train = files[f"{iwslt14.folder_of(pair)}/train.tags.{iwslt14.folder_of(pair)}.en"]
        assert ENTITIES[0] in train
        assert TOO_LONG[0] in train
