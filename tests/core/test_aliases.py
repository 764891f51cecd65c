"""The file of aliases: the published ones, a user's own, and where their servers are."""

import json
from pathlib import Path

import pytest
from capcurr_plugin.endpoints import api_root

from capcurr_plugin.errors import InputError
from capcurr_plugin.evaluation.aliases import load_aliases, own_checkpoint
from capcurr_plugin.evaluation.suites import load_suites
from capcurr_plugin.prompt import UNIFIED_PROMPT

BACKBONES = {
    "Qwen2_5_VL_7B": ("qwen2_5_vl_7b", "vllm"),
    "Qwen3_VL_8B": ("qwen3_vl_8b", "vllm"),
    "InternVL3_8B": ("internvl3_8b", "lmdeploy"),
    "InternVL3_5_8B": ("internvl3_5_8b", "lmdeploy"),
}
PORTS = {"Base": 23333, "Staged": 23340, "Merged": 23350}


def test_the_published_aliases():
    aliases = load_aliases(environment={})
    assert list(aliases) == [f"{backbone}_{kind}" for kind in PORTS for backbone in BACKBONES]
    for kind, first in PORTS.items():
        for offset, (backbone, (name, engine)) in enumerate(BACKBONES.items()):
            alias = aliases[f"{backbone}_{kind}"]
            assert (alias.port, alias.backbone.name, alias.backbone.engine) == (first + offset, name, engine)
            assert alias.api_base == f"http://127.0.0.1:{first + offset}/v1"
            assert alias.system_prompt == (None if kind == "Base" else UNIFIED_PROMPT)
            assert (alias.weights is not None) == (kind == "Staged")
            assert (alias.temperature, alias.max_tokens) == (0, 16384)


@pytest.mark.parametrize(
    "given",
    ["http://h:1", "http://h:1/", "http://h:1/v1", "http://h:1/v1/", "http://h:1/v1/chat/completions", " http://h:1 "],
)
def test_a_server_is_found_however_much_of_its_address_is_given(given):
    assert api_root(given) == "http://h:1/v1"
    assert api_root("https://h/engines/v1/chat/completions") == "https://h/engines/v1"


@pytest.mark.parametrize("given", ["h:1", "", "ftp://h", "http://", "http:// h/v1", "file:///etc/passwd"])
def test_what_is_no_address_is_told(given):
    with pytest.raises(InputError, match="is no server's address; give one such as"):
        api_root(given)


def test_one_address_for_all_or_one_for_each():
    everywhere = load_aliases(environment={"CAPCURR_API_BASE": "http://h:1"})
    assert {alias.api_base for alias in everywhere.values()} == {"http://h:1/v1"}
    named = "Qwen3_VL_8B_Staged=http://a:1, InternVL3_8B_Base=http://b:2/v1"
    aliases = load_aliases(environment={"CAPCURR_API_BASE": named})
    assert aliases["Qwen3_VL_8B_Staged"].api_base == "http://a:1/v1"
    assert aliases["InternVL3_8B_Base"].api_base == "http://b:2/v1"
    assert aliases["Qwen3_VL_8B_Base"].api_base == "http://127.0.0.1:23334/v1"
    with pytest.raises(InputError, match="CAPCURR_API_BASE: 'Mine' is no alias"):
        load_aliases(environment={"CAPCURR_API_BASE": "Mine=http://a:1"})


