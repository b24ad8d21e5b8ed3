// Locate a handwritten digit and normalise it as in MNIST, as `normalise_digit` in
// `fidle_jax/inference/preprocess.py` does. The constants are explained there.

const MNIST_SIDE = 28, INK_SIDE = 20, MNIST_CENTRE = 14, MNIST_BLACK = 40;
const PAPER_SIDE = 64; // resolution at which the brightness of the paper is estimated
const SHADE_RADIUS = 9; // of these pixels
const INK_FLOOR = 0.25, INK_EDGE = 0.5, MIN_CONTRAST = 0.1;
const SPECK = 0.05, WHOLE = 0.2, INNER = 0.1;
const NO_DIGIT = "no digit found; expected one digit on plain paper";
// Powers of x and y in the terms of the surface of the light.
const LIGHT_TERMS = [[0, 0], [1, 0], [0, 1], [2, 0], [1, 1], [0, 2]];

// Return 28 x 28 bytes: the digit is light on black and centred. Throw an error if the paper is empty.
function normaliseDigit(colours) {
  const image = shrinkImage(colours, 256);
  const { width, height } = image;
  const luminance = luminanceOf(image);
  if (width === MNIST_SIDE && height === MNIST_SIDE) {
    for (const grey of [luminance, luminance.map((value) => 255 - value)]) {
      if (isNormalisedDigit(grey)) return grey;
    }
  }
  // Yellow on white has its contrast in the blue channel, not in the luminance.
  const variances = [0, 1, 2].map((channel) => varianceOf(image.data, channel, 3));
  const largest = Math.max(...variances), channel = variances.indexOf(largest);
  const isColoured = Math.sqrt(largest) > 1.5 * Math.sqrt(varianceOf(luminance, 0, 1));
  const grey = new Float64Array(width * height);
  for (let i = 0; i < grey.length; i++) {
    grey[i] = (isColoured ? image.data[3 * i + channel] : luminance[i]) / 255;
  }
  const ink = greyImage(width, height, inkStrength(greyImage(width, height, grey)));
  removeDirt(ink);
  return centreInk(ink);
}

function greyImage(width, height, data) {
  return { width, height, channels: 1, data };
}

// Resize an image of floats. Pillow works with 32 bits.
function resampleFloats(image, width, height, filter, box) {
  const single = greyImage(image.width, image.height, new Float32Array(image.data));
  const { data } = resampleImage(single, width, height, filter, box);
  return greyImage(width, height, new Float64Array(data));
}

// Return the variance of every `step`-th byte.
function varianceOf(bytes, first, step) {
  let sum = 0, squares = 0;
  for (let at = first; at < bytes.length; at += step) {
    sum += bytes[at];
    squares += bytes[at] * bytes[at];
  }
  const count = bytes.length / step;
  return (squares * count - sum * sum) / (count * count);
}

// Return the median of the first values of an array, and reorder the array.
function medianInPlace(values, count = values.length) {
  const middle = count >> 1;
  // Quickselect: afterwards, no value before the middle is larger, and none after it is smaller.
  for (let low = 0, high = count - 1; low < high; ) {
    const pivot = values[(low + high) >> 1];
    let [i, j] = [low, high];
    while (i <= j) {
      while (values[i] < pivot) i++;
      while (values[j] > pivot) j--;
      if (i <= j) {
        const value = values[i];
        values[i++] = values[j];
        values[j--] = value;
      }
    }
    if (middle <= j) high = j;
    else if (middle >= i) low = i;
    else break;
  }
  if (count % 2) return values[middle];
  let below = values[0];
  for (let i = 1; i < middle; i++) if (values[i] > below) below = values[i];
  return (below + values[middle]) / 2;
}

