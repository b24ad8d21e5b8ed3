// The numbers and the sentences that explain a layer and its values.

// ---- small helpers

function make(parent, tag, attributes = {}, text = "") {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.textContent = text;
  parent.append(element);
  return element;
}

const minus = (text) => text.replace("-", "−");
// Round to some digits: 0.0123, −12.3, 1.23·10⁻⁷.
function short(value, digits = 3) {
  const [text, power] = String(Number(value.toPrecision(digits))).split("e");
  return minus(text) + (power ? `·10${[...power].map((each) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(each)] ?? "").join("")}` : "");
}
const fixed = (value) => minus((Math.abs(value) < 0.005 ? 0 : value).toFixed(2));
const factor = (value) => (value < 0 ? `(${short(value)})` : short(value));
const size = (shape) => shape.join("×");
const plural = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

// ---- numbers behind a value

// Return the input of a convolution or dense layer as channels, each with a window of values and weights. A dense layer
// after images has windows of the size of the images.
function weightedInput(node, outputs, weights, nodes) {
  const source = nodes.find((each) => each.name === node.input), { kernel } = weights[node.name];
  const x = source?.kind === "flatten" ? outputs[source.input] : outputs[node.input];
  const [h, w, c] = x.shape.length === 3 ? x.shape : [1, 1, x.shape[0]];
  const isConv = node.kind === "conv", [kh, kw] = isConv ? kernel.shape : [h, w];
  const [top, left] = isConv ? [padBefore(kh, node.options.padding), padBefore(kw, node.options.padding)] : [0, 0];
  const outputsCount = kernel.shape.at(-1);
  const valueAt = (row, column, i) => (row < 0 || column < 0 || row >= h || column >= w ? 0 : x.data[(row * w + column) * c + i]);
  const windowOf = (i, { row, column, channel }) => {
    const cells = { values: [], weights: [], products: [] };
    for (let a = 0; a < kh; a += 1) {
      for (let b = 0; b < kw; b += 1) {
        const value = valueAt(row - top + a, column - left + b, i);
        const weight = kernel.data[((a * kw + b) * c + i) * outputsCount + channel];
        cells.values.push(value);
        cells.weights.push(weight);
        cells.products.push(value * weight);
      }
    }
    return cells;
  };
  return { x, name: source?.kind === "flatten" ? source.input : node.input, channels: c, kh, kw, top, left, windowOf };
}

const sumOf = (values) => values.reduce((a, b) => a + b, 0);

function writeSum(values, weights, total) {
  return `${values.map((value, i) => `${i ? factor(value) : short(value)}·${factor(weights[i])}`).join(" + ")} = ${short(total)}`;
}

// ---- sentences

function describe(node, shape, input) {
  const relu = node.relu ? " ReLU replaces negative values by 0." : "";
  const skip = node.residual ? ` The output of ${node.residual} is added (a skip connection).` : "";
  return {
    contrast: () => `Each pixel minus the mean of the ${size([node.options.window, node.options.window])} pixels around it, divided by twice their `
      + "standard deviation. The last channel is the grey image minus 0.5.",
    conv: () => {
      const [kh, kw, inputs, count] = node.weights.kernel;
      const pad = node.options.padding === "same" ? " Zeros around the image keep its size." : "";
      return `A window of ${kh}×${kw} slides over ${plural(inputs, "input channel")}. Each of the ${plural(count, "kernel")} multiplies the values in the window by its weights `
        + `and adds the products${node.weights.bias ? " and a bias" : ""}.${pad}`;
    },
    max_pool: () => `Each value is the largest of ${node.options.window}×${node.options.window} values. Height and width are divided by ${node.options.window}.`
      + (input[0] % node.options.window || input[1] % node.options.window ? " Remaining rows and columns are left out." : ""),
    batch_norm: () => "Each channel is normalised with its mean and variance during training, then multiplied by a learned scale and shifted by a bias.",
    flatten: () => `The ${size(input)} values become one list of ${plural(shape[0], "value")}.`,
    dense: () => `Each of the ${plural(shape[0], "neuron")} multiplies all ${plural(node.weights.kernel[0], "input")} by its own weights and adds the products and a bias.`,
  }[node.kind]() + skip + relu;
}
