// Pictures of the page as numbers, and numbers as pictures.

/** Decodes a picture; returns { width, height, data } with data in RGBA. */
async function loadPixels(uri) {
  const image = new Image();
  image.src = uri;
  await image.decode();
  const canvas = document.createElement("canvas");
  canvas.width = image.naturalWidth;
  canvas.height = image.naturalHeight;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  return context.getImageData(0, 0, canvas.width, canvas.height);
}

/** Gray tiles below each other, each of a height: one array for each. */
function splitTiles(pixels, height) {
  const size = height * pixels.width;
  const count = pixels.height / height;
  return Array.from({ length: count }, (_, n) =>
    Float32Array.from(
      { length: size },
      (_, i) => pixels.data[4 * (n * size + i)] / 255,
    ),
  );
}

/** Where a pixel lies between those of a smaller grid: [index, next, share]. */
function gridPlaces(size, count) {
  return Array.from({ length: size }, (_, i) => {
    const at = clamp(((i + 0.5) * count) / size - 0.5, 0, count - 1);
    const low = Math.floor(at);
    return [low, Math.min(low + 1, count - 1), at - low];
  });
}

/** Enlarges a map bilinearly with half-pixel centers, as evaluations do. */
function upsample(map, [h, w], [height, width]) {
  const rows = gridPlaces(height, h);
  const columns = gridPlaces(width, w);
  const out = new Float32Array(height * width);
  let n = 0;
  for (const [top, bottom, down] of rows) {
    for (const [left, right, across] of columns) {
      const mix = (row) =>
        map[row * w + left] * (1 - across) + map[row * w + right] * across;
      out[n++] = mix(top) * (1 - down) + mix(bottom) * down;
    }
  }
  return out;
}

/** The slot with the largest mask at each pixel. */
function largestSlots(maps) {
  const out = new Uint8Array(maps[0].length);
  for (let k = 1; k < maps.length; k++) {
    for (let i = 0; i < out.length; i++) {
      if (maps[k][i] > maps[out[i]][i]) out[i] = k;
    }
  }
  return out;
}

/** The slot that covers most of each true object, by its number. */
function coveringSlots(truth, slots, count) {
  const cover = new Map();
  truth.forEach((object, i) => {
    if (!object) return;
    if (!cover.has(object)) cover.set(object, new Array(count).fill(0));
    cover.get(object)[slots[i]]++;
  });
  const best = new Map();
  for (const [object, counts] of cover) {
    best.set(object, counts.indexOf(Math.max(...counts)));
  }
  return best;
}

/** Draws a color [r, g, b] for each pixel. */
function paint(canvas, [height, width], colorAt) {
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
  }
  // In memory, not on the graphics card: these are few pixels, often written.
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const image = context.createImageData(width, height);
  for (let i = 0; i < width * height; i++) {
    const [r, g, b] = colorAt(i);
    image.data.set([r, g, b, 255], 4 * i);
  }
  context.putImageData(image, 0, 0);
}
