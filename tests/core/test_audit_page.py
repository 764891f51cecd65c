"""The page of an audit, in a real Chromium."""

import json
import re
import signal

import pytest
from audit_samples import auditing, many, png, record, write
from browser import PHONE, shot, watched_page

from capcurr_plugin.attribution.audits import read_audit
from capcurr_plugin.attribution.kinds import KINDS, MEANINGS
from capcurr_plugin.attribution.records import Vote
from capcurr_plugin.ports import free_port


def opened(page, address):
    page.goto(address)
    page.wait_for_selector("#picture:not([hidden]), #picture-problem:not([hidden])")


def choose(page, key):
    page.keyboard.press(key)
    page.wait_for_selector("#verdict:not([hidden])")
    assert page.inner_text("#state").startswith("Saved ")


def go_on(page, key="Enter"):
    before = page.inner_text("#place")
    page.keyboard.press(key)
    page.wait_for_function("before => document.getElementById('place').textContent !== before", arg=before)
    page.wait_for_function("() => document.getElementById('picture').complete")  # else the server's end cuts it off


def audited(path):
    return read_audit(path.with_name("base_audit_ann.jsonl"))


def test_ten_items_by_keyboard_alone(page, tmp_path):
    path = write(tmp_path, many(40))
    replies = []
    page.on("response", lambda reply: replies.append((reply.request.method, reply)))
    with auditing(path, "--sample", 10) as (_, address):
        opened(page, address)
        keys = "1234567012"
        for number, key in enumerate(keys):
            assert page.inner_text("#place") == f"{number + 1} / 10"
            assert page.is_hidden("#verdict")
            seen = [reply.body() for method, reply in replies if method == "GET"]
            assert not any(b"SECRET" in body or b'"judge": {' in body for body in seen)
            replies.clear()
            choose(page, key)
            assert "SECRET" in page.inner_text("#shows")
            if number < 9:
                go_on(page)
        page.keyboard.press("Enter")
        page.wait_for_selector("#end:not([hidden])")
        assert page.inner_text("#end-title") == "All 10 are done"
        assert re.fullmatch(r"\d+\.\d %", page.inner_text("#accuracy"))
        assert "You could not tell 1." in page.inner_text("#end-text")
        shot(page, "audit_end")
        page.keyboard.press("ArrowLeft")
        page.wait_for_selector("#item:not([hidden])")
        assert page.inner_text("#place") == "10 / 10"
    expected = [*KINDS, "cannot_tell", *KINDS[:2]]
    kept = [json.loads(line) for line in audited(path).path.read_text().splitlines()[1:]]
    assert [one["kind"] for one in kept] == expected
    assert all(0 <= one["seconds"] < 60 for one in kept)


def test_it_goes_on_after_closing_and_choices_may_change(browser, troubles, tmp_path):
    path = write(tmp_path, many(40))
    for first in ("1 / 10", "4 / 10"):
        words = ["--sample", 10] if first[0] == "1" else []
        with auditing(path, *words) as (_, address), watched_page(browser, troubles) as page:
            opened(page, address)
            assert page.inner_text("#place") == first
            for key in "123":
                choose(page, key)
                go_on(page)
            go_on(page, "ArrowLeft")
            assert page.get_attribute('[data-kind="knowledge"]', "aria-pressed") == "true"
            page.keyboard.press("4")
            page.wait_for_selector('[data-kind="question_comprehension"][aria-pressed="true"]')
            page.wait_for_function("() => document.getElementById('state').textContent.startsWith('Saved')")
            assert page.inner_text("#done") == ("3 done" if first[0] == "1" else "6 done")
    assert len(audited(path).choices) == 6
    assert len(audited(path).changed) == 2


def test_notes_are_kept(page, tmp_path):
    path = write(tmp_path, many(40))
    with auditing(path, "--sample", 5) as (_, address):
        opened(page, address)
        page.keyboard.press("n")
        page.keyboard.type("1 before")  # the digit is no choice
        page.keyboard.press("Escape")
        choose(page, "1")
        go_on(page)
        choose(page, "2")
        page.keyboard.press("n")
        page.keyboard.type("after")
        page.click('[data-kind="knowledge"]')  # leaves the note, which is saved first
        page.wait_for_selector('[data-kind="knowledge"][aria-pressed="true"]')
        page.keyboard.press("n")
        page.keyboard.type(" all")
        page.keyboard.press("Escape")
        page.wait_for_function("() => document.activeElement === document.body")
        go_on(page)
    assert [(one.kind, one.note) for one in audited(path).choices.values()] == [
        ("perception", "1 before"),
        ("knowledge", "after all"),
    ]


def test_the_judge_is_shown_beside_the_choice(page, tmp_path):
    votes = (Vote("reasoning", "", "", "low"), Vote("reasoning", "", "", "low"), Vote("perception", "", "", "high"))
    undecided = (Vote("undecided", why="the reply holds no JSON object"),)
    with auditing(write(tmp_path, [record(1, votes=votes), record(2, votes=undecided)])) as (_, address):
        opened(page, address)
        said = {}
        for _ in range(2):
            index = re.search("· (.) ", page.inner_text("#what"))[1]
            choose(page, "2")
            said[index] = [page.inner_text("#judged"), page.text_content("#shows")]
            go_on(page)
    assert said["1"] == ["The judge says the same, confidence low, 2 of 3 readings", ""]
    assert said["2"] == ["The judge says undecided", "the reply holds no JSON object"]


