// One chart: lines that are read, zoomed and hidden, by pointer or keyboard.

const HEIGHT = 240;
const LEAST_DRAG = 6;
let numCharts = 0;

class Chart {
  /** A chart of `spec`; `view` is what all charts share. */
  constructor(spec, view) {
    this.spec = spec;
    this.view = view;
    this.log = false;
    this.cursor = null;
    this.hidden = new Set();
    this.width = 480;
    this.clip = `clip-${numCharts++}`;
    this.build();
    this.listen();
  }

  /** The curves that are there to be seen: of the runs, or their means. */
  get curves() {
    const { means, curves } = this.spec;
    return this.view.means && means.length ? means : curves;
  }

  get shown() {
    return this.curves.filter((curve) => !this.hidden.has(curve.label));
  }

  build() {
    const title = this.spec.title;
    const toggle = makeToggle("log scale", false, (on) => this.setLog(on));
    toggle.setAttribute("aria-label", `log scale of ${title}`);
    this.toggle = toggle;
    this.svg = makeSvg("svg", {
      class: "plot",
      tabindex: 0,
      role: "application",
      "aria-roledescription": "chart",
      "aria-label": `Chart of ${title}`,
    });
    this.reading = make("output", { class: "reading" });
    this.legend = make("ul", { class: "legend", "aria-label": "Lines" });
    this.node = make(
      "figure",
      { class: "chart" },
      make("figcaption", {}, make("span", {}, title), toggle),
      this.svg,
      this.reading,
      this.legend,
    );
  }

  listen() {
    this.svg.addEventListener("pointermove", (e) => this.onMove(e));
    this.svg.addEventListener("pointerdown", (e) => this.onDown(e));
    this.svg.addEventListener("pointerup", (e) => this.onUp(e));
    this.svg.addEventListener("pointercancel", () => this.endDrag());
    this.svg.addEventListener("pointerleave", () => this.onLeave());
    this.svg.addEventListener("dblclick", () => this.view.setWindow(null));
    this.svg.addEventListener("keydown", (e) => this.onKey(e));
    new ResizeObserver(([entry]) => {
      const width = Math.round(entry.contentRect.width);
      if (width && width !== this.width) {
        this.width = width;
        this.draw();
      }
    }).observe(this.svg);
  }

  setLog(on) {
    this.log = on;
    this.toggle.setAttribute("aria-pressed", String(on));
    this.draw();
  }

  /** Draws everything anew. */
  draw() {
    const { axis } = this.view;
    const bounds = this.view.bounds();
    const { width, log } = this;
    this.scales = fitScales(this.shown, axis, bounds, log, width, HEIGHT);
    // A little more than the axes, for the dots at the ends of lines.
    const area = {
      x: MARGIN.left - 4,
      y: 0,
      width: Math.max(width - MARGIN.left - MARGIN.right + 8, 1),
      height: HEIGHT - MARGIN.bottom + 2,
    };
    const clip = makeSvg("clipPath", { id: this.clip }, makeSvg("rect", area));
    const lines = makeSvg("g", { "clip-path": `url(#${this.clip})` });
    for (const curve of this.shown) {
      lines.append(drawCurve(curve, this.scales, axis, bounds, log));
    }
    this.overlay = makeSvg("g");
    this.svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    const axes = drawAxes(this.scales, width, HEIGHT);
    this.svg.replaceChildren(clip, axes, lines, this.overlay);
    this.drawLegend();
    this.drawCursor();
  }

  drawLegend() {
    const focused = this.legend.contains(document.activeElement)
      ? document.activeElement.dataset.label
      : null;
    this.values = new Map();
    const items = this.curves.map((curve) => this.makeLegendItem(curve));
    this.legend.replaceChildren(...items);
    if (focused === null) return;
    const buttons = [...this.legend.querySelectorAll("button")];
    buttons.find((b) => b.dataset.label === focused)?.focus();
  }

  makeLegendItem(curve) {
    const value = make("span", { class: "value" });
    this.values.set(curve, value);
    const visible = !this.hidden.has(curve.label);
    const button = makeToggle("", visible, (on) => {
      if (on) this.hidden.delete(curve.label);
      else this.hidden.add(curve.label);
      this.draw();
    });
    button.dataset.label = curve.label;
    button.append(drawSample(curve), make("span", {}, curve.label), value);
    return make("li", {}, button);
  }

  /** All places on the axis that have a point, in order. */
  places() {
    const { axis } = this.view;
    const [low, high] = this.view.bounds();
    const all = this.shown.flatMap((curve) => curve.points.map((p) => p[axis]));
    const inside = all.filter((x) => x !== null && x >= low && x <= high);
    return [...new Set(inside)].sort((a, b) => a - b);
  }

  /** Reads the values nearest to a place on the axis; null: none. */
  setCursor(place) {
    this.cursor = place;
    this.drawCursor();
  }

