// The layers of a network in plain JavaScript. Every tensor is {shape, data}: shape is [height, width, channels] or
// [features], data a Float32Array with the channels last. Sums are computed in double precision.

// ---- reading the program

// Return the weights as {name: {kernel: {shape, data}, ...}}. `bytes` contains float32 values, one array after the other.
function readWeights(nodes, bytes) {
  const all = {};
  let offset = bytes.byteOffset;
  for (const node of nodes) {
    all[node.name] = {};
    for (const [name, shape] of Object.entries(node.weights)) {
      const size = shape.reduce((a, b) => a * b, 1);
      all[node.name][name] = { shape, data: new Float32Array(bytes.buffer, offset, size) };
      offset += 4 * size;
    }
  }
  return all;
}

// Return a function from an image, {shape, data} with values from 0 to 1, to the outputs of all layers by name. The output
// "probabilities" comes last, except without `softmax`.
function compileNetwork(nodes, weights, softmax = true) {
  const blocked = {};
  for (const node of nodes) {
    if (node.kind === "conv") blocked[node.name] = blockKernel(weights[node.name].kernel);
  }
  return (image) => {
    const outputs = { image };
    for (const node of nodes) {
      const x = outputs[node.input], own = weights[node.name];
      const y = {
        contrast: () => normalizeContrast(x, node.options),
        conv: () => convolve(x, blocked[node.name], own, node.options.padding),
        max_pool: () => maxPool(x, node.options.window),
        batch_norm: () => batchNorm(x, own, node.options.epsilon),
        flatten: () => ({ shape: [x.data.length], data: x.data }),
        dense: () => dense(x, own),
      }[node.kind]();
      if (node.residual) y.data.forEach((value, i) => { y.data[i] = value + outputs[node.residual].data[i]; });
      if (node.relu) y.data.forEach((value, i) => { y.data[i] = value > 0 ? value : 0; });
      outputs[node.name] = y;
    }
    if (softmax) outputs.probabilities = computeSoftmax(outputs[nodes.at(-1).name]);
    return outputs;
  };
}

// ---- layers

// Number of zeros before the first row or column. If the total is odd, one more zero is at the end.
const padBefore = (size, padding) => (padding === "same" ? (size - 1) >> 1 : 0);

// Copy an image into a larger one of zeros, as doubles, which need no conversion in the inner loop.
function padImage({ shape: [h, w, c], data }, top, left, height, width) {
  const padded = new Float64Array(height * width * c);
  for (let row = 0; row < h; row += 1) {
    padded.set(data.subarray(row * w * c, (row + 1) * w * c), ((row + top) * width + left) * c);
  }
  return padded;
}

const BLOCK = 4;  // output channels that the inner loop computes together

// Reorder a kernel of shape (height, width, in, out) to blocks of 4 output channels, padded with zeros.
function blockKernel({ shape, data }) {
  const [kh, kw, inputs, outputs] = shape, length = kh * kw * inputs;
  const blocks = Math.ceil(outputs / BLOCK), values = new Float64Array(blocks * length * BLOCK);
  for (let i = 0; i < length; i += 1) {
    for (let o = 0; o < outputs; o += 1) {
      values[(Math.floor(o / BLOCK) * length + i) * BLOCK + (o % BLOCK)] = data[i * outputs + o];
    }
  }
  return { shape, values };
}

function convolve(x, { shape: [kh, kw, inputs, outputs], values }, { bias }, padding) {
  const [h, w] = x.shape, same = padding === "same";
  const height = same ? h : h - kh + 1, width = same ? w : w - kw + 1;
  // Pixels are computed in pairs, so an odd width has one more pixel, which is not stored.
  const across = width + kw, area = padImage(x, padBefore(kh, padding), padBefore(kw, padding), height + kh - 1, across);
  const out = new Float32Array(height * width * outputs), line = kw * inputs;
  for (let o = 0, weight = 0; o < outputs; o += BLOCK, weight += BLOCK * kh * line) {
    for (let row = 0; row < height; row += 1) {
      for (let column = 0; column < width; column += 2) {
        let a0 = 0, a1 = 0, a2 = 0, a3 = 0, b0 = 0, b1 = 0, b2 = 0, b3 = 0, k = weight;
        for (let i = 0; i < kh; i += 1) {
          let at = ((row + i) * across + column) * inputs;
          for (const end = at + line; at < end; at += 1, k += BLOCK) {
            const a = area[at], b = area[at + inputs];
            const w0 = values[k], w1 = values[k + 1], w2 = values[k + 2], w3 = values[k + 3];
            a0 += a * w0; a1 += a * w1; a2 += a * w2; a3 += a * w3;
            b0 += b * w0; b1 += b * w1; b2 += b * w2; b3 += b * w3;
          }
        }
        const first = (row * width + column) * outputs + o, second = first + outputs;
        const pairs = [[a0, b0], [a1, b1], [a2, b2], [a3, b3]];
        for (let j = 0; j < BLOCK && o + j < outputs; j += 1) {
          const shift = bias ? bias.data[o + j] : 0;
          out[first + j] = pairs[j][0] + shift;
          if (column + 1 < width) out[second + j] = pairs[j][1] + shift;
        }
      }
    }
  }
  return { shape: [height, width, outputs], data: out };
}

