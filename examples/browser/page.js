// The page: a picture, the map over it, and the five likeliest classes to choose from.
import { explain, heat, load, pixelsOf, probabilities } from "./explain.js";

const [canvas, file, opacity, list, status] = ["picture", "file", "opacity", "classes", "status"].map((id) =>
  document.getElementById(id),
);
const [session, names] = await Promise.all([load("model.onnx"), fetch("classes.json").then((found) => found.json())]);
let picture, overlay;

function draw() {
  const context = canvas.getContext("2d");
  canvas.width = picture.width;
  canvas.height = picture.height;
  context.drawImage(picture, 0, 0);
  context.globalAlpha = opacity.value;
  context.imageSmoothingQuality = "high";
  context.drawImage(overlay, 0, 0, canvas.width, canvas.height);
}

async function show(index = -1) {
  const start = performance.now();
  const result = await explain(session, pixelsOf(session, picture), index);
  overlay = heat(result);
  draw();
  const scores = probabilities(result.prediction);
  const best = [...scores.keys()].sort((a, b) => scores[b] - scores[a]).slice(0, 5);
  const chosen = index < 0 ? best[0] : index;
  list.replaceChildren(...best.map((k) => row(k, scores[k], k === chosen)));
  status.textContent = `${names[chosen] ?? chosen}: ${Math.round(performance.now() - start)} ms, prediction and map`;
  document.body.dataset.class = chosen;
}

function row(index, score, chosen) {
  const [item, button] = ["li", "button"].map((tag) => document.createElement(tag));
  const share = `${(100 * score).toFixed(1)} %`;
  for (const text of [names[index] ?? `class ${index}`, share]) {
    button.append(Object.assign(document.createElement("span"), { textContent: text }));
  }
  button.style.setProperty("--share", share.replace(" ", ""));
  button.setAttribute("aria-pressed", chosen);
  button.addEventListener("click", () => show(index));
  item.append(button);
  return item;
}

async function open(blob) {
  picture = await createImageBitmap(blob);
  await show();
}

opacity.addEventListener("input", draw);
file.addEventListener("change", () => file.files[0] && open(file.files[0]));
await open(await (await fetch("photo")).blob());
