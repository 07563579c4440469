"""A picture of a report's page, or `--plain` of another, by Chromium: `python -m experiments.screenshot PAGE OUT.png`.

Needs Debian's chromium and chromium-driver, as `make test-browser` does. The picture is of the top of the page, or,
with `--at SELECTOR`, of the page scrolled to an element such as `#rd`.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

from regicomp.utils import cli, files

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--hide-scrollbars",
    "--no-first-run",
    "--disable-dev-shm-usage",
)


def take(page: Path, out: Path, size: tuple[int, int], scheme: str, at: str | None, scale: float, plain: bool) -> None:
    """Write the picture.

    Args:
        page: a report's index.html, or another page.
        out: the PNG, replaced whole.
        size: of the window, pixels.
        scheme: light or dark.
        at: a selector of what is scrolled to; None: the top.
        scale: device pixels a pixel.
        plain: the page is ready once it is loaded; a report's says when it has drawn its figures.

    Raises:
        ValueError: there is no page, or no browser.
    """
    from selenium import webdriver
    from selenium.webdriver.support.ui import WebDriverWait

    chromium, driver = (shutil.which(name) for name in ("chromium", "chromedriver"))
    if not page.is_file():
        raise ValueError(f"`PAGE` (={page}) must be a page, such as a report's index.html; there is no such file")
    if not (chromium and driver):
        raise ValueError("there is no chromium or chromedriver; `make test-browser` installs Debian's")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    with tempfile.TemporaryDirectory() as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
        try:
            look = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
            browser.execute_cdp_cmd("Emulation.setEmulatedMedia", look)
            window = {"width": size[0], "height": size[1], "deviceScaleFactor": scale, "mobile": False}
            browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", window)
            browser.get(page.resolve().as_uri())
            drawn, loaded = "document.documentElement.dataset.ready === 'true'", "document.readyState === 'complete'"
            ready = f"return {loaded if plain else drawn}"
            WebDriverWait(browser, 60).until(lambda found: found.execute_script(ready))
            if at is not None:
                browser.execute_script(
                    "document.querySelector(arguments[0]).scrollIntoView({block: 'start', behavior: 'instant'})", at
                )
            files.write_bytes(out, browser.get_screenshot_as_png())
        finally:
            browser.quit()


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--width", type=int, default=1400)
    parser.add_argument("--height", type=int, default=1000)
    parser.add_argument("--scale", type=float, default=1.0, help="device pixels a pixel")
    parser.add_argument("--scheme", choices=("light", "dark"), default="light")
    parser.add_argument("--at", metavar="SELECTOR", help="scroll there")
    parser.add_argument("--plain", action="store_true", help="a page that is no report's")
    given = parser.parse_args()
    with cli.told_in_one_line():
        take(given.page, given.out, (given.width, given.height), given.scheme, given.at, given.scale, given.plain)


if __name__ == "__main__":
    main()
