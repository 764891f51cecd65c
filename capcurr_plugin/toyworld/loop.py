"""The loop that the demo goes through: data, three stages, scores, errors, one page. Each step runs the commands that
a real study would run, on a model and a world small enough for two cores."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from capcurr_plugin.atomic import remove_parts, replacing, replacing_folder
from capcurr_plugin.attribution.records import read_records
from capcurr_plugin.database import cache_folder
from capcurr_plugin.rows import CAPABILITIES
from capcurr_plugin.statistics import wilson_interval
from capcurr_plugin.toyworld.lessons import Mix
from capcurr_plugin.toyworld.running import Step, Workshop, clock, told
from capcurr_plugin.toyworld.world import CAPTIONS, TABLES, Sizes, write_world

BACKBONE = "qwen2_5_vl_7b"  # whose recipe and whose family of models the demo uses
FAMILY = "qwen2_5_vl"
SERVED, BASE = "toy", "Toy_Base"
JUDGE = "rules-oracle"
RESPONSE_TOKENS = 32  # most that a response takes; the longest right one has 21


@dataclass(frozen=True)
class Training:
    """How the recipe's stages are made small."""

    steps: int  # of a stage; merged has those of all three
    rows: int = 16  # of a step
    samples: int = 8  # responses to each row
    rate: float = 3e-4

    def seconds(self, recipe: str, validated: int) -> float:
        """On 2 cores, with so many validation rows: verl's starts, the validations, and the steps."""
        starts = 1 if recipe == "merged" else len(CAPABILITIES)
        validations = starts + 2 * len(CAPABILITIES)
        return 40 * starts + 0.027 * validated * validations + 4.4 * self.steps * len(CAPABILITIES)

    def words(self, recipe: str) -> list[str]:
        steps = self.steps * (len(CAPABILITIES) if recipe == "merged" else 1)
        return [
            f"data.train_batch_size={self.rows}",
            "data.val_batch_size=256",
            "data.max_prompt_length=160",
            f"data.max_response_length={RESPONSE_TOKENS}",
            "data.min_pixels=null",
            "data.max_pixels=null",
            f"actor_rollout_ref.actor.ppo_mini_batch_size={self.rows}",
            f"actor_rollout_ref.actor.optim.lr={self.rate}",
            f"actor_rollout_ref.rollout.n={self.samples}",
            "trainer.total_epochs=1000",
            f"trainer.total_training_steps={steps}",
            f"trainer.save_freq={max(1, self.steps // 2)}",
            f"trainer.test_freq={max(1, self.steps // 2)}",
        ]


@dataclass(frozen=True)
class Settings:
    """All that decides what the demo comes to."""

    seeds: Sequence[int]  # of the training; each a run of each recipe
    recipes: Sequence[str]
    sizes: Sizes
    lessons: int  # batches of the warm start
    mix: Mix
    answers: int  # to each row, for its pass rate
    training: Training
    world_seed: int = 1

    def record(self) -> dict[str, Any]:
        return asdict(self)


def runs(settings: Settings) -> list[tuple[str, int]]:
    return [(recipe, seed) for seed in settings.seeds for recipe in settings.recipes]


def model_name(recipe: str, seed: int) -> str:
    return f"Toy_{recipe.capitalize()}" + (f"_{seed}" if seed != 1 else "")


@dataclass(frozen=True)
class SecondJudge:
    """A real one, beside the oracle."""

    name: str
    max_usd: float


