// Treat traffic signs as `treat` in `fidle_jax/data/signs.py` does with scikit-image.

const LOCAL_RADIUS = 10; // of the disk over which "L-LHE" equalises the histogram, in pixels
const HISTOGRAM_BINS = 256;
// Adaptive equalisation: grey levels, grey levels per bin, and tiles per row.
const CLAHE_WHITE = 16383, CLAHE_BIN = 65, CLAHE_TILES = 8;

// Apply a treatment to an RGB image of the final size.
function treatSign({ width, data }, treatment) {
  if (treatment === "RGB") return data;
  if (treatment === "RGB-HE") return equalizeColours(data);
  const grey = greyOfColours(data);
  if (treatment === "L-HE") return valuesToBytes(equalizeHistogram(grey));
  if (treatment === "L-LHE") return equalizeLocally(valuesToBytes(grey), width);
  if (treatment === "L-CLAHE") return valuesToBytes(equalizeAdaptively(grey, width));
  return valuesToBytes(grey);
}

// Return grey values from 0 to 1.
function greyOfColours(colours) {
  return new Float64Array(colours.length / 3).map((_, i) => {
    const at = 3 * i;
    return (2125 * colours[at] + 7154 * colours[at + 1] + 721 * colours[at + 2]) / (10000 * 255);
  });
}

// Equalise the value channel (HSV).
function equalizeColours(colours) {
  const values = new Float64Array(colours.length / 3);
  const share = 1 / 255;
  const colourAt = (i) => Array.from(colours.subarray(3 * i, 3 * i + 3), (byte) => byte * share);
  const result = new Float64Array(colours.length);
  equalizeHistogram(values.map((_, i) => Math.max(...colourAt(i)))).forEach((v, i) => {
    const [hue, saturation] = hueAndSaturation(colourAt(i));
    const sector = Math.floor(hue * 6);
    const f = hue * 6 - sector;
    const p = v * (1 - saturation);
    const q = v * (1 - f * saturation);
    const t = v * (1 - (1 - f) * saturation);
    const sectors = [[v, t, p], [q, v, p], [p, v, t], [p, q, v], [t, p, v], [v, p, q]];
    result.set(sectors[sector % 6], 3 * i);
  });
  return valuesToBytes(result);
}

// Return hue and saturation from 0 to 1.
function hueAndSaturation([r, g, b]) {
  const value = Math.max(r, g, b);
  const delta = value - Math.min(r, g, b);
  if (delta === 0) return [0, 0];
  // If several channels are the largest, scikit-image uses the last one.
  let hue = (r - g) / delta + 4;
  if (b !== value) hue = g === value ? (b - r) / delta + 2 : (g - b) / delta;
  hue = (hue / 6) % 1;
  return [hue < 0 ? hue + 1 : hue, delta / value];
}

// Replace each value by the share of the values up to it. Interpolate between the centres of the bins.
function equalizeHistogram(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) [low, high] = [Math.min(low, value), Math.max(high, value)];
  if (low === high) [low, high] = [low - 0.5, high + 0.5];
  const step = (high - low) / HISTOGRAM_BINS, last = HISTOGRAM_BINS - 1;
  const edges = new Float64Array(HISTOGRAM_BINS + 1).map((_, i) => i * step + low);
  edges[HISTOGRAM_BINS] = high;
  const centres = edges.subarray(1).map((edge, i) => (edges[i] + edge) / 2);
  const shares = new Float64Array(HISTOGRAM_BINS);
  for (const value of values) {
    let bin = Math.min(last, Math.floor(((value - low) / (high - low)) * HISTOGRAM_BINS));
    if (value < edges[bin]) bin--;
    if (bin < last && value >= edges[bin + 1]) bin++;
    shares[bin]++;
  }
  for (let i = 1; i < shares.length; i++) shares[i] += shares[i - 1];
  for (let i = 0; i < shares.length; i++) shares[i] /= values.length;
  return values.map((value) => {
    if (value <= centres[0]) return shares[0];
    if (value >= centres[last]) return shares[last];
    let bin = 0;
    while (centres[bin + 1] <= value) bin++;
    const slope = (shares[bin + 1] - shares[bin]) / (centres[bin + 1] - centres[bin]);
    return slope * (value - centres[bin]) + shares[bin];
  });
}

