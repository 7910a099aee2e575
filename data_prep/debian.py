"""Debian packages: download them with ``apt-get``, and read files in them with ``dpkg-deb``; nothing is installed."""

import os
import re
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from lskd.io.errors import InputError, input_error


def download(packages: Sequence[str], directory: Path, option: str = "--rebuild") -> list[Path]:
    """Download the newest version of each package that ``apt-get`` knows.

    Args:
        packages: their names.
        directory: to put the .deb files into.
        option: the option of our command that needs them, for error messages.

    Raises:
        InputError: ``apt-get`` is missing, or does not know or reach a package.
    """
    run_program("apt-get", "download", *packages, directory=directory, option=option)
    found = {package: sorted(directory.glob(f"{package}_*.deb")) for package in packages}
    for package, archives in found.items():
        if len(archives) != 1:
            raise input_error(option, package, "apt-get download left no such .deb file")
    return [archives[0] for archives in found.values()]


def files_in_package(archive: Path, wanted: re.Pattern[str], option: str = "--rebuild") -> Iterator[tuple[str, bytes]]:
    """Read regular files in a package without unpacking it to disk.

    Args:
        archive: the .deb file.
        wanted: matches the whole path of a file, such as ``usr/share/fonts/truetype/hack/Hack-Regular.ttf``.
        option: the option of our command that needs the package, for error messages.

    Yields:
        Path and content of each file.

    Raises:
        InputError: the package cannot be read.
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
            while process.stdout.read(1 << 20):  # the padding after the last file: dpkg-deb must exit by itself
                pass
        except (tarfile.TarError, EOFError) as error:
            raise input_error(option, archive.name, f"cannot be read: {error}") from None
    if process.returncode:
        raise input_error(option, archive.name, "cannot be read: dpkg-deb found it broken")


def run_program(
    program: str,
    *arguments: str,
    option: str = "--rebuild",
    directory: Path | None = None,
    missing: str = "this needs Debian's or Ubuntu's apt and dpkg",
) -> subprocess.CompletedProcess[str]:
    """Run a program and capture its output; a failure is a one-line error.

    Args:
        program: its name.
        arguments: its command line.
        option: the option of our command that needs it, for error messages.
        directory: to run it in.
        missing: the end of the error message if the program is not installed.

    Raises:
        InputError: it is missing or fails.
    """
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    try:
        result = subprocess.run(
            [program, *arguments],
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
    except FileNotFoundError:
        raise input_error(option, program, f"is not installed; {missing}") from None
    if result.returncode:
        reason = (result.stderr.strip().splitlines() or ["no reason given"])[-1]
        advice = "; run `apt-get update`, as root, and try again" if arguments[0] == "download" else ""
        raise InputError(f"{option}: {program} {arguments[0]} failed: {reason}{advice}")
    return result
