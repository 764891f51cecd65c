"""Locks of folders and outputs: one holder at a time, also where the holder removes the file."""

import os
import threading
import time

import pytest

from capcurr_plugin import locks
from capcurr_plugin.errors import InputError
from capcurr_plugin.locks import holding


def test_the_holder_is_named_and_keeps_the_lock(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "PATIENCE", 0)
    lock = tmp_path / "new" / "lock"
    with holding(lock, "in use"):
        for _ in range(2):
            with pytest.raises(InputError, match=rf"^in use \(process {os.getpid()}\)$"), holding(lock, "in use"):
                pass
    with holding(lock, "in use"):
        assert lock.read_text() == str(os.getpid())


def test_who_waited_for_a_removed_file_has_a_lock_that_others_see(tmp_path, monkeypatch):
    lock, held, over = tmp_path / "lock", threading.Event(), threading.Event()

    def wait_and_hold():
        with holding(lock, "in use"):
            held.set()
            over.wait(10)

    waiting = threading.Thread(target=wait_and_hold)
    with holding(lock, "in use"):
        waiting.start()
        time.sleep(0.5)
        assert not held.is_set()
        lock.unlink()
    assert held.wait(5)
    monkeypatch.setattr(locks, "PATIENCE", 0)
    with pytest.raises(InputError, match="in use"), holding(lock, "in use"):
        pass
    over.set()
    waiting.join()


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file: cannot be written"), holding(tmp_path / "file" / "lock", "in use"):
        pass
