import gzip
import hashlib
import io
import urllib.request
from email.message import Message
from urllib.response import addinfourl

import pytest
import tgz
from helpers.iwslt14_archive import official, write_tgz


class Endless(io.BytesIO):
    """A gzip stream that goes on until someone has read far too much of it."""

    total = 0

    def read(self, size: int = -1) -> bytes:
        self.total += size
        assert 0 < self.total < 2 * 10**6
        return b"\x1f\x8b" + bytes(size - 2)


def answers(monkeypatch, *replies: tuple[int, bytes | io.BytesIO, dict]) -> list[str]:
    """Let https requests be answered by these (status, body, headers), in order; the addresses asked for."""
    asked, waiting = [], list(replies)

    def https_open(_, request):
        asked.append(request.full_url)
        status, body, fields = waiting.pop(0)
        headers = Message()
        for name, value in fields.items():
            headers[name] = value
        reply = addinfourl(
            body if isinstance(body, io.BytesIO) else io.BytesIO(body), headers, request.full_url, status
        )
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
        ((200, b"", {}), "gave 0 of"),
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
    answers(monkeypatch, (200, Endless(), {}))
    complaint = refused("--pair", "en-de", "--dest", tmp_path / "dest", "--url", "https://example.org/de-en.tgz")
    assert "more than 1 MB" in complaint


def test_a_server_that_cannot_be_reached_is_told_in_one_line(refused, tmp_path):
    complaint = refused("--pair", "en-de", "--dest", tmp_path / "dest", "--url", (tmp_path / "none.tgz").as_uri())
    assert "cannot be fetched" in complaint
