"""The page itself, in a browser and against malformed requests."""

import contextlib
import json
import random
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
# The page has other images, too: its icons.
PICTURES = 'img[src*="file="]'
VALUES = [
  *(None, True, -1, 0, 3, 1.5, 10**30, "", "x" * 10_000, "quickstart"),
  *([], {}, [1, [2, [3]]], {"path": "/etc/passwd"}, {"url": "http://[::1"}),
  *({"path": "../../etc/passwd", "meta": {"_type": "gradio.FileData"}}, "\0"),
]


@contextlib.contextmanager
def served():
  """The address of the page, served by a process of its own."""
  pytest.importorskip("gradio")
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
  address = f"http://127.0.0.1:{port}"
  command = [sys.executable, "-m", "slot_attention_jax.demo"]
  process = subprocess.Popen(
    [*command, "--model=quickstart", f"--port={port}"],
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
  )
  try:
    for _ in range(600):
      with contextlib.suppress(OSError):
        urllib.request.urlopen(address, timeout=5).read()
        break
      assert process.poll() is None
      time.sleep(0.5)
    yield address
    assert process.poll() is None
  finally:
    process.kill()
    process.wait()


@contextlib.contextmanager
def opened(**options):
  """The page in a browser, which must report no error."""
  playwright = pytest.importorskip("playwright.sync_api")
  if CHROMIUM is None:
    pytest.skip("no Chromium")
  errors = []
  with served() as address, playwright.sync_playwright() as driver:
    browser = driver.chromium.launch(
      executable_path=CHROMIUM,
      args=["--no-sandbox", "--disable-background-networking"],
    )
    page = browser.new_page(**options)
    page.set_default_timeout(300_000)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(address)
    yield page
    browser.close()
  assert not errors


def wait_for_pictures(page, count):
  page.wait_for_function(
    f"document.querySelectorAll('{PICTURES}').length >= {count}"
  )
  page.wait_for_timeout(500)


def wait_for_boxes(page, count):
  page.wait_for_function(
    "n => document.querySelectorAll('input[type=checkbox]').length >= n",
    arg=count,
  )


@contextlib.contextmanager
def changes_the_scene(page):
  """The last picture of the page is another afterwards."""
  last = f"[...document.querySelectorAll('{PICTURES}')].pop().src"
  page.wait_for_timeout(2000)
  before = page.evaluate(last)
  yield
  page.wait_for_function(f"before => {last} != before", arg=before)


@pytest.mark.slow
def test_slots_are_found_and_taken_away_in_a_browser():
  with opened() as page:
    for n, name in enumerate("AB", start=1):
      page.click(f"text=Draw a scene {name}")
      wait_for_pictures(page, n)
    for n, name in enumerate("AB", start=1):
      page.click(f"text=Find slots {name}")
      wait_for_boxes(page, 4 * n)
    with changes_the_scene(page):
      page.locator("input[type=checkbox]").first.click()


@pytest.mark.slow
def test_a_phone_and_a_keyboard_are_enough():
  with opened(viewport={"width": 390, "height": 844}, is_mobile=True) as page:
    page.wait_for_selector("text=Draw a scene A")

    def focus(text):
      for _ in range(60):
        page.keyboard.press("Tab")
        if text in page.evaluate(
          "document.activeElement.innerText || document.activeElement.type"
        ):
          return
      raise AssertionError(f"Tab does not lead to {text}.")

    focus("Draw a scene A")
    page.keyboard.press("Enter")
    wait_for_pictures(page, 1)
    focus("Find slots A")
    page.keyboard.press("Enter")
    wait_for_boxes(page, 4)
    focus("checkbox")
    with changes_the_scene(page):
      page.keyboard.press("Space")
    # Nothing is wider than the screen, the row of slots neither.
    for element in (
      "document.documentElement",
      "document.querySelector('.slots')",
    ):
      assert page.evaluate(f"{element}.scrollWidth") <= 390
    slots = page.locator(".slots .grid-container > *").last.bounding_box()
    assert slots["x"] + slots["width"] <= 390


@pytest.mark.slow
def test_malformed_requests_leave_the_page_as_it_is():
  rng = random.Random(0)
  with served() as address:
    api = f"{address}/gradio_api"
    paths = [f"{api}/call/{n}" for n in ("draw_A", "find_A", "choose_model")]
    paths += [f"{api}/upload", f"{api}/queue/join", f"{api}/file=/etc/passwd"]
    headers = [{"Content-Type": "application/json"}, {"Content-Type": "text/x"}]
    statuses = []
    for _ in range(1000):
      data = [rng.choice(VALUES) for _ in range(rng.randrange(8))]
      body = json.dumps({"data": data, "fn_index": rng.choice(VALUES)})
      body = body.encode()[: rng.choice((None, rng.randrange(len(body))))]
      request = urllib.request.Request(
        # Without a body it would be a GET, whose answer may never end.
        rng.choice(paths),
        data=rng.choice((body, b"")),
        headers=rng.choice(headers),
      )
      try:
        with urllib.request.urlopen(request, timeout=60) as answer:
          text = answer.read()
          statuses.append(answer.status)
      except urllib.error.HTTPError as error:
        text = error.read()
        statuses.append(error.code)
      assert b"root:" not in text
    assert len(statuses) == 1000
    # The page still works.
    request = urllib.request.Request(
      f"{api}/call/draw_A",
      data=json.dumps({"data": ["quickstart"]}).encode(),
      headers={"Content-Type": "application/json"},
    )
    event = json.load(urllib.request.urlopen(request, timeout=60))["event_id"]
    stream = urllib.request.urlopen(f"{api}/call/draw_A/{event}", timeout=300)
    assert b"event: complete" in stream.read()
