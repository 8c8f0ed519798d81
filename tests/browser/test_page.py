"""The report in a real browser: it loads from disk, draws, answers clicks, and fits a phone."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from genclass.config import parse_config
from genclass.reporting.page import render
from tests.support.synthetic_results import make_config, write_config

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
Axe = axe.Axe

pytestmark = pytest.mark.browser

Open = Callable[..., Any]


@pytest.fixture
def opened(browser: Any, report: Path) -> Iterator[Open]:
    """Opens the report; whatever it asks of a network and whatever goes wrong fails the test."""
    troubles: list[str] = []
    contexts = []

    def open_page(width: int = 1280, path: Path = report, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: troubles.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("request", lambda r: troubles.append(r.url) if not local(r.url) else None)
        page.goto(path.as_uri())
        if options.get("java_script_enabled", True):
            page.wait_for_selector("html[data-drawn=true]", timeout=60_000)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert troubles == []


def local(url: str) -> bool:
    return url.startswith(("file:", "data:"))


def wait_until(condition: Callable[[], bool]) -> None:
    """Playwright's own waiting for a function needs eval, which the page's policy forbids."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def curves(page: Any) -> int:
    return int(page.locator("#figure-accuracy-trials .mark-line path").count())


@pytest.mark.parametrize("size", ["report", "large"])
def test_it_is_light_and_opens_fast(
    opened: Open, size: str, request: pytest.FixtureRequest
) -> None:
    """As large as the paper's own report, too: 64 evaluations."""
    path: Path = request.getfixturevalue(size)
    assert path.stat().st_size < 8_000_000
    page = opened(path=path)
    timing = "performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd"
    assert page.evaluate(timing) < 2000


def test_every_chart_is_drawn(opened: Open) -> None:
    page = opened()
    figures = page.locator("figure.chart")
    assert figures.count() >= 7
    assert page.locator("figure.chart.drawn .canvas svg").count() == figures.count()
    assert page.locator("figure.chart .static:visible").count() == 0
    assert curves(page) == 4 * 5  # models, test sets without severity


def test_a_click_in_the_legend_hides_a_curve_everywhere(opened: Open) -> None:
    page = opened()
    button = page.locator("#figure-accuracy-trials .legend button", has_text="DiT")
    button.click()
    wait_until(lambda: curves(page) == 3 * 5)
    pressed = page.locator(".legend button[data-series=DiT]").evaluate_all(
        "all => all.map((button) => button.getAttribute('aria-pressed'))"
    )
    assert set(pressed) == {"false"}
    button.press("Enter")
    wait_until(lambda: curves(page) == 4 * 5)


def test_the_filter_hides_a_test_set_in_tables_and_charts(opened: Open) -> None:
    page = opened()
    page.locator(".filter").click()
    page.locator("[data-dataset=sketch]").uncheck()
    assert page.locator("#table-main thead th:visible").count() == 9
    wait_until(lambda: curves(page) == 4 * 4)
    assert page.locator(".filter").inner_text() == "Test sets: 7 of 8"
    page.locator("[data-dataset=sketch]").check()
    assert page.locator("#table-main thead th:visible").count() == 10


def test_tables_sort_and_return_to_their_order(opened: Open) -> None:
    page = opened()
    rows = page.locator("#table-main tbody th")
    original = rows.all_inner_texts()
    header = page.locator("#table-main thead th[data-column=digits]")
    cells = page.locator("#table-main tbody td[data-column=digits] data")

    def values() -> list[float]:
        return [float(text) for text in cells.all_inner_texts()]

    header.locator("button").click()
    assert header.get_attribute("aria-sort") == "descending"
    assert values() == sorted(values(), reverse=True)
    header.locator("button").click()
    assert header.get_attribute("aria-sort") == "ascending"
    assert values() == sorted(values())
    header.locator("button").click()
    assert rows.all_inner_texts() == original


def test_a_cell_opens_to_where_it_comes_from(opened: Open) -> None:
    page = opened()
    cell = page.locator("#table-main tbody tr:nth-child(3) td[data-column=digits] button")
    cell.focus()
    page.keyboard.press("Enter")
    dialog = page.locator("#cell-main-2-0")
    assert dialog.is_visible()
    text = dialog.inner_text()
    assert "snakemake --configfile" in text
    assert "images-00000-00199.trials-000-019.safetensors" in text
    assert "Some CPU" in text
    page.keyboard.press("Escape")
    assert not dialog.is_visible()


