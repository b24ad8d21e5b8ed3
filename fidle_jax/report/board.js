// A board to draw on, or to show an image on. The drawing is white on black.

const PEN_WIDTH = 20, SOFTNESS = 6;  // of 280 pixels; scaled to 28, as thick as a stroke of MNIST

// Turn a square canvas into a board. `changed` is called after each change. Without `draws`, it only shows images.
function makeBoard(canvas, draws, changed) {
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  let strokes = [], image = null, drawing = null;  // `drawing` is the id of the drawing pointer

  // The image and all strokes but the last, so that a stroke takes the same time on a full board.
  const finished = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", { willReadFrequently: true });
  let count = Infinity;  // number of strokes on it; Infinity: it is outdated

  function paint() {
    if (count > Math.max(0, strokes.length - 1)) {
      finished.shadowBlur = count = 0;
      finished.fillStyle = "#000";
      finished.fillRect(0, 0, canvas.width, canvas.height);
      if (image) paintImage();
    }
    for (; count < strokes.length - 1; count += 1) paintStroke(finished, strokes[count]);
    pen.shadowBlur = 0;
    pen.drawImage(finished.canvas, 0, 0);
    if (strokes.length) paintStroke(pen, strokes.at(-1));
    changed();
  }

  function paintStroke(brush, points) {
    brush.strokeStyle = brush.shadowColor = "#fff";
    brush.lineCap = brush.lineJoin = "round";
    brush.lineWidth = PEN_WIDTH * canvas.width / 280;
    brush.shadowBlur = SOFTNESS * canvas.width / 280;
    brush.beginPath();
    brush.moveTo(points[0][0], points[0][1] + 0.01);  // otherwise, a single point would not be drawn
    for (const [x, y] of points) brush.lineTo(x, y);
    brush.stroke();
  }

  function paintImage() {
    const factor = Math.min(canvas.width / image.width, canvas.height / image.height);
    const width = factor * image.width, height = factor * image.height;
    finished.imageSmoothingEnabled = factor < 1;
    finished.drawImage(image, (canvas.width - width) / 2, (canvas.height - height) / 2, width, height);
  }

  function pointOf(event) {
    const box = canvas.getBoundingClientRect();
    return [(event.clientX - box.left) * canvas.width / box.width, (event.clientY - box.top) * canvas.height / box.height];
  }

  // Drawings are painted at most once for each frame of the screen.
  let waiting = false;
  function paintSoon() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; paint(); });
  }

  if (draws) {
    canvas.addEventListener("pointerdown", (event) => {
      if (drawing !== null || event.button !== 0) return;
      event.preventDefault();
      canvas.setPointerCapture(event.pointerId);
      drawing = event.pointerId;
      if (image) { image = null; count = Infinity; }
      strokes.push([pointOf(event)]);
      paintSoon();
    });
    canvas.addEventListener("pointermove", (event) => {
      if (drawing !== event.pointerId) return;
      const events = event.getCoalescedEvents?.() ?? [];
      strokes.at(-1).push(...(events.length ? events : [event]).map(pointOf));
      paintSoon();
    });
    for (const kind of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(kind, (event) => { if (drawing === event.pointerId) drawing = null; });
    }
  }

  function replace(lines, shown) {
    strokes = lines;
    image = shown;
    drawing = null;
    count = Infinity;
    paint();
  }

  return {
    isEmpty: () => strokes.length === 0 && image === null,
    hasStrokes: () => strokes.length > 0,
    clear: () => replace([], null),
    undo: () => replace(strokes.slice(0, -1), null),
    show: (shown) => replace([], shown),  // a bitmap or a canvas
    // Draw strokes with coordinates from 0 to 1.
    draw: (lines) => replace(lines.map((line) => line.map(([x, y]) => [x * canvas.width, y * canvas.height])), null),
    // The drawing with `side` x `side` pixels, as ImageData.
    read(side) {
      const small = new OffscreenCanvas(side, side).getContext("2d", { willReadFrequently: true });
      small.drawImage(canvas, 0, 0, side, side);
      return small.getImageData(0, 0, side, side);
    },
  };
}
