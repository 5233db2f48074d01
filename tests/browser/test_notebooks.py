"""Each notebook in JupyterLab: run all, no error; every control, by keyboard, changes the picture; clean console."""

import time

import pytest

from tests.browser.conftest import ROOT, SHOTS

pytestmark = pytest.mark.browser
NAMES = [path.stem for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))]
PATIENCE = 900  # s for a whole notebook, on a slow machine
READY = """() => { const w = window.jupyterapp?.shell?.currentWidget;
    return !!(w?.context?.isReady && w.sessionContext?.session?.kernel?.status === 'idle'); }"""
RUN = """() => { window.ended = null; window.jupyterapp.commands.execute('notebook:run-all-cells')
    .then(() => { window.ended = 'run'; }, error => { window.ended = String(error); }); }"""
CELLS = """() => Array.from(window.jupyterapp.shell.currentWidget.content.model.cells).filter(c => c.type === 'code')
    .map(c => ({count: c.executionCount, source: c.sharedModel.source,
                errors: c.outputs.toJSON().filter(o => o.output_type === 'error').map(o => o.ename + ': ' + o.evalue),
                images: c.outputs.toJSON().some(o => o.data && (o.data['image/png'] || o.data['text/html']))}))"""
CONTROLS = """() => window.jupyterapp.shell.currentWidget.content.widgets.flatMap((c, k) => c.model.type === 'code'
    && /^(explore\\w*|frame_slider)\\(/m.test(c.model.sharedModel.source) ? [k] : [])"""
SHOW = """k => { const content = window.jupyterapp.shell.currentWidget.content;
    content.widgets[k].node.setAttribute('data-control', k);
    content.activeCellIndex = k; return content.scrollToItem(k, 'start').then(() => k); }"""
FITS = """e => e.naturalWidth > 0 && e.getBoundingClientRect().right <=
    e.closest('.jp-OutputArea-output').getBoundingClientRect().right + 1"""
PANEL = "[data-control='{}'] .jp-OutputArea-output .widget-vbox"


@pytest.mark.parametrize("name", NAMES)
def test_run_all_and_move_every_control(page, lab, name):
    page.goto(f"{lab}/lab/tree/notebooks/{name}.ipynb?reset", wait_until="domcontentloaded")
    page.wait_for_function(READY, timeout=180_000)
    try:
        run_and_move(page, name)
    finally:
        page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
    assert not page.errors


def run_and_move(page, name):
    page.evaluate(RUN)
    page.wait_for_function("() => window.ended !== null", timeout=PATIENCE * 1000, polling=500)
    cells = page.evaluate(CELLS)
    assert not [error for cell in cells for error in cell["errors"]]
    assert page.evaluate("() => window.ended") == "run"
    assert [cell["count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert sum(cell["images"] for cell in cells) >= 2
    controls = page.evaluate(CONTROLS)
    assert controls
    for number, cell in enumerate(controls):
        page.evaluate(SHOW, cell)
        panel = page.locator(PANEL.format(cell)).first
        panel.locator("img").wait_for(timeout=30_000)
        panel.scroll_into_view_if_needed()
        page.screenshot(path=SHOTS / f"{name}_{number}.png")
        assert move_every_control(page, panel) >= 1
        page.screenshot(path=SHOTS / f"{name}_{number}_moved.png")
        assert soon(panel.locator(".widget-html-content img"), FITS)  # whole, not cut off at the right


def soon(element, condition, seconds=10):
    """Whether it comes to hold of an element: a picture just put there has no width until it is decoded."""
    end = time.monotonic() + seconds
    while not (held := element.evaluate(condition)) and time.monotonic() < end:
        time.sleep(0.1)
    return held


def move_every_control(page, panel):
    """How many sliders, rows of buttons and boxes there are; each has changed the picture by keyboard alone."""
    kinds = (".noUi-handle", ".widget-toggle-buttons", "[type=checkbox]")
    sliders, rows, boxes = (panel.locator(kind).all() for kind in kinds)
    for slider in sliders:
        tries = [(slider, key) for key in ("ArrowRight", "ArrowLeft") for _ in range(3)]
        assert any(_changes(page, panel, slider, key) for slider, key in tries), slider
    for row in rows:
        assert any(_changes(page, panel, button, "Enter") for button in row.locator("button").all()), row
    for box in boxes:
        assert _changes(page, panel, box, "Space"), box
    assert not panel.locator("select").count()  # JupyterLab takes a menu's arrow keys
    return len(sliders) + len(rows) + len(boxes)


def _changes(page, panel, control, key, seconds=45):
    """Whether the picture is another one after a key; at an end of the range nothing happens."""
    picture = panel.locator(".widget-html-content img")
    before, state = picture.get_attribute("src"), _state(control)
    control.focus()
    page.keyboard.press(key)
    for _ in range(10):
        page.wait_for_timeout(100)
        if _state(control) != state:
            break
    else:
        return False
    end = time.monotonic() + seconds
    while (same := picture.get_attribute("src") == before) and time.monotonic() < end:
        page.wait_for_timeout(200)
    return not same


def _state(control):
    script = "e => [e.getAttribute('aria-valuenow'), e.checked, e.classList.contains('mod-active')].join()"
    return control.evaluate(script)
