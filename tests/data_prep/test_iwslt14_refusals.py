import gzip
import hashlib
import subprocess
import sys
import tarfile
from pathlib import Path

import iwslt14
import pytest
import tgz
from helpers.iwslt14_archive import official, write_tgz

from lskd.io.errors import InputError

SCRIPT = Path(iwslt14.__file__)


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, target
    return entry


def changed(name: str, content: str | bytes | None) -> dict:
    """The files of en-de with this content for one of them, or without it."""
    files, _ = official("en-de")
    assert f"de-en/{name}" in files
    files[f"de-en/{name}"] = content
    return {name: content for name, content in files.items() if content is not None}


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
        (member("de-en/link", tarfile.SYMTYPE, "README"), "neither a plain file nor a folder"),
        (member("de-en/hard", tarfile.LNKTYPE, "de-en/README"), "neither a plain file nor a folder"),
        (member("other/device", tarfile.CHRTYPE), "neither a plain file nor a folder"),
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


def test_a_member_of_negative_size_is_refused(refused_archive):
    entry = member("de-en/negative")
    entry.size = -1
    assert "impossible size, -1 bytes" in refused_archive(official("en-de")[0], entry)


def test_a_header_whose_size_is_no_number_is_refused(refused, tmp_path):
    entry = member("de-en/odd")
    entry.pax_headers = {"GNU.sparse.size": "x"}
    path = tmp_path / "de-en.tgz"
    path.write_bytes(gzip.compress(entry.tobuf(tarfile.PAX_FORMAT) + bytes(1024)))
    complaint = refused("--pair", "en-de", "--dest", tmp_path / "dest", "--archive", path)
    assert "cannot be read as a .tgz file" in complaint


def test_an_archive_with_a_flipped_byte_is_refused(refused, tmp_path):
    path = write_tgz(tmp_path / "de-en.tgz", official("en-de")[0])
    packed = path.read_bytes()
    seen = set()
    for position in range(100, len(packed), len(packed) // 20):
        path.write_bytes(packed[:position] + bytes([packed[position] ^ 0xFF]) + packed[position + 1 :])
        complaint = refused("--pair", "en-de", "--dest", tmp_path / "dest", "--archive", path)
        assert "cannot be read as a .tgz file" in complaint
        seen.add("Error -3" in complaint)
    assert seen == {True, False}  # the compressed data and the checksum: both kinds of damage were met


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


def test_too_few_sentences_to_hold_any_out_are_refused(tmp_path):
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
