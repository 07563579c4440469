"""The report page in a real browser: headless Chromium, wide and narrow, light and dark."""

from __future__ import annotations

import contextlib
import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import synthetic
import torch

from regicomp.image_codec import model_file
from regicomp.report import __main__ as command

CHROMIUM, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs Debian's chromium and chromium-driver"),
]
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
)
LOOKS = [(width, scheme) for width in (1400, 400) for scheme in ("light", "dark")]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> str:
    """A page of a sweep on two test sets, with pictures of one."""
    place = tmp_path_factory.mktemp("page")
    sweep = synthetic.sweep(
        place / "runs", ("hyperprior", "elic"), seeds=(0,), history=True, testsets=("kodak", folder.name)
    )
    torch.manual_seed(0)
    spec = model_file.Spec("compressai.models.ScaleHyperprior", {"N": 8, "M": 12})
    for alpha in (0, 0.1):
        path = sweep / f"hyperprior/alpha={alpha},quality=3,seed=0/codec.safetensors"
        model_file.save_codec(path, model_file.build(spec, "backbone"), spec, {})
    (place / "empty").mkdir()
    with contextlib.redirect_stdout(io.StringIO()):
        given = [sweep, place / "empty", "--out", place / "out", "--no-classical", "--images", 1, "--test-dirs", folder]
        command.main([*map(str, given), "--data-root", str(place), "--bootstrap", "100"])
    return (place / "out" / "index.html").as_uri()


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A browser with a profile of its own."""
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(params=LOOKS, ids=[f"{width}-{scheme}" for width, scheme in LOOKS])
def browser(chromium: Any, address: str, request: pytest.FixtureRequest) -> Any:
    """The page, opened anew at a width and a colour scheme."""
    width, scheme = request.param
    scheme_is = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", scheme_is)
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    chromium.get(address)
    _until(chromium, "return document.documentElement.dataset.ready === 'true'")
    return chromium


def _until(browser: Any, script: str, seconds: float = 30) -> Any:
    """Wait until a script returns something true, and return it."""
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, seconds).until(lambda driver: driver.execute_script(script))


def _click(browser: Any, selector: str) -> None:
    from selenium.webdriver.common.by import By

    element = browser.find_element(By.CSS_SELECTOR, selector)
    browser.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", element)
    element.click()


def test_page_in_a_browser(browser: Any) -> None:
    """One visit: it fits, follows the colour scheme, answers clicks and hovers, and has no error to tell."""
    _fits_and_follows_the_scheme(browser)
    _legend_hides_a_curve(browser)
    _hover_names_the_point(browser)
    _other_metric_and_test_set(browser)
    _image_opens(browser)
    assert [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []
    loaded = browser.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert [name for name in loaded if not name.startswith("data:")] == []


def _fits_and_follows_the_scheme(browser: Any) -> None:
    width, room = browser.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    assert width <= room
    dark = browser.execute_script("return matchMedia('(prefers-color-scheme: dark)').matches")
    luminance = "return getComputedStyle(document.{}).{}.match(/[0-9]+/g).slice(0, 3).reduce((a, b) => a + +b, 0) / 3"
    paper, ink = (browser.execute_script(luminance.format("body", what)) for what in ("backgroundColor", "color"))
    assert (paper < 60 and ink > 200) if dark else (paper > 230 and ink < 60)
    axis = browser.execute_script("return getComputedStyle(document.querySelector('#rd .xtick text')).fill")
    assert sum(map(int, axis.removeprefix("rgb(").rstrip(")").split(","))) / 3 == pytest.approx(ink, abs=30)


def _legend_hides_a_curve(browser: Any) -> None:
    drawn = "return document.querySelectorAll('#rd .scatterlayer .trace').length"
    before = browser.execute_script(drawn)
    _click(browser, "#legend button[data-key^='runs: elic']")
    assert _until(browser, f"{drawn} === {before - 1}")
    _click(browser, "#legend button[data-key^='runs: elic']")
    assert _until(browser, f"{drawn} === {before}")
    _click(browser, "#legend button[data-key='published: BPG 4:4:4']")
    assert _until(browser, f"{drawn} === {before + 1}")


def _hover_names_the_point(browser: Any) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By

    browser.execute_script("document.getElementById('rd').scrollIntoView({block: 'center', behavior: 'instant'})")
    points = browser.find_elements(By.CSS_SELECTOR, "#rd .scatterlayer .trace .points path")
    ActionChains(browser).move_to_element(points[1]).perform()
    said = _until(browser, "return document.querySelector('#rd .hoverlayer .hovertext')?.textContent")
    assert "bpp" in said
    assert "dB" in said
    assert "λ" in said


def _other_metric_and_test_set(browser: Any) -> None:
    axis = "return document.querySelector('#rd .ytitle').textContent"
    assert browser.execute_script(axis).startswith("PSNR")
    _click(browser, "#metric-choice button:last-child")
    assert _until(browser, f"{axis}.startsWith('MS-SSIM')")
    before = browser.execute_script("return document.getElementById('set-about').textContent")
    _click(browser, "#set-choice button:last-child")
    assert _until(browser, "return document.getElementById('set-about').textContent") != before


def _image_opens(browser: Any) -> None:
    # The set with pictures is the one that is not kodak.
    browser.execute_script(
        "const choice = document.getElementById('image-set');"
        "choice.value = [...choice.options].find((o) => o.text !== 'kodak').value;"
        "choice.dispatchEvent(new Event('change'));"
    )
    _click(browser, "#image-table tbody tr button")
    loaded = (
        "return [...document.querySelectorAll('#viewer[open] #viewer-pictures img')]"
        ".filter((image) => image.complete && image.naturalWidth > 0).length === 4"
    )
    assert _until(browser, loaded)
    box = "document.getElementById('viewer').getBoundingClientRect()"
    left, right, room = browser.execute_script(f"return [{box}.left, {box}.right, innerWidth]")
    assert 0 <= left < right <= room
    assert browser.execute_script("return document.querySelectorAll('#viewer-table tbody tr').length") == 16
    first = browser.execute_script("return document.querySelector('#viewer-pictures .peek').src")
    _click(browser, "#viewer-runs button:last-child")
    assert _until(browser, "return document.querySelector('#viewer-pictures .peek').src") != first
    _click(browser, "#viewer-close")
    assert _until(browser, "return !document.getElementById('viewer').open")
    width, room = browser.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    assert width <= room