def test_a_users_own_file_adds_aliases_and_changes_ours(tmp_path):
    own = tmp_path / "aliases.yaml"
    own.write_text(
        json.dumps(
            {
                "aliases": {
                    "Mine": {
                        "backbone": "internvl3_8b",
                        "prompt": "user",
                        "api_base": "http://h:9",
                        "max_pixels": 500000,
                    },
                    "Qwen3_VL_8B_Merged": {"weights": "/my/checkpoint"},
                }
            }
        )
    )
    for aliases in (load_aliases(own, {}), load_aliases(environment={"CAPCURR_ALIASES": str(own)})):
        assert (aliases["Mine"].api_base, aliases["Mine"].prompt) == ("http://h:9/v1", "user")
        assert aliases["Mine"].max_pixels == 500000
        assert (aliases["Qwen3_VL_8B_Merged"].weights, aliases["Qwen3_VL_8B_Merged"].port) == ("/my/checkpoint", 23351)
        assert len(aliases) == 13


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"prompt": "none"}, "has neither api_base nor a port"),
        ({"prompt": "none", "port": 0}, "has neither api_base nor a port"),
        ({"prompt": "none", "port": 1, "backbone": "gpt"}, "backbone is 'gpt'; use one of qwen2_5_vl_7b, "),
        ({"port": 1, "backbone": "qwen3_vl_8b"}, "prompt is None; use one of user, system, none"),
        ({"port": 1, "backbone": "qwen3_vl_8b", "prompt": "none", "max_token": 1}, "unknown setting 'max_token'"),
        ({"port": 1, "backbone": "qwen3_vl_8b", "prompt": "none", "max_tokens": 0}, "max_tokens is 0"),
        ({"port": 1, "backbone": "qwen3_vl_8b", "prompt": "none", "temperature": "hot"}, "temperature is 'hot'"),
        ({"port": 1, "backbone": "qwen3_vl_8b", "prompt": "none", "weights": 1}, "weights is 1; use a text"),
        ({"api_base": "nowhere", "backbone": "qwen3_vl_8b", "prompt": "none"}, "is no server's address"),
    ],
)
def test_a_wrong_setting_is_one_line(tmp_path, settings, told):
    own = tmp_path / "aliases.yaml"
    own.write_text(json.dumps({"aliases": {"Mine": settings}}))
    with pytest.raises(InputError, match=told) as raised:
        load_aliases(own, {})
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("aliases: {a/b: {port: 1}}", "a name is letters, digits"),
        ("aliases: {../x: {port: 1}}", "a name is letters, digits"),
        ("aliases: {x: 1}", "'x' must be a name with settings"),
        ("models: {}", "must hold `aliases:` and nothing else"),
        ("[]", "must hold a mapping"),
        ("aliases: {", "is no YAML"),
        ("aliases: !!python/object/apply:os.system [ls]", "is no YAML"),
        ("#" * (1 << 20) + "\n", "has over 1,048,576 bytes"),
    ],
)
def test_a_file_that_is_none_is_one_line(tmp_path, text, told):
    own = tmp_path / "aliases.yaml"
    own.write_text(text)
    with pytest.raises(InputError, match=told):
        load_aliases(own, {})
    with pytest.raises(InputError, match="cannot be read"):
        load_aliases(Path(tmp_path, "not there"), {})


def test_an_own_checkpoint_is_asked_as_its_backbones_trained_model():
    alias = own_checkpoint(load_aliases(environment={}), "Mine", "internvl3_5_8b", weights="/my/checkpoint")
    assert (alias.name, alias.prompt, alias.weights, alias.backbone.engine) == (
        "Mine",
        "system",
        "/my/checkpoint",
        "lmdeploy",
    )
    with pytest.raises(InputError, match="backbone 'llama' is not known; choose one of internvl3_5_8b, "):
        own_checkpoint(load_aliases(environment={}), "Mine", "llama")


def test_the_suites_are_the_published_ones():
    suites = load_suites()
    main, extended = suites.benchmarks("main"), suites.benchmarks("extended")
    assert (len(main), len(extended)) == (8, 10)
    assert suites.benchmarks("all") == main + extended
    assert len(suites.benchmarks("curriculum")) == 7
    assert suites.chosen(["main", "POPE", "MMMU_DEV_VAL"]) == [*main, "MMMU_DEV_VAL"]
    with pytest.raises(InputError, match="is no name of a data set; suites are main, extended, curriculum, all"):
        suites.chosen(["../main"])
