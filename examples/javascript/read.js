// Read digit sequences with an exported model.
//
//   npm install                            Node.js 20 or newer
//   node read.js MODEL.onnx PICTURE.png...  one line a picture: its path, a tab, what it says
//
// Pictures are opaque and have the model's own size; docs/pictures.md tells how to bring others to it.

import { readFileSync } from "node:fs";
import { PNG } from "pngjs";
import { prepared } from "./ink.js";
import { main } from "./model.js";

function greyLevels(path, { height, width }) {
  const { data, ...size } = PNG.sync.read(readFileSync(path)); // four bytes a pixel: red, green, blue, alpha
  if (size.height !== height || size.width !== width)
    throw new Error(`${path} has ${size.height} x ${size.width} pixels, the model takes ${height} x ${width}`);
  if (data.some((level, at) => at % 4 === 3 && level < 255)) throw new Error(`${path} is transparent in places`);
  const grey = (at) => (data[at] * 19595 + data[at + 1] * 38470 + data[at + 2] * 7471 + 32768) >> 16; // as Pillow does
  return Uint8Array.from({ length: width * height }, (_, pixel) => grey(4 * pixel));
}

await main("read.js MODEL.onnx PICTURE.png...", async (model, path) => {
  const levels = greyLevels(path, model);
  const { digits } = await model.run(prepared(levels, model.height, model.width));
  return `${path}\t${model.spell(digits)}`;
});
