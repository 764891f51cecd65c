"""A planted world: the kind of every error is known, the judge errs at known rates, and humans audit samples. What the
command says of the truth is right as often as it claims; what the judge says is not."""

import json
import random

import local_servers as servers
import numpy as np
import pytest
from planted_errors import erring, kinds_for, plant

from capcurr_plugin.attribution.audits import Choice, Header, OpenAudit, Stratum
from capcurr_plugin.attribution.kinds import KINDS
from capcurr_plugin.attribution.records import read_records, summary_path
from capcurr_plugin.attribution.statistics import Rate, prediction_powered, rogan_gladen
from capcurr_plugin.cli import main
from capcurr_plugin.statistics import wilson_interval

ERRORS, AUDITED, SIMULATIONS = 1_200, 150, 1_000


def confusion():
    """It sees perception where there is none in two of five cases, and misses it in one of ten."""
    others = [kind for kind in KINDS if kind != "perception"]
    rates = {kind: {kind: 0.6, "perception": 0.4} for kind in others}
    return rates | {"perception": {"perception": 0.9} | dict.fromkeys(others, 0.1 / len(others))}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The records of one run of the command, and the truth."""
    folder = tmp_path_factory.mktemp("planted")
    kinds = kinds_for(ERRORS, share=0.5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CAPCURR_CACHE", str(folder / "cache"))
        patch.setenv("LMUData", str(folder / "lmu"))
        patch.setenv("ANTHROPIC_API_KEY", "k")
        (folder / "lmu").mkdir()
        plant(folder / "work", folder / "lmu", "M", kinds)
        with servers.serving(erring(confusion())) as server:
            patch.setenv("ANTHROPIC_BASE_URL", server.url)
            words = ["attribute", folder / "work", folder / "out.jsonl", "--resamples", "500"]
            assert main([*map(str, words)]) == 0
            records = list(read_records(folder / "out.jsonl"))
            yield folder, records, {record.id: kinds[int(record.index)] for record in records}


@pytest.mark.slow
def test_over_a_thousand_audits_corrected_shares_cover_the_truth_and_the_uncorrected_one_does_not(world):
    """Each time, wrong answers are drawn from the world, an audit from those, and one from others."""
    _, records, truth = world
    pairs = [(record.kind == "perception", truth[record.id] == "perception") for record in records]
    true_share = sum(right for _, right in pairs) / ERRORS
    covered = dict.fromkeys(("as the judge says", "prediction-powered", "Rogan-Gladen"), 0)
    dice = random.Random(7)
    for _ in range(SIMULATIONS):
        drawn = dice.choices(pairs, k=ERRORS)
        audit, elsewhere = drawn[:AUDITED], dice.choices(pairs, k=AUDITED)
        said = [said for said, _ in drawn]
        hits, alarms = elsewhere.count((True, True)), elsewhere.count((True, False))
        planted = hits + elsewhere.count((False, True))
        rates = Rate(hits, planted), Rate(AUDITED - planted - alarms, AUDITED - planted)
        ends = {
            "as the judge says": wilson_interval(sum(said), ERRORS, 0.95),
            "prediction-powered": prediction_powered(said, *zip(*audit, strict=True))[1:],
            "Rogan-Gladen": rogan_gladen(Rate(sum(said), ERRORS), *rates)[1:],
        }
        for method, (low, high) in ends.items():
            covered[method] += low <= true_share <= high
    shares = {method: count / SIMULATIONS for method, count in covered.items()}
    assert shares.pop("as the judge says") == 0.0
    assert all(0.93 <= share <= 0.97 for share in shares.values()), shares


def audit_file(folder, records, truth, sample, design="simple"):
    strata = {"all": Stratum(len(records), len(sample))}
    path = folder / "out_audit_human.jsonl"
    path.unlink(missing_ok=True)
    audit = OpenAudit(path)
    audit.begin(Header("human", "out.jsonl", records[0].judge, 1, 1, design, strata))
    for one in sample:
        audit.keep(Choice(one.id, one.model, one.benchmark, one.index, "all", truth[one.id], "", 1.0, "now"))
    audit.close()
    return path


def test_the_command_corrects_its_shares_by_an_audit(world, monkeypatch, capsys):
    folder, records, truth = world
    path = audit_file(folder, records, truth, random.Random(3).sample(records, 300))
    words = ["attribute", folder / "work", folder / "out.jsonl", "--resamples", "500", "--audit", path]
    assert main([*map(str, words), "--judge-accuracy", "0.75"]) == 0
    corrected = json.loads(summary_path(folder / "out.jsonl").read_text())["models"]["M"]["corrected"]
    true_share = sum(kind == "perception" for kind in truth.values()) / ERRORS
    methods = {one["method"]: one["kinds"] for one in corrected["methods"]}
    assert methods.keys() == {"audited shares", "prediction-powered", "Rogan-Gladen", "Bayes", "unmixed", "bounds"}
    for method, kinds in methods.items():
        value, low, high = kinds["perception"]
        assert low <= true_share <= high and (low <= value <= high), method
    spread = {method: kinds["perception"][2] - kinds["perception"][1] for method, kinds in methods.items()}
    assert max(spread["audited shares"], spread["prediction-powered"]) < spread["bounds"] / 2
    assert corrected["audit"]["audited"] == 300
    text = capsys.readouterr().out
    assert "as the judge says" in text and "prediction-powered: nothing: these verdicts were audited" in text
    assert np.isclose(sum(cell[0] for cell in methods["unmixed"].values()), 1)
