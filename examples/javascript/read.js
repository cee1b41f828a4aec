// Read digit sequences with an exported model: grey levels in, digits out, nothing else to prepare.
//
//   npm install
//   node read.js MODEL.onnx PICTURE.png...          one line a picture: its path, a tab, what it says
//   node read.js MODEL.onnx --vectors VECTORS.json  check this client against the model's golden vectors
//
// Pictures have the model's own size and are light on dark; rnnspn predict shows how to bring others into that form.

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { InferenceSession, Tensor } from "onnxruntime-node";
import { PNG } from "pngjs";

process.env.ORT_DISABLE_TELEMETRY ??= "1"; // before the first session: ONNX Runtime reports to its maker otherwise

const [, , modelPath, ...paths] = process.argv;
if (!modelPath || !paths.length) {
  console.error("usage: node read.js MODEL.onnx (PICTURE.png... | --vectors VECTORS.json)");
  process.exit(2);
}
const model = readFileSync(modelPath);
const session = await InferenceSession.create(model);
// The character of each class is in the file's metadata, which this runtime does not hand out. ␣ is what comes after the
// end, where readings are of different lengths.
const alphabet = [...JSON.parse(model.toString("utf8").match(/"alphabet": ("(\\.|[^"\\])*")/)[1])];

// `levels` holds height * width bytes, row by row, 0 for the background and 255 for ink.
async function run(levels, height, width) {
  return session.run({ images: new Tensor("uint8", levels, [1, height, width]) });
}

async function read(path) {
  const { width, height, data } = PNG.sync.read(readFileSync(path)); // four bytes a pixel: red, green, blue, alpha
  const levels = Uint8Array.from({ length: width * height }, (_, pixel) => data[4 * pixel]);
  const { digits } = await run(levels, height, width);
  return Array.from(digits.data, (digit) => alphabet[digit]).join("").replace(/␣+$/, "");
}

async function check(path) {
  const { model: made, height, width, tolerances, vectors } = JSON.parse(readFileSync(path, "utf8"));
  if (createHash("sha256").update(model).digest("hex") !== made.sha256) {
    throw new Error(`${path} holds the vectors of another model than ${modelPath}`);
  }
  const wrong = [];
  for (const [index, { image, ...expected }] of vectors.entries()) {
    const outputs = await run(Uint8Array.from(Buffer.from(image, "base64")), height, width);
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
  if (paths[0] === "--vectors") console.log(await check(paths[1]));
  else for (const path of paths) console.log(`${path}\t${await read(path)}`);
} catch (error) {
  console.error(`error: ${error.message}`);
  process.exitCode = 1;
}
