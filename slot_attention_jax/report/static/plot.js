// Draws the lines of one chart. A point is [step, minutes, value, error].

const VALUE = 2;
const ERROR = 3;
const MARGIN = { left: 58, right: 12, top: 10, bottom: 24 };
const DASHES = ["", "7 4", "2 3", "9 3 2 3"];
const MOST_MARKERS = 60;

/** The style of a curve: as many colors as there are, then other dashes. */
function styleOf(curve) {
  const root = getComputedStyle(document.documentElement);
  const count = Number(root.getPropertyValue("--lines")) || 1;
  const round = Math.floor(curve.color / count);
  return {
    color: `var(--line-${curve.color % count})`,
    dash: DASHES[(curve.dash + round) % DASHES.length],
  };
}

/** Whether a point has a place, on the axis and on the scale of values. */
function isDrawn(point, axis, log) {
  if (point[axis] === null || point[VALUE] === null) return false;
  return !log || point[VALUE] > 0;
}

/** The points of a curve within a window, and the ones just outside it. */
function pointsWithin(points, axis, [low, high]) {
  let first = points.findIndex((p) => p[axis] !== null && p[axis] >= low);
  if (first < 0) return [];
  let last = points.length - 1;
  while (last > first && points[last][axis] > high) last--;
  first = Math.max(first - 1, 0);
  last = Math.min(last + 1, points.length - 1);
  return points.slice(first, last + 1);
}

/** Scales of a chart of a size, fitted to what is seen of the curves. */
function fitScales(curves, axis, bounds, log, width, height) {
  const values = [];
  for (const curve of curves) {
    for (const point of pointsWithin(curve.points, axis, bounds)) {
      if (!isDrawn(point, axis, log)) continue;
      values.push(point[VALUE]);
      const error = point[ERROR] ?? 0;
      if (error && (!log || point[VALUE] > error)) {
        values.push(point[VALUE] - error, point[VALUE] + error);
      }
    }
  }
  const range = padded(extent(values) ?? (log ? [1, 10] : [0, 1]), 0.05, log);
  return {
    x: makeScale(bounds, [MARGIN.left, width - MARGIN.right]),
    y: makeScale(range, [height - MARGIN.bottom, MARGIN.top], log),
  };
}

/** Numbers of ticks, with as many digits as tell them apart. */
function tickLabels(ticks) {
  const short = ticks.map(formatNumber);
  const apart = new Set(short).size === ticks.length;
  return apart ? short : ticks.map(String);
}

/** Axes: lines of the grid with their numbers. */
function drawAxes(scales, width, height) {
  const group = makeSvg("g");
  const labels = tickLabels(scales.y.ticks);
  for (const [i, tick] of scales.y.ticks.entries()) {
    const y = scales.y.at(tick);
    const x2 = width - MARGIN.right;
    group.append(
      makeSvg("line", { class: "grid", x1: MARGIN.left, x2, y1: y, y2: y }),
      makeSvg(
        "text",
        { x: MARGIN.left - 6, y: y + 4, "text-anchor": "end" },
        labels[i],
      ),
    );
  }
  for (const tick of scales.x.ticks) {
    const x = scales.x.at(tick);
    const text = tick.toLocaleString("en");
    // A number at the right edge would be cut off.
    const anchor = x + 4 * text.length > width ? "end" : "middle";
    const at = { x, y: height - 6, "text-anchor": anchor };
    group.append(makeSvg("text", at, text));
  }
  return group;
}

/** A path through points; it is broken where a value is missing. */
function linePath(points, scales, axis, log) {
  let path = "";
  let pen = "M";
  for (const point of points) {
    if (!isDrawn(point, axis, log)) {
      pen = "M";
      continue;
    }
    const x = scales.x.at(point[axis]).toFixed(1);
    const y = scales.y.at(point[VALUE]).toFixed(1);
    path += `${pen}${x} ${y}`;
    pen = "L";
  }
  return path;
}

/** The band of a standard error to both sides of a mean; "": no errors. */
function bandPath(points, scales, axis, log) {
  const known = points.filter(
    (p) =>
      isDrawn(p, axis, log) &&
      p[ERROR] !== null &&
      (!log || p[VALUE] > p[ERROR]),
  );
  if (!known.length) return "";
  const corner = (point, sign) => {
    const y = scales.y.at(point[VALUE] + sign * point[ERROR]);
    return `${scales.x.at(point[axis]).toFixed(1)} ${y.toFixed(1)}`;
  };
  const upper = known.map((p) => corner(p, 1));
  const lower = known.map((p) => corner(p, -1)).reverse();
  return `M${[...upper, ...lower].join("L")}Z`;
}

/** A curve: its band, its line and, where these are few, its points. */
function drawCurve(curve, scales, axis, bounds, log) {
  const { color, dash } = styleOf(curve);
  const points = pointsWithin(curve.points, axis, bounds);
  const group = makeSvg("g");
  const band = makeSvg("path", {
    class: "band",
    d: bandPath(points, scales, axis, log),
  });
  band.style.fill = color;
  const line = makeSvg("path", {
    class: "line",
    d: linePath(points, scales, axis, log),
    "stroke-dasharray": dash,
  });
  line.style.stroke = color;
  group.append(band, line);
  if (points.length > MOST_MARKERS) return group;
  for (const point of points.filter((p) => isDrawn(p, axis, log))) {
    const cx = scales.x.at(point[axis]);
    const cy = scales.y.at(point[VALUE]);
    const dot = makeSvg("circle", { cx, cy, r: 2.5 });
    dot.style.fill = color;
    group.append(dot);
  }
  return group;
}

/** The sample of a line that a legend shows. */
function drawSample(curve) {
  const { color, dash } = styleOf(curve);
  const line = makeSvg("line", {
    class: "line",
    x1: 1,
    x2: 35,
    y1: 6,
    y2: 6,
    "stroke-dasharray": dash,
  });
  line.style.stroke = color;
  return makeSvg("svg", { viewBox: "0 0 36 12", "aria-hidden": "true" }, line);
}
