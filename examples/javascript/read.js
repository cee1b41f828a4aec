// Read digit sequences with an exported model.
//
//   npm install                                    Node.js 20 or newer
//   node read.js MODEL.onnx PICTURE.png...          one line a picture: its path, a tab, what it says
//   node read.js MODEL.onnx --vectors VECTORS.json  check this client against the model's golden vectors
//
// Pictures are opaque and have the model's own size; docs/pictures.md tells how to bring others to it.

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { InferenceSession, Tensor } from "onnxruntime-node";
import { PNG } from "pngjs";
import { prepared } from "./ink.js";

process.env.ORT_DISABLE_TELEMETRY ??= "1"; // before the first session: ONNX Runtime reports to its maker otherwise

const [, , modelPath, ...paths] = process.argv;
if (!modelPath || !paths.length) {
  console.error("usage: node read.js MODEL.onnx (PICTURE.png... | --vectors VECTORS.json)");
  process.exit(2);
}
let model, session, alphabet;

async function open(path) {
  model = readFileSync(path);
  session = await InferenceSession.create(model);
  // The character of each class is in the file's metadata, which this runtime does not hand out. ␣ is what comes after
  // the end, where readings are of different lengths.
  const found = model.toString("utf8").match(/"alphabet": ("(\\.|[^"\\])*")/);
  if (!found) throw new Error(`${path} was not made by rnnspn`);
  alphabet = [...JSON.parse(found[1])];
}

// `levels` holds height * width bytes, row by row, 0 for the background and 255 for ink.
async function run(levels, height, width) {
  return session.run({ images: new Tensor("uint8", levels, [1, height, width]) });
}

async function read(path) {
  const { width, height, data } = PNG.sync.read(readFileSync(path)); // four bytes a pixel: red, green, blue, alpha
  const size = [height, width].join(" x "), expected = session.inputMetadata[0].shape.slice(1).join(" x ");
  if (size !== expected) throw new Error(`${path} has ${size} pixels, the model takes ${expected}`);
  if (data.some((level, at) => at % 4 === 3 && level < 255)) throw new Error(`${path} is transparent in places`);
  const grey = (at) => (data[at] * 19595 + data[at + 1] * 38470 + data[at + 2] * 7471 + 32768) >> 16; // as Pillow does
  const levels = Uint8Array.from({ length: width * height }, (_, pixel) => grey(4 * pixel));
  const { digits } = await run(prepared(levels, height, width), height, width);
  return Array.from(digits.data, (digit) => alphabet[digit]).join("").replace(/␣+$/, "");
}

async function check(path) {
  const { model: made, height, width, tolerances, vectors, preparations = [] } = JSON.parse(readFileSync(path, "utf8"));
  // An .ort file beside a model reads as it does; its vectors name the model.
  if (!modelPath.endsWith(".ort") && createHash("sha256").update(model).digest("hex") !== made.sha256) {
    throw new Error(`${path} holds the vectors of another model than ${modelPath}`);
  }
  const bytes = (text) => Uint8Array.from(Buffer.from(text, "base64"));
  const isSame = ({ picture, image }, height, width) =>
    !Buffer.compare(prepared(bytes(picture), height, width), bytes(image));
  const wrong = [];
  for (const [index, small] of preparations.entries())
    if (!isSame(small, small.height, small.width)) wrong.push(`image of preparation ${index}`);
  for (const [index, { picture, image, ...expected }] of vectors.entries()) {
    const levels = bytes(image);
    if (!isSame({ picture, image }, height, width)) wrong.push(`image of picture ${index}`);
    const outputs = await run(levels, height, width);
    for (const [name, values] of Object.entries(expected)) {
      const got = Array.from(outputs[name].data, Number);
      const agrees = (value, place) => Math.abs(got[place] - value) <= (tolerances[name] ?? 0);
      if (!values.flat(Infinity).every(agrees)) wrong.push(`${name} of picture ${index}`);
    }
  }
  if (wrong.length) throw new Error(`differs from ${path}: ${wrong.join(", ")}`);
  return `${vectors.length} vectors agree`;
}

try {
  await open(modelPath);
  if (paths[0] === "--vectors") console.log(await check(paths[1]));
  else for (const path of paths) console.log(`${path}\t${await read(path)}`);
} catch (error) {
  console.error(`error: ${error.message}`);
  process.exitCode = 1;
}
