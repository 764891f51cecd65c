"""One file for all verdicts and what they cost: a verdict is paid for once, whichever run asks for it again."""

import sqlite3
import time
from dataclasses import dataclass, field
from pathlib import Path

from capcurr_plugin.database import Database, cache_folder
from capcurr_plugin.errors import JobError
from capcurr_plugin.judge.config import Tokens

_TABLES = """
CREATE TABLE IF NOT EXISTS verdicts (
    key TEXT PRIMARY KEY, judge TEXT, text TEXT, stop TEXT, at REAL);
CREATE TABLE IF NOT EXISTS calls (
    id INTEGER PRIMARY KEY, run TEXT, judge TEXT, at REAL, input_tokens INTEGER, output_tokens INTEGER,
    cached_tokens INTEGER, usd REAL, answered INTEGER DEFAULT 0);
CREATE INDEX IF NOT EXISTS spent_by_run ON calls (run, usd);
"""


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
        with self._database.reading() as database:
            row = database.execute("SELECT text, stop FROM verdicts WHERE key = ?", (key,)).fetchone()
        return Reply(*row) if row else None

    def begin(self, run: str, judge: str, at_most_usd: float, bound_usd: float | None) -> int:
        """Enter a call that may cost so much, unless that is more than the run's bound leaves."""
        with self._database.transaction() as database:
            if bound_usd is not None and (spent := _spent(database, run)) + at_most_usd > bound_usd:
                raise OverBudget(
                    f"judge {judge}: ${spent:.4f} are spent, and the next call may cost ${at_most_usd:.4f}, which is "
                    f"over the bound of ${bound_usd:g}; raise the bound and run again, verdicts so far are kept"
                )
            call = database.execute(
                "INSERT INTO calls (run, judge, at, usd) VALUES (?, ?, ?, ?)", (run, judge, time.time(), at_most_usd)
            ).lastrowid
        assert call is not None
        return call

    def end(self, call: int, key: str, judge: str, reply: Reply, usd: float) -> None:
        """Keep the verdict, and what it did cost."""
        tokens = reply.tokens
        with self._database.transaction() as database:
            database.execute(
                "INSERT OR REPLACE INTO verdicts VALUES (?, ?, ?, ?, ?)",
                (key, judge, reply.text, reply.stop, time.time()),
            )
            database.execute(
                "UPDATE calls SET input_tokens = ?, output_tokens = ?, cached_tokens = ?, usd = ?, answered = 1"
                " WHERE id = ?",
                (tokens.input, tokens.output, tokens.read, usd, call),
            )

    def give_up(self, call: int) -> None:
        """The judge refused the call before it did any work."""
        with self._database.transaction() as database:
            database.execute("DELETE FROM calls WHERE id = ?", (call,))

    def spend(self, run: str) -> Spend:
        with self._database.transaction() as database:
            row = database.execute(
                "SELECT COUNT(*), COUNT(*) - COALESCE(SUM(answered), 0), COALESCE(SUM(input_tokens), 0),"
                " COALESCE(SUM(cached_tokens), 0), COALESCE(SUM(output_tokens), 0), COALESCE(SUM(usd), 0)"
                " FROM calls WHERE run = ?",
                (run,),
            ).fetchone()
        return Spend(*row)


def _spent(database: sqlite3.Connection, run: str) -> float:
    return database.execute("SELECT COALESCE(SUM(usd), 0) FROM calls WHERE run = ?", (run,)).fetchone()[0]
