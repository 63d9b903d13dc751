// A network that explains itself, in the browser: all that a page of one's own needs of it.
//
// The file is written by   ex.export("model.onnx", "grad_cam", "input", pixels=True, normalize=True)
import * as ort from "./node_modules/onnxruntime-web/dist/ort.wasm.min.mjs";

ort.env.wasm.wasmPaths = new URL("./node_modules/onnxruntime-web/dist/", import.meta.url).href;

/** Open an exported file; resolves to a session. */
export function load(url) {
  return ort.InferenceSession.create(url, { executionProviders: ["wasm"] });
}

/**
 * A picture's pixels at the size that the network takes.
 *
 * @param session what `load` gave.
 * @param picture whatever a canvas can draw: an image, a video's frame, another canvas.
 * @returns ImageData. The picture is stretched: cut it beforehand where the network was trained on centre crops.
 */
export function pixelsOf(session, picture) {
  const [, height, width] = session.inputMetadata.find((input) => input.name === "pixels").shape;
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, 0, 0, width, height);
  return context.getImageData(0, 0, width, height);
}

/**
 * What the network says of a picture, and where it looks for a class.
 *
 * @param session what `load` gave.
 * @param pixels ImageData of the network's size.
 * @param index of the class; a negative one is the class on top.
 * @returns {prediction, map, width, height}: the model's output, and 0 … 1 for each pixel, row by row.
 */
export async function explain(session, pixels, index = -1) {
  const { width, height } = pixels;
  const outputs = await session.run({
    pixels: new ort.Tensor("uint8", new Uint8Array(pixels.data.buffer), [1, height, width, 4]),
    class: new ort.Tensor("int64", BigInt64Array.of(BigInt(index)), [1]),
  });
  return { prediction: outputs.prediction.data, map: outputs.map.data, width, height };
}

/** The numbers as probabilities, in case the model ends before its softmax. */
export function probabilities(prediction) {
  const total = prediction.reduce((sum, p) => sum + p, 0);
  if (prediction.every((p) => p >= 0) && Math.abs(total - 1) < 1e-3) return prediction;
  const largest = prediction.reduce((a, b) => Math.max(a, b));
  const powers = prediction.map((p) => Math.exp(p - largest));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map((p) => p / sum);
}

/** A map as a picture, to be drawn over another: from clear blue (0) over yellow to red (1). */
export function heat({ map, width, height }) {
  const image = new ImageData(width, height);
  map.forEach((value, i) => {
    const hat = (middle) => 255 * Math.min(1, Math.max(0, 1.5 - Math.abs(4 * value - middle)));
    image.data.set([hat(3), hat(2), hat(1), 255 * Math.min(1, 0.25 + value)], 4 * i);
  });
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}
