"""Paths that are joined, of which one has the separator in its own name."""

import os

import pytest

from lskd.io.errors import InputError
from lskd.io.joined_paths import joined_paths


def test_a_name_with_the_separator_is_one_path_where_it_exists(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkdir("run:1")
    for name in ("run:1/last.pt", "a.pt"):
        open(name, "w").close()
    assert joined_paths("--path", "run:1/last.pt") == ["run:1/last.pt"]
    assert joined_paths("--path", "a.pt:run:1/last.pt:b.pt") == ["a.pt", "run:1/last.pt", "b.pt"]
    assert joined_paths("data", "run:1/last.pt", whole=False) == ["run", "1/last.pt"]
    assert joined_paths("--path", "run:2/last.pt") == ["run", "2/last.pt"]
    assert joined_paths("--path", "s3://a:1|s3://b") == ["s3://a:1", "s3://b"]


@pytest.mark.parametrize("paths", ["", "a::b", ":a", "a:", " "])
def test_an_empty_path_is_refused(paths):
    with pytest.raises(InputError, match="must be a path, or several joined by ':', none of them empty"):
        joined_paths("--path", paths)
