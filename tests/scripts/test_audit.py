"""`make audit`: licences as packages state them, and pip-audit's answers, asked of a small advisory server."""

import json
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from audit import LIST, installed_licences, reason, run_pip_audit, unreviewed, vulnerabilities
from helpers.commands import ROOT, run

REVIEWED = tomllib.loads((ROOT / "scripts" / "audit.toml").read_text(encoding="utf-8"))
FLAW = {
    "id": "PYSEC-2099-1",
    "aliases": ["CVE-2099-12345"],
    "summary": "It adds up wrongly.",
    "affected": [
        {
            "package": {"name": "numpy", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99.1"}]}],
        }
    ],
}


class Advisories(BaseHTTPRequestHandler):
    """As OSV answers: numpy has a flaw, nothing else has."""

    def do_POST(self):
        query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = json.dumps({"vulns": [FLAW]} if query["package"]["name"] == "numpy" else {}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *words):
        pass


@pytest.fixture
def advisories() -> Iterator[dict[str, str]]:
    """The variables by which pip-audit asks a server of this machine."""
    with HTTPServer(("127.0.0.1", 0), Advisories) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield service(server.server_port)
        server.shutdown()


def service(port: int) -> dict[str, str]:
    """pip-audit's own variables: a service that speaks OSV's protocol."""
    url = f"http://127.0.0.1:{port}/v1/query"
    return {"PIP_AUDIT_VULNERABILITY_SERVICE": "osv", "PIP_AUDIT_OSV_URL": url, "NO_PROXY": "127.0.0.1"}


def test_the_licence_of_every_installed_package_is_read():
    licences = installed_licences()
    assert len(licences) > 100
    assert licences["ruff"] == "MIT"
    assert "lskd" not in licences


@pytest.mark.parametrize("said", ["MIT", "MIT License; BSD License", "Apache-2.0 AND Apache-2.0 WITH LLVM-exception"])
def test_a_licence_passes_whose_every_part_is_permissive(said):
    assert unreviewed({"thing": said}, REVIEWED["permissive"], {}) == []


@pytest.mark.parametrize("said", ["UNKNOWN", "GPL-3.0-only", "MIT AND LGPL-2.1", "BSD License; GNU GPL", "MIT OR SSPL"])
def test_a_licence_with_another_part_is_found_until_it_is_reviewed(said):
    assert unreviewed({"Thing-core": said}, REVIEWED["permissive"], {"other": "why"}) == [f"Thing-core: {said}"]
    assert unreviewed({"Thing-core": said}, REVIEWED["permissive"], {"thing-*": "why"}) == []


def test_the_list_gives_the_reason_of_every_package_that_needs_one():
    rows = [line.strip("| ").split(" | ") for line in LIST.read_text(encoding="utf-8").splitlines() if "|" in line][2:]
    packages = {row[0]: row[1] for row in rows}
    assert len(packages) == len(rows) > 100
    assert unreviewed(packages, REVIEWED["permissive"], REVIEWED["licences"]) == []
    assert [row[0] for row in rows if (row[2:] or [""])[0].strip("| ") != reason(row[0], REVIEWED["licences"])] == []


@pytest.mark.slow
def test_a_known_vulnerability_fails_the_audit_and_is_named(advisories):
    result = run("python scripts/audit.py", status=1, **advisories)
    (line,) = (line for line in result.stdout.splitlines() if "PYSEC" in line)
    assert line.startswith("  numpy ")
    assert line.endswith(": CVE-2099-12345 PYSEC-2099-1, fixed in 99.1")


@pytest.mark.slow
def test_a_vulnerability_that_was_reviewed_by_any_of_its_names_passes(advisories, monkeypatch):
    for name, value in advisories.items():
        monkeypatch.setenv(name, value)
    answer = run_pip_audit()
    for name, passes in (("CVE-2099-12345", True), ("PYSEC-2099-1", True), ("CVE-2099-1234", False)):
        found, outcome = vulnerabilities(*answer, {name: "numpy is not asked to add here"})
        assert (found == []) == passes
        assert f" packages, {len(found)} to be reviewed" in outcome


@pytest.mark.slow
def test_where_no_advisories_can_be_had_one_line_says_that_nothing_was_audited():
    with HTTPServer(("127.0.0.1", 0), Advisories) as closed:
        variables = service(closed.server_port)
    result = run("python scripts/audit.py", **variables)
    assert result.stdout.splitlines()[-1].startswith("vulnerabilities: not audited: ")
    assert "Connection refused" in result.stdout.splitlines()[-1]
    assert result.stderr == ""


def test_a_registry_without_advisories_is_not_taken_for_a_clean_one():
    skipped = [{"name": name, "skip_reason": f"Dependency not found: {name}"} for name in ("numpy", "torch")]
    found, outcome = vulnerabilities(json.dumps({"dependencies": skipped}), "", {})
    assert (found, outcome) == (
        [],
        "not audited: advisories for none of 2 packages (Dependency not found: numpy)",
    )
    clean = {"name": "tqdm", "version": "4", "vulns": []}
    found, outcome = vulnerabilities(json.dumps({"dependencies": [*skipped, clean]}), "", {})
    assert (found, outcome) == ([], "3 packages, 0 to be reviewed; unknown there: numpy, torch")


def test_an_audit_that_breaks_is_no_clean_one():
    assert vulnerabilities("", "Traceback:\nKeyError: 'id'\n", {}) == (["KeyError: 'id'"], "pip-audit failed")
    assert vulnerabilities("", "", {}) == (["no answer"], "pip-audit failed")
