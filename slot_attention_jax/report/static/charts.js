// All charts: the window and the axis that they share.

class View {
  constructor(specs) {
    this.axis = 0;
    this.window = null;
    this.means = false;
    this.charts = specs.map((spec) => new Chart(spec, this));
  }

  get axisName() {
    return this.axis === 0 ? "step" : "minute";
  }

  /** The whole range of the axis, over all charts. */
  whole() {
    const places = this.charts.flatMap((chart) =>
      chart.curves.flatMap((curve) => curve.points.map((p) => p[this.axis])),
    );
    return extent(places.filter((x) => x !== null)) ?? [0, 1];
  }

  bounds() {
    return this.window ?? (this.full ??= this.whole());
  }

  /** Shows a part of the axis in all charts; null: all of it. */
  setWindow(window) {
    const [low, high] = this.full ?? this.whole();
    if (window) {
      const ends = window.map((x) => clamp(x, low, high));
      const tiny = (high - low) * 1e-4;
      window = ends[1] - ends[0] > tiny ? ends : this.window;
    }
    const all = window && window[0] <= low && window[1] >= high;
    this.window = all ? null : window;
    this.reset.disabled = this.window === null;
    this.draw();
  }

  /** Makes the window narrower or wider, around a place or its middle. */
  zoom(factor, place) {
    const [low, high] = this.bounds();
    const at = clamp(place ?? (low + high) / 2, low, high);
    this.setWindow([at - (at - low) * factor, at + (high - at) * factor]);
  }

  /** Moves the window by a share of its width, as far as there are data. */
  pan(share) {
    const [low, high] = this.bounds();
    const [first, last] = this.full ?? this.whole();
    const by = clamp((high - low) * share, first - low, last - high);
    this.setWindow([low + by, high + by]);
  }

  setAxis(axis) {
    this.axis = axis;
    this.full = undefined;
    for (const chart of this.charts) chart.cursor = null;
    this.setWindow(null);
  }

  setMeans(on) {
    this.means = on;
    this.full = undefined;
    this.setWindow(null);
  }

  draw() {
    for (const chart of this.charts) chart.draw();
  }
}

/** Puts the charts and their controls onto the page. */
function startCharts(specs) {
  const place = document.getElementById("charts");
  if (!place) return;
  const view = new View(specs);
  view.reset = make("button", { type: "button", disabled: true }, "Reset zoom");
  view.reset.addEventListener("click", () => view.setWindow(null));
  const axes = [
    [0, "steps"],
    [1, "minutes of training"],
  ];
  const controls = document.getElementById("chart-controls");
  controls.append(
    makeChoice("Over", axes, (value) => view.setAxis(Number(value))),
    view.reset,
  );
  if (specs.some((spec) => spec.means.length)) {
    const kinds = [
      ["runs", "each run"],
      ["means", "means over seeds"],
    ];
    const choose = (value) => view.setMeans(value === "means");
    controls.append(makeChoice("Show", kinds, choose));
  }
  place.append(...view.charts.map((chart) => chart.node));
  view.draw();
}
