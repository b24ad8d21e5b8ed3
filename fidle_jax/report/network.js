// The page of one network: the board, the answer, the probabilities and the layers.

const byId = (id) => document.getElementById(id);
const about = JSON.parse(byId("about").textContent);
about.palette = bytesOf(about.palette);
const { classNames, imageShape } = about, draws = about.kind === "digit";
const BARS = classNames.length <= 12 ? classNames.length : 10;
const SENT = 140;  // pixels of a drawing: five for each pixel of MNIST
const MOST_PIXELS = 40e6;
const AS_STORED = { premultiplyAlpha: "none", colorSpaceConversion: "none" };
const percent = (share) => `${(100 * share).toFixed(1)}\u00a0%`;

let run = null, explore = null;
let version = 0;  // changes with each action, so that a file that is decoded later does not replace it

const scaled = (pixels) => ({ shape: imageShape, data: Float32Array.from(pixels, (value) => value / 255) });

// Return the probabilities of an image with uint8 pixels, channels last. It is also meant for programs that test this page.
const classify = (pixels) => run(scaled(pixels)).probabilities.data;

// ---- from the board to the answer

let given = null;  // pixels of the chosen example, or the image that was dropped

function respond() {
  version += 1;
  byId("hint").hidden = !board.isEmpty();
  if (run === null) return;
  if (board.hasStrokes()) given = null;
  for (const [i, button] of exampleButtons.entries()) button.setAttribute("aria-pressed", String(given === about.examples[i].pixels));
  if (board.isEmpty()) { showNothing(); return; }
  const began = performance.now();
  try {
    const pixels = given instanceof Uint8Array ? given : prepareImage(given ?? board.read(SENT), about);
    const outputs = run(scaled(pixels));
    show(pixels, outputs);
    byId("time").textContent = `computed in ${(performance.now() - began).toFixed(1)} ms`;
  } catch (error) {
    showNothing();
    complain(error.message);
  }
}

const board = makeBoard(byId("board"), draws, respond);

function choose(pixels, shape, image) {
  given = pixels;
  if (image) { board.show(image); return; }
  const canvas = document.createElement("canvas");
  drawPixels(canvas, pixels, shape);
  board.show(canvas);
}

function clear() { given = null; board.clear(); }
function undo() { given = null; board.undo(); }

byId("clear").addEventListener("click", clear);
byId("undo")?.addEventListener("click", undo);
if (!draws) byId("board").addEventListener("click", () => byId("file").click());
document.addEventListener("keydown", (event) => {
  const key = event.key.toLowerCase(), held = event.ctrlKey || event.metaKey;
  if (event.altKey || event.target.matches("input, select")) return;
  if (!held && key === "c") clear();
  if (draws && (held ? key === "z" && !event.shiftKey : key === "u")) { event.preventDefault(); undo(); }
});

const exampleButtons = about.examples.map((example, i) => {
  example.pixels = bytesOf(example.pixels);
  const item = document.createElement("li"), button = document.createElement("button"), canvas = document.createElement("canvas");
  button.type = "button";
  button.className = "example";
  button.setAttribute("aria-label", `test image ${i + 1}: ${classNames[example.label]}`);
  button.title = classNames[example.label];
  drawPixels(canvas, example.pixels, imageShape);
  button.append(canvas);
  item.append(button);
  byId("examples").append(item);
  button.addEventListener("click", () => choose(example.pixels, imageShape));
  return button;
});

// ---- files

async function take(file) {
  const asked = version += 1;
  try {
    const found = decodePpm(new Uint8Array(await file.arrayBuffer())), bitmap = found ? null : await createImageBitmap(file, AS_STORED);
    const { width, height } = found ?? bitmap;
    if (width * height > MOST_PIXELS) throw new Error(`it has more than ${MOST_PIXELS / 1e6} million pixels; scale it down`);
    const pen = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
    if (found) pen.putImageData(new ImageData(new Uint8ClampedArray(found.data), width), 0, 0); else pen.drawImage(bitmap, 0, 0);
    if (asked === version) choose(found ?? pen.getImageData(0, 0, width, height), null, pen.canvas);
  } catch (error) {
    if (asked !== version) return;
    const reason = error.name === "InvalidStateError" ? "the browser cannot decode it; expected PNG, JPEG, WebP, GIF, BMP or PPM" : error.message;
    complain(`${file.name} cannot be used: ${reason}`);
  }
}

