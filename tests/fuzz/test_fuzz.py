"""Damaged files: each is read, or refused in one line. `make fuzz` tries thousands of them."""

import contextlib
import io
import os
import shutil
import warnings
from pathlib import Path

import pytest
from damage import damaged
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from readers import READERS

from lskd.io.errors import InputError

# The same examples in every run: a file that nobody has seen yet is for `make fuzz`, and fails nobody's build.
EXAMPLES = int(os.environ.get("LSKD_FUZZ_EXAMPLES", 25))
FUZZING = settings(
    max_examples=EXAMPLES,
    derandomize="LSKD_FUZZ_EXAMPLES" not in os.environ,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module", params=READERS)
def reader(request, tmp_path_factory):
    """The function that reads one of a reader's files, the directory they are in, and their whole content."""
    place = tmp_path_factory.mktemp(request.param)
    made = READERS[request.param].make(place)
    return READERS[request.param].read, place, {path: path.read_bytes() for path in made}


def refusal(read, place: Path, path: Path) -> str | None:
    """The line in which a file is refused; None where it is read."""
    shutil.rmtree(place / "out", ignore_errors=True)
    (place / "out").mkdir()
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read(place, path)
    except (InputError, OSError) as error:
        return str(error)
    except SystemExit as ended:
        if ended.code != 2:
            raise
        (line,) = [line for line in said.getvalue().splitlines() if "error: " in line]
        return line
    return None


@pytest.mark.slow
def test_whole_files_are_read(reader):
    read, place, whole = reader
    assert [refusal(read, place, path) for path in whole] == [None] * len(whole)


@pytest.mark.slow
@FUZZING
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused_in_one_line(reader, data):
    read, place, whole = reader
    path = data.draw(st.sampled_from(list(whole)), label="file")
    path.write_bytes(data.draw(damaged(path.name, whole[path]), label="content"))
    try:
        refused = refusal(read, place, path)
    finally:
        path.write_bytes(whole[path])
    assert refused is None or refused.strip()
