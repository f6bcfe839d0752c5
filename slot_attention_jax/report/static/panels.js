// The panels of the viewer: an image, its slots, and what they are compared to.

const BACKGROUND = [232, 232, 232];
const BORDER = [90, 90, 90];
const NO_SLOT = 128;
// What is left of an image where the chosen slot is not.
const DIMMED = 0.2;

/** A color [r, g, b] as CSS has it. */
function toCss(color) {
  return `rgb(${color.join(" ")})`;
}

/** The color of a pixel of a picture. */
function rgb(pixels, i) {
  return pixels.data.subarray(4 * i, 4 * i + 3);
}

/** Draws what depends on the slot that is chosen. */
function drawChosen(canvases, { found, maps, slot, size }) {
  // Attention may be weak everywhere: the strongest pixel is as it is.
  const most = slot === null ? 1 : Math.max(extent(maps[slot])[1], 1e-3);
  paint(canvases.image, size, (i) => {
    const color = rgb(found.image, i);
    if (slot === null) return color;
    const share = DIMMED + ((1 - DIMMED) * maps[slot][i]) / most;
    return Array.from(color, (c) => c * share + NO_SLOT * (1 - share));
  });
  paint(canvases.map, size, (i) => {
    const gray = slot === null ? NO_SLOT : 255 * maps[slot][i];
    return [gray, gray, gray];
  });
}

/** Draws what is the same for all slots. */
function drawCompared(canvases, { found, ids, size }, colors) {
  paint(canvases.slots, size, (i) => colors[ids[i]]);
  if (canvases.reconstruction && found.reconstruction) {
    paint(canvases.reconstruction, size, (i) => rgb(found.reconstruction, i));
  }
  if (canvases.truth && found.truth) {
    paint(canvases.truth, size, trueColors(found.truth, ids, colors, size));
  }
}

/** Colors of true objects: of the slot that covers most, with a border. */
function trueColors(truth, ids, colors, [height, width]) {
  const cover = coveringSlots(truth, ids, colors.length);
  return (i) => {
    if (!truth[i]) return BACKGROUND;
    const right = i % width < width - 1 && truth[i + 1] !== truth[i];
    const below = i < (height - 1) * width && truth[i + width] !== truth[i];
    return right || below ? BORDER : colors[cover.get(truth[i])];
  };
}

/** Splits tiles, and enlarges attention to the size of the image. */
function arrange(found, { iterations, slots, grid, size }) {
  const tiles = splitTiles(found.attention, grid[0]);
  const stops = Array.from({ length: iterations }, (_, t) =>
    tiles
      .slice(t * slots, (t + 1) * slots)
      .map((map) => upsample(map, grid, size)),
  );
  if (found.masks) stops.push(splitTiles(found.masks, size[0]));
  const { segmentation } = found;
  const length = size[0] * size[1];
  const truth = segmentation
    ? Uint8Array.from({ length }, (_, i) => segmentation.data[4 * i])
    : null;
  return { ...found, stops, ids: stops.map(largestSlots), truth };
}