def test_the_mark(page, tmp_path):
    long = "I look at it again.\n" * 200
    path = write(tmp_path, [record(1, response=f"{long}It has a chart with 4 bars.\n{long}")])
    with auditing(path) as (_, address):
        opened(page, address)
        assert page.inner_text("mark") == "a chart with 4 bars."
        box, mark = page.locator("#response").bounding_box(), page.locator("mark").bounding_box()
        assert box["y"] < mark["y"] < box["y"] + box["height"]  # scrolled to
        shown = page.evaluate("getComputedStyle(document.querySelector('mark')).backgroundColor")
        page.keyboard.press("m")
        assert page.evaluate("getComputedStyle(document.querySelector('mark')).backgroundColor") != shown
        assert page.get_attribute("#toggle-mark", "aria-pressed") == "false"
        page.keyboard.press("m")
        assert page.evaluate("getComputedStyle(document.querySelector('mark')).backgroundColor") == shown


def test_blind_there_is_no_mark_before_the_choice(page, tmp_path):
    with auditing(write(tmp_path, [record(1)]), "--blind") as (_, address):
        opened(page, address)
        assert page.locator("mark").count() == 0
        assert page.is_hidden("#toggle-mark")
        choose(page, "1")
        assert page.inner_text("mark") == "a chart with 4 bars."


HOSTILE = "<img src=x onerror=alert(1)><script>document.title='owned'</script><style>body{display:none}</style>"


def test_hostile_texts_are_texts(page, tmp_path):
    page.on("dialog", lambda dialog: pytest.fail("a text ran as a script"))
    bad = record(
        1,
        "knowledge",
        question=f"{HOSTILE}‮",
        truth=HOSTILE,
        final=HOSTILE,
        response=f"{HOSTILE} </div></body> {HOSTILE}",
        index=HOSTILE,
        benchmark=HOSTILE,
        model=HOSTILE,
        category=HOSTILE,
        judge=HOSTILE,
        images=("<b>&'.png",),
        votes=(Vote("knowledge", f"{HOSTILE} </div>", HOSTILE, HOSTILE),),
    )
    with auditing(write(tmp_path, [bad])) as (_, address):
        opened(page, address)
        assert page.text_content("#question") == f"{HOSTILE}[U+202E]"
        assert page.text_content("#truth") == HOSTILE
        assert page.text_content("mark") == f"{HOSTILE} </div>"
        assert "<b>&'.png is not there" in page.inner_text("#picture-problem")
        choose(page, "1")
        assert HOSTILE in page.text_content("#shows")
        assert HOSTILE in page.text_content("#judged")
        assert page.title() == "1 / 1 · Audit"
        assert page.locator("img").count() == 1
        shot(page, "audit_hostile")


def test_zoom(page, tmp_path):
    path = write(
        tmp_path,
        [record(1, images=("chart.png", "gone.png", "bad.png"))],
        {
            "chart.png": png(),
            "bad.png": png()[:60],
        },
    )
    with auditing(path) as (_, address):
        opened(page, address)
        size = lambda: page.locator("#picture").bounding_box()  # noqa: E731
        fitted = size()
        page.keyboard.press("+")
        assert size()["width"] == pytest.approx(1.4 * fitted["width"], rel=0.01)
        page.keyboard.press("-")
        assert size() == pytest.approx(fitted)
        box = page.locator("#stage").bounding_box()
        at = (box["x"] + box["width"] / 4, box["y"] + box["height"] / 2)
        page.mouse.move(*at)
        page.mouse.wheel(0, -500)
        page.wait_for_function("() => document.getElementById('zoom').textContent !== ''")
        by_wheel = size()
        assert by_wheel["width"] > 2 * fitted["width"]
        # What was under the pointer still is.
        assert (at[0] - by_wheel["x"]) / by_wheel["width"] == pytest.approx(0.25, abs=0.01)
        page.mouse.down()
        page.mouse.move(at[0] - 60, at[1], steps=4)
        page.mouse.up()
        assert size()["x"] == pytest.approx(by_wheel["x"] - 60, abs=1)
        page.keyboard.press("Shift+ArrowLeft")
        assert size()["x"] == pytest.approx(by_wheel["x"], abs=1)
        page.keyboard.press("f")
        assert size() == pytest.approx(fitted)
        page.mouse.click(*at)
        assert size()["width"] == pytest.approx(3 * fitted["width"], rel=0.01)
        page.mouse.click(*at)
        assert size() == pytest.approx(fitted)
        page.keyboard.press("p")
        assert page.inner_text("#picture-problem") == "The picture gone.png is not there."
        page.keyboard.press("p")
        page.wait_for_function(
            "() => document.getElementById('picture-problem').textContent.includes('damaged') "
            "|| !document.getElementById('picture').hidden"
        )
        page.keyboard.press("p")
        page.wait_for_selector("#picture:not([hidden])")
        assert page.is_hidden("#picture-problem")


