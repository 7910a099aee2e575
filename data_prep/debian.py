"""Files of Debian packages, read from the ``.deb`` file; nothing is unpacked to disk."""

import re
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

from lskd.io.errors import input_error


def files_in_package(archive: Path, wanted: re.Pattern[str], option: str) -> Iterator[tuple[str, bytes]]:
    """Path and content of the regular files of a package whose whole path matches ``wanted``.

    Args:
        archive: the ``.deb`` file.
        wanted: for paths such as ``usr/share/fonts/truetype/hack/Hack-Regular.ttf``.
        option: the option of the command that asks for it, which an error names.

    Raises:
        InputError: the package is damaged.
    """
    command = ["dpkg-deb", "--fsys-tarfile", str(archive)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        try:
            with tarfile.open(fileobj=process.stdout, mode="r|") as tar:
                for member in tar:
                    path = member.name.removeprefix("./")
                    if member.isfile() and wanted.fullmatch(path) and (file := tar.extractfile(member)):
                        yield path, file.read()
            while process.stdout.read(1 << 20):  # the padding after the last file: dpkg-deb must end by itself
                pass
        except (tarfile.TarError, EOFError) as error:
            raise input_error(option, archive.name, f"cannot be read: {error}") from None
    if process.returncode:
        raise input_error(option, archive.name, "cannot be read: dpkg-deb found it broken")
