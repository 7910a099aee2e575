"""Sentence pairs from Debian's LibreOffice help packages: what is read, split, paired and left out."""

import lzma
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from debian import download
from hypothesis import given
from hypothesis import strategies as st
from libreoffice_help import SAMPLES, read_sample
from libreoffice_packages import PACKAGES, align, pages, paragraphs, rebuild, sentences, usable

from lskd.io.errors import InputError

DPKG_DEB = shutil.which("dpkg-deb")
needs_dpkg = pytest.mark.skipif(DPKG_DEB is None, reason="dpkg-deb is not installed")

# A help page as the packages have it, with the frame around the text that is the same on each page.
PAGE = """<!DOCTYPE html>
<html lang="{lang}" dir="ltr">
<head>
<base href="../../../../">
<title>Creating a Basic Dialog</title>
<script type="text/javascript" src="help.js" defer></script><meta name="viewport" content="width=device-width">
</head>
<body>
<header id="TopLeftHeader"><a class="logo" href="{lang}/text/shared/05/new_help.html"><p dir="auto">{frame}</p></a>
<button type="button" data-a11y-toggle="modules-nav" id="modules" onclick="setupModules('{lang}');">Module</button>
</header><aside class="leftside"><div id="Index"><input id="search-bar" type="search" class="search"></div></aside>
<div id="DisplayArea" itemprop="softwareHelp" itemscope="true">
<a name="bm_id3149346"></a><meta itemprop="keywords" content="dialogs;creating Basic dialogs">
{text}
</div>
<footer><div id="DEBUG" class="debug">
<h3 class="bug">Help content debug info:</h3>
<p dir="auto">This page is: <a href="https://opengrok.libreoffice.org/xref/x.xhp" target="_blank">/text/x.xhp</a></p>
<p id="bm_module" dir="auto">{frame}</p>
</div></footer>
</body>
</html>
"""

ENGLISH = {
    "text/swriter/main0000.html": """
<h1 id="hd_id3147233" dir="auto">
<a name="main"></a>Welcome to the Help</h1>
<p id="par_id3145" class="paragraph" dir="auto">This sentence is repeated here.</p>""",
    "text/sbasic/guide/create_dialog.html": """
<h1 id="hd_id3149346" dir="auto">
<a name="create_dialog"></a>Creating a Basic&nbsp;Dialog</h1>
<ol itemprop="HowTo" dir="auto">
<li itemprop="itemListElement" dir="auto">
<p id="par_id3163802" class="listitem" dir="auto">Choose <span class="emph">Tools - Options</span>,
   and then    click <span class="emph">New</span>.</p>
</li>
<li itemprop="itemListElement" dir="auto">
<p id="par_idN1065F" class="listitem" dir="auto">Click <span class="emph">Edit</span>. The editor opens at once.</p>
</li>
</ol>
<div class="tip"><div class="notetext"><p id="N0437" dir="auto">Cut &amp; paste is the way to go here.</p></div></div>
<p id="par_id1" class="paragraph" dir="auto">This sentence is repeated here.</p>
<p id="par_id2" class="paragraph" dir="auto">Nobody has translated this line.</p>
<p id="par_id3" class="paragraph" dir="auto">Only the English page has this paragraph.</p>
<p id="FilterName_writer8" class="paragraph" dir="auto">The name of a file format.</p>
<p class="paragraph" dir="auto">This paragraph has no id at all.</p>
</div>""",
}
GERMAN = {
    "text/swriter/main0000.html": """
<h1 id="hd_id3147233" dir="auto">
<a name="main"></a>Willkommen in der Hilfe</h1>
<p id="par_id3145" class="paragraph" dir="auto">Dieser Satz steht anderswo anders.</p>""",
    "text/sbasic/guide/create_dialog.html": """
<h1 id="hd_id3149346" dir="auto">
<a name="create_dialog"></a>Erstellen eines Basic-Dialogs</h1>
<ol itemprop="HowTo" dir="auto">
<li itemprop="itemListElement" dir="auto">
<p id="par_id3163802" class="listitem" dir="auto">Wählen Sie <span class="emph">Extras – Optionen…</span> und
klicken Sie auf <span class="emph">Neu</span>.</p>
</li>
<li itemprop="itemListElement" dir="auto">
<p id="par_idN1065F" class="listitem" dir="auto">Klicken Sie auf Bearbeiten. Der Editor öffnet sich sofort.</p>
</li>
</ol>
<div class="tip"><div class="notetext"><p id="N0437" dir="auto">Kopieren &amp; Einfügen ist richtig.</p></div></div>
<p id="par_id1" class="paragraph" dir="auto">Dieser Satz wird hier wiederholt.</p>
<p id="par_id2" class="paragraph" dir="auto">Nobody has translated this line.</p>
<p id="par_id4" class="paragraph" dir="auto">Nur die deutsche Seite hat diesen Absatz.</p>
<p id="FilterName_writer8" class="paragraph" dir="auto">Der Name eines Dateiformats.</p>
<p class="paragraph" dir="auto">Dieser Absatz hat gar keine Kennung.</p>
</div>""",
    "text/shared/only_german.html": '<p id="par_id1" dir="auto">Diese Seite gibt es nur auf Deutsch.</p>',
}
ROWS = [
    (
        "text/sbasic/guide/create_dialog.html",
        "Cut & paste is the way to go here.",
        "Kopieren & Einfügen ist richtig.",
    ),
    ("text/sbasic/guide/create_dialog.html", "Creating a Basic Dialog", "Erstellen eines Basic-Dialogs"),
    ("text/sbasic/guide/create_dialog.html", "This sentence is repeated here.", "Dieser Satz wird hier wiederholt."),
    (
        "text/sbasic/guide/create_dialog.html",
        "Choose Tools - Options, and then click New.",
        "Wählen Sie Extras – Optionen… und klicken Sie auf Neu.",
    ),
    ("text/sbasic/guide/create_dialog.html", "Click Edit.", "Klicken Sie auf Bearbeiten."),
    ("text/sbasic/guide/create_dialog.html", "The editor opens at once.", "Der Editor öffnet sich sofort."),
    ("text/swriter/main0000.html", "Welcome to the Help", "Willkommen in der Hilfe"),
]


