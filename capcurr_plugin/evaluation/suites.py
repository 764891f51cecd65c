"""The benchmark suites: `vlmeval_configs/suites.yaml`."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

import yaml

from capcurr_plugin.errors import InputError


@dataclass(frozen=True)
class Benchmark:
    name: str
    layout: str  # of VLMEvalKit's files: a key of LAYOUTS in score_files
    rows: int | None = None  # that it has, where that is known


@dataclass(frozen=True)
class Suites:
    averages: dict[str, list[str]]  # an average's members are benchmarks, or other averages
    suites: dict[str, list[str]]
    facts: dict[str, Benchmark]  # by name
    longer_names: list[str]  # data sets whose names start like a benchmark's

    def benchmarks(self, name: str) -> list[str]:
        """Of a suite or an average, in the order of the file, each once."""
        found: list[str] = []
        for average in self.suites.get(name, [name]):
            for member in self.averages[average]:
                found += self.benchmarks(member) if member in self.averages else [member]
        return list(dict.fromkeys(found))

    def chosen(self, words: Sequence[str]) -> list[str]:
        """The benchmarks that suites, averages and data sets name, each once."""
        found: list[str] = []
        for word in words:
            if "/" in word or not word.strip():
                raise InputError(f"{word!r} is no name of a data set; suites are {', '.join(self.suites)}")
            found += self.benchmarks(word) if word in self.suites or word in self.averages else [word]
        return list(dict.fromkeys(found))

    def averages_of(self, name: str) -> list[str]:
        """Of a suite, those that others are made of first."""
        found: list[str] = []
        for average in self.suites[name]:
            found += [member for member in self.averages[average] if member in self.averages] + [average]
        return list(dict.fromkeys(found))


@lru_cache
def load_suites() -> Suites:
    content = yaml.safe_load((files("vlmeval_configs") / "suites.yaml").read_text(encoding="utf-8"))
    facts = {name: Benchmark(name, **known) for name, known in content["benchmarks"].items()}
    return Suites(content["averages"], content["suites"], facts, content["longer_names"])