def test_the_unit_of_cost_is_chosen(opened: Open) -> None:
    page = opened()
    assert page.locator("#figure-accuracy-forward-passes").is_visible()
    page.locator(".units label", has_text="Seconds").click()
    assert page.locator("#figure-accuracy-seconds .canvas svg").is_visible()
    assert not page.locator("#figure-accuracy-forward-passes").is_visible()


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_nothing_scrolls_sideways_but_tables(opened: Open, width: int) -> None:
    page = opened(width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_first_column_stays_in_sight(opened: Open) -> None:
    page = opened(390)
    scroller = page.locator("#table-main .scroll")
    scroller.evaluate("element => element.scrollLeft = 300")
    left = page.locator("#table-main tbody tr:first-child th").bounding_box()["x"]
    assert left == pytest.approx(scroller.bounding_box()["x"], abs=1)


def test_it_reads_without_javascript(opened: Open) -> None:
    page = opened(java_script_enabled=False)
    images = page.locator("figure.chart .static img")
    assert images.count() >= 7
    assert page.locator("#figure-accuracy-trials .static img").is_visible()
    assert page.locator(".legend:visible, .filter:visible").count() == 0
    page.locator("#table-main tbody td[data-column=digits] button").first.click()
    assert page.locator("#cell-main-0-0").is_visible()


def test_charts_follow_the_colour_scheme_and_the_width(opened: Open) -> None:
    page = opened()
    label = page.locator("#figure-accuracy-trials .role-axis-label text").first
    before = label.get_attribute("fill")
    page.emulate_media(color_scheme="dark")
    wait_until(lambda: label.get_attribute("fill") != before)
    page.wait_for_selector("html[data-drawn=true]")
    page.set_viewport_size({"width": 390, "height": 900})
    svg = page.locator("#figure-accuracy-trials .canvas svg")
    wait_until(lambda: 0 < (svg.bounding_box() or {"width": 0})["width"] < 380)
    page.wait_for_selector("html[data-drawn=true]")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_everyone_can_read_it(opened: Open, scheme: str, width: int) -> None:
    page = opened(width, color_scheme=scheme)
    page.locator("details").evaluate_all("all => all.forEach((fold) => { fold.open = true; })")
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    page.locator("#table-main tbody td[data-column=digits] button").first.click()
    found = Axe().run(page, "#cell-main-0-0")
    assert found.violations_count == 0, found.generate_report()


def test_charts_are_named_by_what_is_to_be_seen(opened: Open) -> None:
    page = opened()
    names = page.locator("figure.chart .canvas").evaluate_all(
        "all => all.map((canvas) => [canvas.role, canvas.ariaLabel])"
    )
    assert {role for role, _ in names} == {"img"}
    assert all(len(name) > 40 for _, name in names)


NASTY = """<img src=x onerror="document.title='run'"> & "$x$" '</script><script>alert(1)</script>"""


def test_names_are_shown_and_never_run(
    opened: Open, report: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("nasty")
    raw = make_config(root).model_dump(mode="json")
    raw["report"]["title"] = raw["models"]["randar"]["title"] = NASTY
    raw["datasets"]["digits"]["title"] = raw["report"]["tables"]["main"]["caption"] = NASTY
    classes = root / "classes.csv"
    quoted = NASTY.replace('"', '""')
    lines = [f'{i},folder-{i},"{quoted}"' for i in range(10)]
    classes.write_text("\n".join(["class_id,folder,name", *lines]) + "\n")
    raw["datasets"]["digits"]["labels"] = str(classes)
    write_config(parse_config(raw, "nasty"))
    for part in ("metrics", "merged", "predictions", "specs", "explained"):
        leave = shutil.ignore_patterns("*.safetensors")
        shutil.copytree(report.parents[1] / part, root / part, ignore=leave)
    page = opened(path=render(root).page)
    assert page.title() == page.locator("h1").inner_text() == NASTY
    assert page.locator("img[src=x]").count() == 0
    button = page.locator("#figure-accuracy-trials .legend button", has_text=NASTY)
    button.click()
    wait_until(lambda: curves(page) == 3 * 5)
    assert page.locator("#figure-accuracy-trials .canvas svg text", has_text=NASTY[:12]).count()
    page.locator("#table-main tbody tr:nth-child(3) td[data-column=digits] button").click()
    assert NASTY in page.locator("#cell-main-2-0").inner_text()
    assert page.locator("#gallery ~ details .card b", has_text=NASTY).count() > 0


def test_the_gallery_is_seen(opened: Open) -> None:
    page = opened()
    cards = page.locator("details[open] .card:visible")
    assert cards.count() > 2
    sizes = page.locator("details[open] .card img").evaluate_all(
        "all => all.map((image) => [image.complete, image.naturalWidth])"
    )
    assert len(sizes) == 3 * cards.count()
    assert set(map(tuple, sizes)) == {(True, 160)}


def test_it_prints_with_every_figure(opened: Open) -> None:
    page = opened(color_scheme="dark")
    page.emulate_media(media="print")
    assert page.locator("figure.chart .static img:visible").count() >= 7
    assert page.locator(".canvas:visible, .bar:visible").count() == 0
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