def build_deb(directory: Path, package: str, folder: str, texts: dict[str, str], frame: str) -> Path:
    """A .deb file of the layout and name of Debian's."""
    root = directory / package
    for page, text in texts.items():
        file = root / "usr/share/libreoffice/help" / folder / page
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(PAGE.format(lang=folder, text=text, frame=frame), encoding="utf-8")
    (root / f"usr/share/libreoffice/help/{folder}/noscript.html").write_text(f"<p id='par_id9'>{frame}</p>")
    (root / "DEBIAN").mkdir()
    (root / "DEBIAN/control").write_text(
        f"Package: {package}\nVersion: 4:7.4.7-1\nArchitecture: all\nMaintainer: Nobody <nobody@example.org>\n"
        "Description: help for a test\n"
    )
    archive = directory / f"{package}_4%3a7.4.7-1_all.deb"
    subprocess.run(
        [DPKG_DEB, "--root-owner-group", "--build", str(root), str(archive)], check=True, stdout=subprocess.DEVNULL
    )
    return archive


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """Puts a shell script in the place of ``apt-get``; ``alone`` leaves no other program to find."""

    def install(script: str, alone: bool = False) -> None:
        directory = tmp_path / "bin"
        directory.mkdir()
        (directory / "apt-get").write_text(f"#!/bin/sh\n{script}\n")
        (directory / "apt-get").chmod(0o755)
        monkeypatch.setenv("PATH", str(directory), prepend=None if alone else os.pathsep)

    return install


@pytest.fixture
def packages(tmp_path):
    directory = tmp_path / "packages"
    build_deb(directory, "libreoffice-help-en-us", "en-US", ENGLISH, "The LibreOffice Help, version 7.4")
    build_deb(directory, "libreoffice-help-de", "de", GERMAN, "Die Hilfe für LibreOffice, Version 7.4")
    return directory


def fetching(packages: Path) -> str:
    """An ``apt-get download`` that has ``packages`` to give, and insists on being asked as we should."""
    return f'[ "$1" = download ] || exit 9\nshift\nfor package; do cp {packages}/"$package"_*.deb . || exit 8; done'


@needs_dpkg
def test_a_rebuild_writes_the_pairs_of_the_packages_in_order_of_page_and_paragraph_id(tmp_path, tools, packages):
    tools(fetching(packages))
    rebuild("en-de", tmp_path / "sample.tsv.xz")
    assert read_sample(tmp_path / "sample.tsv.xz") == ROWS


