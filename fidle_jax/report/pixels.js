// Draw pixels and feature maps on canvases.

function bytesOf(text) {
  const raw = atob(text), bytes = new Uint8Array(raw.length);  // `Uint8Array.from` would take a second for 18 MB
  for (let i = 0; i < raw.length; i += 1) bytes[i] = raw.charCodeAt(i);
  return bytes;
}

// Draw uint8 pixels with one or three channels on a canvas, which gets their size.
function drawPixels(canvas, pixels, [height, width, channels]) {
  canvas.width = width;
  canvas.height = height;
  const image = new ImageData(width, height);
  for (let i = 0; i < width * height; i += 1) {
    for (let c = 0; c < 3; c += 1) image.data[4 * i + c] = pixels[channels * i + (channels === 3 ? c : 0)];
    image.data[4 * i + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

// Return the smallest and the largest value, also of long arrays.
function range(data) {
  let low = Infinity, high = -Infinity;
  for (const value of data) { low = Math.min(low, value); high = Math.max(high, value); }
  return [low, high === low ? low + 1 : high];
}

// Draw channels next to each other, with a gap of one pixel. A list of features is drawn as one map.
function drawChannels(canvas, { shape, data }, channels, columns, [low, high], palette) {
  const flat = shape.length === 1;
  const [h, w, c] = flat ? [Math.ceil(shape[0] / columns), columns, 1] : shape;
  const across = Math.min(columns, channels.length), pitch = [h + 1, w + 1];
  canvas.width = across * pitch[1] - 1;
  canvas.height = Math.ceil(channels.length / across) * pitch[0] - 1;
  const image = new ImageData(canvas.width, canvas.height);
  channels.forEach((channel, number) => {
    const top = Math.floor(number / across) * pitch[0], left = (number % across) * pitch[1];
    for (let i = 0; i < h * w; i += 1) {
      const from = flat ? i : i * c + channel;
      if (from >= data.length) break;
      const to = 4 * ((top + Math.floor(i / w)) * canvas.width + left + (i % w));
      const shade = 3 * Math.round(255 * (data[from] - low) / (high - low));
      for (let k = 0; k < 3; k += 1) image.data[to + k] = palette[shade + k];
      image.data[to + 3] = 255;
    }
  });
  canvas.getContext("2d").putImageData(image, 0, 0);
}

const GREY = Uint8Array.from({ length: 768 }, (_, i) => Math.floor(i / 3));

function drawInput(canvas, { shape, data }) {
  drawPixels(canvas, data.map((value) => 255 * value), shape);
}
