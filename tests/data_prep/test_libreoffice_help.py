import json
import subprocess
import sys
from pathlib import Path

import libreoffice_help
import pytest
import sentencepiece
from fairseq.data import Dictionary, data_utils
from helpers.commands import ROOT, last_line, run
from hypothesis import given
from hypothesis import strategies as st
from libreoffice_help import SAMPLES, read_sample, split_of_page, split_pairs

from lskd.io.errors import InputError
from lskd.io.files import sha256

PAIRS = {"en-de": 34_934, "en-ru": 19_881}


@pytest.fixture(scope="module", params=PAIRS)
def rows(request):
    """The rows of a sample that ships."""
    found = read_sample(SAMPLES / f"lohelp.{request.param}.tsv.xz")
    assert len(found) == PAIRS[request.param]
    return found


def test_a_pair_is_in_the_split_of_a_page_it_stands_on(rows):
    splits_of_pair = {}
    for page, english, translation in rows:
        splits_of_pair.setdefault((english, translation), set()).add(split_of_page(page))
    for name, pairs in split_pairs(rows).items():
        assert all(name in splits_of_pair[pair] for pair in set_of(pairs))


def set_of(pairs) -> set[tuple[str, str]]:
    """A split's pairs."""
    return set(zip(pairs.source, pairs.target, strict=True))


def test_no_english_sentence_of_valid_or_test_is_in_train(rows):
    splits = split_pairs(rows, max_words=14)
    train, valid, test = (set(splits[name].source) for name in ("train", "valid", "test"))
    assert not train & test
    assert not train & valid
    assert not valid & test
    assert len(test) > 300
    assert len(valid) > 300


def test_every_pair_is_kept_once(rows):
    for pairs in split_pairs(rows).values():
        assert len(set_of(pairs)) == len(pairs)


def test_max_words_counts_both_sides(rows):
    for pairs in split_pairs(rows, max_words=7).values():
        assert max(len(line.split()) for line in pairs.source + pairs.target) == 7


def test_max_pairs_keeps_the_proportions(rows):
    whole, part = split_pairs(rows), split_pairs(rows, max_pairs=1000)
    assert len(part["train"]) == 1000
    for name, pairs in part.items():
        assert len(pairs) == pytest.approx(len(whole[name]) * 1000 / len(whole["train"]), abs=1)
        assert pairs.source == whole[name].source[: len(pairs)]


@given(st.text(min_size=1, max_size=60))
def test_the_split_of_any_page_name_never_changes(page):
    assert split_of_page(page) == split_of_page(page) in ("train", "valid", "test")


def test_the_splits_of_known_pages_are_fixed():
    """Whoever changes the hash makes old scores incomparable: these are written down."""
    pages = sorted({page for page, _, _ in read_sample(SAMPLES / "lohelp.en-ru.tsv.xz")})
    found = {name: sum(split_of_page(page) == name for page in pages) for name in ("train", "valid", "test")}
    assert found == {"train": 1818, "valid": 75, "test": 85}


@pytest.mark.parametrize("content", [b"", b"not xz", b"one\ttwo\n"])
def test_a_sample_that_is_not_ours_is_refused(tmp_path, content):
    path = tmp_path / "sample.tsv.xz"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"sample: .*sample\.tsv\.xz"):
        read_sample(path)


def test_the_data_directory_is_what_its_manifest_says(data_bin):
    manifest = json.loads((data_bin / "manifest.json").read_text())
    assert manifest["pair"] == "en-de"
    for name, checksum in manifest["sha256"].items():
        assert sha256(data_bin / name) == checksum
    files = {str(path.relative_to(data_bin)) for path in data_bin.rglob("*") if path.is_file()}
    assert files == manifest["sha256"].keys() | {"manifest.json"}
    for split, counts in manifest["counts"].items():
        for language in ("en", "de"):
            lines = (data_bin / "raw" / f"{split}.{language}").read_text(encoding="utf-8").splitlines()
            dictionary = Dictionary.load(str(data_bin / f"dict.{language}.txt"))
            binarised = data_utils.load_indexed_dataset(str(data_bin / f"{split}.en-de.{language}"), dictionary)
            assert len(lines) == len(binarised) == counts["sentences"]
            assert sum(binarised.sizes) == counts[f"{language}_subwords"] + len(lines)  # and an end for each sentence
    assert (data_bin / "dict.en.txt").read_bytes() == (data_bin / "dict.de.txt").read_bytes()
    assert "MPL-2.0" in manifest["origin"]["licence"]
    assert manifest["versions"]["sentencepiece"] == sentencepiece.__version__


def test_subwords_put_together_are_the_raw_sentence(data_bin):
    processor = sentencepiece.SentencePieceProcessor(model_file=str(data_bin / "sentencepiece.model"))
    lines = (data_bin / "raw" / "train.de").read_text(encoding="utf-8").splitlines()
    assert [processor.decode(processor.encode(line, out_type=str)) for line in lines] == lines


@pytest.mark.slow
def test_the_same_command_gives_the_same_bytes_and_a_second_time_nothing_is_done(data_bin, tmp_path):
    options = "--pair en-de --vocab-size 400 --max-words 10 --max-pairs 600 --dest"
    run("python data_prep/libreoffice_help.py", options, tmp_path / "again")
    manifests = [json.loads((path / "manifest.json").read_text()) for path in (data_bin, tmp_path / "again")]
    assert manifests[0] == manifests[1]
    before = (tmp_path / "again" / "manifest.json").stat().st_mtime_ns
    assert "is ready" in run("python data_prep/libreoffice_help.py", options, tmp_path / "again").stdout
    assert (tmp_path / "again" / "manifest.json").stat().st_mtime_ns == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--pair en-fr", "invalid choice: 'en-fr'"),
        ("--pair en-de --vocab-size 0", "'0' (must be a whole number above 0)"),
        ("--pair en-de --vocab-size 10 --max-pairs 200", "--vocab-size: 10"),
        ("--pair en-de --vocab-size 100000 --max-pairs 200", "--vocab-size: 100000"),
        ("--pair en-de --max-words 1", "split is empty"),
    ],
)
def test_what_cannot_be_prepared_is_refused_and_nothing_is_left(tmp_path, options, words):
    refused = run("python data_prep/libreoffice_help.py --dest", tmp_path / "data", options, status=2)
    assert words in last_line(refused)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_holds_something_else_is_left_alone(data_bin, tmp_path):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.tex").write_text("\\section{}")
    for dest in (precious, data_bin):
        refused = run("python data_prep/libreoffice_help.py --pair en-de --vocab-size 999 --dest", dest, status=2)
        assert f"--dest: {dest}" in last_line(refused)
    assert [path.name for path in precious.iterdir()] == ["thesis.tex"]


def test_the_command_works_from_any_directory(tmp_path):
    script = ROOT / "data_prep" / "libreoffice_help.py"
    shown = subprocess.run(
        [sys.executable, str(script), "--help"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "--rebuild" in shown.stdout
    assert Path(libreoffice_help.__file__) == script
