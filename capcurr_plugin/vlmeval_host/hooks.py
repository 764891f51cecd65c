"""Where the files of a run are looked after: calls before and after functions of VLMEvalKit. Imports VLMEvalKit."""

import fcntl
import os
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from capcurr_plugin.database import cache_folder
from capcurr_plugin.vlmeval_host import run_files
from capcurr_plugin.vlmeval_host.rebind import rebind


def at_datasets(module: Any) -> None:
    """`vlmeval.dataset`"""
    from capcurr_plugin.vlmeval_host.datasets import DATASETS
    from capcurr_plugin.vlmeval_host.evaluations import wrap_evaluations

    if DATASETS[0] not in module.DATASET_CLASSES:
        for dataset in DATASETS:
            module.DATASET_CLASSES.insert(0, dataset)
            module.SUPPORTED_DATASETS.extend(dataset.DATASET_URL)
            setattr(module, dataset.__name__, dataset)  # by this name a configuration of run.py finds it
        wrap_evaluations(module.DATASET_CLASSES)


def at_files(module: Any) -> None:
    """`vlmeval.smp.file`"""
    rebind(module.prepare_reuse_files, _preparing(module.prepare_reuse_files))
    rebind(module.build_eval_id, _alone_in_its_second(module.build_eval_id))


def at_status(module: Any) -> None:
    """`vlmeval.smp.status_report`"""
    upsert = module.upsert_dataset_status

    @wraps(upsert)
    def upserting(*args: Any, **options: Any) -> Any:
        result = upsert(*args, **options)
        if options.get("status") == "done":
            run_files.release(options["dataset_name"])
        return result

    rebind(upsert, upserting)


def at_inference(module: Any) -> None:
    """`vlmeval.inference`"""
    rebind(module.infer_data_job, _inferring(module.infer_data_job))


def at_pipeline(module: Any) -> None:
    """`vlmeval.inference_api`, which --api-mode uses"""
    pipeline = module.APIEvalPipeline
    start, link = pipeline.__init__, pipeline._create_symlinks

    @wraps(start)
    def starting(self: Any, dataset_configs: Any, *args: Any, **options: Any) -> None:
        for config in dataset_configs:
            run_files.begin(config.dataset_name, Path(config.result_file))
        start(self, dataset_configs, *args, **options)

    @wraps(link)
    def linking(self: Any, dataset_name: str) -> None:
        """It is called when predictions are complete, and again after their evaluation."""
        run_files.end(dataset_name, Path(self.states[dataset_name].result_file))
        link(self, dataset_name)

    pipeline.__init__, pipeline._create_symlinks = starting, linking


def at_client(module: Any) -> None:
    """`vlmeval.api.openai_sdk`: the reply holds what the adapter is not handed."""
    wrapper = module.OpenAISDKWrapper
    generate_inner = wrapper.generate_inner

    @wraps(generate_inner)
    def recording(self: Any, inputs: Any, dataset: str | None = None, **options: Any) -> Any:
        from capcurr_plugin.vlmeval_host.adapter import CapabilityAdapter

        code, answer, reply = generate_inner(self, inputs, dataset=dataset, **options)
        if code == 0 and self.fail_msg not in answer and isinstance(self.adapter, CapabilityAdapter):
            streamed = getattr(self, "stream", False)  # upstream's --stream reads the reply up, piece by piece
            self.adapter.record(dataset, None if streamed else reply.content)
        return code, answer, reply

    wrapper.generate_inner = recording


def _preparing(prepare: Callable[..., Any]) -> Callable[..., Any]:
    """Called before each data set, in both modes, with everything that names its files."""

    @wraps(prepare)
    def preparing(*args: Any, **options: Any) -> Any:
        predictions = Path(options["result_file"])
        killed = run_files.claim(options["dataset_name"], predictions)
        context = prepare(*args, **options)
        source = predictions
        if context.get("source_eval_id"):
            source = Path(options["pred_root_meta"], context["source_eval_id"], predictions.name)
            killed = killed or run_files.mark_of(source)
        if killed is not None:
            run_files.mend(predictions, options["dataset"], killed, source)
        if context.get("prediction_complete") and predictions.exists():
            run_files.end(options["dataset_name"], predictions)
        return context

    return preparing


def _inferring(infer: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(infer)
    def inferring(model: Any, work_dir: str, model_name: str, dataset: Any, *args: Any, **options: Any) -> Any:
        predictions = run_files.predictions_of(work_dir, model_name, dataset.dataset_name)
        run_files.begin(dataset.dataset_name, predictions)
        result = infer(model, work_dir, model_name, dataset, *args, **options)
        if int(os.environ.get("RANK", 0)) == 0:
            run_files.end(dataset.dataset_name, predictions)
        return result

    return inferring


def _alone_in_its_second(build_eval_id: Callable[[], str]) -> Callable[[], str]:
    """VLMEvalKit names a run by the second it starts in: two runs at once would share a folder."""

    @wraps(build_eval_id)
    def alone() -> str:
        folder = cache_folder()  # the user's own: in a folder for all, another user could lay a link under the name
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "run-names.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            name = build_eval_id()
            while build_eval_id() == name:
                time.sleep(0.05)
            return name

    return alone
