// Runs a file in onnxruntime-node: node native.mjs MODEL.onnx FEEDS.json
// The feeds are name → {type, dims, data}; so is what is printed.
import { readFileSync } from "node:fs";
import ort from "onnxruntime-node";

const [model, feeds] = process.argv.slice(2);
const KINDS = { float32: Float32Array, uint8: Uint8Array, int64: (data) => BigInt64Array.from(data, BigInt) };
const tensors = Object.entries(JSON.parse(readFileSync(feeds))).map(([name, { type, dims, data }]) => {
  const values = type === "int64" ? KINDS.int64(data) : KINDS[type].from(data);
  return [name, new ort.Tensor(type, values, dims)];
});
const session = await ort.InferenceSession.create(model);
const outputs = Object.entries(await session.run(Object.fromEntries(tensors)));
console.log(JSON.stringify(Object.fromEntries(outputs.map(([name, { dims, data }]) => [name, { dims, data: [...data] }]))));