@needs_dpkg
def test_a_rebuild_says_how_many_pairs_came_from_which_versions_and_files(tmp_path, tools, packages, capsys):
    tools(fetching(packages))
    rebuild("en-de", tmp_path / "sample.tsv.xz")
    counts, *files = capsys.readouterr().out.splitlines()
    assert counts.endswith(": 7 pairs from libreoffice-help-en-us 4:7.4.7-1 and libreoffice-help-de 4:7.4.7-1")
    listing = subprocess.run(
        ["sha256sum", *(f"libreoffice-help-{name}_4%3a7.4.7-1_all.deb" for name in ("en-us", "de"))],
        cwd=packages, env={"PATH": os.defpath}, check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert files == listing.stdout.splitlines()


@needs_dpkg
def test_the_same_packages_give_the_same_bytes(tmp_path, tools, packages):
    tools(fetching(packages))
    for name in ("first", "second"):
        rebuild("en-de", tmp_path / name)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


@needs_dpkg
def test_a_rebuild_replaces_a_sample_and_leaves_nothing_beside_it(tmp_path, tools, packages):
    tools(fetching(packages))
    (tmp_path / "out").mkdir()
    (tmp_path / "out/sample.tsv.xz").write_text("what was there before")
    rebuild("en-de", tmp_path / "out/sample.tsv.xz")
    assert len(lzma.decompress((tmp_path / "out/sample.tsv.xz").read_bytes()).splitlines()) == len(ROWS)
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["sample.tsv.xz"]


@needs_dpkg
def test_packages_without_common_sentences_are_refused_and_the_sample_stays(tmp_path, tools):
    directory = tmp_path / "packages"
    page = {"text/x.html": '<p id="par_id1">The same in both.</p>'}
    build_deb(directory, "libreoffice-help-en-us", "en-US", page, "Help")
    build_deb(directory, "libreoffice-help-de", "de", page, "Hilfe")
    tools(fetching(directory))
    (tmp_path / "sample").write_text("what was there before")
    with pytest.raises(InputError, match="no page of one has a sentence that the other translates"):
        rebuild("en-de", tmp_path / "sample")
    assert (tmp_path / "sample").read_text() == "what was there before"


def test_a_missing_apt_get_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError) as refused:
        rebuild("en-de", tmp_path / "sample")
    assert str(refused.value).startswith("--rebuild: apt-get (is not installed")
    assert "\n" not in str(refused.value)


def test_a_missing_dpkg_deb_is_one_line(tmp_path, tools):
    tools("for package in en-us de; do : > libreoffice-help-${package}_1_all.deb; done", alone=True)
    with pytest.raises(InputError, match=r"^--rebuild: dpkg-deb \(is not installed.*\)$"):
        rebuild("en-de", tmp_path / "sample")


def test_a_failed_download_is_one_line_with_the_reason_and_what_to_run(tmp_path, tools):
    tools("echo 'W: a warning' >&2; echo 'E: Unable to locate package libreoffice-help-de' >&2; exit 100")
    with pytest.raises(InputError) as refused:
        rebuild("en-de", tmp_path / "sample")
    assert str(refused.value) == (
        "--rebuild: apt-get download failed: E: Unable to locate package libreoffice-help-de; "
        "run `apt-get update`, as root, and try again"
    )


def test_an_apt_get_that_leaves_no_file_is_refused(tmp_path, tools):
    tools("exit 0")
    with pytest.raises(InputError, match=r"libreoffice-help-de .*left no such"):
        download(["libreoffice-help-de"], tmp_path)


@needs_dpkg
@pytest.mark.parametrize("keep", [0, 100, 0.5])
def test_a_package_cut_short_is_refused(packages, tmp_path, keep):
    whole = (packages / "libreoffice-help-de_4%3a7.4.7-1_all.deb").read_bytes()
    (tmp_path / "cut.deb").write_bytes(whole[: int(keep if keep != 0.5 else len(whole) / 2)])
    with pytest.raises(InputError, match=r"cut\.deb \(cannot be read"):
        pages(tmp_path / "cut.deb", "de")


def test_a_package_that_dpkg_deb_finds_broken_after_its_last_page_is_refused(tmp_path, monkeypatch):
    with tarfile.open(tmp_path / "whole.tar", "w"):
        pass
    (tmp_path / "dpkg-deb").write_text(f"#!/bin/sh\ncat {tmp_path}/whole.tar\nexit 2\n")
    (tmp_path / "dpkg-deb").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(InputError, match=r"broken\.deb \(cannot be read"):
        pages(tmp_path / "broken.deb", "de")


