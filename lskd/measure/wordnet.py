"""The WordNet hierarchy above a set of classes; ImageNet-1K's ships with the package, others are read through nltk."""

import contextlib
import functools
import re
import shutil
import tempfile
import warnings
from collections import deque
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lskd.io.errors import InputError, input_error, not_installed

DATA = Path(__file__).parents[1] / "data"
WNID = re.compile(r"n[0-9]{8}")
NOUNS = ("index.noun", "data.noun", "noun.exc")
# All files that nltk opens when it loads WordNet; only those of nouns must have content.
NLTK_FILES = (
    *("cntlist.rev", "lexnames", "index.sense"),
    *(f"{kind}.{part}" for part in ("adj", "adv", "noun", "verb") for kind in ("index", "data")),
    *(f"{part}.exc" for part in ("adj", "adv", "noun", "verb")),
)


class Hierarchy:
    """How near classes are to each other in a hierarchy in which a synset may have several hypernyms.

    Args:
        synsets: synsets of the K classes; several classes may have the same one.
        hypernyms: hypernyms of every synset at and above the classes; those at the top have none.

    Raises:
        ValueError: a synset is missing in ``hypernyms``.

    Example:
        >>> above = {"cat": ["animal"], "dog": ["animal"], "animal": ["thing"], "car": ["thing"], "thing": []}
        >>> breadth, path = Hierarchy(["cat", "dog", "car"], above).nearness(0)
        >>> breadth.tolist(), path.tolist()
        ([1, 2, 3], [0, 2, 3])
    """

    def __init__(self, synsets: Sequence[str], hypernyms: Mapping[str, Sequence[str]]) -> None:
        self.synsets = list(synsets)
        steps = [_steps_up(synset, hypernyms) for synset in self.synsets]
        column = {synset: place for place, synset in enumerate(dict.fromkeys(each for up in steps for each in up))}
        self._steps = np.full((len(steps), len(column)), np.inf)  # number of steps from a class up to a synset
        for row, up in zip(self._steps, steps, strict=True):
            row[[column[synset] for synset in up]] = list(up.values())
        self._breadth = np.isfinite(self._steps).sum(0)  # how many classes are at or below a synset

    def nearness(self, target: int) -> tuple[np.ndarray, np.ndarray]:
        """How near each class is to ``target``: by ``breadth``, and for equal breadths by ``path``; less is nearer.

        Returns:
            breadth: (K,) int64, the number of classes, from 1 to K, at or below the most specific common ancestor,
                which is the one with the fewest.
            path: (K,) int64, the steps from the target up to that ancestor and down to the class, by the shortest way.
        """
        above = np.isfinite(self._steps[target])
        path = self._steps[target, above] + self._steps[:, above]
        breadth = np.where(np.isfinite(path), self._breadth[above], np.inf).min(1)
        path = np.where(self._breadth[above] == breadth[:, None], path, np.inf).min(1)
        return breadth.astype(np.int64), path.astype(np.int64)


def _steps_up(synset: str, hypernyms: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """The synsets at and above ``synset`` with the least number of steps to each; last ``""``, the common root."""
    steps, waiting = {synset: 0}, deque([synset])
    while waiting:
        below = waiting.popleft()
        if below and below not in hypernyms:
            raise ValueError(f"hypernyms: none of {below!r} (must hold every synset at and above the classes)")
        for above in (hypernyms[below] or [""]) if below else ():
            if above not in steps:
                steps[above] = steps[below] + 1
                waiting.append(above)
    return steps


@functools.cache
def imagenet_classes() -> dict[str, str]:
    """The names of ImageNet-1K's classes by wnid, in the usual order; the names are unique.

    >>> list(imagenet_classes().items())[207]
    ('n02099601', 'golden retriever')
    """
    lines = (DATA / "in1k_classes.tsv").read_text(encoding="utf-8").splitlines()
    return dict(line.split("\t") for line in lines)


def readable_name(name: str) -> str:
    """The readable name of a class: for a wnid of ImageNet-1K the class's name, else the name itself.

    >>> readable_name("n02099601"), readable_name("Sandal")
    ('golden retriever', 'Sandal')
    """
    return imagenet_classes().get(name, name)


@functools.cache
def imagenet_hypernyms() -> dict[str, list[str]]:
    """The hypernyms in WordNet 3.0, by wnid, of all synsets at and above ImageNet-1K's classes."""
    lines = (DATA / "in1k_wordnet30_hypernyms.tsv").read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines]
    return {wnid: above.split(",") if above else [] for wnid, _, above in rows}


def imagenet_wnid(name: str) -> str | None:
    """The wnid of an ImageNet-1K class, given by name or wnid, or of a synset above them, given by wnid; else None.

    >>> imagenet_wnid("golden_retriever"), imagenet_wnid("n02099601"), imagenet_wnid("Sandal")
    ('n02099601', 'n02099601', None)
    """
    return name if name in imagenet_hypernyms() else _wnids().get(name.replace("_", " "))


@functools.cache
def _wnids() -> dict[str, str]:
    """The wnids of ImageNet-1K's classes by name."""
    return {name: wnid for wnid, name in imagenet_classes().items()}


