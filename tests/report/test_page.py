"""Reports in a browser: charts, slots and search, by pointer and keyboard."""

import contextlib
import json
import re
import shutil

import pytest

import slot_attention_jax as sa
from slot_attention_jax.evaluation import arrays
from tests.report import made_up

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
SIZES = {"desktop": (1280, 900), "phone": (390, 800)}
READING = "#viewer .reading"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser():
  playwright = pytest.importorskip("playwright.sync_api")
  if CHROMIUM is None:
    pytest.skip("no Chromium")
  with playwright.sync_playwright() as driver:
    found = driver.chromium.launch(
      executable_path=CHROMIUM,
      args=["--no-sandbox", "--disable-background-networking"],
    )
    yield found
    found.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory):
  """The report of a run of two evaluations, of which the first is unlike."""
  run = made_up.make(tmp_path_factory.mktemp("runs") / "run")
  found = made_up.arrays()
  arrays.save(run / "figures" / "00000004.npz", found)
  # Slots in another order.
  turned = found | {"masks": found["masks"][:, ::-1]}
  arrays.save(run / "figures" / "00000002.npz", turned)
  return sa.write_report(run)


@contextlib.contextmanager
def opened(browser, path, size="desktop", scheme="light"):
  """A page; no errors, no warnings, no requests but for itself."""
  width, height = SIZES[size]
  context = browser.new_context(
    viewport={"width": width, "height": height},
    color_scheme=scheme,
    has_touch=size == "phone",
  )
  page = context.new_page()
  page.set_default_timeout(60_000)
  wrong, requests = [], []
  page.on("pageerror", lambda error: wrong.append(str(error)))
  page.on("console", lambda message: wrong.append(message.text))
  page.on("request", lambda request: requests.append(request.url))
  page.goto(path.as_uri())
  yield page
  context.close()
  assert not wrong
  others = [url for url in requests if not url.startswith("data:")]
  assert others == [path.as_uri()]


def wait_for_viewer(page):
  page.wait_for_function(
    "document.querySelector('#viewer .reading').textContent"
  )


def text(page, selector):
  return page.locator(selector).first.inner_text()


def ticks(page):
  return page.locator(".plot").first.locator("text").all_text_contents()


def test_numbers_of_an_axis_differ_where_values_hardly_do(browser, tmp_path):
  rows = [made_up.row(s, train_loss=62.16 + s / 1000) for s in (2, 4)]
  run = made_up.make(tmp_path / "run", rows=rows)
  with opened(browser, sa.write_report(run)) as page:
    numbers = [x for x in ticks(page) if x.startswith("62.16")]
    assert len(numbers) == len(set(numbers)) > 2


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_the_page_fits_in_any_size_and_both_schemes(
  browser, report, size, scheme
):
  with opened(browser, report, size, scheme) as page:
    wait_for_viewer(page)
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width == SIZES[size][0]
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open=1)")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    color = page.evaluate("getComputedStyle(document.body).backgroundColor")
    is_light = sum(map(int, re.findall(r"\d+", color))) > 384
    assert is_light == (scheme == "light")


def test_all_that_can_be_done_has_a_name_and_visible_focus(browser, report):
  with opened(browser, report) as page:
    wait_for_viewer(page)
    unnamed = page.evaluate(
      """() => [...document.querySelectorAll(
           "button, select, input, [tabindex], canvas")]
         .filter(n => !n.closest("[aria-hidden=true]"))
         .filter(n => !(n.getAttribute("aria-label") || n.innerText?.trim()
           || n.labels?.length))
         .map(n => n.outerHTML)"""
    )
    assert unnamed == []
    seen = set()
    for _ in range(60):
      page.keyboard.press("Tab")
      outline, kind = page.evaluate(
        """() => {
          const node = document.activeElement;
          const style = getComputedStyle(node);
          return [style.outlineStyle, node.getAttribute("class") ||
                  node.type || node.tagName];
        }"""
      )
      if kind == "BODY":
        break
      assert outline != "none", kind
      seen.add(kind)
    assert {"plot", "frame", "range", "search", "SUMMARY", "scroll"} <= seen


