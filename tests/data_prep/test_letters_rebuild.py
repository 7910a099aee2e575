import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import letters_rebuild
import matplotlib as mpl
import numpy as np
import pytest
from letters import CLASSES, FONTS, PACKAGES, SAMPLE, read_sample, read_table
from letters_rebuild import draw, draw_all, rebuild, write_sample
from PIL import features

from lskd.io.errors import InputError

pytestmark = pytest.mark.skipif(not features.check("raqm"), reason="Pillow has no Raqm: FriBiDi is not installed")
needs_dpkg = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb is not installed")
DEJAVU = Path(mpl.get_data_path()) / "fonts" / "ttf"  # the fonts of Debian's package, in matplotlib's wheel
CHARACTERS = [row["character"] for row in read_table(CLASSES)]


def build_deb(directory: Path, package: str, files: dict[str, bytes]) -> Path:
    """A Debian package with these files."""
    fonts = directory / package / "usr" / "share" / "fonts" / "truetype"
    control = directory / package / "DEBIAN" / "control"
    for folder in (fonts, control.parent):
        folder.mkdir(parents=True)
    for name, content in files.items():
        (fonts / name).write_bytes(content)
    fields = f"Package: {package}\nVersion: 0.1\nArchitecture: all\nMaintainer: Nobody <nobody@example.org>\n"
    control.write_text(f"{fields}Description: fonts for a test\n")
    archive = directory / f"{package}_0.1_all.deb"
    subprocess.run(["dpkg-deb", "--build", control.parent.parent, archive], check=True, capture_output=True)
    return archive


@pytest.fixture
def tables(tmp_path):
    """Two fonts of two packages, and the packages' files: rows of fonts, rows of packages, paths."""
    fonts = [
        {"package": "fonts-sans", "file": "DejaVuSans.ttf", "split": "train"},
        {"package": "fonts-mono", "file": "DejaVuSansMono.ttf", "split": "validation"},
    ]
    archives = {
        row["package"]: build_deb(
            tmp_path / "packages",
            row["package"],
            {row["file"]: (DEJAVU / row["file"]).read_bytes(), "Other.ttf": b"no font"},
        )
        for row in fonts
    }
    packages = [
        {"package": name, "version": "0.1", "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        for name, path in archives.items()
    ]
    return fonts, packages, archives


@pytest.fixture
def apt_get(tmp_path, monkeypatch):
    """Puts a shell script in the place of ``apt-get``."""

    def install(script: str) -> None:
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / "apt-get").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "bin" / "apt-get").chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)

    return install


@pytest.mark.parametrize("file", ["DejaVuSans.ttf", "DejaVuSansMono-Bold.ttf"])
def test_a_font_is_drawn_as_it_is_in_the_sample(file):
    sample = read_sample(SAMPLE, 185, 238)
    (number,) = (row for row, font in enumerate(read_table(FONTS)) if font["file"] == file)
    images, labels = draw((DEJAVU / file).read_bytes(), CHARACTERS)
    np.testing.assert_array_equal(labels, sample.label[sample.font == number])
    np.testing.assert_array_equal(images * 17, sample.images[sample.font == number])


def test_a_letter_that_repeats_an_earlier_one_is_left_out():
    images, labels = draw((DEJAVU / "DejaVuSans.ttf").read_bytes(), ["a", "b", "a", "c"])
    assert (labels.tolist(), len(images)) == ([0, 1, 3], 3)


def test_a_letter_wider_than_the_extent_is_scaled_by_itself():
    alone, _ = draw((DEJAVU / "DejaVuSans.ttf").read_bytes(), ["-", "l"])
    wide, _ = draw((DEJAVU / "DejaVuSans.ttf").read_bytes(), ["-", "l", "\N{EM DASH}" * 3])
    np.testing.assert_array_equal(wide[:2], alone)
    columns = np.flatnonzero(wide[2].max(axis=0))
    assert columns[0] < 3
    assert columns[-1] > 28


