"""The page of a study in a real Chromium: the browser of single errors, the policy, both schemes, phone and print."""

import contextlib
import re
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from browser import PHONE, shot, watched_page
from playwright.sync_api import expect
from study_samples import BASE, STAGED, record, some_records, write_attribution, write_study
from test_report import report

from capcurr_plugin.attribution.records import Vote

HOSTILE = '</script><script>document.title = "owned"</script><img src=x onerror=\'document.title = "owned"\'>'


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("study")
    assert report(folder / "page.html", *write_study(folder)) == 0
    return (folder / "page.html").as_uri()


def open_errors(page, folder: Path, records, *options) -> None:
    source = write_attribution(folder / "errors.jsonl", records)
    assert report(folder / "page.html", "--attribution", source, *options) == 0
    page.goto((folder / "page.html").as_uri())


def status(page) -> str:
    return page.locator("#errors-status").inner_text()


def shown(page, part: str = ".about") -> list[str]:
    return page.locator(f".card {part}").all_inner_texts()


def test_filters_show_what_fits(page, study):
    page.goto(study)
    assert status(page) == "1 to 20 of 200 errors"
    page.locator("#errors-model").select_option(STAGED)
    assert all(text.endswith(STAGED) for text in shown(page))
    page.locator("#errors-kind").select_option(index=1)
    kinds = set(shown(page, ".chip"))
    assert kinds == {page.locator("#errors-kind option").nth(1).get_attribute("value")}
    page.locator("#errors-benchmark").select_option("POPE")
    assert all(text.startswith("POPE, ") for text in shown(page, "h3 a"))
    assert re.fullmatch(r"1 to \d+ of \d+ errors that fit, of 200", status(page))
    for name in ("kind", "benchmark", "model"):
        page.locator(f"#errors-{name}").select_option("")
    page.locator("#errors-agreement").select_option("votes differ")
    assert all("of 3 votes" in text for text in shown(page, ".verdict"))


def test_the_counts_of_a_filter_are_true(page, study):
    page.goto(study)
    for name in ("kind", "benchmark", "model", "agreement"):
        options = page.locator(f"#errors-{name} option").all()[1:]
        counts = [int(re.search(r"\((\d+)\)$", option.inner_text())[1]) for option in options]
        assert sum(counts) == 200
        page.locator(f"#errors-{name}").select_option(index=1)
        assert f"of {counts[0]} errors that fit" in status(page)
        page.locator(f"#errors-{name}").select_option("")


def test_text_is_searched_in_all_that_a_card_says(page, tmp_path):
    records = [record(n) for n in range(30)]
    records[7] = replace(records[7], response="A zebra CROSSES.\nThe tallest bar ends at 60. So what?")
    open_errors(page, tmp_path, records)
    page.locator("#errors-search").fill("crosses  ZEBRA")
    expect(page.locator(".card")).to_have_count(1)
    assert shown(page, "h3 a") == ["MathVista_MINI, 7"]
    page.locator("#errors-search").fill("no such words")
    expect(page.locator(".card")).to_have_count(0)
    assert status(page) == "No error fits."


def test_an_error_has_an_address(page, tmp_path):
    records = [record(n) for n in range(60)]
    open_errors(page, tmp_path, records)
    last = page.evaluate("JSON.parse(document.getElementById('errors-data').textContent).cards.at(-1).id")
    address = f"{(tmp_path / 'page.html').as_uri()}#error-{last}"
    page.goto("about:blank")
    page.goto(address)
    assert status(page) == "41 to 60 of 60 errors"
    card = page.locator(f"#error-{last}")
    assert card.evaluate("card => card === document.activeElement")
    assert card.evaluate("card => card.getBoundingClientRect().top < innerHeight")
    page.locator("#errors-search").fill("no such words")
    expect(page.locator(".card")).to_have_count(0)
    page.evaluate("location.hash = ''")
    page.evaluate(f"location.hash = 'error-{last}'")  # a link asks for more than a filter forbids
    card.wait_for()
    assert page.locator("#errors-search").input_value() == ""
    page.goto(address.replace(last, "none"))
    page.goto(address.replace(last, "%E0%A4%A"))
    page.reload()
    assert status(page) == "1 to 20 of 60 errors"


