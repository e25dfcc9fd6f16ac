"""The page in a real browser: it opens from a file, sorts, filters, shows volumes, and asks no network for anything."""

import io
import itertools
import json
import re

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

from nnunet_stochastic.commands.report import main
from tests.browser.chromium import assert_no_errors_and_no_network, chromium
from tests.report.results import write_result

pytestmark = pytest.mark.slow
PATIENCE = 240  # seconds, for a machine without a graphics card that does other things as well


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    root = tmp_path_factory.mktemp("page")
    folders = [
        write_result(root / "a", name="MoB / swag", files=True, num_cases=4, num_samples=2, shape=(8, 40, 36)),
        write_result(root / "b", name="SSN / <b>none</b>", num_cases=4, quality=0.6, is_stand_in=True),
    ]
    path = root / "report.html"
    options = ["-o", str(path), "--viewer_cases", "4", "--disable_progress_bar"]
    assert main([*map(str, folders), *options]) == 0
    with chromium() as browser:
        browser.set_page_load_timeout(PATIENCE)
        browser.get(path.as_uri())
        wait_until(browser, lambda: shown(browser))
        yield browser


def wait_until(driver, condition):
    return WebDriverWait(driver, PATIENCE).until(lambda _: condition())


def shown(driver):
    """Index of the case in the viewer, once its volumes are there."""
    return driver.find_element(By.ID, "viewer").get_attribute("data-shown")


def rows(driver):
    """Texts of the cells of the rows that are drawn."""
    script = """return Array.from(document.querySelectorAll('#table .tabulator-row')).map(
        (row) => Array.from(row.querySelectorAll('.tabulator-cell')).map((cell) => cell.innerText.trim()))"""
    return driver.execute_script(script)


def column(driver, title):
    script = (
        "return Array.from(document.querySelectorAll('#table .tabulator-col-title')).map((title) => title.innerText)"
    )
    index = driver.execute_script(script).index(title)
    return [float(row[index]) for row in rows(driver)]


def click_heading(driver, title):
    path = f"//*[@id='table']//*[contains(@class, 'tabulator-col-title') and text()='{title}']"
    driver.execute_script("arguments[0].click()", driver.find_element(By.XPATH, path))


def set_value(driver, name, value, event):
    script = "const [name, value, event] = arguments; const element = document.getElementById(name);"
    script += "element.value = value; element.dispatchEvent(new Event(event));"
    driver.execute_script(script, name, value, event)


def canvas(driver):
    element = driver.find_element(By.ID, "canvas")
    driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
    return np.array(Image.open(io.BytesIO(element.screenshot_as_png)).convert("RGB")).astype(int)


def test_volumes_are_drawn(driver):
    picture = canvas(driver)
    saturation = picture.max(axis=-1) - picture.min(axis=-1)
    assert (picture.sum(axis=-1) > 60).mean() > 0.1
    assert (saturation > 60).mean() > 0.005  # the map and the outlines are in colour


def test_the_viewer_starts_where_uncertainty_is_largest(driver):
    """In the slice of the thumbnail, whose border has the largest values of all here."""
    place = driver.find_element(By.ID, "location").text
    limit = driver.find_element(By.ID, "scale-value").text
    # Raters and prediction aside, maps have 256 levels.
    value = float(re.search(r"total ([\d.e-]+) nats", place)[1])
    assert value == pytest.approx(float(limit.removesuffix(" nats")), rel=0.01)


def test_another_map_slice_and_opacity_change_the_picture(driver):
    names = [option.text for option in Select(driver.find_element(By.ID, "choose-map")).options]
    assert names == ["none", "total", "aleatoric", "epistemic", "agreement"]
    set_value(driver, "choose-plane", "0", "change")
    pictures = [canvas(driver)]
    Select(driver.find_element(By.ID, "choose-map")).select_by_visible_text("agreement")
    pictures.append(canvas(driver))
    set_value(driver, "opacity", "0.1", "input")
    pictures.append(canvas(driver))
    before = driver.find_element(By.ID, "slice-value").text
    set_value(driver, "slice", "0" if not before.startswith("1 ") else "5", "input")
    after = driver.find_element(By.ID, "slice-value").text
    pictures.append(canvas(driver))
    assert re.fullmatch(r"\d of 8", before)
    assert re.fullmatch(r"\d of 8", after)
    assert before != after
    differences = [np.abs(a - b).mean() for a, b in itertools.pairwise(pictures)]
    assert min(differences) > 0.05
    for name, value, event in (
        ("opacity", "0.6", "input"),
        ("choose-map", "total", "change"),
        ("choose-plane", "3", "change"),
    ):
        set_value(driver, name, value, event)


def test_samples_are_flipped_through_by_buttons_and_keys(driver):
    told = driver.find_element(By.ID, "sample-value")
    assert told.text == "2 samples (keys ← →)"
    pictures = [canvas(driver)]
    for name in ("next-sample", "next-sample"):
        driver.execute_script("arguments[0].click()", driver.find_element(By.ID, name))
        pictures.append(after_a_frame(driver))
    assert told.text == "sample 2 of 2"
    script = "document.getElementById('viewer').dispatchEvent(new KeyboardEvent('keydown', {key: arguments[0]}))"
    driver.execute_script(script, "ArrowLeft")
    assert told.text == "sample 1 of 2"
    np.testing.assert_array_equal(after_a_frame(driver), pictures[1])
    driver.execute_script(script, "ArrowRight")
    driver.execute_script(script, "ArrowRight")
    assert told.text == "2 samples (keys ← →)"
    np.testing.assert_array_equal(after_a_frame(driver), pictures[0])
    assert min(np.abs(a - b).mean() for a, b in itertools.combinations(pictures, 2)) > 0.01