def test_charts_are_read_and_zoomed_by_the_keyboard(browser, report):
  with opened(browser, report) as page:
    plot = page.locator(".plot").first
    plot.focus()
    page.keyboard.press("ArrowRight")
    assert text(page, ".chart .reading") == "step 2"
    page.keyboard.press("End")
    assert text(page, ".chart .reading") == "step 4"
    legend = page.locator(".legend").first.inner_text()
    assert "0.25" in legend
    assert "0.375" in legend
    assert "validation, mse 0.375" in plot.get_attribute("aria-label")
    whole = ticks(page)
    page.keyboard.press("+")
    assert ticks(page) != whole
    reset = page.get_by_role("button", name="Reset zoom")
    assert reset.is_enabled()
    page.keyboard.press("Shift+ArrowLeft")
    page.keyboard.press("0")
    assert ticks(page) == whole
    assert reset.is_disabled()
    path = page.locator("path.line").first
    straight = path.get_attribute("d")
    page.keyboard.press("l")
    toggle = page.get_by_role("button", name="log scale of loss and mse")
    assert toggle.get_attribute("aria-pressed") == "true"
    assert path.get_attribute("d") != straight


def test_charts_are_zoomed_by_dragging_and_read_by_pointing(browser, report):
  with opened(browser, report) as page:
    plot = page.locator(".plot").first
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    whole = ticks(page)
    y = box["y"] + 100
    page.mouse.move(box["x"] + 70, y)
    assert text(page, ".chart .reading") == "step 2"
    page.mouse.down()
    page.mouse.move(box["x"] + 200, y, steps=4)
    page.mouse.up()
    assert ticks(page) != whole
    page.mouse.dblclick(box["x"] + 200, y)
    assert ticks(page) == whole
    page.mouse.move(0, 0)
    assert text(page, ".chart .reading") == ""


def test_lines_are_hidden_by_their_legend(browser, report):
  with opened(browser, report) as page:
    lines = page.locator(".chart").first.locator("path.line")
    assert lines.count() == 2
    styles = lines.evaluate_all(
      "nodes => nodes.map(n => [getComputedStyle(n).stroke,"
      " n.getAttribute('stroke-dasharray')])"
    )
    assert styles[0][0] != styles[1][0]
    assert styles[0][1] != styles[1][1]
    button = page.locator(".legend button").first
    button.press("Enter")
    assert lines.count() == 1
    assert button.get_attribute("aria-pressed") == "false"
    # What was pressed keeps the focus.
    page.keyboard.press("Enter")
    assert lines.count() == 2


def test_curves_are_drawn_over_minutes_too(browser, report):
  with opened(browser, report) as page:
    page.get_by_label("Over").select_option("1")
    page.locator(".plot").first.focus()
    page.keyboard.press("End")
    assert text(page, ".chart .reading") == "minute 4"


def test_a_pixel_s_slot_is_read_by_the_keyboard(browser, report):
  with opened(browser, report) as page:
    wait_for_viewer(page)
    assert text(page, READING) == "No pixel is pointed at."
    page.locator(".frame").first.focus()
    page.keyboard.press("ArrowRight")  # Into the middle.
    expected = "Pixel (6, 4): slot 2, mask 1.00, true object 1."
    assert text(page, READING) == expected
    for _ in range(3):
      page.keyboard.press("ArrowLeft")
    expected = "Pixel (3, 4): slot 1, mask 1.00, true background."
    assert text(page, READING) == expected
    page.keyboard.press("Shift+ArrowUp")
    assert text(page, READING).startswith("Pixel (3, 0)")
    page.keyboard.press("PageUp")  # The step before, with turned slots.
    page.wait_for_function(
      "document.querySelector('#viewer .reading').textContent"
      ".includes('slot 3')"
    )
    page.keyboard.press(",")
    # Attention, upsampled: 4 columns of the grid's 3, half of its way.
    assert "slot 1, attention 0.63" in text(page, READING)
    outputs = page.locator("#viewer output").all_inner_texts()
    assert outputs[:2] == ["step 2", "t = 2 of 2"]


def canvas(page, panel):
  """Pixels [R, G, B, A, ...] of a panel."""
  return page.evaluate(
    """n => {
      const c = document.querySelectorAll("#viewer canvas")[n];
      const box = [0, 0, c.width, c.height];
      return [...c.getContext("2d").getImageData(...box).data];
    }""",
    panel,
  )


