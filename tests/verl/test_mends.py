"""What is put right in verl: each test shows verl's own at fault, so that it fails when verl mends it."""

import os
import subprocess
import sys

import pytest

from capcurr_plugin.ports import quiet_ports

pytestmark = pytest.mark.slow

POSITIONS = """
import torch
from tensordict import TensorDict
from verl.utils import tensordict_utils as tu
for lengths in ([7, 9], [8, 8], [8], [8, 8, 8]):
    samples = [torch.arange(4 * length).view(4, length) for length in lengths]
    nested = torch.nested.as_nested_tensor(samples, layout=torch.jagged)  # as verl's queue hands them out
    data = TensorDict({"position_ids": nested}, batch_size=len(lengths))
    try:
        tu.maybe_fix_3d_position_ids(data)
        out = tu.index_select_tensor_dict(data, torch.arange(len(lengths)))["position_ids"].unbind()
        right = all(torch.equal(one, other) for one, other in zip(out, samples, strict=True))
    except Exception:
        right = False
    print("right" if right else "wrong")
"""

TEXT_BATCH = """
import sys, torch, transformers
from transformers import AutoModelForImageTextToText
from verl.models.transformers.monkey_patch import apply_monkey_patch
model = AutoModelForImageTextToText.from_pretrained(sys.argv[1], attn_implementation="sdpa")
ids = torch.tensor([[5, 6, 7, 8]])
expected = model(input_ids=ids).logits
apply_monkey_patch(model, use_remove_padding=False)
positions = torch.arange(4).expand(4, 1, 4)
try:
    got = model(input_ids=ids, attention_mask=torch.ones_like(ids), position_ids=positions, use_cache=False).logits
    print("right" if torch.allclose(got, expected, atol=1e-5) else "wrong")
except AttributeError:
    print("wrong")
"""

PROCESS_GROUP = """
import os, torch
os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
import verl
from verl.plugin.platform import set_platform
import capcurr_plugin.verl_host.cpu.platform as ours
set_platform(ours.CpuPlatform())
from verl.utils.distributed import initialize_global_process_group_ray
try:
    initialize_global_process_group_ray()
    print("right")
except Exception as error:
    print("wrong")
"""

MASTER_PORT = """
import ray
from ray.util.placement_group import placement_group
from verl.single_controller.ray.base import RayWorkerGroup
from capcurr_plugin.ports import GIVEN_OUT
ray.init(num_cpus=1, include_dashboard=False)
group = object.__new__(RayWorkerGroup)
group._master_addr = group._master_port = None
group._get_master_addr_port(placement_group([{"CPU": 1}]))
lowest, highest = map(int, GIVEN_OUT.read_text().split())
print("wrong" if lowest <= int(group._master_port) <= highest else "right")
"""

PROCESSOR = """
import sys
from verl.utils import hf_processor
print(type(hf_processor(sys.argv[1])).__name__)
"""


def run(code, *arguments, plugin, platform="cpu"):
    """In a process of its own, with the plugin or without: what it prints last."""
    environment = os.environ | {
        "HF_HUB_OFFLINE": "1",
        "VERL_USE_EXTERNAL_PLUGINS": "auto" if plugin else "none",
        "VERL_PLATFORM": platform if plugin else "nvidia",
    }
    done = subprocess.run(
        [sys.executable, "-c", "import verl\n" + code, *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.stdout, done.stderr[-3000:]
    return done.stdout.split()


def test_position_ids_of_samples_of_one_length():
    assert "wrong" in run(POSITIONS, plugin=False)
    assert run(POSITIONS, plugin=True) == ["right"] * 4


def test_a_batch_of_text_alone_in_qwen2_5_vl(tmp_path):
    import tiny_models

    model = tiny_models.make("qwen2_5_vl", tmp_path)
    assert run(TEXT_BATCH, model, plugin=False)[-1] == "wrong"
    assert run(TEXT_BATCH, model, plugin=True)[-1] == "right"


def test_the_process_group_of_the_cpu():
    assert run(PROCESS_GROUP, plugin=False)[-1] == "wrong"
    assert run(PROCESS_GROUP, plugin=True)[-1] == "right"


def test_the_port_where_workers_meet():
    assert run(MASTER_PORT, plugin=False)[-1] == "wrong"
    assert run(MASTER_PORT, plugin=True)[-1] == ("right" if quiet_ports() else "wrong")  # where all are given out


def test_the_processor_of_internvl(tmp_path):
    import tiny_models

    model = tiny_models.make("internvl", tmp_path)
    assert run(PROCESSOR, model, plugin=False)[-1] == "NoneType"
    assert run(PROCESSOR, model, plugin=True)[-1] == "InternVLProcessor"


def test_a_later_verl_is_left_alone(monkeypatch):
    from capcurr_plugin.verl_host import mends

    assert mends.needed()
    monkeypatch.setattr(mends, "version", lambda name: "0.10.0")
    assert not mends.needed()