def after_a_frame(driver):
    script = "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => done()))"
    driver.execute_async_script(script)
    return canvas(driver)


def test_outlines_are_borders_in_each_plane(driver):
    """Also where a plane only touches the structure: a cube of 5 voxels, cut through its face at y = 2."""
    script = """const size = [9, 9, 9]; const values = new Uint8Array(729);
        const inside = [2, 3, 4, 5, 6];
        for (const z of inside) for (const y of inside) for (const x of inside) values[x + 9 * y + 81 * z] = 1;
        const found = [];
        outlineVoxels({ kind: 'classes', values }, 0, size, [4, 2, 4], arguments[0], (voxel) => found.push(voxel));
        return found;"""
    cube = np.zeros((9, 9, 9), bool)
    cube[2:7, 2:7, 2:7] = True
    ring = cube.copy()
    ring[3:6, 2, 3:6] = False
    for axes in ([1], [0, 1, 2]):
        drawn = np.zeros(cube.size, bool)
        drawn[driver.execute_script(script, axes)] = True
        drawn = drawn.reshape(cube.shape)
        np.testing.assert_array_equal(drawn[:, 2], ring[:, 2])


def test_uncertainties_are_beside_the_case_at_1300_pixels(driver):
    try:
        driver.set_window_size(1300, 1000)
        script = """const holder = document.querySelector('#table .tabulator-tableholder').getBoundingClientRect();
            return [...document.querySelectorAll('#table .tabulator-col-title')].map((title) =>
                [title.innerText, title.getBoundingClientRect().right <= holder.right + 1])"""
        seen = dict(driver.execute_script(script))
        assert {name: seen[name] for name in ("TU", "AU", "EU", "EU/AU")} == dict.fromkeys(
            ("TU", "AU", "EU", "EU/AU"), True
        )
        script = "return document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        assert driver.execute_script(script)
    finally:
        driver.set_window_size(1500, 1000)


def test_on_a_narrow_window(driver):
    """The viewer scrolls into view, nothing makes the page wider, and what is cut off is said to go on."""
    size = {"width": 420, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        driver.execute_script(
            "window.dispatchEvent(new Event('resize')); document.getElementById('list').scrollIntoView()"
        )
        script = "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        whole, shown_width = driver.execute_script(script)
        assert whole <= shown_width
        assert all(driver.execute_script("return [...document.querySelectorAll('.more')].map((line) => !line.hidden)"))
        first = shown(driver)
        row = "[...document.querySelectorAll('#table .tabulator-row')].find((row) => row.innerText.includes('view') && "
        row += "!row.classList.contains('tabulator-selected'))"
        driver.execute_script(f"{row}.click()")
        wait_until(driver, lambda: shown(driver) != first)
        script = "return document.getElementById('viewer').getBoundingClientRect().top"
        wait_until(driver, lambda: 0 <= driver.execute_script(script) < 450)
    finally:
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_sorting(driver):
    click_heading(driver, "TU")
    values = column(driver, "TU")
    assert values == sorted(values, reverse=True)
    click_heading(driver, "Dice")
    values = column(driver, "Dice")
    assert values == sorted(values)
    assert values[0] < values[-1]


def test_filters(driver):
    count = driver.find_element(By.ID, "count")
    assert count.text == "24 of 24"
    set_value(driver, "choose-set", "blur", "change")
    assert count.text == "8 of 24"
    set_value(driver, "choose-model", "SSN / <b>none</b>", "change")
    assert count.text == "4 of 24"
    assert all("SSN / <b>none</b>" in row[1] for row in rows(driver))
    set_value(driver, "search", "0003", "input")
    assert [row[1].split()[0] for row in rows(driver)] == ["case_0003"]
    for name in ("choose-set", "choose-model"):
        set_value(driver, name, "", "change")
    set_value(driver, "search", "", "input")
    assert count.text == "24 of 24"


def test_numbers_of_eu_of_one_member_are_marked(driver):
    for model, num_marked in (("MoB / SWAG", 0), ("SSN / <b>none</b>", 2)):  # EU and EU/AU
        set_value(driver, "choose-model", model, "change")
        assert {sum(cell.endswith(" †") for cell in row) for row in rows(driver)} == {num_marked}
    set_value(driver, "choose-model", "", "change")


def test_selecting_cases(driver):
    box = driver.find_element(By.ID, "only-viewable")
    driver.execute_script("arguments[0].click()", box)
    viewable = rows(driver)
    assert 1 < len(viewable) <= 4
    first = shown(driver)
    data = json.loads(driver.execute_script("return document.getElementById('data-rows').textContent"))["rows"]
    other = next(row for row in data if str(row["id"]) != first and row["model"] == "MoB / SWAG" and row["id"] < 4)
    script = """const name = arguments[0]; Array.from(document.querySelectorAll('#table .tabulator-row'))
        .find((row) => row.innerText.includes(name[0]) && row.innerText.includes(name[1])).click()"""
    driver.execute_script(script, [other["case"], other["set"]])
    wait_until(driver, lambda: shown(driver) == str(other["id"]))
    assert other["case"] in driver.find_element(By.ID, "case-name").text
    driver.execute_script("arguments[0].click()", box)


def test_a_case_without_volumes_says_how_to_get_them(driver):
    set_value(driver, "choose-model", "SSN / <b>none</b>", "change")
    driver.execute_script("document.querySelector('#table .tabulator-row').click()")
    note = driver.find_element(By.ID, "case-note")
    wait_until(driver, lambda: "--viewer_cases" in note.text)
    assert not driver.find_element(By.ID, "stage").is_displayed()
    assert "does not exist" in note.text
    set_value(driver, "choose-model", "", "change")


def test_no_errors_and_no_network(driver):
    assert_no_errors_and_no_network(driver)