def test_slots_are_seen_by_pointing_and_kept_by_choosing(browser, report):
  with opened(browser, report) as page:
    wait_for_viewer(page)
    plain = canvas(page, 0)
    image = made_up.arrays()["image"][0].reshape(-1, 3)
    assert plain[:3] == image[0].tolist()
    frame = page.locator(".frame").first
    frame.scroll_into_view_if_needed()
    box = frame.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + 30)
    assert "slot 3, mask 1.00" in text(page, READING)
    lit = canvas(page, 0)
    assert lit[:3] != plain[:3]
    assert lit[-4:] == plain[-4:]
    assert canvas(page, 4)[:3] == [0, 0, 0]
    page.mouse.move(0, 0)
    assert canvas(page, 0) == plain
    page.get_by_role("button", name="slot 1").click()
    page.mouse.move(0, 0)
    kept = canvas(page, 0)
    assert kept[:3] == plain[:3]
    assert kept[-4:] != plain[-4:]


def test_another_image_has_its_own_scores(browser, report):
  with opened(browser, report) as page:
    wait_for_viewer(page)
    assert "FG-ARI 0.25" in text(page, "#viewer")
    page.get_by_label("Image", exact=False).first.select_option("1")
    page.wait_for_function(
      "document.querySelector('#viewer').innerText.includes('FG-ARI 0.75')"
    )


def test_the_config_is_searched(browser, report):
  with opened(browser, report) as page:
    page.get_by_label("Search").fill("slot size")
    rows = page.locator("#config-groups .facts > div:visible")
    assert rows.all_inner_texts()[0].startswith("model.slot_size")
    assert rows.count() == 1
    page.get_by_label("Search").fill("")
    assert page.locator("#config-groups summary:visible").count() > 5


def test_objects_stand_beside_the_true_ones(browser, tmp_path):
  about = {"data": "clevr_scenes"}
  run = made_up.make(tmp_path / "run", about=about)
  arrays.save(run / "figures" / "00000004.npz", made_up.object_arrays())
  with opened(browser, sa.write_report(run), "phone") as page:
    wait_for_viewer(page)
    table = page.locator("#viewer table")
    table.wait_for()
    rows = table.locator("tbody tr").all_inner_texts()
    assert rows[0].startswith("slot 2")
    assert rows[1].startswith("missed")
    assert "1 of 2 objects" in table.inner_text()
    marks = page.locator(".frame").first.locator(".mark")
    assert marks.count() == 3  # A ring and two crosses.


def test_runs_are_compared_by_run_and_by_mean(browser, tmp_path):
  rows = [made_up.row(4, validation_fg_ari=0.75)]
  runs = [
    made_up.make(tmp_path / "a"),
    made_up.make(tmp_path / "b", rows, seed=1),
  ]
  path = sa.write_report(runs, tmp_path / "page.html")
  for size in SIZES:
    with opened(browser, path, size, "dark") as page:
      chart = page.locator(".chart", has_text="fg_ari")
      assert chart.locator(".legend button").all_inner_texts() == ["a", "b"]
      page.get_by_label("Show").select_option("means")
      (label,) = chart.locator(".legend button").all_inner_texts()
      assert label == "a, mean of 2 seeds"
      chart.locator(".plot").focus()
      page.keyboard.press("End")
      assert "0.625 ± 0.125" in chart.locator(".legend").inner_text()


def test_figures_of_older_runs_have_a_slider(browser, tmp_path):
  from PIL import Image

  run = made_up.make(tmp_path / "run")
  (run / "figures").mkdir()
  for step, width in ((2, 800), (4, 600)):
    picture = Image.new("RGB", (width, 20))
    picture.save(run / "figures" / f"{step:08d}.png")
  with opened(browser, sa.write_report(run), "phone") as page:
    image = page.locator("#figures img")
    width = "document.querySelector('#figures img').naturalWidth"
    page.wait_for_function(f"{width} === 600")
    page.locator("#figures input").focus()
    page.keyboard.press("ArrowLeft")
    page.wait_for_function(f"{width} === 800")
    assert "step 2" in image.get_attribute("alt")
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_hostile_words_of_a_run_do_nothing(browser, tmp_path):
  words = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
  rows = [{**made_up.ROWS[1], f"{words}/{words}/{words}": 1.0}]
  run = made_up.make(tmp_path / "<b>run", rows, {"recipe": words})
  (run / "evaluation.json").write_text(json.dumps({"metrics": {words: 1}}))
  with opened(browser, sa.write_report(run)) as page:
    page.on("dialog", lambda dialog: pytest.fail("a script ran"))
    page.wait_for_selector(".chart")
    assert page.locator("main img, main script").count() == 0
