"""Trains tiny models in verl's engine, without the trainer around it, in one process for each rank.

python engine_worlds.py JOBS.json RESULTS.json RANKS
"""

import json
import os
import sys
from pathlib import Path


def work(rank, jobs_file, results_file, ranks, port):
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": ranks, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    import datetime

    import torch
    import verl  # noqa: F401  loads the plugin

    torch.set_num_threads(1)
    torch.distributed.init_process_group("cpu:gloo", timeout=datetime.timedelta(seconds=120))
    _let_fsdp1_run_on_cpu()
    results = {}
    for name, job in json.loads(Path(jobs_file).read_text()).items():
        results[name] = _run(job, Path(results_file).with_name(name.replace(" ", "_")))
    if rank == 0:
        Path(results_file).write_text(json.dumps(results))
    torch.distributed.destroy_process_group()


def _let_fsdp1_run_on_cpu():
    """verl lets rank 0 hand the weights to the others, which FSDP1 does between GPUs only, and moves them between GPU
    and CPU; one rank has no others, and here they are where they should be."""
    from verl.workers.engine.fsdp import transformer_impl

    fsdp = transformer_impl.FSDP

    class Alone(fsdp):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **{**kwargs, "sync_module_states": False})

    transformer_impl.FSDP = Alone
    transformer_impl.load_fsdp_model_to_gpu = transformer_impl.offload_fsdp_model_to_cpu = lambda module: None


def _run(job, folder):
    import torch

    engine = _engine(job)
    before = _tensors(engine)
    _train(engine, job["model"], steps=2)
    engine.save_checkpoint(str(folder), global_step=2)
    _train(engine, job["model"], steps=1)
    going_on = _tensors(engine)
    resumed = _engine(job)
    resumed.load_checkpoint(str(folder), del_local_after_load=False)
    _train(resumed, job["model"], steps=1)
    after = _tensors(resumed)
    return {
        "same": sorted(name for name in before if torch.equal(before[name], after[name])),
        "changed": sorted(name for name in before if not torch.equal(before[name], after[name])),
        "resume_differs": sorted(name for name in after if not torch.equal(going_on[name], after[name])),
        "with_state": _names_with_state(resumed),
        "trainable": sorted(_clean(name) for name, p in resumed.module.named_parameters() if p.requires_grad),
    }


def _engine(job):
    from hydra import compose, initialize_config_module
    from verl.utils.config import omega_conf_to_dataclass
    from verl.workers.engine import EngineRegistry

    overrides = ["+capcurr=reward", "+capcurr/platform=cpu", *job["overrides"]]
    overrides += [f"actor_rollout_ref.model.path={job['model']}", "actor_rollout_ref.actor.optim.lr=1e-2"]
    overrides += [
        "actor_rollout_ref.actor.optim.total_training_steps=10",
        "actor_rollout_ref.rollout.name=transformers",
    ]
    overrides += ["actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=1"]
    with initialize_config_module("verl.trainer.config", version_base=None):
        config = compose("ppo_trainer", overrides=overrides).actor_rollout_ref
    actor = omega_conf_to_dataclass(config.actor)
    model = omega_conf_to_dataclass(config.model)
    engine = EngineRegistry.new(
        model_type="language_model",
        backend=actor.engine.strategy,
        model_config=model,
        engine_config=actor.engine,
        optimizer_config=actor.optim,
        checkpoint_config=actor.checkpoint,
    )
    engine.initialize()
    return engine


def _train(engine, model, steps):
    """One rank sees an image, the other only text, as in a real batch of mixed rows."""
    import torch

    for _ in range(steps):
        engine.optimizer_zero_grad()
        logits = engine.module(**_inputs(engine, model), use_cache=False).logits
        logits.float().logsumexp(-1).mean().backward()
        engine.optimizer_step()
        torch.distributed.barrier()


def _inputs(engine, model):
    import torch
    from PIL import Image
    from verl.utils import hf_processor

    processor = hf_processor(model)
    image = torch.distributed.get_rank() == 0
    parts = ([{"type": "image"}] if image else []) + [{"type": "text", "text": "How many?"}]
    text = processor.apply_chat_template(
        [{"role": "user", "content": parts}], add_generation_prompt=True, tokenize=False
    )
    images = [Image.new("RGB", (84, 84), (200, 30, 30))] if image else None
    inputs = dict(processor(text=[text], images=images, return_tensors="pt"))
    inputs.pop("mm_token_type_ids", None)
    length = inputs["input_ids"].shape[1]
    if hasattr(processor, "get_rope_index"):
        inputs["position_ids"] = torch.arange(length).expand(4, 1, length)
    return inputs


def _tensors(engine):
    return {name: tensor.detach().clone() for name, tensor in engine.get_per_tensor_param()[0]}


def _names_with_state(engine):
    names = {id(parameter): _clean(name) for name, parameter in engine.module.named_parameters()}
    return sorted(names[id(parameter)] for parameter in engine.optimizer.state if id(parameter) in names)


def _clean(name):
    return name.replace("_fsdp_wrapped_module.", "")


if __name__ == "__main__":
    import torch.multiprocessing

    from capcurr_plugin.ports import free_port

    torch.multiprocessing.spawn(work, args=(*sys.argv[1:4], free_port()), nprocs=int(sys.argv[3]))
