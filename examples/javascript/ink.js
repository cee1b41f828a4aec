// What is ink in a picture, and what its background: steps 4 and 5 of docs/pictures.md, as rnnspn predict does them.

// Turn grey levels, height * width bytes row by row, into 0 for the background and up to 255 for ink.
export function prepared(levels, height, width) {
  if (isOnLight(levels, height, width)) levels = levels.map((level) => 255 - level);
  const border = borderOf(levels, height, width);
  const [middle, quarter] = [border[border.length / 2 - 1], border[Math.floor((border.length * 3) / 4)]];
  const paper = quarter - middle > 64 ? middle : quarter;
  if (paper === 0) return levels;
  const range = Math.max(levels.reduce((most, level) => Math.max(most, level)) - paper, 85);
  return levels.map((level) => Math.round(Math.min(Math.max(((level - paper) * 255) / range, 0), 255)));
}

// Ink is what stands out more to one side: from the border's level, or from its surroundings.
function isOnLight(levels, height, width) {
  const border = borderOf(levels, height, width);
  const paper = border[border.length / 2 - 1];
  const reach = Math.floor(Math.min(height, width) / 8);
  const blurred = sums(levels, height, width, 1); // specks fade, strokes stay
  const around = sums(blurred, height, width, reach);
  const sides = (difference) => {
    const ordered = blurred.map(difference).sort((a, b) => a - b);
    const rare = Math.floor(ordered.length / 200); // highlights
    const [below, above] = [Math.max(0, -ordered[rare]), Math.max(0, ordered.at(-1 - rare))];
    return { most: Math.max(below, above), least: Math.min(below, above), onLight: below > above };
  };
  const plain = sides((sum) => sum - 9 * paper);
  const local = sides((sum, at) => sum * (2 * reach + 1) ** 2 - around[at]);
  const clearer = local.most * plain.least > plain.most * local.least ? local : plain;
  return 4 * clearer.most > 5 * clearer.least ? clearer.onLight : paper > 127;
}

// The levels of the first and the last row and column, in order.
function borderOf(levels, height, width) {
  const sides = Array.from({ length: height }, (_, y) => [levels[y * width], levels[(y + 1) * width - 1]]);
  return [...levels.subarray(0, width), ...levels.subarray(-width), ...sides.flat()].sort((a, b) => a - b);
}

// Of each place, the sum of the square that reaches so far to every side; beyond the picture are the nearest values.
function sums(values, height, width, reach) {
  const along = (ones, count, step) =>
    Array.from(ones, (_, at) => {
      const place = Math.floor(at / step) % count;
      let sum = 0;
      for (let i = place - reach; i <= place + reach; i++)
        sum += ones[at + (Math.min(Math.max(i, 0), count - 1) - place) * step];
      return sum;
    });
  return along(along(values, width, 1), height, width);
}
