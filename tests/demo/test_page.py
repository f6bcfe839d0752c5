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


@pytest.mark.slow
def test_slots_are_found_and_taken_away_in_a_browser(tmp_path):
  playwright = pytest.importorskip("playwright.sync_api")
  if CHROMIUM is None:
    pytest.skip("no Chromium")
  errors = []
  with served() as address, playwright.sync_playwright() as driver:
    browser = driver.chromium.launch(
      executable_path=CHROMIUM,
      args=["--no-sandbox", "--disable-background-networking"],
    )
    page = browser.new_page()
    page.set_default_timeout(300_000)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(address)
    for n, name in enumerate("AB", start=1):
      page.click(f"text=Draw a scene {name}")
      page.wait_for_function(
        f"document.querySelectorAll('{PICTURES}').length >= {n}"
      )
      page.wait_for_timeout(500)
    for n, name in enumerate("AB", start=1):
      page.click(f"text=Find slots {name}")
      page.wait_for_function(
        "n => document.querySelectorAll('input[type=checkbox]').length >= n",
        arg=4 * n,
      )
    page.wait_for_timeout(2000)
    last = f"[...document.querySelectorAll('{PICTURES}')].pop().src"
    before = page.evaluate(last)
    page.locator("input[type=checkbox]").first.click()
    page.wait_for_function(f"before => {last} != before", arg=before)
    browser.close()
  assert not errors


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
