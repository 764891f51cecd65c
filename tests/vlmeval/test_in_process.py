"""Aliases with `_Local`: VLMEvalKit's own classes for Qwen, on tiny models. They are written for GPUs."""

import os
import sys

import pandas as pd
import pytest
import tiny_models
import toy_suites
import yaml

from capcurr_plugin.evaluation.responses import read_responses, side_car

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

# What of a GPU the classes, and run.py with several ranks, ask for, each answered by the CPU's counterpart
ON_CPU = """
def no_flash_attention(name):
    def change(module):
        load = getattr(module, name).from_pretrained.__func__

        def loading(cls, *words, **options):
            options.pop("attn_implementation", None)
            return load(cls, *words, **options)

        getattr(module, name).from_pretrained = classmethod(loading)

    return change

def stay_on_cpu(module):
    move = module.BatchFeature.to
    module.BatchFeature.to = lambda self, place, *more, **options: (
        self if place == "cuda" else move(self, place, *more, **options)
    )

def gloo(module):
    begin = module.init_process_group
    module.init_process_group = lambda backend=None, **options: begin("gloo", **options)

when_executed("transformers.modeling_utils", no_flash_attention("PreTrainedModel"))
when_executed("transformers.models.auto.auto_factory", no_flash_attention("_BaseAutoModelClass"))
when_executed("transformers.feature_extraction_utils", stay_on_cpu)
when_executed("torch.distributed", gloo)
"""
NVIDIA_SMI = """#!/bin/sh
case "$*" in *memory.free*) echo "memory.free [MiB]"; echo "1000 MiB";; esac
"""
FAMILIES = {"Qwen2_5_VL_7B": "qwen2_5_vl", "Qwen3_VL_8B": "qwen3_vl"}


def add_nvidia_smi(folder):
    folder.mkdir()
    (folder / "nvidia-smi").write_text(NVIDIA_SMI)
    (folder / "nvidia-smi").chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


@pytest.fixture
def gpu_host(host):
    with (host.folder / "site" / "sitecustomize.py").open("a") as file:
        file.write(ON_CPU)
    host.environment["PATH"] = add_nvidia_smi(host.folder / "bin")
    toy_suites.write_tables(host.data, ["A-OKVQA"])
    return host


def teach_alias(host, backbone):
    checkpoint = tiny_models.make(FAMILIES[backbone], host.folder / "checkpoint")
    tiny_models.teach(checkpoint, "\\boxed{A}")
    own = {"aliases": {f"{backbone}_Staged": {"weights": str(checkpoint), "max_tokens": 32}}}
    (host.folder / "aliases.yaml").write_text(yaml.safe_dump(own))
    host.environment["CAPCURR_ALIASES"] = str(host.folder / "aliases.yaml")
    return checkpoint


@pytest.mark.parametrize(("backbone", "ranks"), [("Qwen2_5_VL_7B", 2), ("Qwen3_VL_8B", 1)])
def test_a_model_in_process_is_scored_like_a_served_one(gpu_host, backbone, ranks):
    host, model = gpu_host, f"{backbone}_Staged_Local"
    checkpoint = teach_alias(host, backbone)
    if ranks > 1:
        python = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", ranks, "--master-port", 29571]
        host.command = [str(word) for word in python] + host.command[1:]
    said = host.run("--data", "A-OKVQA", model=model)
    predictions = host.results(model) / f"{model}_A-OKVQA.tsv"
    assert predictions.exists(), said[-5000:]
    assert list(pd.read_csv(predictions, sep="\t")["prediction"]) == ["A"] * 4
    records = list(read_responses(side_car(predictions)))
    assert [(record.index, record.response) for record in records] == [(str(n), "\\boxed{A}") for n in range(4)]
    assert {record.model for record in records} == {str(checkpoint)}
    assert len({record.run for record in records}) == ranks
    assert toy_suites.headline(predictions.parent, model, "A-OKVQA", "claude-haiku-4.5") == 0.25


def test_what_is_missing_is_told_in_one_line(tmp_path, monkeypatch):
    from vlmeval.config import supported_VLM

    checkpoint = tiny_models.make("qwen3_vl", tmp_path / "checkpoint")
    with pytest.raises(SystemExit, match=r"Qwen3_VL_8B_Staged_Local: VLMEvalKit's Qwen3VLChat needs a GPU"):
        supported_VLM["Qwen3_VL_8B_Staged_Local"]()
    with pytest.raises(SystemExit, match=r"Qwen3_VL_8B_Merged_Local: there are no weights .* CAPCURR_ALIASES"):
        supported_VLM["Qwen3_VL_8B_Merged_Local"]()
    monkeypatch.setenv("PATH", add_nvidia_smi(tmp_path / "bin"))
    with pytest.raises(
        SystemExit, match=r"Qwen3_VL_8B_Staged_Local: FlashAttention2 .* doesn't seem to be installed\.$"
    ):
        supported_VLM["Qwen3_VL_8B_Staged_Local"](model_path=str(checkpoint))
    with pytest.raises(SystemExit, match=r"Qwen3_VL_8B_Staged_Local: .*/nowhere"):
        supported_VLM["Qwen3_VL_8B_Staged_Local"](model_path=str(tmp_path / "nowhere"))
