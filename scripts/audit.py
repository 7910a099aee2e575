"""Known vulnerabilities of everything that is installed, by pip-audit, and its licences, by pip-licenses.

    python scripts/audit.py            # what `make audit` does
    python scripts/audit.py --write    # rewrites docs/licences.md

What was reviewed and may stay is in ``audit.toml`` beside this file, with its reason. Anything else gives exit status
1. If advisories cannot be fetched, a line says so, which does not count as a failure.
"""

import argparse
import json
import re
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

from lskd.io.errors import OneLineParser, run_command
from lskd.io.files import write_text

ROOT = Path(__file__).resolve().parent.parent
LIST = ROOT / "docs" / "licences.md"
SECONDS = 200
UNREACHABLE = r"requests\.exceptions\.|urllib3\.exceptions\.|Could not connect|is not redirecting"
HEAD = """# Licences of what is installed

Of everything that `make install` puts into `.venv`, including dependencies of dependencies and the test tools;
the data that ship have theirs in `data_prep/samples/`. Written by `python scripts/audit.py --write`. `make audit` fails
on a licence that is unknown or not permissive, unless `scripts/audit.toml` says why it may be here.

| package | licence | why it may be here |
|---|---|---|
"""


def main(arguments: argparse.Namespace) -> int:
    """Print what is found; return 1 if something must be reviewed."""
    reviewed = tomllib.loads((ROOT / "scripts" / "audit.toml").read_text(encoding="utf-8"))
    licences = installed_licences()
    if arguments.write:
        write_text(LIST, licences_page(licences, reviewed["licences"]))
    found = unreviewed(licences, reviewed["permissive"], reviewed["licences"])
    if new := sorted(name for name in licences if f"\n| {name} |" not in LIST.read_text(encoding="utf-8")):
        print(f"licences: not yet in docs/licences.md: {', '.join(new)}")
    print(f"licences: {len(licences)} packages, {len(found)} to be reviewed", *found, sep="\n  ")
    known, outcome = vulnerabilities(*run_pip_audit(), reviewed["vulnerabilities"])
    print(f"vulnerabilities: {outcome}", *known, sep="\n  ")
    return 1 if found or known else 0


def installed_licences() -> dict[str, str]:
    """The licence that every installed package states, as pip-licenses reads it; ``UNKNOWN`` where there is none."""
    command = [sys.executable, "-m", "piplicenses", "--with-system", "--format", "json"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {package["Name"]: package["License"] for package in json.loads(answer) if package["Name"] != "lskd"}


def unreviewed(licences: dict[str, str], permissive: list[str], reviewed: dict[str, str]) -> list[str]:
    """The packages with a licence of which any part is not permissive, without those that were reviewed."""
    return [
        f"{name}: {said}"
        for name, said in sorted(licences.items())
        if not set(re.split(r" AND | OR |; ", unwrapped(said))) <= set(permissive) and not reason(name, reviewed)
    ]


def unwrapped(said: str) -> str:
    """A licence expression without parentheses around the whole.

    >>> unwrapped("(MIT OR Apache-2.0)"), unwrapped("ISC License (ISCL)")
    ('MIT OR Apache-2.0', 'ISC License (ISCL)')
    """
    return said[1:-1] if said.startswith("(") and said.endswith(")") else said


def reason(name: str, reviewed: dict[str, str]) -> str:
    """Why a package may be here, empty if it was not reviewed; names may be patterns."""
    return next((why for pattern, why in reviewed.items() if fnmatch(name.lower(), pattern)), "")


def licences_page(licences: dict[str, str], reviewed: dict[str, str]) -> str:
    """The contents of ``docs/licences.md``."""
    names = sorted(licences, key=str.lower)
    return HEAD + "".join(f"| {name} | {licences[name]} | {reason(name, reviewed)} |\n" for name in names)


def run_pip_audit() -> tuple[str, str]:
    """pip-audit's answer, in JSON, and its standard error."""
    command = [sys.executable, "-m", "pip_audit", "--progress-spinner", "off", "--format", "json", "--desc", "off"]
    command += ["--cache-dir", str(ROOT / "build" / "pip-audit")]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return "", f"Could not connect in {SECONDS} seconds"
    return done.stdout, done.stderr


def vulnerabilities(answer: str, errors: str, reviewed: dict[str, str]) -> tuple[list[str], str]:
    """The vulnerabilities in pip-audit's answer that were not reviewed, and a line that sums it up."""
    last = (errors.strip().splitlines() or ["no answer"])[-1]
    if not answer.strip():
        return ([], f"not audited: {last}") if re.search(UNREACHABLE, errors) else ([last], "pip-audit failed")
    packages = json.loads(answer)["dependencies"]
    skipped = [package["name"] for package in packages if "skip_reason" in package]
    if len(skipped) == len(packages):
        return [], f"not audited: advisories for none of {len(packages)} packages ({packages[0]['skip_reason']})"
    found = [
        f"{package['name']} {package['version']}: {' '.join(sorted(names))}, fixed in {fixed or 'no version'}"
        for package in packages
        for flaw in package.get("vulns", [])
        if not (names := {flaw["id"], *flaw["aliases"]}) & set(reviewed)
        for fixed in [" ".join(flaw["fix_versions"])]
    ]
    unknown = f"; unknown there: {', '.join(skipped)}" if skipped else ""
    return found, f"{len(packages)} packages, {len(found)} to be reviewed{unknown}"


if __name__ == "__main__":
    parser = OneLineParser(prog="audit.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write docs/licences.md anew")
    run_command(parser, main)
