"""Ports for who will open them later: nobody else gets them by chance."""

import socket

import pytest

from capcurr_plugin import ports


@pytest.fixture
def given_out(tmp_path, monkeypatch):
    """Sets which ports the system gives out."""
    monkeypatch.setattr(ports, "GIVEN_OUT", tmp_path / "range")
    return (tmp_path / "range").write_text


@pytest.mark.parametrize(("lowest", "end"), [(32768, 30_000), (25000, 25_000)])
def test_they_lie_between_rays_and_the_systems(given_out, lowest, end):
    given_out(f"{lowest}\t60999\n")
    seen = [ports.quiet_ports() for _ in range(1000)]
    assert all(one.start >= 20_000 and one.stop <= end and len(one) == 100 for one in seen)
    assert len({one.start for one in seen}) > 900  # two runs that start together do not meet


def test_a_seeded_dice_does_not_choose_them(given_out):
    import random

    given_out("32768\t60999\n")
    starts = set()
    for _ in range(20):
        random.seed(1)
        starts.add(ports.quiet_ports().start)
    assert len(starts) > 10


@pytest.mark.parametrize("all_of_them", ["1024 65535", "20100 60999", "0 0"])
def test_where_the_system_gives_all_it_chooses(given_out, all_of_them):
    given_out(all_of_them)
    assert ports.quiet_ports() is None
    assert ports.free_port() > 0


@pytest.mark.parametrize("told", ["", "many ports"])
def test_a_system_that_does_not_tell(given_out, told):
    given_out(told)
    assert ports.quiet_ports().stop <= 30_000


def test_a_taken_one_is_left_out(given_out, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(ports, "quiet_ports", lambda: range(port, port + 1))
        assert ports.free_port() != port
        monkeypatch.setattr(ports, "quiet_ports", lambda: range(port, port + 50))
        assert port < ports.free_port() < port + 50
