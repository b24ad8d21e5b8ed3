// Prepare images as `fidle_jax/inference/preprocess.py` and `fidle_jax/data/decode.py` do.
//
// `prepareImage` and `decodePpm` are the entry points. Most functions repeat the arithmetic of Pillow,
// NumPy or SciPy, including the rounding, so that a network receives the same pixels here as in Python.
// An image is an object with width, height, channels and data. The channels of a pixel are adjacent.

const BOX_FILTER = { support: 0.5, at: (x) => (x > -0.5 && x <= 0.5 ? 1 : 0) };
const BILINEAR_FILTER = { support: 1, at: (x) => Math.max(0, 1 - Math.abs(x)) };
const HAMMING_FILTER = {
  support: 1,
  at(x) {
    if (x === 0) return 1;
    if (Math.abs(x) >= 1) return 0;
    const angle = Math.PI * Math.abs(x);
    return (Math.sin(angle) / angle) * (Math.fround(0.54) + Math.fround(0.46) * Math.cos(angle));
  },
};
const FIXED_POINT = 2 ** 22; // Pillow multiplies bytes by integer weights with 22 fractional bits.

// Return the pixels (height, width, channel) that the network expects. See `prepare` in preprocess.py.
function prepareImage({ width, height, data }, { kind, imageShape, resize, treatment }) {
  const source = { width, height, channels: 4, data };
  const background = kind === "image" ? 255 : contrastingBackground(source);
  const image = flattenImage(source, background);
  if (kind === "image") return fitImage(image, imageShape, resize);
  if (kind === "digit") return normaliseDigit(image);
  const [rows, columns] = imageShape;
  return treatSign(resampleImage(image, columns, rows, BILINEAR_FILTER), treatment);
}

