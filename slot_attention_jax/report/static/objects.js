// Objects that a set predictor finds: marks over the image, and their table.

const MARK_SIZE = 0.035;

/** Marks the cursor's pixel and, of set predictors, objects: rings, crosses. */
function drawMarks(svg, viewer, objects) {
  const [height, width] = viewer.shown.size;
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.replaceChildren();
  const r = MARK_SIZE * Math.max(width, height);
  const scale = { "vector-effect": "non-scaling-stroke" };
  for (const { slot, place } of objects?.rows ?? []) {
    if (!place) continue;
    const at = { cx: place[0] * width, cy: place[1] * height, r };
    const ring = makeSvg("circle", { class: "mark", ...at, ...scale });
    ring.style.stroke = toCss(viewer.colors[slot]);
    const outline = { class: "mark-outline", ...at, ...scale };
    svg.append(makeSvg("circle", outline), ring);
  }
  for (const [x, y] of objects?.crosses ?? []) {
    const [cx, cy, s] = [x * width, y * height, r * 0.6];
    const down = `M${cx - s} ${cy - s}L${cx + s} ${cy + s}`;
    const d = `${down}M${cx - s} ${cy + s}L${cx + s} ${cy - s}`;
    svg.append(
      makeSvg("path", { class: "mark-outline", d, ...scale }),
      makeSvg("path", { class: "mark cross", d, ...scale }),
    );
  }
  if (!viewer.cursor) return;
  const [x, y] = viewer.cursor;
  const box = { x, y, width: 1, height: 1, ...scale };
  svg.append(
    makeSvg("rect", { class: "mark-outline", ...box }),
    makeSvg("rect", { class: "mark cross", ...box }),
  );
}

/** The table of an image's objects: what was predicted, and what is there. */
function drawObjects(place, viewer, slot) {
  const { objects } = viewer.content;
  place.hidden = !objects;
  if (!objects) return;
  const { properties, truth, rows } = objects;
  const head = ["slot", "confidence", ...properties];
  if (truth) head.push("distance", ...properties.map((name) => `true ${name}`));
  const titles = head.map((title) => make("th", { scope: "col" }, title));
  place.replaceChildren(
    make(
      "table",
      {},
      make("caption", {}, objectsSummary(objects)),
      make("thead", {}, make("tr", {}, ...titles)),
      make("tbody", {}, ...rows.map((row) => objectRow(row, objects, slot))),
    ),
  );
}

/** How many objects are right. */
function objectsSummary({ truth, rows, properties, crosses }) {
  if (!truth) return `${rows.length} objects.`;
  const real = rows.filter((row) => isObject(row.true));
  const right = real.filter(
    (row) =>
      row.slot !== null &&
      properties.every((name) => row.predicted[name] === row.true[name]),
  );
  return (
    `${right.length} of ${real.length} objects have all properties right. ` +
    "In the image, rings are predictions, in the color of their slot" +
    (crosses.length
      ? ", and crosses true objects, as the mean camera of the data sees them."
      : ", at the center of its attention.")
  );
}

function isObject(properties) {
  return Object.keys(properties).length > 0;
}

/** A row: a predicted object, the true one, or both. */
function objectRow(row, { properties, truth }, slot) {
  const real = isObject(row.true);
  const cells = [row.slot === null ? "missed" : `slot ${row.slot + 1}`];
  cells.push(formatNumber(row.confidence));
  const nodes = cells.map((text) => make("td", {}, text));
  for (const name of properties) {
    const predicted = row.predicted[name] ?? "";
    const wrong = truth && row.slot !== null && predicted !== row.true[name];
    nodes.push(make("td", { class: wrong ? "wrong" : null }, predicted));
  }
  if (truth) {
    const distance = row.distance === null ? "" : formatNumber(row.distance);
    nodes.push(make("td", {}, distance));
    for (const name of properties) {
      nodes.push(make("td", {}, real ? row.true[name] : "no such object"));
    }
  }
  const chosen = slot !== null && row.slot === slot;
  return make("tr", { class: chosen ? "chosen" : null }, ...nodes);
}
