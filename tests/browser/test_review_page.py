"""The page of new cases in a real browser: filters, the structure that is shown, lesions, masks, and the keyboard."""

import numpy as np
import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from nnunet_stochastic.commands.report import main
from tests.browser.chromium import assert_no_errors_and_no_network, chromium
from tests.browser.test_report_page import PATIENCE, after_a_frame, canvas, column, rows, set_value, shown, wait_until
from tests.report.new_cases import CENTRES, write_decisions, write_predictions

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    root = tmp_path_factory.mktemp("review")
    decided = write_decisions(root / "decided", write_predictions(root))
    assert main([str(decided), "--viewer_cases", "2", "--disable_progress_bar"]) == 0
    with chromium() as browser:
        browser.set_page_load_timeout(PATIENCE)
        browser.get((decided / "report.html").as_uri())
        wait_until(browser, lambda: shown(browser))
        yield browser


def count(driver):
    return driver.find_element(By.ID, "count").text


def click(driver, element):
    driver.execute_script("arguments[0].click()", element)


def lesions(driver):
    return driver.find_elements(By.CSS_SELECTOR, "#lesions button")


def test_the_case_to_open_first_is_on_top_with_its_reason(driver):
    assert [row[1].split()[0] for row in rows(driver)] == ["case_0002", "case_0001", "case_0000"]
    assert driver.find_element(By.ID, "case-name").text == "case_0002"
    assert driver.find_element(By.ID, "case-reason").text == "rim: there with probability 0.50"
    assert "case_0001 & <b>others</b>" in rows(driver)[1]
    assert "66.7 %" in rows(driver)[1]


def test_arrows_and_neighbours_leave_headings_free(driver):
    """No line of a heading lies under the arrow of its column, or reaches into the next column."""
    places = driver.execute_script("""
      return [...document.querySelectorAll("#table .tabulator-col")].map((column) => {
        const [title, arrow] = [".tabulator-col-title", ".tabulator-arrow"].map((name) => column.querySelector(name));
        const lines = document.createRange();
        lines.selectNodeContents(title);
        const place = (box) => [box.left, box.top, box.right, box.bottom];
        return [title.textContent, column.getBoundingClientRect().right, arrow && place(arrow.getBoundingClientRect()),
                [...lines.getClientRects()].map(place)];
      })""")
    with_arrow = [each for each in places if each[0].strip() and each[2]]
    assert {"percentile", "predicted Dice", "expected loss"} <= {title for title, *_ in with_arrow}
    for title, end, arrow, lines in with_arrow:
        for left, top, right, bottom in lines:
            assert right <= end + 0.5, title
            assert bottom <= arrow[1] or arrow[3] <= top or right <= arrow[0] or arrow[2] <= left, title


def test_a_click_on_a_lesion_moves_the_crosshair(driver):
    before = canvas(driver)
    places, pictures = [], []
    for button in lesions(driver):
        click(driver, button)
        places.append(driver.find_element(By.ID, "location").text.partition(";")[0])
        pictures.append(after_a_frame(driver))
        assert [each.get_attribute("aria-pressed") for each in lesions(driver)].count("true") == 1
    assert places == [f"voxel (x, y, z) = {', '.join(map(str, centre))}" for centre in CENTRES]
    assert min(np.abs(picture - before).mean() for picture in pictures) > 0.05
    # And by the keyboard.
    driver.execute_script("arguments[0].focus()", lesions(driver)[0])
    driver.switch_to.active_element.send_keys(Keys.ENTER)
    assert driver.find_element(By.ID, "location").text.startswith(places[0])


def test_inner_and_outer_masks_are_drawn(driver):
    boxes = {box.get_attribute("data-outline"): box for box in driver.find_elements(By.CSS_SELECTOR, "#legend input")}
    assert list(boxes) == ["prediction", "outer", "inner", "samples"]
    assert "outer: misses 10 % at most" in driver.find_element(By.ID, "legend").text.replace("\n", " ")
    for name in ("outer", "inner"):
        with_mask = canvas(driver)
        click(driver, boxes[name])
        without = after_a_frame(driver)
        assert np.abs(with_mask - without).mean() > 0.01
        click(driver, boxes[name])
        np.testing.assert_array_equal(after_a_frame(driver), with_mask)


def test_samples_can_be_flipped_through(driver):
    click(driver, driver.find_element(By.ID, "next-sample"))
    assert driver.find_element(By.ID, "sample-value").text == "sample 1 of 2"
    click(driver, driver.find_element(By.ID, "previous-sample"))


def test_search_finds_words_of_the_reason(driver):
    set_value(driver, "search", "PROBABILITY", "input")
    assert count(driver) == "1 of 3"
    set_value(driver, "search", "case_0000", "input")
    assert [row[1].split()[0] for row in rows(driver)] == ["case_0000"]
    set_value(driver, "search", "", "input")
    assert count(driver) == "3 of 3"


def test_another_structure(driver):
    chosen = Select(driver.find_element(By.ID, "choose-structure"))
    assert [option.text for option in chosen.options] == ["the most doubtful of each case", "nodule", "rim"]
    chosen.select_by_visible_text("nodule")
    wait_until(driver, lambda: [row[3] for row in rows(driver)] == ["nodule"] * 3)
    assert [row[5].split()[0] for row in rows(driver)] == ["3.50", "2.50", "1.50"]
    assert column(driver, "#") == [1, 2, 3]
    chosen.select_by_index(0)
    wait_until(driver, lambda: [row[3] for row in rows(driver)] == ["rim", "nodule", "nodule"])


def test_the_list_is_gone_through_by_keys(driver):
    holder = driver.find_element(By.CSS_SELECTOR, "#table .tabulator-tableholder")
    holder.send_keys(Keys.ARROW_DOWN)
    wait_until(driver, lambda: shown(driver) == "1")
    assert driver.find_element(By.ID, "case-name").text == "case_0001"
    holder.send_keys(Keys.ARROW_DOWN)
    note = driver.find_element(By.ID, "case-note")
    wait_until(driver, lambda: "--viewer_cases" in note.text)
    # The viewer has no such case, so its lesions are text.
    assert lesions(driver) == []
    assert "nodule 2" in driver.find_element(By.ID, "lesions").text
    holder.send_keys(Keys.ARROW_UP)
    holder.send_keys(Keys.ARROW_UP)
    wait_until(driver, lambda: shown(driver) == "0")
    heading = driver.find_element(By.CSS_SELECTOR, "#table .tabulator-col[tabulator-field='volume_ml']")
    heading.send_keys(Keys.ENTER)
    wait_until(driver, lambda: [row[5].split()[0] for row in rows(driver)] == ["2.50", "1.50", "0.00"])
    place = driver.find_element(By.CSS_SELECTOR, "#table .tabulator-col[tabulator-field='place']")
    place.send_keys(Keys.ENTER)
    wait_until(driver, lambda: column(driver, "#") == [1, 2, 3])


@pytest.mark.parametrize("width", [1300, 420])
def test_nothing_makes_the_page_wider(driver, width):
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        driver.refresh()
        wait_until(driver, lambda: shown(driver))
        script = "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        whole, visible = driver.execute_script(script)
        assert whole <= visible
        reason = "rim: there with probability 0.50"
        assert reason in " ".join(" ".join(rows(driver)[0]).split())
    finally:
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_no_errors_and_no_network(driver):
    assert_no_errors_and_no_network(driver)