def test_the_keys_for_macos_are_left_out_and_those_for_other_systems_stay():
    page = (
        '<p id="par_id1">Press <span id="swlnsystext_1" class="switchinline"><span hidden="true" id="MACtext_1" '
        'class="MAC"><span class="keycode">Command</span></span><span hidden="true" id="defaulttext_1">'
        '<span class="keycode">Ctrl</span></span></span><span class="keycode">+1</span>.</p>'
    )
    assert paragraphs(page) == {"par_id1": "Press Ctrl+1."}


def test_a_paragraph_that_is_for_macos_as_a_whole_is_read():
    page = '<span hidden="true" id="MACtext_1" class="MAC"><p id="par_id1">Choose LibreOffice.</p></span>'
    assert paragraphs(page) == {"par_id1": "Choose LibreOffice."}


def test_a_line_break_and_a_picture_separate_words_and_a_soft_hyphen_does_not():
    page = '<p id="par_id1">0: grey<br>1:<img src="x.svg" alt="Icon">black<br/>Mon&shy;day</p>'
    assert paragraphs(page) == {"par_id1": "0: grey 1: black Monday"}


def test_entities_are_resolved_also_those_that_the_help_shows_as_text():
    assert paragraphs('<p id="par_id1">R&amp;D: &#228; is &amp;auml;</p>') == {"par_id1": "R&D: ä is ä"}


def test_of_an_id_that_comes_twice_the_first_paragraph_counts():
    page = '<p id="par_id1">Divides two values.</p><div><p id="par_id1">Raises to a power.</p></div>'
    assert paragraphs(page) == {"par_id1": "Divides two values."}


def test_a_paragraph_within_another_element_with_an_id_is_read_for_itself():
    page = '<div id="par_id0">Not text <ul><li id="par_id2"><p id="par_id1">An item.</p></li></ul></div>'
    assert paragraphs(page) == {"par_id1": "An item."}


def test_a_tag_that_is_closed_without_being_open_changes_nothing():
    assert paragraphs('<p id="par_id1">One</span> and two.</p>') == {"par_id1": "One and two."}


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("Click Edit. The editor opens.", 2),
        ("Really? Yes! Of course… Well.", 4),
        ('It says "Done." Then it closes.', 2),
        ("It closes (at last.) Then it opens.", 2),
        ('Choose a name. "Standard" is taken. („Neu“ too.) 3 are left.', 4),
        ("Файл открыт. Ещё один закрыт.", 2),
        ("Öffnen Sie es. Über das Menü geht es auch.", 2),
        ("Press Ctrl+V. The text appears.", 1),
        ("The macro, e.g. Main, i.e. the first, etc. Others follow.", 1),
        ("Es dauert ca. 200 ms bzw. Stunden usw. Danach ist es fertig.", 1),
        ("Выберите, см. Справка, т.е. Меню, и т.д. Затем закройте.", 1),
        ("Version 1.5 of ... something is open. it goes on", 1),
        ("Choose: Edit; Copy: Paste", 1),
    ],
)
def test_a_text_is_split_where_a_sentence_ends(text, count):
    assert len(sentences(text)) == count


@given(st.text(alphabet='aZ.!?…"() 1Яя', max_size=40).map(lambda text: " ".join(text.split())))
def test_splitting_loses_nothing(text):
    assert " ".join(sentences(text)) == text


def test_a_paragraph_stays_whole_where_the_numbers_of_sentences_differ():
    english = {"page": {"par_1": "Click Edit. The editor opens."}}
    german = {"page": {"par_1": "Der Editor öffnet sich, wenn Sie auf Bearbeiten klicken."}}
    assert align(english, german) == [("page", english["page"]["par_1"], german["page"]["par_1"])]


def test_rows_come_in_order_of_page_and_then_of_paragraph_id():
    names = [f"{number:02}" for number in range(30)]
    english = {page: {name: f"The name of the text is {page} {name}." for name in names[::-1]} for page in names[::-1]}
    german = {page: {name: f"Der Name des Textes ist {page} {name}." for name in names} for page in names}
    order = [
        (page, f"The name of the text is {page} {name}.", f"Der Name des Textes ist {page} {name}.")
        for page in names
        for name in names
    ]
    assert align(english, german) == order


def test_an_english_sentence_comes_once_whatever_its_capitals_with_its_first_usable_translation():
    english = {"b": {"par_1": "Choose a Font."}, "a": {"par_1": "Choose a font.", "par_2": "choose a FONT."}}
    german = {"b": {"par_1": "Schrift wählen Sie."}, "a": {"par_1": "Schrift.", "par_2": "Wählen Sie eine Schrift."}}
    assert align(english, german) == [("a", "choose a FONT.", "Wählen Sie eine Schrift.")]


