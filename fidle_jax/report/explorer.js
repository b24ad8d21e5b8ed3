// The outputs of all layers as pictures. One value at a time is explained: its window, kernel, products and sum.

const MOST_NUMBERS = 49, MOST_SUMS = 12, MOST_CHANNELS = 32;
const COLOURS = ["red", "green", "blue"];
const NARROW = matchMedia("(max-width: 600px)").matches;

// Build the pictures of all layers in `root`. `about` contains nodes, palette, classNames, layers (parameters, formula and perhaps
// the names of the maps, by name of the layer), and perhaps the name of the layer that is `open` first. Return a function that
// shows the outputs of `compileNetwork`. Null hides the pictures.
function makeExplorer(root, about, weights) {
  const { nodes, palette } = about, byName = Object.fromEntries(nodes.map((node) => [node.name, node]));
  let outputs = null, steps = null, timer = null;
  const mapName = (name, channel) => about.layers[name]?.maps?.[channel] ?? `map ${channel + 1}`;
  const at = { step: -1, channel: 0, row: 0, column: 0, input: 0 };
  const inspector = document.createElement("div");
  inspector.className = "inspector";
  let parts = {};  // elements of the inspector

  function build() {
    if (outputs.image.shape[2] === 3) {
      about.layers.image = { maps: COLOURS };
      for (const { name, kind } of nodes) if (kind === "contrast") about.layers[name] = { maps: [...COLOURS, "grey"] };
    }
    steps = Object.keys(outputs).map((name, index) => {
      const { shape } = outputs[name], node = byName[name], layer = about.layers[name];
      const figure = make(root, "figure", { class: "layer" }), caption = make(figure, "figcaption");
      const look = make(caption, "button", { type: "button", "aria-expanded": "false" });
      make(look, "b", {}, name);
      make(look, "span", {}, size(shape));
      const parameters = layer?.parameters ? `parameters: ${layer.formula}` : "no parameters";
      make(caption, "span", {}, node ? parameters : "");
      const canvas = make(figure, "canvas", { role: "img", "aria-label": `Output of ${name}, ${size(shape)}` });
      const columns = shape.length === 1 ? Math.min(shape[0], shape[0] > 1024 ? 128 : NARROW ? 32 : 64) : Math.min(NARROW ? 8 : 16, Math.max(8, shape[2]));
      const step = { name, node, shape, figure, look, canvas, columns, most: MOST_CHANNELS };
      if (shape.length === 3 && shape[2] < columns) canvas.style.width = `${100 * shape[2] / columns}%`;
      if (shape.length === 1) canvas.style.maxWidth = `${20 * columns}px`;
      if (shape.length === 3 && shape[2] > MOST_CHANNELS) {
        const more = make(figure, "button", { type: "button", class: "more" }, `show all ${shape[2]} maps`);
        more.addEventListener("click", () => { step.most = shape[2]; drawStep(step); look.focus({ preventScroll: true }); more.remove(); });
      }
      look.addEventListener("click", () => (at.step === index ? close() : open(index)));
      canvas.addEventListener("click", (event) => openAt(index, event));
      return step;
    });
  }

  function drawStep(step) {
    const tensor = outputs[step.name];
    if (step.name === "image") { drawInput(step.canvas, tensor); step.canvas.style.width = `${NARROW ? 25 : 12.5}%`; return; }
    const channels = Array.from({ length: step.shape.length === 1 ? 1 : Math.min(step.most, step.shape[2]) }, (_, i) => i);
    drawChannels(step.canvas, tensor, channels, step.columns, range(tensor.data), palette);
  }

  // ---- selecting a value

  function openAt(index, { offsetX, offsetY }) {
    const { canvas, shape, columns, name } = steps[index], [x, y] = [offsetX / canvas.clientWidth * canvas.width, offsetY / canvas.clientHeight * canvas.height].map(Math.floor);
    if (shape.length === 1) { open(index, { channel: Math.min(y * columns + x, shape[0] - 1) }); return; }
    const [h, w, c] = shape, across = name === "image" ? 1 : Math.min(columns, c);
    const channel = Math.floor(y / (h + 1)) * across + Math.floor(x / (w + 1));
    open(index, { channel: Math.min(channel, c - 1), row: Math.min(y % (h + 1), h - 1), column: Math.min(x % (w + 1), w - 1) });
  }

  function open(index, cell) {
    stop();
    if (at.step >= 0) steps[at.step].look.setAttribute("aria-expanded", "false");
    const { name, shape, figure, look } = steps[index], { data } = outputs[name];
    const largest = data.indexOf(range(data)[1]), channels = shape.at(-1);
    const strongest = { channel: Math.max(0, largest % channels), row: 0, column: 0 };
    if (shape.length === 3 && largest >= 0) {
      strongest.row = Math.floor(largest / channels / shape[1]);
      strongest.column = Math.floor(largest / channels) % shape[1];
    }
    Object.assign(at, { step: index, row: 0, column: 0, input: -1 }, cell ?? strongest);
    look.setAttribute("aria-expanded", "true");
    figure.append(inspector);
    buildInspector();
  }

  function close() {
    stop();
    steps[at.step].look.setAttribute("aria-expanded", "false");
    at.step = -1;
    inspector.remove();
  }

  function stop() {
    clearInterval(timer);
    timer = null;
    if (parts.play) parts.play.textContent = "▶ slide the window";
  }

  // ---- the inspector

  function buildInspector() {
    const { name, node, shape } = steps[at.step], input = node && outputs[node.input].shape;
    inspector.replaceChildren();
    const walk = make(inspector, "div", { class: "walk" });
    for (const [text, change] of [["← previous step", -1], ["next step →", 1]]) {
      const button = make(walk, "button", { type: "button" }, text);
      button.disabled = !steps[at.step + change];
      button.addEventListener("click", () => {
        open(at.step + change);
        const same = [...inspector.querySelectorAll(".walk button")][change > 0 ? 1 : 0];
        (same.disabled ? steps[at.step].look : same).focus();
        inspector.parentNode.scrollIntoView({ block: "nearest" });
      });
    }
    make(walk, "span", { class: "soft" }, `step ${at.step + 1} of ${steps.length}`);
    const text = node ? describe(node, shape, input)
      : name === "image" ? "The input of the network. Black is 0 and white is 1."
        : "Softmax turns the outputs of the last layer into probabilities: the exponential of each, divided by the sum of all.";
    make(inspector, "p", {}, text);
    parts = {};
    if (name !== "probabilities" && node?.kind !== "flatten") buildChoice(shape);
    parts.scene = make(inspector, "div", { class: "scene" });
    parts.lines = make(inspector, "div", { class: "sums" });
    // Each new value replaces the lines, also while a button in them is used.
    for (const kind of ["pointerdown", "focusin"]) parts.lines.addEventListener(kind, stop);
    showValue();
  }

  function buildChoice(shape) {
    const choice = make(inspector, "div", { class: "choice" }), limits = { channel: shape.at(-1) };
    if (shape.length === 3) Object.assign(limits, { row: shape[0], column: shape[1] });
    for (const [key, count] of Object.entries(limits)) {
      if (key === "channel" && count === 1) continue;
      const label = make(choice, "label", {}, shape.length === 1 ? "neuron " : key === "channel" ? (steps[at.step].node ? "map " : "channel ") : `${key} `);
      const maps = key === "channel" && about.layers[steps[at.step].name]?.maps;
      const field = maps ? make(label, "select") : make(label, "input", { type: "number", min: 1, max: count });
      if (maps) maps.forEach((map, i) => make(field, "option", { value: i + 1 }, map));
      field.addEventListener("input", () => {
        if (!field.checkValidity() || field.value === "") return;
        stop();
        at[key] = Number(field.value) - 1;
        showValue();
      });
      field.addEventListener("blur", () => { field.value = at[key] + 1; });
      parts[key] = field;
    }
    if (shape.length === 3 && shape[0] * shape[1] > 1) {
      parts.play = make(choice, "button", { type: "button" });
      parts.play.addEventListener("click", () => {
        if (timer !== null) { stop(); return; }
        timer = setInterval(() => { advance(shape); showValue(); }, 250);
        parts.play.textContent = "❚❚ pause";
      });
      stop();
    }
  }

  function advance([height, width]) {
    at.column = (at.column + 1) % width;
    if (at.column === 0) at.row = (at.row + 1) % height;
  }

  function showValue() {
    const { name, node, shape } = steps[at.step];
    for (const key of ["channel", "row", "column"]) {
      if (parts[key] && document.activeElement !== parts[key]) parts[key].value = at[key] + 1;
    }
    parts.scene.replaceChildren();
    parts.lines.replaceChildren();
    const say = (text) => make(parts.lines, "p", {}, text), tensor = outputs[name];
    const result = shape.length === 3 ? tensor.data[(at.row * shape[1] + at.column) * shape[2] + at.channel] : tensor.data[at.channel];
    if (name === "image") { addMap(tensor, at.channel, "the image", [1, 1, at.row, at.column], moveTo, GREY); say(`value: ${short(result)}, which is ${Math.round(255 * result)} of 255`); }
    else if (name === "probabilities") showSoftmax();
    else if (node.kind === "conv" || node.kind === "dense") showWeighted(node, result, say);
    else if (node.kind === "max_pool") showPool(node, result, say);
    else if (node.kind === "batch_norm") showNorm(node, result, say);
    else if (node.kind === "contrast") showContrast(node, result, say);
    else say(`Value 1 is that of row 1, column 1, map 1; value 2 is that of map 2; and so on.`);
  }

  function moveTo(row, column) {
    if (row === at.row && column === at.column) return;
    stop();
    Object.assign(at, { row, column });
    showValue();
  }

  // Draw a map of a tensor with a frame around a window [height, width, row, column]. `moved` receives the cell under the pointer.
  function addMap(tensor, channel, title, [height, width, row, column], moved, colours = palette) {
    const figure = addFigure("map", title);
    const holder = make(figure, "div", { class: "framed" }), canvas = make(holder, "canvas", { role: "img", "aria-label": title });
    drawChannels(canvas, tensor, [channel], 1, colours === GREY ? [0, 1] : range(tensor.data), colours);
    const [h, w] = tensor.shape, frame = make(holder, "div", { class: "frame" });
    // Parts of a window outside of the image are zeros.
    const top = Math.max(0, row), left = Math.max(0, column), bottom = Math.min(h, row + height), right = Math.min(w, column + width);
    Object.assign(frame.style, { top: `${100 * top / h}%`, left: `${100 * left / w}%`, height: `${100 * (bottom - top) / h}%`, width: `${100 * (right - left) / w}%` });
    if (moved) {
      canvas.classList.add("live");
      const follow = (event) => {
        const cell = [event.offsetY / canvas.clientHeight * h, event.offsetX / canvas.clientWidth * w].map(Math.floor);
        moved(Math.min(Math.max(cell[0], 0), h - 1), Math.min(Math.max(cell[1], 0), w - 1));
      };
      canvas.addEventListener("pointermove", follow);
      canvas.addEventListener("pointerdown", follow);
    }
  }

  function addNumbers(title, values, width, mark = -1) {
    const figure = addFigure("numbers", title);
    const bound = Math.max(...values.map(Math.abs)) || 1;
    if (values.length > MOST_NUMBERS) {
      const canvas = make(figure, "canvas", { role: "img", "aria-label": title });
      const tensor = { shape: [values.length / width, width, 1], data: Float32Array.from(values) };
      drawChannels(canvas, tensor, [0], 1, range(tensor.data), palette);
      return;
    }
    const table = make(figure, "table", { "aria-label": title });
    for (let i = 0; i < values.length; i += width) {
      const row = make(table, "tr");
      values.slice(i, i + width).forEach((value, j) => {
        const share = Math.round(35 * Math.abs(value) / bound), colour = value < 0 ? "var(--negative)" : "var(--positive)";
        const cell = make(row, "td", i + j === mark ? { class: "mark" } : {}, fixed(value));
        cell.style.background = `color-mix(in srgb, ${colour} ${share}%, transparent)`;
      });
    }
  }

  // Add a figure to the scene. A sign such as "×" stays next to the figure that follows it.
  function addFigure(kind, title) {
    const term = make(parts.scene, "div", { class: "term" });
    if (parts.sign) make(term, "span", { class: "sign", "aria-hidden": "true" }, parts.sign);
    parts.sign = "";
    const figure = make(term, "figure", { class: kind });
    make(figure, "figcaption", {}, title);
    return figure;
  }

  function addSign(text) { parts.sign = text; }

  function showWeighted(node, result, say) {
    const input = weightedInput(node, outputs, weights, nodes), { kh, kw, top, left, channels } = input;
    const isConv = node.kind === "conv", single = kh * kw === 1;
    const sums = Array.from({ length: channels }, (_, i) => sumOf(input.windowOf(i, at).products));
    const order = sums.map((_, i) => i).sort((a, b) => Math.abs(sums[b]) - Math.abs(sums[a]));
    if (at.input < 0) at.input = order[0];
    const what = input.name === "image" ? "the image" : input.name;
    const cells = input.windowOf(at.input, at), total = sums[at.input];
    const title = channels === 1 ? what : `${what}, ${mapName(input.name, at.input)}`;
    if (!single) {
      addMap(input.x, at.input, title, [kh, kw, at.row - top, at.column - left], isConv && ((row, column) => {
        const [h, w] = steps[at.step].shape;
        moveTo(Math.min(Math.max(row - (kh >> 1) + top, 0), h - 1), Math.min(Math.max(column - (kw >> 1) + left, 0), w - 1));
      }), input.name === "image" ? GREY : palette);
      addNumbers("window", cells.values, kw);
      addSign("×");
      addNumbers(isConv ? "kernel" : "weights", cells.weights, kw);
      addSign("=");
      addNumbers("products", cells.products, kw);
      if (isConv) { addSign("Σ"); addMap(outputs[node.name], at.channel, `${node.name}, ${mapName(node.name, at.channel)}`, [1, 1, at.row, at.column], moveTo); }
      if (cells.values.length <= 9) say(writeSum(cells.values, cells.weights, total));
      else say(`The sum of the ${cells.values.length} products is ${short(total)}.`);
    }
    if (channels > 1) showSums(order, sums, single, what, input);
    const bias = weights[node.name].bias?.data[at.channel], sum = sumOf(sums);
    const relu = node.relu ? `; after ReLU: ${short(result)}` : "";
    if (bias === undefined && channels === 1 && !relu) return;
    say(bias === undefined ? `total: ${short(sum)}${relu}` : `${channels > 1 ? "total" : "sum"} ${short(sum)} + bias ${factor(bias)} = ${short(sum + bias)}${relu}`);
  }

  // List the sums of the input channels, the largest first. A click shows the window of a channel.
  function showSums(order, sums, single, what, input) {
    const shown = order.slice(0, MOST_SUMS), rest = order.slice(MOST_SUMS), bound = Math.abs(sums[order[0]]) || 1;
    make(parts.lines, "p", {}, single ? `The largest products of a value of ${what} and its weight:` : `The sum for each map of ${what}${rest.length ? ", the largest ones" : ""}:`);
    const list = make(parts.lines, "ol", { class: "channels" });
    const row = (parent, name, sum) => {
      make(parent, "span", { class: "name" }, name);
      const track = make(parent, "span", { class: "track" }), fill = make(track, "span", { class: sum < 0 ? "fill negative" : "fill" });
      fill.style.width = `${Math.min(100, 100 * Math.abs(sum) / bound)}%`;
      make(parent, "span", { class: "value" }, short(sum));
    };
    for (const i of shown) {
      const item = make(list, "li");
      if (single) {
        const { values: [value], weights: [weight] } = input.windowOf(i, at);
        row(item, `${i + 1}: ${short(value)} · ${factor(weight)}`, sums[i]);
        continue;
      }
      const button = make(item, "button", { type: "button", "aria-pressed": String(i === at.input) });
      row(button, mapName(input.name, i), sums[i]);
      button.addEventListener("click", () => {
        at.input = i;
        showValue();
        parts.lines.querySelector("[aria-pressed=true]").focus();
      });
    }
    if (rest.length) row(make(list, "li"), `the other ${rest.length}`, sumOf(rest.map((i) => sums[i])));
  }

  function showPool(node, result, say) {
    const x = outputs[node.input], [, w, c] = x.shape, k = node.options.window, values = [];
    for (let i = 0; i < k * k; i += 1) {
      values.push(x.data[((at.row * k + Math.floor(i / k)) * w + at.column * k + (i % k)) * c + at.channel]);
    }
    addMap(x, at.channel, `${node.input}, ${mapName(node.input, at.channel)}`, [k, k, at.row * k, at.column * k], (row, column) => {
      const [height, width] = steps[at.step].shape;
      moveTo(Math.min(Math.floor(row / k), height - 1), Math.min(Math.floor(column / k), width - 1));
    });
    addNumbers("window", values, k, values.indexOf(Math.max(...values)));
    addSign("max");
    addMap(outputs[node.name], at.channel, `${node.name}, ${mapName(node.name, at.channel)}`, [1, 1, at.row, at.column], moveTo);
    say(`max(${values.map((value) => short(value)).join(", ")}) = ${short(result)}`);
  }

  function showNorm(node, result, say) {
    const k = at.channel, own = weights[node.name], { shape } = steps[at.step];
    const index = shape.length === 3 ? (at.row * shape[1] + at.column) * shape[2] + k : k;
    const [scale, bias, mean, variance] = ["scale", "bias", "mean", "var"].map((name) => own[name].data[k]), x = outputs[node.input].data[index];
    if (shape.length === 3) {
      addMap(outputs[node.input], k, `${node.input}, ${mapName(node.input, k)}`, [1, 1, at.row, at.column], moveTo);
      addSign("→");
      addMap(outputs[node.name], k, `${node.name}, ${mapName(node.name, k)}`, [1, 1, at.row, at.column], moveTo);
    }
    const normed = (x - mean) / Math.sqrt(variance + node.options.epsilon) * scale + bias;
    say(`(value − mean) / √(variance + ${node.options.epsilon}) · scale + bias`);
    say(`(${short(x)} − ${factor(mean)}) / √(${short(variance)} + ${node.options.epsilon}) · ${factor(scale)} + ${factor(bias)} = ${short(normed)}`);
    const added = node.residual ? outputs[node.residual].data[index] : 0;
    if (node.residual) say(`plus the value of ${node.residual}: ${short(normed)} + ${factor(added)} = ${short(normed + added)}`);
    if (node.relu) say(`after ReLU: ${short(result)}`);
  }

  function showContrast(node, result, say) {
    const { shape: [h, w, c], data } = outputs[node.input], { window, epsilon } = node.options, half = window >> 1;
    const i = at.row * w + at.column, colour = at.channel < c, grey = averageChannels(data, c), mean = localMeans(grey, h, w, window);
    if (colour) addMap(outputs[node.input], at.channel, `${node.input}, ${mapName(node.input, at.channel)}`, [window, window, at.row - half, at.column - half], moveTo, GREY);
    if (colour) addSign("→");
    addMap(outputs[node.name], at.channel, mapName(node.name, at.channel), [1, 1, at.row, at.column], moveTo);
    if (!colour) { say(`mean of the ${c} channels − 0.5: ${short(grey[i])} − 0.5 = ${short(result)}`); return; }
    const squares = averageChannels(data.map((value, j) => (value - mean[Math.floor(j / c)]) ** 2), c);
    say("(pixel − mean) / (2·√(variance + ε²))");
    say(`(${short(data[i * c + at.channel])} − ${factor(mean[i])}) / (2·√(${short(localMeans(squares, h, w, window)[i])} + ${epsilon}²)) = ${short(result)}`);
  }

  function showSoftmax() {
    const logits = Array.from(outputs[nodes.at(-1).name].data), largest = Math.max(...logits);
    const powers = logits.map((value) => Math.exp(value - largest)), total = sumOf(powers);
    const order = logits.map((_, i) => i).sort((a, b) => logits[b] - logits[a]).slice(0, 5);
    const table = make(make(parts.lines, "div", { class: "scroll" }), "table", { class: "softmax" }), head = make(make(table, "thead"), "tr");
    for (const name of ["class", `output z of ${nodes.at(-1).name}`, "exp(z − largest z)", "probability"]) make(head, "th", { scope: "col" }, name);
    const body = make(table, "tbody");
    for (const i of order) {
      const row = make(body, "tr");
      make(row, "td", {}, about.classNames[i]);
      for (const value of [logits[i], powers[i], powers[i] / total]) make(row, "td", {}, short(value));
    }
    make(parts.lines, "p", {}, `The sum of all ${logits.length} exponentials is ${short(total, 4)}: ${short(powers[order[0]])} / ${short(total, 4)} = ${short(powers[order[0]] / total)}.`);
  }

  return (found) => {
    root.hidden = found === null;
    if (found === null) { stop(); return; }
    outputs = found;
    if (steps === null) build();
    steps.forEach(drawStep);
    if (at.step >= 0) showValue();
    else if (about.open) { open(steps.findIndex(({ name }) => name === about.open)); about.open = null; }
  };
}