function maxPool({ shape: [h, w, c], data }, window) {
  const height = Math.floor(h / window), width = Math.floor(w / window);
  const out = new Float32Array(height * width * c).fill(-Infinity);
  for (let row = 0; row < height * window; row += 1) {
    for (let column = 0; column < width * window; column += 1) {
      const from = (row * w + column) * c, to = (Math.floor(row / window) * width + Math.floor(column / window)) * c;
      for (let k = 0; k < c; k += 1) out[to + k] = Math.max(out[to + k], data[from + k]);
    }
  }
  return { shape: [height, width, c], data: out };
}

function batchNorm({ shape, data }, { scale, bias, mean, var: variance }, epsilon) {
  const channels = shape.at(-1), factor = normFactors(scale, variance, epsilon);
  const out = data.map((value, i) => {
    const k = i % channels;
    return (value - mean.data[k]) * factor[k] + bias.data[k];
  });
  return { shape, data: out };
}

const normFactors = (scale, variance, epsilon) => scale.data.map((value, k) => value / Math.sqrt(variance.data[k] + epsilon));

function dense({ data }, { kernel, bias }) {
  const [inputs, outputs] = kernel.shape, sums = Float64Array.from(bias.data), weights = kernel.data;
  for (let i = 0; i < inputs; i += 1) {
    const value = data[i];
    if (value === 0) continue;
    for (let o = 0, k = i * outputs; o < outputs; o += 1, k += 1) sums[o] += value * weights[k];
  }
  return { shape: [outputs], data: Float32Array.from(sums) };
}

function computeSoftmax({ shape, data }) {
  const largest = Math.max(...data), powers = Array.from(data, (value) => Math.exp(value - largest));
  const total = powers.reduce((a, b) => a + b, 0);
  return { shape, data: Float32Array.from(powers, (value) => value / total) };
}

// The colours minus the local mean, divided by twice the local deviation, and the grey image minus 0.5.
function normalizeContrast({ shape: [h, w, c], data }, { window, epsilon }) {
  const grey = averageChannels(data, c), mean = localMeans(grey, h, w, window);
  const centred = Float64Array.from(data, (value, i) => value - mean[Math.floor(i / c)]);
  const variance = localMeans(averageChannels(centred.map((value) => value * value), c), h, w, window);
  const out = new Float32Array(h * w * (c + 1));
  for (let i = 0; i < h * w; i += 1) {
    const deviation = Math.sqrt(variance[i] + epsilon * epsilon);
    for (let k = 0; k < c; k += 1) out[i * (c + 1) + k] = centred[i * c + k] / deviation / 2;
    out[i * (c + 1) + c] = grey[i] - 0.5;
  }
  return { shape: [h, w, c + 1], data: out };
}

function averageChannels(data, c) {
  const out = new Float64Array(data.length / c);
  data.forEach((value, i) => { out[Math.floor(i / c)] += value / c; });
  return out;
}

// Average over square windows. Pixels outside of the image do not count.
function localMeans(grey, h, w, window) {
  const averaged = (values, size, others, step, other) => {
    const out = new Float64Array(values.length);
    for (let j = 0; j < others; j += 1) {
      for (let i = 0; i < size; i += 1) {
        const from = Math.max(0, i - (window >> 1)), to = Math.min(size - 1, i + (window >> 1));
        let sum = 0;
        for (let k = from; k <= to; k += 1) sum += values[k * step + j * other];
        out[i * step + j * other] = sum / (to - from + 1);
      }
    }
    return out;
  };
  return averaged(averaged(grey, w, h, 1, w), h, w, w, 1);
}