def test_keys_that_choose_nothing(page, tmp_path):
    path = write(tmp_path, many(40))
    with auditing(path, "--sample", 5) as (_, address):
        opened(page, address)
        for key in ("8", "9", "a", "Control+1", "Alt+1"):
            page.keyboard.press(key)
        page.keyboard.press("Enter")
        assert "Choose a kind first" in page.inner_text("#state")
        page.keyboard.press("?")
        assert page.is_visible("#help")
        assert MEANINGS["knowledge"].rule in page.inner_text("#help")
        page.keyboard.press("1")
        shot(page, "audit_help")
        page.keyboard.press("Escape")
        assert page.is_hidden("#help")
        go_on(page, "ArrowRight")
        go_on(page, "ArrowLeft")
        assert page.inner_text("#place") == "1 / 5"
        page.hover('[data-kind="knowledge"]')
        assert page.inner_text("#rule") == MEANINGS["knowledge"].rule
        assert audited(path).choices == {}


def test_by_tab_and_enter(page, tmp_path):
    path = write(tmp_path, many(40))
    with auditing(path, "--sample", 5) as (_, address):
        opened(page, address)
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.dataset.kind") == "reasoning":
                break
        assert page.inner_text("#rule") == MEANINGS["reasoning"].rule
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        choose(page, "Enter")
        page.wait_for_function("() => document.activeElement.id === 'next'")
        go_on(page)
        assert page.inner_text("#place") == "2 / 5"
    assert [one.kind for one in audited(path).choices.values()] == ["reasoning"]


def test_when_nothing_is_saved_the_page_says_so(page, troubles, tmp_path):
    path = write(tmp_path, many(40))
    with auditing(path, "--sample", 5, "--port", free_port()) as (process, address):
        opened(page, address)
        choose(page, "1")
        go_on(page)
        process.send_signal(signal.SIGKILL)
        process.wait()
        page.keyboard.press("3")
        page.wait_for_selector("#alert:not([hidden])")
        assert page.inner_text("#alert-text").startswith("NOT SAVED: knowledge. capcurr audit does not answer.")
        assert page.is_hidden("#verdict")
        assert page.inner_text("#done") == "1 done"
        assert page.inner_text("#state") == ""
        shot(page, "audit_unsaved")
        page.keyboard.press("ArrowRight")  # what is not saved is not left
        page.wait_for_timeout(100)
        assert page.inner_text("#place") == "2 / 5"
        page.keyboard.press("Enter")
        page.wait_for_timeout(200)
        assert page.is_visible("#alert")
    assert len(audited(path).choices) == 1
    # Whatever was under way when the server ended, and then the save.
    assert troubles and all("ERR_CONNECTION_RE" in one or "ERR_CONTENT_LENGTH" in one for one in troubles)
    troubles.clear()


def test_a_failed_save_can_be_tried_again(page, troubles, tmp_path):
    path = write(tmp_path, many(40))
    with auditing(path, "--sample", 5) as (_, address):
        page.route("**/choice", lambda route: route.fulfill(status=500, body="No space left on device"))
        opened(page, address)
        page.keyboard.press("2")
        page.wait_for_selector("#alert:not([hidden]), #verdict:not([hidden])")
        assert page.inner_text("#alert-text") == "NOT SAVED: reasoning. No space left on device."
        assert page.get_attribute('[data-kind="reasoning"]', "aria-pressed") == "true"
        page.unroute("**/choice")
        page.keyboard.press("Enter")
        page.wait_for_selector("#verdict:not([hidden])")
        assert page.is_hidden("#alert")
    assert [one.kind for one in audited(path).choices.values()] == ["reasoning"]
    assert len(troubles) == 1 and "500" in troubles[0]
    troubles.clear()


@pytest.mark.slow
@pytest.mark.parametrize("colors", ["light", "dark"])
@pytest.mark.parametrize("size", ["desktop", "phone", "low"])
def test_it_fits(browser, troubles, tmp_path, size, colors):
    long = "First I look at the picture and count what I see, one after another. " * 30
    path = write(tmp_path, [record(1, response=f"{long}\nSo it has a chart with 4 bars.\n{long}", index="x" * 200)])
    viewport = {"phone": PHONE, "low": {"width": 1024, "height": 560}}.get(size)
    options = {"viewport": viewport} if viewport else {}
    with auditing(path) as (_, address), watched_page(browser, troubles, color_scheme=colors, **options) as page:
        opened(page, address)
        shot(page, f"audit_{size}_{colors}")
        choose(page, "2")
        shot(page, f"audit_{size}_{colors}_chosen")
        width, seen = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert width <= seen
        if size == "desktop":  # nothing to scroll but the response
            assert page.evaluate("document.documentElement.scrollHeight <= innerHeight")
        light = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (light == "rgb(245, 245, 243)") == (colors == "light")
        for button in page.locator("#kinds button").all():
            box = button.bounding_box()
            assert box["height"] >= 44 and box["width"] >= 120
