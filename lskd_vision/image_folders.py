"""Read a split that has a folder for each class, and number its classes as timm or as torchvision does.

The class of an image is the first folder below the split, however deep the image lies in it. Every entry below a class
folder is read or counted in ``left_out``; labels and order depend on the names alone.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from timm.data.readers.reader import Reader

from lskd.io.errors import input_error, shortened
from lskd_vision.class_order import CLASS_ORDERS, ClassOrder, natural_key
from lskd_vision.image_files import ARRAY_FILE, SUFFIXES


class ImageFolders(Reader):
    """A reader of the images of a split, for timm's ``ImageDataset``.

    Args:
        root: the directory of the split.
        order: ``natural``, timm's order of classes and images, or ``torchvision``, that of its ``ImageFolder``.
        class_map: the names of class folders in the order of their labels; by default all folders, sorted by ``order``.

    Attributes:
        samples: path and label of every image.
        class_to_idx: the labels by class.
        missing: names of ``class_map`` that have no folder.
        left_out: the files that are not read: their number and the first of them, by kind.

    Raises:
        InputError: there is no class folder, or one without images; a folder is in two classes; a link is broken.
        OSError: a folder cannot be read.
    """

    def __init__(
        self, root: str | os.PathLike[str], order: ClassOrder = "natural", class_map: Sequence[str] | None = None
    ) -> None:
        super().__init__()
        self.root = str(Path(root))
        self.left_out: dict[str, tuple[int, str]] = {}
        # The class for which a folder is read, by resolved path; "" for the folders above, to which a link may lead.
        self._real = os.path.realpath(self.root)
        self._class_of = {str(each): "" for each in (self._real, *Path(self._real).parents)}
        folders = self._class_folders()
        names = CLASS_ORDERS[order](folders) if class_map is None else class_map
        self.class_to_idx = {name: label for label, name in enumerate(names)}
        for name, folder in folders.items():
            if name not in self.class_to_idx:
                self._leave_out("not in --class-map", folder[0])
        self.missing = [name for name in names if name not in folders]
        paths = {name: self._images(name, *folders[name]) for name in names if name in folders}
        if not paths:
            arrays = " (NumPy arrays are read with --dataset lskd/arrays)" if Path(root, ARRAY_FILE).is_file() else ""
            valid = f"must have a folder for each class{arrays}{self.left_out_text()}"
            raise input_error("--data-dir", self.root, valid)
        if empty := [name for name, found in paths.items() if not found]:
            raise input_error("--data-dir", self.root, f"has no images of {shortened(empty)}{self.left_out_text()}")
        self.samples = [(path, self.class_to_idx[name]) for name, found in paths.items() for path in found]
        if order == "natural":
            self.samples.sort(key=lambda sample: (natural_key(self._relative(sample[0])), sample[0]))
        else:
            self.samples.sort(key=lambda sample: (sample[1], *os.path.split(sample[0])))

    def __getitem__(self, index: int) -> tuple[BinaryIO, int]:
        path, label = self.samples[index]
        return open(path, "rb"), label

    def __len__(self) -> int:
        return len(self.samples)

    # pyrefly: ignore[bad-override]  (timm declares no result)
    def _filename(self, index: int, basename: bool = False, absolute: bool = False) -> str:
        path = self.samples[index][0]
        return os.path.basename(path) if basename else path if absolute else self._relative(path)

    def left_out_text(self) -> str:
        """Text about the files that are not read, to end a line with, largest number first; empty if there are none."""
        kinds = sorted(self.left_out.items(), key=lambda item: (-item[1][0], item[0]))
        return "; not read: " + shortened(f"{n} {kind} ({first})" for kind, (n, first) in kinds) if kinds else ""

    def _relative(self, path: str) -> str:
        return path[len(self.root) + 1 :]

    def _leave_out(self, kind: str, path: str) -> None:
        number, first = self.left_out.get(kind, (0, self._relative(path)))
        self.left_out[kind] = (number + 1, first)

    def _class_folders(self) -> dict[str, tuple[str, str]]:
        """The class folders by name: the path of each, and its path with links resolved."""
        folders = {}
        for entry in _entries(self.root):
            if entry.name.startswith("."):
                self._leave_out("hidden", entry.path)
            elif not entry.is_dir():
                self._leave_out("beside the class folders", entry.path)
            elif (real := _without_links(entry, self._real)) in self._class_of:
                self._leave_out("linked twice or upwards", entry.path)
            elif not _is_unicode(entry.name):  # class names are written to run records
                raise input_error("--data-dir", entry.path, "must have a name in UTF-8")
            else:
                folders[entry.name] = entry.path, real
        return folders

    def _images(self, name: str, folder: str, real: str) -> list[str]:
        """The images below a class folder; links are followed last, so that a folder is read at its real place."""
        images: list[str] = []
        links: list[tuple[str, str]] = []
        self._walk(name, folder, real, images, links)
        while links:
            links.sort(reverse=True)
            self._walk(name, *links.pop(), images, links)
        return images

    def _walk(self, name: str, folder: str, real: str, images: list[str], links: list[tuple[str, str]]) -> None:
        if real in self._class_of:
            if self._class_of[real] not in ("", name):
                raise input_error("--data-dir", folder, f"is in two classes, {self._class_of[real]} and {name}")
            self._leave_out("linked twice or upwards", folder)
            return
        self._class_of[real] = name
        for entry in _entries(folder):
            if entry.name.startswith("."):
                self._leave_out("hidden", entry.path)
            elif entry.is_dir():
                inside = entry.path, _without_links(entry, real)
                if entry.is_symlink():
                    links.append(inside)
                else:
                    self._walk(name, *inside, images, links)
            elif not entry.is_file():
                if entry.is_symlink():
                    raise input_error("--data-dir", entry.path, "is a link to a file that is not there")
                self._leave_out("special", entry.path)
            elif (suffix := os.path.splitext(entry.name)[1].lower()) in SUFFIXES:
                images.append(entry.path)
            else:
                self._leave_out(suffix or "without suffix", entry.path)


def read_class_map(path: str | os.PathLike[str], argument: str = "--class-map") -> list[str]:
    """Read class names in the order of their labels: one per line, in UTF-8; blank lines are ignored.

    Args:
        path: the file.
        argument: its name in error messages.

    Raises:
        InputError: it cannot be read, or has a name twice or none at all.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").split("\n")
    except OSError as error:
        raise input_error(argument, path, f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise input_error(argument, path, f"must be UTF-8: {error.reason}, byte {error.start}") from None
    names = [name for line in lines if (name := line.strip())]
    if not names:
        raise input_error(argument, path, "must have the names of classes, one a line")
    if len(names) > len(set(names)):
        twice = [name for number, name in enumerate(names) if name in names[:number]]
        raise input_error(argument, path, f"must not repeat a class: {shortened(twice)}")
    return names


def _entries(folder: str) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:  # the order depends on the file system
        return sorted(entries, key=lambda entry: entry.name)


def _without_links(entry: os.DirEntry[str], parent: str) -> str:
    # Not by inodes, which some network file systems make up.
    return os.path.realpath(entry.path) if entry.is_symlink() else os.path.join(parent, entry.name)


def _is_unicode(name: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in name)