byId("file").addEventListener("change", (event) => {
  if (event.target.files.length) take(event.target.files[0]);
  event.target.value = "";  // so that the same file can be chosen again
});
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  byId("frame").classList.add("over");
});
document.addEventListener("dragleave", () => byId("frame").classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  byId("frame").classList.remove("over");
  if (event.dataTransfer.files.length) take(event.dataTransfer.files[0]);
});

function complain(message) {
  byId("error").textContent = message;
  byId("error").hidden = false;
}

// ---- the answer

const bars = Array.from({ length: BARS }, () => {
  const row = document.createElement("li");
  row.innerHTML = '<span class="name"></span><span class="track"><span class="fill"></span></span><span class="value"></span>';
  byId("bars").append(row);
  return row;
});

function show(pixels, outputs) {
  byId("error").hidden = true;
  const probabilities = Array.from(outputs.probabilities.data), best = probabilities.indexOf(Math.max(...probabilities));
  const places = probabilities.map((_, place) => place);
  if (BARS < places.length) places.sort((a, b) => probabilities[b] - probabilities[a]);
  bars.forEach((row, number) => fillBar(row, classNames[places[number]], probabilities[places[number]], places[number] === best));
  byId("answer").textContent = classNames[best];
  byId("answer").classList.toggle("long", classNames[best].length > 3);
  byId("sure").textContent = percent(probabilities[best]);
  drawPixels(byId("seen"), pixels, imageShape);
  explore(outputs);
  speak(`${classNames[best]}, ${percent(probabilities[best])}`);
}

function fillBar(row, name, share, isAnswer) {
  row.className = isAnswer ? "answer" : "";
  row.querySelector(".name").textContent = name;
  row.querySelector(".fill").style.width = `${100 * (share ?? 0)}%`;
  row.querySelector(".value").textContent = share === null ? "–" : percent(share);
}

function showNothing() {
  byId("error").hidden = true;
  byId("answer").textContent = "–";
  byId("answer").classList.remove("long");
  byId("sure").textContent = "\u00a0";
  byId("time").textContent = "";
  bars.forEach((row, number) => fillBar(row, BARS === classNames.length ? classNames[number] : "–", null, false));
  byId("seen").width = byId("seen").width;  // clears it
  explore?.(null);
  speak("");
}

// Announce the answer after a pause, because a screen reader cannot follow every change.
let rest = null;
function speak(words) {
  clearTimeout(rest);
  rest = setTimeout(() => { byId("spoken").textContent = words; }, 600);
}

// ---- start

async function start() {
  const text = byId("weights").textContent;
  const bytes = text ? bytesOf(text) : new Uint8Array(await (await fetch("weights")).arrayBuffer());
  const weights = readWeights(about.nodes, bytes);
  run = compileNetwork(about.nodes, weights);
  explore = makeExplorer(byId("layers"), about, weights);
  if (version === 0 && about.examples.length) choose(about.examples[0].pixels, imageShape); else respond();
  // The browser compiles functions after a few calls. Without these, the first strokes would be slow.
  if (draws) {
    const pen = new OffscreenCanvas(SENT, SENT).getContext("2d");
    pen.fillRect(0, 0, SENT, SENT);
    pen.clearRect(60, 30, 20, 80);  // transparent becomes white
    const image = pen.getImageData(0, 0, SENT, SENT);
    for (let i = 0; i < 5; i += 1) prepareImage(image, about);
  }
  byId("desk").setAttribute("aria-busy", "false");
  // Compare this page with the trained network on its own examples.
  let largest = 0;
  for (const { pixels, probabilities } of about.examples) {
    await new Promise((resolve) => setTimeout(resolve));
    classify(pixels).forEach((value, i) => { largest = Math.max(largest, Math.abs(value - probabilities[i])); });
  }
  if (about.examples.length) byId("check").textContent = `Check: on these ${about.examples.length} test images, the probabilities computed here differ from those of the trained network by at most ${largest.toExponential(1)}.`;
}

start().catch((error) => complain(`the page could not start: ${error.message}`));