// Return the centre of mass [x, y], and the bounding box of the values above a threshold.
function inkExtent({ width, height, data }, threshold) {
  const box = { left: width, top: height, right: 0, bottom: 0 };
  let [sum, sumX, sumY] = [0, 0, 0];
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at++) {
      sum += data[at];
      sumX += data[at] * x;
      sumY += data[at] * y;
      if (data[at] > threshold) {
        box.left = Math.min(box.left, x);
        box.right = Math.max(box.right, x + 1);
        box.top = Math.min(box.top, y);
        box.bottom = y + 1;
      }
    }
  }
  return {...box, centre: [sumX / sum, sumY / sum]};
}

// Check whether an image of 28 x 28 pixels is a digit of the size and position used by MNIST.
function isNormalisedDigit(grey) {
  if (medianInPlace(grey.slice()) > 10) return false;
  const image = greyImage(MNIST_SIDE, MNIST_SIDE, grey);
  const { left, top, right, bottom, centre } = inkExtent(image, MNIST_BLACK);
  const longest = Math.max(right - left, bottom - top);
  const isCentred = centre.every((place) => Math.abs(place - MNIST_CENTRE) <= 1);
  return Math.abs(longest - INK_SIDE) <= 2 && isCentred;
}

// Return 0 for paper to 1 for ink, from an image with values 0 to 1.
function inkStrength({ width, height, data: grey }) {
  const count = grey.length;
  const light = fitLight(greyImage(width, height, grey));
  // Noise is symmetric; ink deviates to one side.
  let skewness = 0;
  for (let i = 0; i < count; i++) {
    const difference = grey[i] - light[i];
    skewness += difference * difference * difference; // several times as fast as ** 3
  }
  const flat = new Float64Array(count);
  for (let i = 0; i < count; i++) {
    const paper = skewness > 0 ? 1 - light[i] : light[i];
    flat[i] = 1 + ((skewness > 0 ? 1 - grey[i] : grey[i]) - paper) / Math.max(paper, 0.1);
  }
  const shades = estimateShades(greyImage(width, height, flat));
  const strength = new Float64Array(count);
  let largest = 0;
  for (let i = 0; i < count; i++) {
    strength[i] = (shades[i] - flat[i]) / Math.max(shades[i], 0.1);
    largest = Math.max(largest, strength[i]);
  }
  if (largest < MIN_CONTRAST) throw Error(NO_DIGIT);
  const { strongest, noise } = inkLevels(strength, largest);
  if (strongest < 5 * noise) throw Error(NO_DIGIT);
  const floor = Math.max(INK_FLOOR * strongest, 3 * noise);
  for (let i = 0; i < count; i++) {
    const share = (strength[i] - floor) / (0.9 * strongest - floor);
    strength[i] = Math.min(1, Math.max(0, share));
  }
  return strength;
}

// Return the median strength of the strongest ink, and the deviation of the paper.
function inkLevels(strength, largest) {
  const chosen = new Float64Array(strength.length);
  let count = 0;
  for (const value of strength) if (value >= largest / 2) chosen[count++] = value;
  const strongest = medianInPlace(chosen, count);
  count = 0;
  for (const value of strength) if (value <= strongest / 2) chosen[count++] = value;
  const usual = medianInPlace(chosen, count);
  for (let i = 0; i < count; i++) chosen[i] = Math.abs(chosen[i] - usual);
  return { strongest, noise: 1.4826 * medianInPlace(chosen, count) };
}

// Return the coordinates of the pixels along a side. They go from -1 to 1.
function sideCoordinates(side) {
  return Float64Array.from({ length: side }, (_, i) => ((i + 0.5) / side) * 2 - 1);
}

