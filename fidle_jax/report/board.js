// A board to draw on, or to show an image on. The drawing is white on black.

const PEN_WIDTH = 20, SOFTNESS = 6;  // of 280 pixels; scaled to 28, as thick as a stroke of MNIST

// Turn a square canvas into a board. `changed` is called after each change. Without `draws`, it only shows images.
function makeBoard(canvas, draws, changed) {
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  let strokes = [], image = null, drawing = null;  // `drawing` is the id of the drawing pointer

  function paint() {
    pen.shadowBlur = 0;
    pen.fillStyle = "#000";
    pen.fillRect(0, 0, canvas.width, canvas.height);
    if (image) paintImage();
    pen.strokeStyle = pen.shadowColor = "#fff";
    pen.lineCap = pen.lineJoin = "round";
    pen.lineWidth = PEN_WIDTH * canvas.width / 280;
    pen.shadowBlur = SOFTNESS * canvas.width / 280;
    for (const points of strokes) {
      pen.beginPath();
      pen.moveTo(points[0][0], points[0][1] + 0.01);  // otherwise, a single point would not be drawn
      for (const [x, y] of points) pen.lineTo(x, y);
      pen.stroke();
    }
    changed();
  }

  function paintImage() {
    const factor = Math.min(canvas.width / image.width, canvas.height / image.height);
    const width = factor * image.width, height = factor * image.height;
    pen.imageSmoothingEnabled = factor < 1;
    pen.drawImage(image, (canvas.width - width) / 2, (canvas.height - height) / 2, width, height);
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
      image = null;
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

  return {
    isEmpty: () => strokes.length === 0 && image === null,
    hasStrokes: () => strokes.length > 0,
    clear() { strokes = []; image = null; drawing = null; paint(); },
    undo() { if (image) image = null; else strokes.pop(); drawing = null; paint(); },
    // Replace the drawing by strokes with coordinates from 0 to 1.
    draw(lines) {
      strokes = lines.map((line) => line.map(([x, y]) => [x * canvas.width, y * canvas.height]));
      image = null;
      paint();
    },
    show(shown) { strokes = []; image = shown; drawing = null; paint(); },  // a bitmap or a canvas
    // The drawing with `side` x `side` pixels, as ImageData.
    read(side) {
      const small = new OffscreenCanvas(side, side).getContext("2d", { willReadFrequently: true });
      small.drawImage(canvas, 0, 0, side, side);
      return small.getImageData(0, 0, side, side);
    },
  };
}
