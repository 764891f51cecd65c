import pytest
from browser import chromium, watched_page


@pytest.fixture(scope="module")
def browser():
    # Not for the whole session: while it is open, an event loop runs, and what calls asyncio.run would fail.
    with chromium() as browser:
        yield browser


@pytest.fixture
def troubles():
    """What went wrong on the test's pages, in words; a test that expects some takes it out."""
    found = []
    yield found
    assert found == []


@pytest.fixture
def page(browser, troubles):
    """An empty page. Errors on its console and requests to anywhere but 127.0.0.1 fail the test."""
    with watched_page(browser, troubles) as page:
        yield page