// Fit a quadratic surface to the brightness of the paper and return it for each pixel.
// Iteratively reweighted least squares with Cauchy weights, because ink is an outlier.
function fitLight(grey) {
  const values = resampleFloats(grey, PAPER_SIDE, PAPER_SIDE, BOX_FILTER).data;
  const side = sideCoordinates(PAPER_SIDE);
  const weights = new Float64Array(values.length).fill(1);
  const [residual, deviation] = [new Float64Array(values.length), new Float64Array(values.length)];
  let surface;
  for (let iteration = 0; iteration < 20; iteration++) {
    surface = solveLight(values, weights, side);
    evaluateLight(surface, side, side, residual);
    for (let i = 0; i < values.length; i++) {
      residual[i] = values[i] - residual[i];
      deviation[i] = Math.abs(residual[i]);
    }
    const spread = Math.max(1.4826 * medianInPlace(deviation), 1 / 255);
    for (let i = 0; i < values.length; i++) {
      const scaled = residual[i] / (2 * spread);
      weights[i] = 1 / (1 + scaled * scaled);
    }
  }
  const light = new Float64Array(grey.data.length);
  evaluateLight(surface, sideCoordinates(grey.width), sideCoordinates(grey.height), light);
  for (let i = 0; i < light.length; i++) light[i] = Math.min(1, Math.max(0, light[i]));
  return light;
}

function evaluateLight([one, x1, y1, xx, xy, yy], columns, rows, result) {
  let at = 0;
  for (const y of rows) {
    const constant = one + y * (y1 + y * yy);
    const linear = x1 + y * xy;
    for (const x of columns) result[at++] = constant + x * (linear + x * xx);
  }
}

// Solve the normal equations of the weighted fit.
function solveLight(values, weights, side) {
  // Sums of weight * x^a * y^b, and of weight * value * x^a * y^b.
  const moments = Array.from({ length: 5 }, () => new Float64Array(5));
  const products = Array.from({ length: 3 }, () => new Float64Array(3));
  for (let row = 0, at = 0; row < PAPER_SIDE; row++) {
    let [m0, m1, m2, m3, m4, p0, p1, p2] = [0, 0, 0, 0, 0, 0, 0, 0];
    for (let column = 0; column < PAPER_SIDE; column++, at++) {
      const [x, weight] = [side[column], weights[at]];
      const [wx, product] = [weight * x, weight * values[at]];
      m0 += weight;
      m1 += wx;
      m2 += wx * x;
      m3 += wx * x * x;
      m4 += wx * x * x * x;
      p0 += product;
      p1 += product * x;
      p2 += product * x * x;
    }
    for (let b = 0, power = 1; b < 5; b++, power *= side[row]) {
      [m0, m1, m2, m3, m4].forEach((moment, a) => (moments[a][b] += moment * power));
      if (b < 3) [p0, p1, p2].forEach((product, a) => (products[a][b] += product * power));
    }
  }
  const matrix = LIGHT_TERMS.map(([a, b]) => [
    ...LIGHT_TERMS.map(([c, d]) => moments[a + c][b + d]),
    products[a][b],
  ]);
  return solveLinear(matrix);
}

// Solve linear equations by Gauss-Jordan elimination. The last column is the right-hand side.
function solveLinear(rows) {
  for (let i = 0; i < rows.length; i++) {
    let pivot = i;
    for (let j = i + 1; j < rows.length; j++) {
      if (Math.abs(rows[j][i]) > Math.abs(rows[pivot][i])) pivot = j;
    }
    [rows[i], rows[pivot]] = [rows[pivot], rows[i]];
    for (const row of rows) {
      if (row === rows[i]) continue;
      const factor = row[i] / rows[i][i];
      for (let k = i; k < row.length; k++) row[k] -= factor * rows[i][k];
    }
  }
  return rows.map((row, i) => row.at(-1) / row[i]);
}

// Return structures wider than strokes: shadows with edges and dark corners.
function estimateShades(flat) {
  const small = resampleFloats(flat, PAPER_SIDE, PAPER_SIDE, BOX_FILTER);
  // Closing is a maximum filter and then a minimum filter, here the maximum of the negative values.
  for (let pass = 0; pass < 2; pass++) {
    small.data = columnMaxima(columnMaxima(small.data)).map((value) => -value);
  }
  return resampleFloats(small, flat.width, flat.height, BILINEAR_FILTER).data;
}