// Replace each pixel by the share of the pixels up to it in a disk around it.
function equalizeLocally(grey, side) {
  return grey.map((value, at) => {
    const x = at % side, y = (at - x) / side;
    let count = 0, lower = 0;
    for (let v = Math.max(0, y - LOCAL_RADIUS); v <= Math.min(side - 1, y + LOCAL_RADIUS); v++) {
      const reach = Math.floor(Math.sqrt(LOCAL_RADIUS ** 2 - (v - y) ** 2));
      for (let u = Math.max(0, x - reach); u <= Math.min(side - 1, x + reach); u++) {
        count++;
        if (grey[v * side + u] <= value) lower++;
      }
    }
    return (255 * lower) / count;
  });
}

// Equalise the histogram of each tile with limited contrast (CLAHE), and interpolate between the tiles.
//
// References:
//   Zuiderveld, "Contrast limited adaptive histogram equalization", Graphics Gems IV (1994).
function equalizeAdaptively(grey, side) {
  const bins = rescaleValues(grey.map((value) => roundHalfEven(value * 65535)), CLAHE_WHITE)
    .map((value) => Math.floor(roundHalfEven(value) / CLAHE_BIN));
  const tile = side / CLAHE_TILES, half = tile >> 1;
  const curves = Array.from({ length: CLAHE_TILES ** 2 }, (_, i) =>
    tileCurve(bins, side, tile, i % CLAHE_TILES, Math.floor(i / CLAHE_TILES)));
  // Tiles outside of the image are those at the border.
  const inside = (i) => Math.min(CLAHE_TILES - 1, Math.max(0, i));
  const equalized = grey.map((_, at) => {
    const x = (at % side) + half, y = Math.floor(at / side) + half;
    const [column, row] = [Math.floor(x / tile), Math.floor(y / tile)];
    const [right, below] = [(x % tile) / tile, (y % tile) / tile];
    let sum = 0;
    for (const [down, share] of [[0, 1 - below], [1, below]]) {
      for (const [across, part] of [[0, 1 - right], [1, right]]) {
        const curve = curves[inside(row + down - 1) * CLAHE_TILES + inside(column + across - 1)];
        // scikit-image adds numbers of 32 bits.
        sum = Math.fround(sum + Math.fround(curve[bins[at]] * (part * share)));
      }
    }
    return Math.trunc(sum);
  });
  return rescaleValues(equalized, 1);
}

// Stretch values to 0 to `white`. Equal values are only clipped.
function rescaleValues(values, white) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) [low, high] = [Math.min(low, value), Math.max(high, value)];
  if (low === high) return values.map((value) => Math.min(white, value));
  return values.map((value) => ((value - low) / (high - low)) * white);
}

// Return the grey level of each bin in one tile: the cumulative histogram after clipping.
function tileCurve(bins, side, tile, column, row) {
  const histogram = new Int32Array(HISTOGRAM_BINS);
  for (let y = row * tile; y < (row + 1) * tile; y++) {
    for (let x = column * tile; x < (column + 1) * tile; x++) histogram[bins[y * side + x]]++;
  }
  spreadExcess(histogram, tile * tile);
  let sum = 0;
  const scale = CLAHE_WHITE / (tile * tile);
  return histogram.map((count) => Math.min(CLAHE_WHITE, (sum += count) * scale));
}

// Clip each bin at one pixel and spread the others over the empty bins in the order of scikit-image.
// Its limit is 1 % of the tile, but at least one pixel, and the tiles have at most 36 pixels.
function spreadExcess(histogram, pixels) {
  let empty = 0;
  for (let i = 0; i < HISTOGRAM_BINS; i++) {
    histogram[i] = Math.min(1, histogram[i]);
    empty += 1 - histogram[i];
  }
  let excess = pixels - (HISTOGRAM_BINS - empty);
  for (let start = 0; excess > 0; start = (start + 1) % HISTOGRAM_BINS) {
    const step = Math.max(1, Math.floor(empty / excess));
    for (let i = start; i < HISTOGRAM_BINS; i += step) {
      if (histogram[i]) continue;
      histogram[i] = 1;
      empty--;
      excess--;
    }
  }
}
