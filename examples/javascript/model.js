// An exported model: what it takes, what it says, and the character of each of its classes.

import { readFileSync } from "node:fs";
import { InferenceSession, Tensor } from "onnxruntime-node";

process.env.ORT_DISABLE_TELEMETRY ??= "1"; // before the first session: ONNX Runtime reports to its maker otherwise

export async function open(path) {
  const content = readFileSync(path);
  const session = await InferenceSession.create(content);
  // The alphabet is in the file's metadata, which this runtime does not hand out. ␣ is what comes after the end, where
  // readings are of different lengths.
  const found = content.toString("utf8").match(/"alphabet": ("(\\.|[^"\\])*")/);
  if (!found) throw new Error(`${path} was not made by rnnspn`);
  const alphabet = [...JSON.parse(found[1])];
  const [, height, width] = session.inputMetadata[0].shape;
  return {
    path, content, height, width,
    // `levels` holds height * width bytes, row by row, 0 for the background and 255 for ink.
    run: (levels) => session.run({ images: new Tensor("uint8", levels, [1, height, width]) }),
    spell: (digits) => Array.from(digits.data, (digit) => alphabet[digit]).join("").replace(/␣+$/, ""),
  };
}

// Print what a command says of its arguments, the first of which is a model; an error is one line.
export async function main(usage, say) {
  const [, , path, ...others] = process.argv;
  if (!others.length) {
    console.error(`usage: node ${usage}`);
    process.exitCode = 2;
    return;
  }
  try {
    const model = await open(path);
    for (const other of others) console.log(await say(model, other));
  } catch (error) {
    console.error(`error: ${error.message}`);
    process.exitCode = 1;
  }
}