@pytest.mark.parametrize(
    ("english", "german"),
    [
        ("Click Edit.", "Klicken Sie auf Bearbeiten."),
        ("RANK.EQ", "RANG.GLEICH"),
        (" ".join(["word"] * 50), " ".join(["Wort"] * 50)),
        ("one two three", "eins zwei drei vier fünf sechs sieben"),
        ("one two three four five", "eins zwei drei vier fünf sechs sieben acht neun zehn elf"),
        ("Press Shift (F5).", "Drücken Sie Umschalt (F5)."),
    ],
)
def test_a_clean_pair_of_prose_is_kept(english, german):
    assert usable(english, german)
    assert usable(german, english)


@pytest.mark.parametrize(
    ("english", "german"),
    [
        ("The same in both.", "The same in both."),
        ("Edit Menu Bar", "Menüleiste Bearbeiten"),
        ("A two-part", "Ein zweiteiliger Name"),
        (" ".join(["word"] * 51), " ".join(["Wort"] * 50)),
        ("one two three", "eins zwei drei vier fünf sechs sieben acht"),
        ("one two three four five", "eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf"),
        ("Enter x = y here.", "Geben Sie etwas ein."),
        ("Write <A1> into it.", "Schreiben Sie es hinein."),
        ("See the Str() function.", "Siehe die Funktion."),
        ("See the com::sun::star module.", "Siehe das Modul für Sterne und Sonnen."),
        (r"It is in C:\Windows here.", "Es ist hier in Windows."),
        ("1, 2, 3, 4 and 5", "Eins, zwei, drei, vier, fünf"),
        ("", ""),
        ("", "Etwas ist hier."),
    ],
)
def test_a_pair_that_is_no_clean_prose_is_left_out_on_whichever_side_the_fault_is(english, german):
    assert not usable(english, german)
    assert not usable(german, english)


def test_the_russian_side_must_be_mostly_cyrillic_and_the_german_need_not():
    assert usable("This opens a file.", "Это открывает файл.", cyrillic=True)
    assert usable("abc abc abc abc", "где где abc abc", cyrillic=True)
    assert not usable("abc abc abc abc", "где abc abc abc", cyrillic=True)
    assert usable("abc abc abc abc", "где abc abc abc")


@needs_dpkg
def test_a_rebuild_of_the_russian_pair_leaves_out_what_is_still_english(tmp_path, tools):
    directory = tmp_path / "packages"
    english = '<p id="par_id1">This is translated. This has not been translated.</p>'
    russian = '<p id="par_id1">Это переведено. This has not been done.</p>'
    build_deb(directory, "libreoffice-help-en-us", "en-US", {"text/x.html": english}, "Help")
    build_deb(directory, "libreoffice-help-ru", "ru", {"text/x.html": russian}, "Справка")
    tools(fetching(directory))
    rebuild("en-ru", tmp_path / "sample")
    assert read_sample(tmp_path / "sample") == [("text/x.html", "This is translated.", "Это переведено.")]


@pytest.mark.slow
def test_a_rebuild_from_the_real_packages_gives_the_shipped_sample(tmp_path, capsys):
    if shutil.which("apt-get") is None:
        pytest.skip("apt-get is not installed")
    fetched = subprocess.run(
        ["apt-get", "download", PACKAGES["en"], PACKAGES["de"]], cwd=tmp_path, capture_output=True, text=True
    )
    if fetched.returncode:
        pytest.skip(f"apt-get cannot fetch the packages: {fetched.stderr.strip().splitlines()[-1:]}")
    versions = {file.name.split("_")[1] for file in tmp_path.glob("*.deb")}
    if not all(version.startswith("4%3a7.4.7-1+deb12u") for version in versions):
        pytest.skip(f"apt-get has another release of the help: {versions}")
    rebuild("en-de", tmp_path / "sample.tsv.xz")
    shipped, rebuilt = set(read_sample(SAMPLES / "lohelp.en-de.tsv.xz")), set(read_sample(tmp_path / "sample.tsv.xz"))
    assert f": {len(rebuilt)} pairs from {PACKAGES['en']} 4:7.4.7-1+deb12u" in capsys.readouterr().out
    if versions == {"4%3a7.4.7-1+deb12u14"}:  # the packages that the shipped sample was made from
        assert rebuilt == shipped
    else:
        assert len(shipped & rebuilt) >= 0.95 * max(len(shipped), len(rebuilt))
