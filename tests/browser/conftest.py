"""The machine's own Chromium, headless; a page may load nothing from elsewhere."""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


FLAGS = (
    "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update "
    "--disable-sync"
)


WAIT_MS = 200_000


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if CHROMIUM is None:
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason="needs Chromium: apt-get install chromium"))


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        yield running
        running.close()


@pytest.fixture
def visit(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Opens an address in a window of some width. What the page looked like in the end is left in `page.png`."""
    pages, faults = [], []

    def open_page(address: str, width: int = 1800, height: int = 1300) -> Any:
        page = browser.new_page(viewport={"width": width, "height": height})
        page.set_default_timeout(WAIT_MS)
        page.on("request", lambda request: None if _is_local(request.url) else faults.append(request.url))
        page.goto(address)
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        page.screenshot(path=tmp_path / "page.png")
        page.close()
    assert faults == [], "the pages need nothing from elsewhere"


def _is_local(url: str) -> bool:
    return re.match(r"http://127\.0\.0\.1:\d+/|data:|blob:|file:", url) is not None
