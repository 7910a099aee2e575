"""Small archives laid out as the official de-en.tgz and ru-en.tgz, and what is to be found in them."""

import functools
import io
import lzma
import re
import tarfile
from pathlib import Path
from xml.sax.saxutils import escape

SAMPLES = Path(__file__).parents[2] / "data_prep" / "samples"
TALKS, LINES_PER_TALK = 20, 20  # with title and description
TEST_SETS = {
    "en-de": ["TED.dev2010", "TED.tst2010", "TED.tst2011", "TED.tst2012", "TEDX.dev2012"],
    "en-ru": ["TED.dev2010", "TED.tst2010", "TED.tst2011", "TED.tst2012"],
}
SEGMENTS = 5

# Written as in the files, with what they mean; the same characters on both sides, so both are equally long.
ENTITIES = ("We &amp; you said &quot;don&apos;t&quot; &lt;&#39;\u2019 .", "We & you said \"don't\" <'' .")
EMPTY_SOURCE, EMPTY_TARGET = ("", "Only the translation ."), ("Only the source .", "  ")
TOO_LONG = ("word " * 176, "word " * 176)
LONGEST = ("longest " * 175, "longest " * 175)
BAD_RATIO = ("one two three four five six seven", "one two three four")
WORST_RATIO = ("one two three", "one two")
UNCLEAN = (EMPTY_SOURCE, EMPTY_TARGET, TOO_LONG, BAD_RATIO)


@functools.cache
def sentences(pair: str) -> list[tuple[str, str]]:
    """Real sentence pairs of plain words and a full stop, about equally long however they are tokenised."""
    found = {}  # the last word is no abbreviation, so the full stop is always a token of its own
    with lzma.open(SAMPLES / f"lohelp.{pair}.tsv.xz", "rt", encoding="utf-8") as file:
        for line in file:
            _, source, target = line.rstrip("\n").split("\t")
            shorter, longer = sorted(len(side.split()) for side in (source, target))
            plain = all(re.fullmatch(r"([^\W\d_]+ )+[^\W\d_]{4,}\.", side) for side in (source, target))
            if plain and shorter > 4 and longer <= 1.2 * shorter:
                found.setdefault(source, target)
    return list(found.items())


def official(pair: str) -> tuple[dict[str, str], dict[str, list[tuple[str, str]]]]:
    """The files of an archive by name in it, and the pairs they hold: ``clean`` and ``test``, in order."""
    supply = iter(sentences(pair))
    languages = pair.split("-")
    folder = f"{languages[1]}-en"
    clean, talks = [], []
    for number in range(TALKS):
        talk = [next(supply) for _ in range(LINES_PER_TALK)]
        clean += talk
        if number == 1:
            clean += [(ENTITIES[1], ENTITIES[1]), LONGEST, WORST_RATIO]
            talk = [*talk, UNCLEAN[0], (ENTITIES[0], ENTITIES[0]), LONGEST, WORST_RATIO, *UNCLEAN[1:]]
        talks.append(talk)
    files = {
        f"{folder}/train.tags.{folder}.{language}": "".join(
            _tagged(number, [both[side] for both in talk], language) for number, talk in enumerate(talks)
        )
        for side, language in enumerate(languages)
    }
    test = []
    for name in TEST_SETS[pair]:
        pairs = [next(supply) for _ in range(SEGMENTS)]
        test += pairs
        if name == "TED.tst2010":
            test.append((ENTITIES[1], ENTITIES[1]))
            pairs = [*pairs[:2], ("", "no source"), *pairs[2:], (ENTITIES[0], ENTITIES[0]), ("no target", "")]
        for side, language in enumerate(languages):
            lines = [both[side] for both in pairs]
            files[f"{folder}/IWSLT14.{name}.{folder}.{language}.xml"] = _xml(lines, language, side == 0)
    files[f"{folder}/README"] = "About the texts in this folder.\n"
    files[f"{folder}/train.en"] = "Monolingual text.\n"
    files[f"{folder}/IWSLT14.TED.tst2010.fr-en.fr.xml"] = _xml(["Rien."], "fr", True)
    files[f"{folder}/.DS_Store"] = files[f"{folder}/._README"] = "\0\0\0\1Bud1"
    files[f"{folder}/._IWSLT14.TED.tst2010.{folder}.en.xml"] = "\0\5\26\7"
    return files, {"clean": [(a.strip(), b.strip()) for a, b in clean], "test": test}


def write_tgz(path: Path, files: dict[str, str | bytes], *members: tarfile.TarInfo) -> Path:
    """Pack ``files`` and then the ``members``, which have no content."""
    with tarfile.open(path, "w:gz") as archive:
        for folder in sorted({name.rsplit("/", 1)[0] for name in files if "/" in name}):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
        for name, content in files.items():
            data = content if isinstance(content, bytes) else content.encode("utf-8")
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
        for member in members:
            # Newer versions of tarfile refuse to write what the tests need written, such as a negative size.
            header = member.tobuf(archive.format, archive.encoding, archive.errors)
            archive.fileobj.write(header)
            archive.offset += len(header)
    return path


def _tagged(number: int, lines: list[str], language: str) -> str:
    title, description, *text = lines
    credits = (
        []
        if language == "en"
        else [  # the English side has none: header lines are not parallel
            f'<reviewer href="http://example.org/{number}">Erika Beispiel</reviewer>',
            f'<translator href="http://example.org/{number}">Iwan Beispiel</translator>',
        ]
    )
    header = [
        f'<doc docid="{number}" genre="lectures">',
        f"<url>http://example.org/talks/{number}</url>",
        "<keywords>talks, science &amp; art</keywords>",
        "<speaker>Ada Example</speaker>",
        f"<talkid>{number}</talkid>",
        f"<title>{title}</title>",
        f"<description>{description}</description>",
    ]
    return "".join(line + "\n" for line in [*header, *(f" {line} " for line in text), *credits, "</doc>"])


def _xml(lines: list[str], language: str, source: bool) -> str:
    outer = "srcset" if source else "refset"
    text = [f'<seg id="{number}"> {line} </seg>' for number, line in enumerate(lines, 1)]
    header = ['<doc docid="1" genre="lectures">', "<title>A title that is not tested</title>"]
    header += [f"<description>{escape('Neither is this & that')}</description>", "<talkid>1</talkid>"]
    return "\n".join(
        [
            '<?xml version="1.0" encoding="UTF-8"?>',
            "<mteval>",
            f'<{outer} setid="small" srclang="english" trglang="{language}">',
            *header,
            *text,
            "</doc>",
            f"</{outer}>",
            "</mteval>",
            "",
        ]
    )
