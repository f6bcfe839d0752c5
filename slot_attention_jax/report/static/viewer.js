// The viewer: slots of some images, over training steps and iterations.

class Viewer {
  constructor(data, place) {
    this.data = data;
    this.place = place;
    this.image = 0;
    this.entry = data.entries.length - 1;
    this.iteration = this.lastStop();
    this.cursor = null;
    this.kept = null;
    this.decoded = new Map();
    this.build();
  }

  get shown() {
    return this.data.entries[this.entry];
  }

  get content() {
    const { images } = this.shown;
    return images[Math.min(this.image, images.length - 1)];
  }

  /** The color [r, g, b] of each slot. */
  get colors() {
    const { colors } = this.data;
    const pick = (_, k) => colors[k % colors.length];
    return Array.from({ length: this.shown.slots }, pick);
  }

  /** Iterations, then the decoder's masks if the model has some. */
  lastStop() {
    const entry = this.data.entries[this.entry];
    return entry.iterations - ("masks" in entry.images[0] ? 0 : 1);
  }

  stopName(stop) {
    const { iterations } = this.shown;
    return stop < iterations ? `t = ${stop + 1} of ${iterations}` : "masks";
  }

  /** What the maps that are shown are of. */
  get kind() {
    return this.iteration < this.shown.iterations ? "attention" : "mask";
  }

  build() {
    const { entries } = this.data;
    const images = entries[0].images.map((_, i) => [i, `image ${i + 1}`]);
    this.steps = makeSlider(
      "Training",
      entries.length,
      this.entry,
      (i) => entries[i].label,
      (i) => this.change({ entry: i }),
    );
    this.stops = makeSlider(
      "Iteration",
      this.lastStop() + 1,
      this.iteration,
      (i) => this.stopName(i),
      (i) => this.change({ iteration: i }),
    );
    this.reading = make("output", { class: "reading" });
    this.list = make("ul", { class: "slots", "aria-label": "Slots" });
    this.panels = make("div", { class: "panels" });
    this.scores = make("p", { class: "help" });
    this.table = make("div", {
      class: "scroll",
      role: "region",
      "aria-label": "Objects",
      tabindex: 0,
    });
    const choose = (value) => this.change({ image: Number(value) });
    this.place.append(
      make("div", { class: "controls" }, makeChoice("Image", images, choose)),
      this.steps.node,
      this.stops.node,
      this.scores,
      this.panels,
      this.reading,
      this.list,
      this.table,
    );
    this.buildPanels();
    this.buildList();
  }

  /** The panels; the first takes the keyboard. */
  buildPanels() {
    const titles = { image: "image", slots: "slots" };
    const first = this.data.entries[0].images[0];
    if ("segmentation" in first) titles.truth = "ground truth";
    if ("reconstruction" in first) titles.reconstruction = "reconstruction";
    titles.map = this.kind;
    this.canvases = {};
    this.frames = [];
    for (const [name, title] of Object.entries(titles)) {
      const canvas = make("canvas", { "aria-hidden": "true" });
      const marks = makeSvg("svg", { "aria-hidden": "true" });
      const frame = make("div", { class: "frame" }, canvas, marks);
      this.canvases[name] = canvas;
      this.frames.push({ name, marks });
      this.listen(frame);
      if (name === "image") this.takeKeys(frame);
      const caption = make("figcaption", {}, title);
      if (name === "map") this.mapTitle = caption;
      this.panels.append(make("figure", { class: "panel" }, frame, caption));
    }
  }

  listen(frame) {
    const point = (event) => {
      const box = frame.getBoundingClientRect();
      const [height, width] = this.shown.size;
      const x = Math.floor(((event.clientX - box.left) / box.width) * width);
      const y = Math.floor(((event.clientY - box.top) / box.height) * height);
      this.setCursor([clamp(x, 0, width - 1), clamp(y, 0, height - 1)]);
    };
    frame.addEventListener("pointermove", point);
    frame.addEventListener("pointerdown", point);
    frame.addEventListener("pointerleave", (event) => {
      // A finger leaves when it is lifted: what it pointed at stays.
      if (event.pointerType === "mouse") this.setCursor(null);
    });
  }

  takeKeys(frame) {
    setAttributes(frame, {
      tabindex: 0,
      role: "application",
      "aria-roledescription": "picture",
      "aria-label": "Pixels of the image: arrow keys move, read below",
    });
    frame.addEventListener("keydown", (event) => this.onKey(event));
  }

  onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const by = event.shiftKey ? 8 : 1;
    const act = {
      ArrowLeft: () => this.moveCursor(-by, 0),
      ArrowRight: () => this.moveCursor(by, 0),
      ArrowUp: () => this.moveCursor(0, -by),
      ArrowDown: () => this.moveCursor(0, by),
      PageUp: () => this.steps.set(this.entry - 1),
      PageDown: () => this.steps.set(this.entry + 1),
      ",": () => this.stops.set(this.iteration - 1),
      ".": () => this.stops.set(this.iteration + 1),
      Escape: () => this.setCursor(null),
    }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  }

  moveCursor(dx, dy) {
    const [height, width] = this.shown.size;
    const [x, y] = this.cursor ?? [width >> 1, height >> 1];
    const next = [clamp(x + dx, 0, width - 1), clamp(y + dy, 0, height - 1)];
    this.setCursor(this.cursor ? next : [x, y]);
  }

  /** One button for each slot, with its share of the pixel. */
  buildList() {
    this.meters = [];
    const items = Array.from({ length: this.shown.slots }, (_, k) => {
      const swatch = make("span", { class: "swatch" });
      swatch.style.background = toCss(this.colors[k]);
      const meter = make("meter", { min: 0, max: 1, value: 0 });
      meter.setAttribute("aria-label", `slot ${k + 1} at the pixel`);
      const value = make("span");
      const label = make("span", {}, `slot ${k + 1}`);
      const button = makeToggle("", this.kept === k, (on) => {
        this.kept = on ? k : null;
        this.draw();
      });
      button.append(swatch, label, meter, value);
      this.meters.push({ button, meter, value });
      return make("li", {}, button);
    });
    this.list.replaceChildren(...items);
  }

  setCursor(cursor) {
    this.cursor = cursor;
    this.draw();
  }

  /** Changes what is shown, once its pictures are decoded. */
  async change(changes) {
    const atEnd = this.iteration === this.lastStop();
    Object.assign(this, changes);
    if (atEnd && "entry" in changes) this.iteration = this.lastStop();
    this.iteration = Math.min(this.iteration, this.lastStop());
    if (this.meters.length !== this.shown.slots) {
      this.kept = null;
      this.buildList();
    }
    this.stops.input.max = this.lastStop();
    this.stops.set(this.iteration);
    await this.decode();
    this.draw();
  }

  /** Decodes the pictures of the image; those of a page are few and small. */
  async decode() {
    const wanted = this.content;
    if (!this.decoded.has(wanted)) {
      const load = (name) =>
        name in wanted ? loadPixels(this.data.pictures[wanted[name]]) : null;
      const names = ["image", "attention", "masks"];
      names.push("reconstruction", "segmentation");
      const loaded = await Promise.all(names.map(load));
      const found = Object.fromEntries(names.map((n, i) => [n, loaded[i]]));
      this.decoded.set(wanted, arrange(found, this.shown));
    }
  }

  get index() {
    if (!this.cursor) return null;
    return this.cursor[1] * this.shown.size[1] + this.cursor[0];
  }

  /** The slot that was chosen, or that is at the cursor; null: none. */
  slotShown(ids) {
    if (this.kept !== null) return this.kept;
    return this.index === null ? null : ids[this.index];
  }

  draw() {
    const found = this.decoded.get(this.content);
    if (!found) return;
    const maps = found.stops[this.iteration];
    const ids = found.ids[this.iteration];
    const slot = this.slotShown(ids);
    const { size } = this.shown;
    const view = { found, maps, ids, slot, size };
    drawChosen(this.canvases, view);
    if (ids !== this.compared) drawCompared(this.canvases, view, this.colors);
    this.compared = ids;
    const of = slot === null ? "" : ` of slot ${slot + 1}`;
    this.mapTitle.textContent = `${this.kind}${of}`;
    this.drawReading(found, maps, ids);
    this.drawList(maps, slot);
    const objects = this.content.objects;
    for (const { name, marks } of this.frames) {
      drawMarks(marks, this, name === "image" ? objects : undefined);
    }
    drawObjects(this.table, this, slot);
    const scores = Object.entries(this.content.scores);
    const words = scores.map(([n, v]) => `${n} ${formatNumber(v)}`);
    this.scores.textContent = words.join(", ");
  }

  drawReading(found, maps, ids) {
    if (this.index === null) {
      this.reading.textContent = "No pixel is pointed at.";
      return;
    }
    const slot = ids[this.index];
    const value = maps[slot][this.index].toFixed(2);
    const [x, y] = this.cursor;
    const parts = [`Pixel (${x}, ${y}): slot ${slot + 1}`];
    parts.push(`${this.kind} ${value}`);
    if (found.truth) {
      const object = found.truth[this.index];
      parts.push(object ? `true object ${object}` : "true background");
    }
    this.reading.textContent = `${parts.join(", ")}.`;
  }

  drawList(maps, slot) {
    this.meters.forEach(({ button, meter, value }, k) => {
      const share = this.index === null ? 0 : maps[k][this.index];
      meter.value = share;
      value.textContent = this.index === null ? "" : share.toFixed(2);
      button.setAttribute("aria-pressed", String(this.kept === k));
      button.classList.toggle("chosen", slot === k);
    });
  }
}

/** Puts the viewer onto the page. */
async function startViewer(data) {
  const place = document.getElementById("viewer");
  if (!place || !data) return;
  const viewer = new Viewer(data, place);
  await viewer.change({});
}
