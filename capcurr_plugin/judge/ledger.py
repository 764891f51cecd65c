"""One file for all verdicts and what they cost: a verdict is paid for once, whichever run asks for it again."""

import time
from dataclasses import dataclass, field
from pathlib import Path

from capcurr_plugin.database import Database, cache_folder
from capcurr_plugin.errors import JobError
from capcurr_plugin.judge.config import Tokens

# A call that was answered is a verdict. Each look and each change is a single statement: hundreds of threads share the
# file, and between two statements of one thread all others would wait.
_TABLES = """
CREATE TABLE IF NOT EXISTS calls (
    id INTEGER PRIMARY KEY, run TEXT, judge TEXT, at REAL, usd REAL,
    key TEXT, text TEXT, stop TEXT, input_tokens INTEGER, output_tokens INTEGER, cached_tokens INTEGER);
CREATE INDEX IF NOT EXISTS calls_by_key ON calls (key) WHERE key IS NOT NULL;
CREATE INDEX IF NOT EXISTS spent_by_run ON calls (run, usd);
"""


_SPENT = "SELECT COALESCE(SUM(usd), 0) FROM calls WHERE run = :run"


class OverBudget(JobError):
    """The next call could cost more than the bound leaves."""


@dataclass(frozen=True)
class Reply:
    text: str
    stop: str | None  # why the judge stopped, in its API's words
    tokens: Tokens = field(default_factory=Tokens)


@dataclass(frozen=True)
class Spend:
    calls: int
    unanswered: int  # calls that were not seen to end; counted with what they could have cost at most
    input_tokens: int
    cached_tokens: int  # of these, which the server had kept from earlier calls
    output_tokens: int
    usd: float


def default_path() -> Path:
    return cache_folder() / "judges.sqlite"


class Ledger:
    """Safe to use from many threads, and from processes that were forked after it was made."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._database = Database(path, _TABLES, "verdicts")

    def verdict(self, key: str) -> Reply | None:
        """The newest."""
        with self._database.statement() as database:
            row = database.execute(
                "SELECT text, stop FROM calls WHERE key = ? ORDER BY id DESC LIMIT 1", (key,)
            ).fetchone()
        return Reply(*row) if row else None

    def begin(self, run: str, judge: str, at_most_usd: float, bound_usd: float | None) -> int:
        """Enter a call that may cost so much, unless that is more than the run's bound leaves."""
        within = "" if bound_usd is None else f"WHERE ({_SPENT}) + :usd <= :bound"
        facts = {"run": run, "judge": judge, "at": time.time(), "usd": at_most_usd, "bound": bound_usd}
        with self._database.statement() as database:
            entered = database.execute(
                f"INSERT INTO calls (run, judge, at, usd) SELECT :run, :judge, :at, :usd {within}", facts
            )
            call, fits = entered.lastrowid, entered.rowcount == 1
        if not fits or call is None:
            raise OverBudget(
                f"judge {judge}: ${self.spend(run).usd:.4f} are spent, and the next call may cost ${at_most_usd:.4f}, "
                f"which is over the bound of ${bound_usd:g}; raise the bound and run again, verdicts so far are kept"
            )
        return call

    def end(self, call: int, key: str, reply: Reply, usd: float) -> None:
        """Keep the verdict, and what it did cost."""
        tokens = (reply.tokens.input, reply.tokens.output, reply.tokens.read)
        with self._database.statement() as database:
            database.execute(
                "UPDATE calls SET key = ?, text = ?, stop = ?, input_tokens = ?, output_tokens = ?, cached_tokens = ?,"
                " usd = ? WHERE id = ?",
                (key, reply.text, reply.stop, *tokens, usd, call),
            )

    def give_up(self, call: int) -> None:
        """The judge refused the call before it did any work."""
        with self._database.statement() as database:
            database.execute("DELETE FROM calls WHERE id = ? AND key IS NULL", (call,))

    def spend(self, run: str) -> Spend:
        sums = ", ".join(f"COALESCE(SUM({name}), 0)" for name in ("input_tokens", "cached_tokens", "output_tokens"))
        with self._database.statement() as database:
            row = database.execute(
                f"SELECT COUNT(*), COUNT(*) - COUNT(key), {sums}, COALESCE(SUM(usd), 0) FROM calls WHERE run = ?",
                (run,),
            ).fetchone()
        return Spend(*row)
