// Check this client, on this device, against a model's golden vectors.
//
//   rnnspn vectors MODEL.onnx              writes them
//   node check.js MODEL.onnx VECTORS.json  "10 vectors agree", or what differs

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { prepared } from "./ink.js";
import { main } from "./model.js";

const bytes = (text) => Uint8Array.from(Buffer.from(text, "base64"));

const isSame = ({ picture, image, height, width }) =>
  !Buffer.compare(prepared(bytes(picture), height, width), bytes(image));

await main("check.js MODEL.onnx VECTORS.json", async (model, path) => {
  const { model: made, height, width, tolerances, vectors, preparations = [] } = JSON.parse(readFileSync(path, "utf8"));
  // An .ort file beside a model reads as it does; its vectors name the model.
  if (!model.path.endsWith(".ort") && createHash("sha256").update(model.content).digest("hex") !== made.sha256)
    throw new Error(`${path} holds the vectors of another model than ${model.path}`);
  const wrong = [];
  for (const [index, small] of preparations.entries()) if (!isSame(small)) wrong.push(`image of preparation ${index}`);
  for (const [index, { picture, image, ...expected }] of vectors.entries()) {
    if (!isSame({ picture, image, height, width })) wrong.push(`image of picture ${index}`);
    const outputs = await model.run(bytes(image));
    for (const [name, values] of Object.entries(expected)) {
      const got = Array.from(outputs[name].data, Number);
      const agrees = (value, place) => Math.abs(got[place] - value) <= (tolerances[name] ?? 0);
      if (!values.flat(Infinity).every(agrees)) wrong.push(`${name} of picture ${index}`);
    }
  }
  if (wrong.length) throw new Error(`differs from ${path}: ${wrong.join(", ")}`);
  return `${vectors.length} vectors agree`;
});