// Decode a binary PGM or PPM file to RGBA. Return null if the bytes are another format.
function decodePpm(bytes) {
  const comment = "(?:\\s|#[^\\r\\n]*[\\r\\n])";
  const pattern = new RegExp(`^P([56])${comment}+(\\d+)${comment}+(\\d+)${comment}+(\\d+)\\s`);
  const start = new TextDecoder("latin1").decode(bytes.subarray(0, 4096));
  if (!/^P[56][\s#]/.test(start)) return null;
  const header = pattern.exec(start);
  if (!header) throw Error("the PPM file is damaged; copy or save it again");
  const [kind, width, height, white] = header.slice(1).map(Number);
  if (white > 255) throw Error("the PPM file has 16 bits per colour; convert it to 8 bits per colour");
  const channels = kind === 6 ? 3 : 1;
  const pixels = bytes.subarray(header[0].length);
  if (width * height * white === 0 || pixels.length < width * height * channels) {
    throw Error("the PPM file is damaged; copy or save it again");
  }
  const data = new Uint8ClampedArray(4 * width * height).fill(255);
  for (let i = 0; i < width * height; i++) {
    for (let c = 0; c < 3; c++) {
      data[4 * i + c] = (pixels[i * channels + (channels === 3 ? c : 0)] / white) * 255;
    }
  }
  return { width, height, data };
}

// Round halves to the even integer, as Python does.
function roundHalfEven(x) {
  const rounded = Math.round(x);
  return rounded - x === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded;
}

// Convert values from 0 to 1 to bytes. A clamped array rounds halves to even.
function valuesToBytes(values) {
  return new Uint8Array(Uint8ClampedArray.from(values, (value) => 255 * value).buffer);
}

// Divide by 255 and round.
function divideBy255(product) {
  return Math.floor(product / 255 + 0.5);
}

// Return the luminance (ITU-R 601) of each pixel.
function luminanceOf({ channels, data }) {
  const luminance = new Uint8Array(data.length / channels);
  for (let i = 0, at = 0; i < luminance.length; i++, at += channels) {
    luminance[i] = (19595 * data[at] + 38470 * data[at + 1] + 7471 * data[at + 2] + 32768) >> 16;
  }
  return luminance;
}

// Return black for an image whose visible pixels are mostly light, otherwise white.
function contrastingBackground(image) {
  let { width, height, data } = image;
  if (!hasTransparency(data)) return 255;
  let grey = luminanceOf(image);
  let opacity = grey.map((_, i) => data[4 * i + 3]);
  if (Math.max(width, height) > 256) {
    const premultiplied = new Uint8Array(2 * grey.length);
    for (let i = 0; i < grey.length; i++) {
      premultiplied[2 * i] = divideBy255(grey[i] * opacity[i]);
      premultiplied[2 * i + 1] = opacity[i];
    }
    const small = shrinkImage({ width, height, channels: 2, data: premultiplied }, 256).data;
    opacity = new Uint8Array(small.length / 2).map((_, i) => small[2 * i + 1]);
    grey = opacity.map((a, i) => (a ? Math.min(255, Math.floor((255 * small[2 * i]) / a)) : 0));
  }
  let light = 0;
  for (let i = 0; i < grey.length; i++) light += (grey[i] - 127.5) * opacity[i];
  return light > 0 ? 0 : 255;
}

function hasTransparency(data) {
  for (let at = 3; at < data.length; at += 4) if (data[at] < 255) return true;
  return false;
}

// Put an RGBA image on a background of one grey.
function flattenImage({ width, height, data }, background) {
  const colours = new Uint8Array(3 * width * height);
  for (let from = 0, to = 0; from < data.length; from += 4, to += 3) {
    const opacity = data[from + 3];
    for (let c = 0; c < 3; c++) {
      colours[to + c] = divideBy255(data[from + c] * opacity + background * (255 - opacity));
    }
  }
  return { width, height, channels: 3, data: colours };
}

// Resize an image to the shape. "fit" adds black bars, "crop" cuts off two sides. See `resize_image`
// in decode.py.
function fitImage(image, [height, width, channels], how) {
  let box = [0, 0, image.width, image.height];
  let [columns, rows] = [width, height];
  const [ratio, expected] = [image.width / image.height, width / height];
  if (how === "crop" && ratio !== expected) {
    const cut = ratio > expected ? image.width - expected * image.height : 0;
    const cutRows = ratio < expected ? image.height - image.width / expected : 0;
    box = [cut / 2, cutRows / 2, image.width - cut / 2, image.height - cutRows / 2];
  } else if (how === "fit" && ratio > expected) {
    rows = roundHalfEven((image.height / image.width) * width);
  } else if (how === "fit" && ratio < expected) {
    columns = roundHalfEven((image.width / image.height) * height);
  }
  const fitted = { width, height, channels: 3, data: new Uint8Array(3 * width * height) };
  const [left, top] = [roundHalfEven((width - columns) / 2), roundHalfEven((height - rows) / 2)];
  const resized = resampleImage(image, columns, rows, BILINEAR_FILTER, box).data;
  for (let y = 0; y < rows; y++) {
    const row = resized.subarray(3 * columns * y, 3 * columns * (y + 1));
    fitted.data.set(row, 3 * ((top + y) * width + left));
  }
  return channels === 3 ? fitted.data : luminanceOf(fitted);
}

// Reduce an image to at most `side` x `side` pixels with a box filter, as Pillow's `thumbnail` does.
function shrinkImage(image, side) {
  const { width, height } = image;
  if (width <= side && height <= side) return image;
  const aspect = width / height;
  const best = (x, error) =>
    Math.max(1, error(Math.floor(x)) <= error(Math.ceil(x)) ? Math.floor(x) : Math.ceil(x));
  let [columns, rows] = [side, side];
  if (aspect <= 1) columns = best(side * aspect, (n) => Math.abs(aspect - n / side));
  else rows = best(side / aspect, (n) => (n === 0 ? 0 : Math.abs(aspect - side / n)));
  const across = Math.floor(width / columns / 2) || 1;
  const down = Math.floor(height / rows / 2) || 1;
  const reduced = averageBlocks(image, across, down);
  return resampleImage(reduced, columns, rows, BOX_FILTER, [0, 0, width / across, height / down]);
}

// Average blocks of `across` x `down` pixels, as Pillow's `reduce` does.
function averageBlocks(image, across, down) {
  if (across === 1 && down === 1) return image;
  const { channels, data } = image;
  const [width, height] = [Math.ceil(image.width / across), Math.ceil(image.height / down)];
  const averages = new Uint8Array(width * height * channels);
  for (let at = 0; at < averages.length; at++) {
    const channel = at % channels;
    const left = ((at - channel) / channels % width) * across;
    const top = Math.floor(at / channels / width) * down;
    const [right, bottom] = [Math.min(left + across, image.width), Math.min(top + down, image.height)];
    const count = (right - left) * (bottom - top);
    let sum = Math.floor(count / 2);
    for (let y = top; y < bottom; y++) {
      for (let x = left; x < right; x++) sum += data[(y * image.width + x) * channels + channel];
    }
    // Pillow multiplies by the reciprocal, rounded to an integer.
    averages[at] = Math.floor((sum * Math.floor(Math.fround(2 ** 24 / count))) / 2 ** 24);
  }
  return { width, height, channels, data: averages };
}

// Resize the part of an image inside the box (left, top, right, bottom) with antialiasing, as Pillow does.
function resampleImage(image, width, height, filter, box = [0, 0, image.width, image.height]) {
  const { channels } = image;
  const isBytes = image.data.BYTES_PER_ELEMENT === 1;
  const [left, top, right, bottom] = box.map(Math.fround);
  const across = resamplingWeights(image.width, left, right, width, filter, isBytes);
  const down = resamplingWeights(image.height, top, bottom, height, filter, isBytes);
  const lost = image.height - height;
  // The order matters, because bytes are rounded after each pass. Before version 13, Pillow always
  // started with the rows.
  if (lost > 0 && lost > 2 * (image.width - width)) {
    const low = resampleAxis(image.data, 1, image.width * channels, down, isBytes);
    return { width, height, channels, data: resampleAxis(low, height, channels, across, isBytes) };
  }
  // The first pass computes only the rows that the second pass reads.
  const firstRow = Math.min(...down.map(({ first }) => first), image.height);
  const endRow = Math.max(...down.map(({ first, weights }) => first + weights.length), firstRow);
  const stride = image.width * channels;
  const rows = image.data.subarray(firstRow * stride, endRow * stride);
  for (const output of down) output.first -= firstRow;
  const narrow = resampleAxis(rows, endRow - firstRow, channels, across, isBytes);
  return { width, height, channels, data: resampleAxis(narrow, 1, width * channels, down, isBytes) };
}

// Return the first input and the weights of each of `count` outputs along one axis.
function resamplingWeights(length, from, to, count, filter, isBytes) {
  const scale = Math.fround(to - from) / count;
  const stretch = Math.max(scale, 1);
  const support = filter.support * stretch;
  return Array.from({ length: count }, (_, i) => {
    const centre = from + (i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const end = Math.min(length, Math.trunc(centre + support + 0.5));
    const weights = new Float64Array(end - first);
    let sum = 0;
    for (let k = 0; k < weights.length; k++) {
      weights[k] = filter.at((k + first - centre + 0.5) * (1 / stretch));
      sum += weights[k];
    }
    for (let k = 0; k < weights.length; k++) {
      if (sum !== 0) weights[k] /= sum;
      if (isBytes) weights[k] = Math.floor(weights[k] * FIXED_POINT + 0.5);
    }
    return { first, weights };
  });
}

// Apply the weights to the middle axis of an array of shape (outer, length, inner).
function resampleAxis(data, outer, inner, outputs, isBytes) {
  const step = data.length / outer;
  const result = new data.constructor(outer * outputs.length * inner);
  let at = 0;
  for (let o = 0; o < outer; o++) {
    for (const { first, weights } of outputs) {
      const start = o * step + first * inner;
      for (let i = 0; i < inner; i++) {
        let sum = isBytes ? FIXED_POINT / 2 : 0;
        for (let k = 0, from = start + i; k < weights.length; k++, from += inner) {
          sum += data[from] * weights[k];
        }
        result[at++] = isBytes ? sum >> 22 : sum;
      }
    }
  }
  return result;
}