def test_keys_go_from_one_error_to_the_next(page, tmp_path):
    open_errors(page, tmp_path, [record(n) for n in range(25)])
    ids = page.evaluate("JSON.parse(document.getElementById('errors-data').textContent).cards.map((card) => card.id)")
    current = "document.activeElement.id.replace('error-', '')"
    page.keyboard.press("k")
    assert page.evaluate(current) == ids[0]
    for _ in range(20):
        page.keyboard.press("j")
    assert page.evaluate(current) == ids[20]
    assert status(page) == "21 to 25 of 25 errors"
    assert page.evaluate("location.hash") == f"#error-{ids[20]}"
    page.keyboard.press("k")
    assert page.evaluate(current) == ids[19]
    page.locator("#errors-search").press("j")
    assert page.locator("#errors-search").input_value() == "j"
    page.keyboard.press("Control+j")
    assert page.evaluate("location.hash") == f"#error-{ids[19]}"


def test_earlier_and_later(page, study):
    page.goto(study)
    earlier, later = (page.locator(f".errors-pager [name={name}]").first for name in ("earlier", "later"))
    assert earlier.is_disabled()
    first = shown(page, "h3 a")
    later.click()
    assert status(page) == "21 to 40 of 200 errors"
    assert shown(page, "h3 a") != first
    earlier.click()
    assert shown(page, "h3 a") == first


def test_a_card_shows_the_picture_and_the_quote(page, study):
    page.goto(study)
    page.locator("#errors-kind").select_option("perception")
    card = page.locator(".card").first
    assert card.locator("mark").inner_text() == "The tallest bar ends at 60.\nSo"
    for text in (
        "Counts as right\n60",
        "Read as the answer\n80",
        "The picture shows instead\nThe tallest bar ends at 40.",
    ):
        assert text in card.inner_text()
    image = card.locator("img")
    assert image.evaluate("image => image.decode().then(() => [image.naturalWidth, image.naturalHeight])") == [640, 427]
    assert "claude-haiku-4.5: perception · high confidence" in card.inner_text()


def test_the_quote_of_a_long_response_is_in_sight(page, tmp_path):
    response = "We think. " * 400 + "\nThe tallest bar ends at 60. So it is.\n" + "We go on. " * 400
    open_errors(page, tmp_path, [record(response=response)])
    inside = """box => {
        const mark = box.querySelector('mark').getBoundingClientRect(), own = box.getBoundingClientRect();
        return mark.top >= own.top && mark.bottom <= own.bottom
    }"""
    assert page.locator(".response").evaluate(inside)


def test_hostile_texts_are_shown_as_text(page, tmp_path):
    one = record(response=f"{HOSTILE} and the end", question=HOSTILE, category=HOSTILE, truth="a\u202eb", model=HOSTILE)
    one = replace(one, votes=(Vote("perception", HOSTILE, HOSTILE, "high"),))
    open_errors(page, tmp_path, [one, record(1)], "--title", HOSTILE)
    page.locator("#errors-model").select_option(index=1)
    text = page.locator(".card").inner_text()
    assert text.count(HOSTILE) == 5  # question, category and model, response, picture
    assert "a[U+202E]b" in text
    assert page.locator("mark").inner_text() == HOSTILE
    assert page.title() == HOSTILE
    assert page.locator(".card script, .card img").count() == 0


PLANTED = """
<script>document.title = "owned"</script>
<img src="http://127.0.0.1:PORT/x" onerror="document.title = 'owned'">
<iframe src="http://127.0.0.1:PORT/y"></iframe>
<a id="bad" href="javascript:document.title = 'owned'">x</a>
<style>h1 { display: none; background: url(http://127.0.0.1:PORT/s) }</style>
<form id="f" action="http://127.0.0.1:PORT/z"><button>go</button></form>"""


def asked(server: socket.socket) -> bytes:
    """What was requested. Chromium opens connections for frames and forms before it asks the policy, and is silent."""
    server.settimeout(0.2)
    said = b""
    try:
        while True:
            connection, _ = server.accept()
            connection.settimeout(0.2)
            with connection, contextlib.suppress(TimeoutError):
                said += connection.recv(1000)
    except TimeoutError:
        return said