def find_hierarchy(
    class_names: Sequence[str], synsets: Mapping[str, object] | None = None, directory: str | Path | None = None
) -> Hierarchy:
    """The hierarchy above classes: the one in this package if all are ImageNet-1K's, else WordNet's through nltk.

    A name is read as the first (most frequent) sense of its longest ending that is a noun in WordNet:
    ``013.Great_Grey_Shrike`` as shrike. Classes that are read as the same synset are each other's nearest.

    Args:
        class_names: K wnids or names.
        synsets: wnids (``n02012849``) or names (``crane.n.05``) of synsets by class name, for classes for which the
            first sense is not the intended one.
        directory: directory of WordNet's own files (``data.noun``, ``index.noun``), such as Debian's
            ``/usr/share/wordnet``; nltk's data when None.

    Raises:
        InputError: a name or a synset that is not in WordNet, or nltk or its data are not installed.
    """
    senses = {name: str(synset) for name, synset in (synsets or {}).items()}
    if unknown := senses.keys() - set(class_names):
        raise input_error("synsets", sorted(unknown)[0], "must be a class")
    wnids = [imagenet_wnid(senses.get(name, name)) for name in class_names]
    known = [wnid for wnid in wnids if wnid is not None]
    if len(known) == len(wnids) and directory is None:
        return Hierarchy(known, imagenet_hypernyms())
    with _nltk_reader(directory) as reader:
        found = [_find_synset(reader, name, senses.get(name)) for name in class_names]
        hypernyms: dict[str, list[str]] = {}
        waiting = list(found)
        while waiting:
            synset = waiting.pop()
            if synset.name() not in hypernyms:
                above = synset.hypernyms() + synset.instance_hypernyms()
                hypernyms[synset.name()] = [each.name() for each in above]
                waiting += above
        return Hierarchy([synset.name() for synset in found], hypernyms)


@contextlib.contextmanager
def _nltk_reader(directory: str | Path | None) -> Generator[Any]:
    """Yield nltk's reader of its own data, or of WordNet's files in ``directory``.

    nltk opens nothing outside its data path, and needs a file ``lexnames``, which Debian's package lacks, so the files
    of nouns are copied to a temporary data path.
    """
    try:
        import nltk
        from nltk.corpus.reader.wordnet import WordNetCorpusReader
    except ImportError:
        raise not_installed("nltk", "report") from None
    with tempfile.TemporaryDirectory() as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about missing languages and wnids
        if directory is None:
            try:
                nltk.corpus.wordnet.ensure_loaded()
            except LookupError:
                valid = "name WordNet's directory, or run `python -m nltk.downloader wordnet`"
                raise input_error("WordNet", "nltk has no data", valid) from None
            yield nltk.corpus.wordnet
            return
        root = Path(temporary) / "corpora" / "wordnet"
        root.mkdir(parents=True)
        for name in NLTK_FILES:
            (root / name).touch()
        (root / "lexnames").write_text("".join(f"{number:02}\tnoun\t1\n" for number in range(45)))  # any names will do
        try:
            for name in NOUNS:
                shutil.copyfile(Path(directory) / name, root / name)
        except OSError:
            raise input_error("WordNet", directory, f"must be a directory with the files {', '.join(NOUNS)}") from None
        nltk.data.path.insert(0, temporary)
        try:
            yield WordNetCorpusReader(nltk.data.find("corpora/wordnet"), None)
        except InputError:
            raise
        except Exception as error:  # a damaged file may raise any error, even in a later look-up
            raise input_error("WordNet", directory, f"nltk cannot read it: {type(error).__name__} {error}") from None
        finally:
            nltk.data.path.remove(temporary)


def _find_synset(reader: Any, name: str, given: str | None) -> Any:
    """nltk's synset of a class."""
    from nltk.corpus.reader.wordnet import WordNetError

    wanted = given or name
    if given or WNID.fullmatch(name):
        try:
            if WNID.fullmatch(wanted):
                found = reader.synset_from_pos_and_offset("n", int(wanted[1:]))
            else:
                found = reader.synset(wanted)
        except (WordNetError, ValueError):
            found = None
        if not found:
            raise input_error("synset", wanted, f"must be in WordNet, for class {name!r}")
        return found
    for words in _readings(name):
        if nouns := reader.synsets(words, "n"):
            return nouns[0]
    raise input_error("class", repr(name), "is not in WordNet: give its synset, such as 'crane.n.05'")


def _readings(name: str) -> list[str]:
    """The forms under which to look up a class name, longest first.

    >>> _readings("001.Black_footed_Albatross")[:3]
    ['Black_footed_Albatross', 'Black-footed_Albatross', 'Black-footed-Albatross']
    """
    words = re.split(r"[\s_-]+", re.sub(r"^\d+\.", "", name).split("/")[0].strip())
    ends = [words[start:] for start in range(len(words))]
    forms = [("_".join(end), "_".join(end).replace("_", "-", 1), "-".join(end)) for end in ends]
    return list(dict.fromkeys(form for each in forms for form in each if form))
