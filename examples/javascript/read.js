// Read digits with an exported model in Node.js.
//
//   npm install --ignore-scripts
//   node read.js model.onnx picture.png ...                  pictures of the model's size, light ink on dark
//   node read.js model.onnx --vectors model.vectors.json     check this client; exit 1 if it disagrees

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import ort from "onnxruntime-node";
import { PNG } from "pngjs";

/** Run the model on one picture, H*W grey levels from 0 (background) to 255 (ink). */
async function read(session, levels, height, width) {
  const images = new ort.Tensor("uint8", Uint8Array.from(levels), [1, height, width]);
  return session.run({ images });
}

/** Decode a PNG file into grey levels. */
function greyLevels(path, height, width) {
  const png = PNG.sync.read(readFileSync(path));
  if (png.height !== height || png.width !== width) {
    throw new Error(`${path}: expected ${width} x ${height} pixels, got ${png.width} x ${png.height}`);
  }
  const grey = (i) => (19595 * png.data[i] + 38470 * png.data[i + 1] + 7471 * png.data[i + 2] + 32768) >> 16;
  return Array.from({ length: height * width }, (_, pixel) => grey(4 * pixel));
}

/** Return the largest difference between a tensor and nested arrays of numbers. */
function difference(tensor, expected) {
  const values = expected.flat(Infinity);
  const data = Array.from(tensor.data, Number);
  if (data.length !== values.length) return Infinity;
  return data.reduce((worst, value, index) => Math.max(worst, Math.abs(value - values[index])), 0);
}

/** Compare this client with golden vectors; return the number of pictures on which they disagree. */
async function check(session, modelBytes, golden) {
  if (createHash("sha256").update(modelBytes).digest("hex") !== golden.model_sha256) {
    throw new Error("the vectors are of another model");
  }
  let wrong = 0;
  for (const [index, vector] of golden.vectors.entries()) {
    const outputs = await read(session, Buffer.from(vector.image, "base64"), golden.height, golden.width);
    const names = ["probabilities", "theta"].filter((name) => name in vector);
    const worst = Math.max(...names.map((name) => difference(outputs[name], vector[name])));
    const agrees = difference(outputs.digits, vector.digits) === 0 && worst <= golden.tolerance;
    console.log(`vector ${index}: ${agrees ? "agrees" : "DISAGREES"}, largest difference ${worst.toExponential(1)}`);
    wrong += agrees ? 0 : 1;
  }
  return wrong;
}

const [model, ...rest] = process.argv.slice(2);
const bytes = readFileSync(model);
const session = await ort.InferenceSession.create(bytes);
if (rest[0] === "--vectors") {
  process.exitCode = (await check(session, bytes, JSON.parse(readFileSync(rest[1], "utf8")))) ? 1 : 0;
} else {
  const [, height, width] = session.inputMetadata[0].shape;
  for (const path of rest) {
    const { digits } = await read(session, greyLevels(path, height, width), height, width);
    console.log(`${path}\t${Array.from(digits.data).join("")}`);
  }
}
