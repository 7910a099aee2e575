"""The simulation behind what the docs say of the report's claims."""

import csv
import math

import pytest
from headline_false_claims import FIELDS, RATES, main, parser, settings, simulate
from helpers.commands import ROOT

COMMITTED = ROOT / "docs" / "benchmarks" / "headline_claims.csv"


def committed() -> list[dict]:
    lines = COMMITTED.read_text(encoding="utf-8").splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))


def test_the_committed_table_is_of_all_settings_and_says_where_it_is_from():
    rows = committed()
    expected = [tuple(map(str, setting.values())) for setting in settings()]
    assert [tuple(row[name] for name in FIELDS) for row in rows] == expected
    assert "'processor':" in COMMITTED.read_text(encoding="utf-8")


def test_without_an_effect_at_most_five_of_a_hundred_pages_claim_something():
    for row in committed():
        if float(row["effect"]) == 0:
            error = 100 * math.sqrt(0.05 * 0.95 / int(row["pages"]))
            for name in RATES[:3]:
                assert float(row[name]) <= 5 + 3 * error, row
            assert int(row["seeds"]) > 2 or float(row["any_claim_percent"]) == 0


@pytest.mark.parametrize("place", [2, 43, 87, 122])
def test_a_setting_gives_the_same_again(place):
    setting = list(settings())[place] | {"pages": 5, "seed": 1}
    assert simulate(setting) == simulate(setting)


def test_what_is_there_is_not_simulated_again(tmp_path, monkeypatch, capsys):
    few = list(settings())[1:4]
    monkeypatch.setattr("headline_false_claims.settings", lambda: few)
    arguments = parser().parse_args(["--pages", "20", "--output", str(tmp_path / "claims.csv")])
    main(arguments)
    first = (tmp_path / "claims.csv").read_text()
    monkeypatch.setattr("headline_false_claims.simulate", lambda *_: pytest.fail("is there already"))
    main(arguments)
    assert (tmp_path / "claims.csv").read_text() == first
    assert capsys.readouterr().out.count("normal") == 6