  drawCursor() {
    const { axis } = this.view;
    this.overlay.replaceChildren();
    const parts = [];
    for (const [curve, node] of this.values) {
      const point = this.nearest(curve);
      node.textContent = point ? this.toText(point) : "";
      if (!point) continue;
      parts.push(`${curve.label} ${this.toText(point)}`);
      if (!isDrawn(point, axis, this.log)) continue;
      const cx = this.scales.x.at(point[axis]);
      const cy = this.scales.y.at(point[VALUE]);
      const dot = makeSvg("circle", { cx, cy, r: 4.5 });
      dot.style.fill = styleOf(curve).color;
      this.overlay.append(dot);
    }
    this.reading.textContent = "";
    if (this.cursor === null) return;
    const x = this.scales.x.at(this.cursor);
    const y2 = HEIGHT - MARGIN.bottom;
    this.overlay.prepend(
      makeSvg("line", { class: "cursor", x1: x, x2: x, y1: MARGIN.top, y2 }),
    );
    const where = `${this.view.axisName} ${formatNumber(this.cursor)}`;
    this.reading.textContent = where;
    this.svg.setAttribute("aria-label", [
      `Chart of ${this.spec.title}, ${where}`, ...parts].join(", "));
  }

  toText(point) {
    const error = point[ERROR];
    const value = formatNumber(point[VALUE]);
    return error === null ? value : `${value} ± ${formatNumber(error)}`;
  }

  /** The point of a curve that is nearest to the cursor. */
  nearest(curve) {
    if (this.cursor === null || this.hidden.has(curve.label)) return null;
    const { axis } = this.view;
    let best = null;
    let least = Infinity;
    for (const point of curve.points) {
      if (point[axis] === null) continue;
      const distance = Math.abs(point[axis] - this.cursor);
      if (distance < least) [best, least] = [point, distance];
    }
    return best;
  }

  pixelOf(event) {
    const box = this.svg.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * this.width;
    return clamp(x, MARGIN.left, this.width - MARGIN.right);
  }

  onMove(event) {
    this.isPointed = true;
    const pixel = this.pixelOf(event);
    this.setCursor(this.nearestPlace(this.scales.x.invert(pixel)));
    if (this.dragFrom === undefined) return;
    const [x, end] = [this.dragFrom, pixel].sort((a, b) => a - b);
    const height = HEIGHT - MARGIN.bottom - MARGIN.top;
    const area = { x, y: MARGIN.top, width: end - x, height };
    this.overlay.append(makeSvg("rect", { class: "window", ...area }));
  }

  /** Keeps what the keyboard chose, under which the page may have scrolled. */
  onLeave() {
    if (this.isPointed) this.setCursor(null);
    this.isPointed = false;
  }

  nearestPlace(value) {
    const distance = (x) => Math.abs(x - value);
    return this.places().reduce(
      (best, x) => (best === null || distance(x) < distance(best) ? x : best),
      null,
    );
  }

  onDown(event) {
    if (event.button) return;
    this.dragFrom = this.pixelOf(event);
    this.svg.setPointerCapture(event.pointerId);
  }

  onUp(event) {
    const from = this.dragFrom;
    this.endDrag();
    const to = this.pixelOf(event);
    if (from === undefined || Math.abs(to - from) < LEAST_DRAG) return;
    const ends = [from, to].sort((a, b) => a - b);
    this.view.setWindow(ends.map((pixel) => this.scales.x.invert(pixel)));
  }

  endDrag() {
    this.dragFrom = undefined;
    this.drawCursor();
  }

  onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const act = this.actions()[event.key];
    if (!act) return;
    event.preventDefault();
    act(event.shiftKey);
  }

  /** What the keys do. */
  actions() {
    const move = (steps, pan) => {
      if (pan) this.view.pan(steps / 4);
      else this.moveCursor(steps);
    };
    return {
      ArrowLeft: (shift) => move(-1, shift),
      ArrowRight: (shift) => move(1, shift),
      Home: () => this.moveCursor(-Infinity),
      End: () => this.moveCursor(Infinity),
      "+": () => this.view.zoom(0.5, this.cursor),
      "=": () => this.view.zoom(0.5, this.cursor),
      "-": () => this.view.zoom(2, this.cursor),
      0: () => this.view.setWindow(null),
      Escape: () => this.view.setWindow(null),
      l: () => this.setLog(!this.log),
      L: () => this.setLog(!this.log),
    };
  }

  /** Moves to the next point, or by more. */
  moveCursor(steps) {
    const places = this.places();
    if (!places.length) return;
    this.isPointed = false;
    const now = this.cursor === null ? -1 : places.indexOf(this.cursor);
    const start = now < 0 && steps < 0 ? places.length : now;
    this.setCursor(places[clamp(start + steps, 0, places.length - 1)]);
  }
}
