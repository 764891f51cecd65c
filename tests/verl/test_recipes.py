"""The recipes as verl composes them."""

import shlex

import pytest

from capcurr_plugin import recipes

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def configuration():
    import verl  # noqa: F401  loads the plugin
    from hydra import initialize_config_module

    with initialize_config_module("verl.trainer.config", version_base=None):
        yield


@pytest.mark.parametrize("name", recipes.names())
def test_verl_composes_what_is_shown(name):
    from hydra import compose
    from omegaconf import OmegaConf

    config = compose("ppo_trainer", overrides=[f"+capcurr={name}"])
    for path, value in recipes.settings(name).items():
        found = OmegaConf.select(config, path)
        assert (OmegaConf.to_container(found) if OmegaConf.is_config(found) else found) == value, path


def test_a_command_that_is_spelled_out_sets_the_same():
    from hydra import compose
    from omegaconf import OmegaConf

    name = "internvl3_8b/stage2_text_reasoning"
    words = shlex.split(recipes.verl_command(name, expand=True).replace("\\\n", " "))[3:]
    spelled = OmegaConf.to_container(compose("ppo_trainer", overrides=words), resolve=True)
    given = [word for word in words if word.startswith(("data.", "actor_rollout_ref.model.path"))]
    flag = OmegaConf.to_container(compose("ppo_trainer", overrides=[f"+capcurr={name}", *given]), resolve=True)
    assert spelled == flag


def test_a_user_overrides_as_always():
    from hydra import compose

    overrides = [
        "+capcurr=qwen3_vl_8b/stage2_text_reasoning",
        "actor_rollout_ref.actor.optim.lr=5e-7",
        "trainer.nnodes=4",
    ]
    config = compose("ppo_trainer", overrides=overrides)
    assert config.actor_rollout_ref.actor.optim.lr == 5e-7
    assert config.trainer.nnodes == 4
    assert config.actor_rollout_ref.actor.freeze_vision_tower is True


def test_the_settings_have_the_types_that_verl_wants():
    """verl turns its configuration into data classes, which refuse unknown keys."""
    from hydra import compose
    from verl.utils.config import omega_conf_to_dataclass

    config = compose("ppo_trainer", overrides=["+capcurr=internvl3_8b/stage2_text_reasoning"])
    actor = omega_conf_to_dataclass(config.actor_rollout_ref.actor)
    assert actor.freeze_vision_tower is True
    assert (actor.clip_ratio_low, actor.clip_ratio_high, actor.kl_loss_coef) == (0.15, 0.15, 0.05)
    rollout = omega_conf_to_dataclass(config.actor_rollout_ref.rollout)
    assert rollout.n == 5