def test_the_policy_holds_against_planted_markup(browser, study, tmp_path):
    """Should any text ever get into the page as markup: it neither runs nor fetches."""
    said: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as server, watched_page(browser, said) as page:
        planted = PLANTED.replace("PORT", str(server.getsockname()[1]))
        content = Path(study.removeprefix("file://")).read_text().replace("<h1>", f"{planted}<h1>", 1)
        (tmp_path / "planted.html").write_text(content)
        page.goto((tmp_path / "planted.html").as_uri())
        page.locator("#bad").click()
        page.wait_for_timeout(200)
        assert page.title() == "Capability curriculum"
        assert page.locator("h1").is_visible()
        assert status(page) == "1 to 20 of 200 errors"
        page.evaluate("document.getElementById('f').requestSubmit()")
        page.wait_for_timeout(200)
        assert asked(server) == b""
    assert any("Content Security Policy" in text for text in said)


def test_without_javascript_all_but_the_errors_is_there(browser, study, troubles):
    with watched_page(browser, troubles, java_script_enabled=False) as page:
        page.goto(study)
        assert page.locator("figure svg").count() == 8
        assert page.get_by_text("this part of the page needs JavaScript").is_visible()
        assert not page.locator("#errors-browser").is_visible()
        assert page.get_by_role("heading", name="Training").is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", ["desktop", "phone"])
def test_it_is_readable_everywhere(browser, study, troubles, scheme, size):
    options = {"viewport": PHONE} if size == "phone" else {}
    with watched_page(browser, troubles, color_scheme=scheme, **options) as page:
        page.goto(study)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        for word in ("ink", "dim"):
            colours = "[...['--%s', '--paper']].map((name) => getComputedStyle(document.body).getPropertyValue(name))"
            assert contrast(*page.evaluate(colours % word)) > 6
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == (
            "rgb(255, 255, 255)" if scheme == "light" else "rgb(23, 24, 27)"
        )
        shot(page, f"report_{size}_{scheme}")


def contrast(one: str, other: str) -> float:
    from test_report import luminance

    low, high = sorted(map(luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


def test_long_words_do_not_widen_a_phone(browser, tmp_path, troubles):
    word = "w" * 400
    records = [record(n, response=word, question=word, benchmark=word, model=word, category=word) for n in range(2)]
    source = write_attribution(tmp_path / "errors.jsonl", records)
    assert report(tmp_path / "page.html", "--attribution", source, "--title", word) == 0
    with watched_page(browser, troubles, viewport=PHONE) as page:
        page.goto((tmp_path / "page.html").as_uri())
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_print_shows_the_errors_that_fit_and_no_controls(page, tmp_path):
    open_errors(page, tmp_path, some_records(150, images=5), "--errors", 150)
    page.evaluate("addEventListener('beforeprint', () => (window.printed = document.querySelectorAll('.card').length))")
    page.locator("#errors-model").select_option(BASE)
    content = page.pdf(path=tmp_path / "page.pdf", format="A4")
    assert content.startswith(b"%PDF")
    assert page.evaluate("printed") == 75
    assert page.locator(".card").count() == 20  # afterwards, as before
    page.emulate_media(media="print", color_scheme="dark")
    assert not page.locator(".controls").is_visible()
    assert not page.locator(".errors-pager").first.is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_print_shows_folded_tables(page, study):
    page.goto(study)
    folded = page.locator("details:not([open]) table").first
    assert not folded.is_visible()
    page.emulate_media(media="print")
    assert folded.is_visible()
    assert folded.bounding_box()["height"] > 0


@pytest.mark.slow
def test_two_thousand_errors_are_usable(page, tmp_path):
    records = some_records(2000)
    open_errors(page, tmp_path, [replace(one, response=one.response * 40) for one in records], "--errors", 2000)
    assert status(page) == "1 to 20 of 2,000 errors"
    assert page.locator(".card").count() == 20
    searched = """() => { const start = performance.now(); const choice = document.getElementById('errors-benchmark');
        choice.selectedIndex = 1; choice.dispatchEvent(new Event('change')); return performance.now() - start }"""
    assert page.evaluate(searched) < 1000  # ms; some tens, on a machine that does nothing else