// Return the maximum of the window around each value along the columns, transposed. A window that ends at the
// border has the same maximum as one that continues with reflected values.
function columnMaxima(values) {
  const result = new Float64Array(values.length);
  for (let x = 0; x < PAPER_SIDE; x++) {
    for (let y = 0; y < PAPER_SIDE; y++) {
      const end = Math.min(PAPER_SIDE, y + SHADE_RADIUS + 1);
      let largest = -Infinity;
      for (let near = Math.max(0, y - SHADE_RADIUS); near < end; near++) {
        largest = Math.max(largest, values[near * PAPER_SIDE + x]);
      }
      result[x * PAPER_SIDE + y] = largest;
    }
  }
  return result;
}

// Remove specks, and components that touch the border if there are others. Change the image in place.
function removeDirt(ink) {
  const { labels, weights, outer } = labelInk(ink);
  const largest = () => Math.max(...weights, 0);
  const inner = Math.max(0, ...weights.filter((_, label) => !outer[label]));
  if (inner > INNER * largest()) outer.forEach((isOuter, label) => isOuter && (weights[label] = 0));
  if (largest() < WHOLE * weights.reduce((a, b) => a + b, 0)) throw Error(NO_DIGIT);
  const least = SPECK * largest();
  for (let at = 0; at < labels.length; at++) {
    if (labels[at] && weights[labels[at]] < least) ink.data[at] = 0;
  }
}

// Label connected pixels (8 neighbours) of ink from 1. Count the strong pixels of each label, and tell which
// labels touch the border.
function labelInk({ width, height, data }) {
  const labels = new Int32Array(data.length);
  const [weights, outer] = [[0], [false]];
  const stack = new Int32Array(data.length);
  for (let start = 0; start < data.length; start++) {
    if (labels[start] || data[start] <= 0) continue;
    const label = weights.push(0) - 1;
    outer.push(false);
    labels[start] = label;
    stack[0] = start;
    for (let size = 1; size > 0; ) {
      const at = stack[--size];
      const x = at % width, y = (at - x) / width;
      if (data[at] > INK_EDGE) weights[label]++;
      if (x === 0 || y === 0 || x === width - 1 || y === height - 1) outer[label] = true;
      for (let v = Math.max(0, y - 1); v <= Math.min(height - 1, y + 1); v++) {
        for (let u = Math.max(0, x - 1); u <= Math.min(width - 1, x + 1); u++) {
          const next = v * width + u;
          if (labels[next] || data[next] <= 0) continue;
          labels[next] = label;
          stack[size++] = next;
        }
      }
    }
  }
  return { labels, weights, outer };
}

// Scale and shift the ink with a single resampling, to fractions of a pixel.
function centreInk(ink) {
  const { left, top, right, bottom } = inkExtent(ink, INK_EDGE);
  const scale = Math.max(right - left, bottom - top) / INK_SIDE;
  const margin = Math.ceil(scale * MNIST_SIDE);
  const [width, height] = [right - left + 2 * margin, bottom - top + 2 * margin];
  const padded = greyImage(width, height, new Float64Array(width * height));
  for (let y = top; y < bottom; y++) {
    const row = ink.data.subarray(y * ink.width + left, y * ink.width + right);
    padded.data.set(row, (y - top + margin) * width + margin);
  }
  const [x, y] = inkExtent(padded, INK_EDGE).centre.map((centre) => centre + 0.5);
  const before = scale * (MNIST_CENTRE + 0.5), after = scale * (MNIST_SIDE - MNIST_CENTRE - 0.5);
  const box = [x - before, y - before, x + after, y + after];
  return valuesToBytes(resampleFloats(padded, MNIST_SIDE, MNIST_SIDE, HAMMING_FILTER, box).data);
}
