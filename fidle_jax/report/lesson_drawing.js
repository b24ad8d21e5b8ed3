// The drawing of a lesson, and the layers that are computed on it.

{
  const byId = (id) => document.getElementById(id), about = JSON.parse(byId("drawing").textContent);
  about.palette = bytesOf(about.palette);
  const weights = readWeights(about.nodes, bytesOf(about.weights)), run = compileNetwork(about.nodes, weights, false);
  const explore = makeExplorer(byId("layers"), about, weights);

  const board = makeBoard(byId("board"), true, () => {
    byId("hint").hidden = !board.isEmpty();
    const { data } = board.read(about.side);
    const shape = [about.side, about.side, 1];
    explore(run({ shape, data: Float32Array.from({ length: about.side ** 2 }, (_, i) => data[4 * i] / 255) }));
  });
  byId("clear").addEventListener("click", board.clear);
  byId("undo").addEventListener("click", board.undo);
  board.draw(about.start);
}
