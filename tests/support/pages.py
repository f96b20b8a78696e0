"""What a person does on the page."""

from pathlib import Path

from playwright.sync_api import Locator, Page, expect

PHONE = (390, 844)
PATIENCE = 60_000  # milliseconds


def choose(page: Page, photo: Path, words: str) -> None:
    page.set_input_files("#photo input[type=file]", photo)
    page.wait_for_selector("#photo img")
    page.fill("#classes textarea", words)


def finished(page: Page, tab: str = "segment", kind: str = "done") -> Locator:
    status = page.locator(f"#{tab}-status .{kind}")
    expect(status).to_be_visible(timeout=PATIENCE)
    return status


def open_tab(page: Page, name: str) -> None:
    tab = page.get_by_role("tab", name=name)
    if tab.count():
        tab.click()
    else:  # on a phone the last ones lie behind the dots
        page.get_by_role("button", name="More tabs").click()
        page.locator(".overflow-dropdown").get_by_role("button", name=name).click()


def fits(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"))