@needs_dpkg
def test_the_sample_is_written_from_the_packages_and_the_same_ones_give_the_same_bytes(
    tables, apt_get, tmp_path, capsys
):
    fonts, packages, archives = tables
    classes = [{"character": character} for character in "aàoò"]
    apt_get(f"[ \"$*\" = 'download fonts-sans fonts-mono' ] || exit 9\ncp {' '.join(map(str, archives.values()))} .")
    path = tmp_path / "sample.npz.xz"
    rebuild(classes, fonts, packages, path)
    first = path.read_bytes()
    assert "8 images from 2 packages, Pillow" in capsys.readouterr().out
    rebuild(classes, fonts, packages, path)
    assert path.read_bytes() == first
    assert capsys.readouterr().out.endswith("; unchanged\n")
    sample = read_sample(path, 4, 2)
    assert (sample.label.tolist(), sample.font.tolist()) == ([0, 1, 2, 3] * 2, [0] * 4 + [1] * 4)
    for number, font in enumerate(fonts):
        images, _ = draw((DEJAVU / font["file"]).read_bytes(), "aàoò")
        np.testing.assert_array_equal(sample.images[sample.font == number], images * 17)


@needs_dpkg
def test_a_package_of_another_version_is_told(tables, apt_get, tmp_path, capsys):
    fonts, packages, archives = tables
    packages[1] |= {"version": "0.0.9", "sha256": "0" * 64}
    apt_get(f"cp {' '.join(map(str, archives.values()))} .")
    rebuild([{"character": "a"}, {"character": "o"}], fonts, packages, tmp_path / "sample.npz.xz")
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "fonts-mono: version 0.1, the sample's is 0.0.9"
    assert told[1].endswith("; changed")


@needs_dpkg
def test_a_package_without_the_font_or_with_a_damaged_one_leaves_the_sample_as_it_was(tables, apt_get, tmp_path):
    fonts, packages, archives = tables
    apt_get(f"cp {' '.join(map(str, archives.values()))} .")
    path = tmp_path / "sample.npz.xz"
    path.write_bytes(b"mine")
    for file, reason in (
        ("Gone.ttf", "fonts-mono_0.1_all.deb (has no file Gone.ttf)"),
        ("Other.ttf", "cannot be drawn"),
    ):
        fonts[1]["file"] = file
        with pytest.raises(InputError, match=r"^--rebuild: ") as refused:
            rebuild([{"character": "a"}], fonts, packages, path)
        assert reason in str(refused.value)
    assert path.read_bytes() == b"mine"


@needs_dpkg
def test_a_damaged_package_is_refused(tables):
    fonts, _, archives = tables
    archives["fonts-sans"].write_bytes(archives["fonts-sans"].read_bytes()[:-200_000])
    with pytest.raises(InputError, match=r"--rebuild: fonts-sans_0.1_all.deb \(cannot be read: "):
        draw_all("ab", fonts, archives)


def test_without_apt_get_or_raqm_the_command_ends_in_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"--rebuild: apt-get \(is not installed"):
        rebuild([], [], read_table(PACKAGES), tmp_path / "sample")
    monkeypatch.setattr(letters_rebuild.features, "check", lambda _: False)
    with pytest.raises(InputError, match=r"--rebuild: Pillow .* \(must have Raqm"):
        rebuild([], [], read_table(PACKAGES), tmp_path / "sample")


@pytest.mark.slow
def test_the_shipped_file_is_written_to_the_byte(tmp_path):
    sample = read_sample(SAMPLE, 185, 238)
    fonts = [sample.select(sample.font == number) for number in range(238)]
    drawn = [(font.images // 17, font.label.astype(np.uint8)) for font in fonts]
    validation = np.array([row["split"] == "validation" for row in read_table(FONTS)])
    write_sample(tmp_path / "sample.npz.xz", drawn, validation)
    assert (tmp_path / "sample.npz.xz").read_bytes() == SAMPLE.read_bytes()


@pytest.mark.slow
@needs_dpkg
def test_debians_packages_give_the_shipped_file(tmp_path, capsys):
    """Where they can be had, and have the versions of the table."""
    try:
        rebuild(read_table(CLASSES), read_table(FONTS), read_table(PACKAGES), tmp_path / "sample.npz.xz")
    except InputError as error:
        if not str(error).startswith("--rebuild: apt-get"):
            raise
        pytest.skip(f"apt-get cannot download: {error}")
    if ": version " in capsys.readouterr().out:
        pytest.skip("the packages have other versions")
    assert (tmp_path / "sample.npz.xz").read_bytes() == SAMPLE.read_bytes()
