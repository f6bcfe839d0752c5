// Scales: from values to pixels and back, and where their ticks are.

/** The lowest and highest of numbers, apart from each other; null: none. */
function extent(values) {
  let low = Infinity;
  let high = -Infinity;
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  if (low > high) return null;
  if (low < high) return [low, high];
  const room = Math.abs(low) * 0.1 || 1;
  return [low - room, high + room];
}

/** Widens a range by a share at both ends, so that lines do not touch them. */
function padded([low, high], share, log) {
  if (log) {
    const factor = (high / low) ** share;
    return [low / factor, high * factor];
  }
  const room = (high - low) * share;
  return [low - room, high + room];
}

/** A map from [low, high] to pixels [from, to]; log needs low > 0. */
function makeScale([low, high], [from, to], log = false) {
  const forward = log ? Math.log : (x) => x;
  const backward = log ? Math.exp : (x) => x;
  const a = forward(low);
  const b = forward(high);
  return {
    at: (value) => from + ((forward(value) - a) / (b - a)) * (to - from),
    invert: (pixel) => backward(a + ((pixel - from) / (to - from)) * (b - a)),
    ticks: log ? logTicks(low, high) : linearTicks(low, high, 6),
  };
}

/** About `count` round numbers between two values. */
function linearTicks(low, high, count) {
  const raw = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].find((n) => n * power >= raw) * power;
  const ticks = [];
  for (let n = Math.ceil(low / step); n * step <= high; n++) {
    ticks.push(Number((n * step).toPrecision(12)));
  }
  return ticks;
}

/** Powers of ten, or their halves and fifths where these are few. */
function logTicks(low, high) {
  const decades = Math.log10(high / low);
  if (decades < 1) return linearTicks(low, high, 4);
  const every = Math.ceil(decades / 6);
  const parts = decades < 3 ? [1, 2, 5] : [1];
  const ticks = [];
  for (let n = Math.floor(Math.log10(low)); 10 ** n <= high; n += every) {
    for (const part of parts) {
      const tick = Number((part * 10 ** n).toPrecision(3));
      if (tick >= low && tick <= high) ticks.push(tick);
    }
  }
  return ticks;
}