@dataclass
class Loop:
    workshop: Workshop
    settings: Settings
    second_judge: SecondJudge | None = None

    @property
    def data(self) -> Path:
        return self.workshop.folder / "data"

    def steps(self) -> Iterator[tuple[Step, Callable[[], None]]]:
        """In their order, with the seconds that they took on 2 cores."""
        settings, trained = self.settings, runs(self.settings)
        yield Step("world", "Draw a world of which everything is known: pictures, captions, questions", 2), self.world
        what = "Teach a tiny Qwen2.5-VL to speak, with three faults left for training to undo"
        yield Step("warm_start", what, 10 + 0.065 * settings.lessons), self.warm_start
        yield Step("questions", "Write a question from each caption, by rules over the scene", 3), self.questions
        what = "Keep the questions that need eyes, and measure pass rates"
        answers = settings.sizes.rows * (1 + settings.answers)
        yield Step("measure", what, 15 + 0.0082 * answers), self.measure
        for recipe, seed in trained:
            what = f"Train {recipe}, seed {seed}, in verl: GRPO on the CPU"
            seconds = settings.training.seconds(recipe, settings.sizes.validated)
            yield Step(f"train_{recipe}_{seed}", what, seconds), lambda r=recipe, s=seed: self.train(r, s)
        what = "Score all models on held-out scenes, by VLMEvalKit's own run.py"
        yield Step("score", what, (12 + 0.125 * settings.sizes.test) * (1 + len(trained))), self.score
        yield Step("results", "Tabulate the scores with intervals, and compare the models", 5), self.results
        yield Step("attribute", "Find the first error of each wrong answer; an oracle judges", 10), self.attribute
        beside = ""
        if judge := self.second_judge:
            beside = f"_beside_{judge.name}"
            what = f"Have {judge.name} look at the same, for at most ${judge.max_usd:g}"
            yield Step(f"attribute{beside}", what, 60), lambda: self.attribute_again(judge)
        yield Step(f"report{beside}", "Draw all of it on one page", 10), self.report

    def run(self) -> None:
        steps = list(self.steps())
        left = [step for step, _ in steps if step.name not in self.workshop.record.done]
        print(f"{len(left)} of {len(steps)} steps to do, about {clock(sum(step.seconds for step in left))} on 2 cores")
        for number, (step, do) in enumerate(steps, 1):
            if step.name in self.workshop.record.done:
                print(f"[{number}/{len(steps)}] {step.what}: done before", flush=True)
                continue
            with told(step, number, len(steps), self.workshop):
                do()

    # Data

    def world(self) -> None:
        self.data.mkdir(exist_ok=True)
        write_world(self.data, self.settings.world_seed, self.settings.sizes)

    @property
    def base(self) -> Path:
        return self.workshop.folder / "base"

    def warm_start(self) -> None:
        """Kept in the cache, under what it is made of, so that another demo finds it."""
        settings = self.settings
        made_of = [asdict(settings.mix), settings.lessons, settings.world_seed, FAMILY, _source()]
        key = hashlib.blake2b(json.dumps(made_of).encode(), digest_size=8).hexdigest()
        kept = cache_folder() / "toyworld" / key
        if kept.exists():
            print(f"      taken from {kept}", flush=True)
            _copy(kept, self.base)
            return
        remove_parts(self.base)
        words = ("-m", "capcurr_plugin.toyworld.warm_start", self.base, "--family", FAMILY)
        more = ("--seed", settings.world_seed, "--steps", settings.lessons)
        self.workshop.run("verl", "warm_start", *words, *more, "--mix", json.dumps(asdict(settings.mix)))
        kept.parent.mkdir(parents=True, exist_ok=True)
        _copy(self.base, kept)

    def questions(self) -> None:
        with self.workshop.serving("core", "writer", "capcurr_plugin.toyworld.rules", "writer") as url:
            self.workshop.capcurr(
                "core",
                "synthesize",
                *("data", "synthesize", self.data / CAPTIONS, self.data / "questions.jsonl", "--api-base", url),
            )

    def measure(self) -> None:
        """The model answers itself: first from the picture or the caption alone, then as it is trained."""
        filtered = self.data / "needs_eyes.jsonl"
        with self._model(self.base) as url:
            words = ("data", "filter", self.data / "questions.jsonl", filtered, "--model", f"{SERVED}={url}")
            # Drawn, not the likeliest: of two things that the model takes for each other, rows of both are kept.
            words = (*words, "--temperature", 1, "--max-tokens", RESPONSE_TOKENS)
            self.workshop.capcurr("core", "filter", *words)
            for rows in (filtered, *(self.data / f"{name}_questions.jsonl" for name in CAPABILITIES[1:])):
                words = ("data", "pass-rate", rows, _measured(rows), "--api-base", url, "-k", self.settings.answers)
                self.workshop.capcurr("core", "pass_rate", *words)
        rows = [_measured(filtered), *(_measured(self.data / f"{name}_questions.jsonl") for name in CAPABILITIES[1:])]
        self.workshop.capcurr(
            "core",
            "order",
            *("data", "order", *rows, self.data / "{capability}.jsonl", "--by", "capability,difficulty"),
            "--drop-solved",
        )

    def _model(self, folder: Path) -> Any:
        return self.workshop.serving("verl", "model", "capcurr_plugin.toyworld.serving", folder, "--name", SERVED)

    # Training

    def run_folder(self, recipe: str, seed: int) -> Path:
        return self.workshop.folder / "runs" / f"{recipe}_{seed}"

    def train(self, recipe: str, seed: int) -> None:
        out = self.run_folder(recipe, seed)
        out.parent.mkdir(exist_ok=True)
        words = ("train", BACKBONE, "--recipe", recipe, "--data", self.data, "--model", self.base, "--out", out)
        more = ("--cpu", "--seed", seed, "--set", *self.settings.training.words(recipe))
        # A training has several processes, which take turns.
        self.workshop.capcurr("verl", f"train_{recipe}_{seed}", *words, *more, OMP_NUM_THREADS="1")

    # Scores

    def models(self) -> dict[str, Path]:
        found = {BASE: self.base}
        for recipe, seed in runs(self.settings):
            record = json.loads((self.run_folder(recipe, seed) / "run.json").read_text())
            found[model_name(recipe, seed)] = Path(record["stages"][-1]["model"])
        return found

    @property
    def outputs(self) -> Path:
        return self.workshop.folder / "outputs"

    def score(self) -> None:
        models, aliases = self.models(), self.workshop.folder / "aliases.yaml"
        _write_aliases(aliases, models)
        with self.workshop.serving("core", "oracle", "capcurr_plugin.toyworld.rules", "oracle") as judge:
            for name, folder in models.items():
                with self._model(folder) as url:
                    self.workshop.capcurr(
                        "vlmeval",
                        "eval",
                        *("eval", name, "--suite", "toyworld", "--config", aliases, "--api-base", url),
                        *("--judge", JUDGE, "--judge-base-url", judge, "--work-dir", self.outputs),
                        LMUData=str((self.data / TABLES).absolute()),
                    )

    @property
    def pair(self) -> tuple[str, str]:
        """The two models that are compared row by row."""
        seed = self.settings.seeds[0]
        return model_name("merged", seed) if "merged" in self.settings.recipes else BASE, model_name("staged", seed)

    def results(self) -> None:
        folder = self.workshop.folder
        self.workshop.capcurr(
            "core",
            "results",
            *("results", self.outputs, "--suite", "toyworld", "--compare", *self.pair),
            *("--out", folder / "results.json", "--out", folder / "results.md"),
        )

    # Errors

    @property
    def errors(self) -> Path:
        return self.workshop.folder / "errors.jsonl"

    def attribute(self) -> None:
        with self.workshop.serving("core", "oracle", "capcurr_plugin.toyworld.rules", "oracle") as judge:
            self._attribute(self.errors, "--judge", f"openai:{JUDGE}", "--judge-base-url", judge)

    def attribute_again(self, judge: SecondJudge) -> None:
        self._attribute(self._errors_of(judge), "--judge", judge.name, "--max-usd", judge.max_usd)

    def _errors_of(self, judge: SecondJudge) -> Path:
        return self.errors.with_name(f"errors_{judge.name.replace('/', '-').replace(':', '-')}.jsonl")

    def _attribute(self, errors: Path, *judge: object) -> None:
        words = ("attribute", self.outputs, errors, "--suite", "toyworld", "--tables", self.data / TABLES)
        self.workshop.capcurr("core", "attribute", *words, *judge, "--compare", *self.pair)

    def report(self) -> None:
        from capcurr_plugin.report.training import MOST_RUNS

        folder, trained = self.workshop.folder, runs(self.settings)
        told = [about(json.loads((folder / "results.json").read_text()))]
        if self.second_judge:
            told.append(beside_oracle(self.errors, self._errors_of(self.second_judge)))
        if len(trained) > MOST_RUNS:
            told.append(f"The curves of training are those of the first {MOST_RUNS} of {len(trained)} runs.\n")
        with replacing(folder / "about.txt") as file:
            file.write("\n".join(told).encode())
        self.workshop.capcurr(
            "core",
            "report",
            *("report", folder / "report.html", "--title", "The toy world", "--about", folder / "about.txt"),
            *("--results", folder / "results.json", "--attribution", self.errors),
            *("--train", *(self.run_folder(*run) for run in trained[:MOST_RUNS])),
            *("--rows", _measured(self.data / "needs_eyes.jsonl")),
            *("--order", *(self.data / f"{capability}.jsonl" for capability in CAPABILITIES)),
        )


