"""The freeze, proven by training in verl's engine: FSDP2 on two ranks, FSDP1 on one, all three families."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_models
from conftest import run_on_cpu

from capcurr_plugin.errors import InputError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

TOWERS = {"qwen2_5_vl": "model.visual.", "qwen3_vl": "model.visual.", "internvl": "model.vision_tower."}
TOWER = "actor_rollout_ref.actor.freeze_vision_tower=true"
OWN_SETTINGS = "actor_rollout_ref.actor._target_=capcurr_plugin.verl_host.actor.CapabilityActorConfig"
PROJECTOR = "+actor_rollout_ref.actor.freeze_projector"
PROJECTORS = re.compile(r"\.(merger|deepstack_merger_list|multi_modal_projector)\.")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {family: tiny_models.make(family, folder / family) for family in tiny_models.FAMILIES}


def jobs_of(strategy, models):
    """What is trained in one world, by the name of the job."""
    jobs = {}
    for family, model in models.items():
        jobs[f"{family} nothing"] = [model]
        jobs[f"{family} tower"] = [model, TOWER]
        jobs[f"{family} tower without projector"] = [model, TOWER, OWN_SETTINGS, f"{PROJECTOR}=false"]
        jobs[f"{family} projector"] = [model, OWN_SETTINGS, f"{PROJECTOR}=true"]
    pattern = "+actor_rollout_ref.actor.freeze_parameters='layers\\.0\\.'"
    jobs["qwen3_vl pattern"] = [models["qwen3_vl"], OWN_SETTINGS, pattern]
    strategy = f"actor_rollout_ref.actor.strategy={strategy}"
    return {name: {"model": str(model), "overrides": [strategy, *more]} for name, (model, *more) in jobs.items()}


@pytest.fixture(scope="module", params=["fsdp2", "fsdp"])
def trained(request, models, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "jobs.json").write_text(json.dumps(jobs_of(request.param, models)))
    ranks = "2" if request.param == "fsdp2" else "1"
    script = Path(__file__).with_name("engine_worlds.py")
    said = run_on_cpu(script, folder / "jobs.json", folder / "results.json", ranks)
    return {"results": json.loads((folder / "results.json").read_text()), "said": said}


def of_tower(family, names):
    return {name for name in names if name.startswith(TOWERS[family])}


@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_without_the_flag_everything_trains(trained, family):
    result = trained["results"][f"{family} nothing"]
    assert result["same"] == []
    assert len(of_tower(family, result["changed"])) > 20


@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_a_frozen_tower_keeps_every_bit_and_all_else_trains(trained, family):
    result = trained["results"][f"{family} tower"]
    assert len(result["same"]) > 20
    assert set(result["same"]) == of_tower(family, result["same"] + result["changed"])
    assert len(result["changed"]) > 20
    assert set(result["trainable"]) == set(result["changed"])


@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_the_optimizer_keeps_nothing_of_what_is_frozen(trained, family):
    result = trained["results"][f"{family} tower"]
    assert set(result["with_state"]) == set(result["changed"])


def test_a_resumed_run_goes_on_bit_by_bit(trained):
    for name, result in trained["results"].items():
        assert result["resume_differs"] == [], name


def test_what_trains_is_said(trained):
    assert re.search(r"capcurr: [\d,]+ of [\d,]+ parameters train; nothing is frozen", trained["said"])
    assert re.search(r"capcurr: [\d,]+ of [\d,]+ parameters train; frozen: model.visual \([\d,]+\)", trained["said"])


def test_the_projector_goes_its_own_way(trained):
    results = trained["results"]
    for family in tiny_models.FAMILIES:
        alone = results[f"{family} projector"]
        assert len(alone["same"]) >= 4
        assert all(PROJECTORS.search(name) for name in alone["same"])
        assert not any(PROJECTORS.search(name) for name in alone["changed"])
        spared = results[f"{family} tower without projector"]
        assert not any(PROJECTORS.search(name) for name in spared["same"])
        assert set(spared["same"]) == {
            name for name in of_tower(family, spared["same"] + spared["changed"]) if not PROJECTORS.search(name)
        }


def test_a_pattern_freezes_what_it_matches(trained):
    result = trained["results"]["qwen3_vl pattern"]
    assert len(result["same"]) > 5
    assert all("layers.0." in name for name in result["same"])
    assert not any("layers.0." in name for name in result["changed"])


# What cannot be frozen


@pytest.fixture(scope="module")
def model(models):
    from transformers import AutoModelForImageTextToText

    return AutoModelForImageTextToText.from_pretrained(models["internvl"])


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"parameters": "("}, r"freeze_parameters='\(' is no regular expression"),
        ({"parameters": "no_such_layer"}, "matches no parameter; there are model.vision_tower"),
        ({"parameters": "."}, "every parameter of the model is frozen"),
    ],
)
def test_what_cannot_be_frozen_is_one_clear_line(model, asked, message):
    from capcurr_plugin.verl_host.freeze import Freeze, freeze

    with pytest.raises(InputError, match=message):
        freeze(model, Freeze(**asked))


def test_a_model_without_a_vision_tower_is_told():
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from capcurr_plugin.verl_host.freeze import Freeze, freeze

    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = Qwen2ForCausalLM(Qwen2Config(vocab_size=32, num_key_value_heads=2, **sizes))
    with pytest.raises(InputError, match="Qwen2ForCausalLM should have one vision tower, has none"):
        freeze(text, Freeze(vision_tower=True))
    with pytest.raises(InputError, match="no projector was found in Qwen2ForCausalLM"):
        freeze(text, Freeze(projector=True))


def test_the_flag_of_verls_own_settings_reaches_the_engine():
    """On the stock command line, without a recipe."""
    code = (
        "import verl\n"
        "from hydra import compose, initialize_config_module\n"
        "from verl.utils.config import omega_conf_to_dataclass\n"
        "with initialize_config_module('verl.trainer.config', version_base=None):\n"
        "    config = compose('ppo_trainer', ['actor_rollout_ref.actor.freeze_vision_tower=true',\n"
        "        'actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=1', 'actor_rollout_ref.rollout.name=vllm'])\n"
        "actor = omega_conf_to_dataclass(config.actor_rollout_ref.actor)\n"
        "print(actor.engine.freeze)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=dict(os.environ), capture_output=True, text=True)
    assert "Freeze(vision_tower=True, projector=None, parameters=None)" in done.stdout, done.stderr


def test_our_engine_stands_for_the_platform_at_hand():
    code = (
        "import os, sys\n"
        "os.environ['VERL_ENGINE_DEVICE'], os.environ['VERL_ENGINE_VENDOR'] = sys.argv[1:]\n"
        "import verl\n"
        "from verl.workers.engine import EngineRegistry\n"
        "for backend in ('fsdp', 'fsdp2'):\n"
        "    print(EngineRegistry.get_engine_cls('language_model', backend).__name__)\n"
    )
    for platform, device, engine in (("cpu", "cpu", "CpuEngine"), ("nvidia", "cuda", "CapabilityEngine")):
        environment = os.environ | {"VERL_PLATFORM": platform}
        done = subprocess.run(
            [sys.executable, "-c", code, device, platform], env=environment, capture_output=True, text=True
        )
        assert done.stdout.split() == [engine, engine], done.stderr