ABOUT = """\
This is a toy: a model of about a million parameters, in a world of coloured shapes, whose first teacher had three
faults that the training can undo. It shows that the parts work together, from captions to this page, in unmodified verl
and VLMEvalKit. It says nothing about the published models, about photographs, or about which training is better there.

What kinds of errors are left is told by an oracle: rules that read each scene off its picture and each statement off
the response. Real judges err; audits say how often (docs/audit.md).

{outcome} One run of each says little about the next: benchmarks/toyworld.py trains several seeds.
"""


def about(results: dict[str, Any]) -> str:
    """What readers of the page should know, and what came out, whatever it is."""
    comparison = results["comparison"]
    cell = comparison["averages"]["toyworld"]
    difference, (low, high) = cell["difference"], cell["interval"]
    first, second = comparison["first"], comparison["second"]
    told = "is ahead of" if low > 0 else "is behind" if high < 0 else "cannot be told apart from"
    numbers = f"{difference:+.1f} percentage points, 95 % interval {low:+.1f} to {high:+.1f}"
    return ABOUT.format(outcome=f"On held-out scenes {second} {told} {first}: {numbers}.")


def beside_oracle(errors: Path, others: Path) -> str:
    """How right another judge is on errors whose kinds the oracle knows."""
    truths = {record.id: record.kind for record in read_records(errors)}
    told = [record for record in read_records(others) if record.id in truths]
    if not told:
        return "No other judge has looked at any of them.\n"
    right = sum(record.kind == truths[record.id] for record in told)
    low, high = wilson_interval(right, len(told), 0.95)
    return (
        f"{told[0].judge} names the oracle's kind in {right} of {len(told)} wrong answers: {right / len(told):.1%}, "
        f"95 % interval {low:.1%} to {high:.1%}.\n"
    )


def _copy(folder: Path, to: Path) -> None:
    with replacing_folder(to) as part:
        shutil.copytree(folder, part, dirs_exist_ok=True)


def _measured(rows: Path) -> Path:
    return rows.with_name(f"{rows.stem}_measured.jsonl")


def _source() -> str:
    """Of all that makes the base model what it is."""
    digest = hashlib.blake2b(digest_size=8)
    for name in ("scenes", "questions", "lessons", "tiny_models", "warm_start"):
        digest.update(Path(__file__).with_name(f"{name}.py").read_bytes())
    return digest.hexdigest()


def _write_aliases(path: Path, models: dict[str, Path]) -> None:
    """All models get the prompt that they are trained with, also the base, which has seen it in its lessons."""
    import yaml

    aliases = {
        name: {
            "backbone": BACKBONE,
            "port": 1,
            "prompt": "system",
            "weights": str(folder),
            "max_tokens": RESPONSE_TOKENS,
        }
        for name, folder in models.items()
    }
    with replacing(path) as file:
        file.write(yaml.safe_dump({"aliases": aliases}).encode())
