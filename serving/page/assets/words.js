/* How two answers differ, word by word. */

const MOST_CELLS = 4_000_000; // of the table: two answers of 2000 words

export const wordsOf = (text) => text.split(/\s+/).filter(Boolean);

/* Upper case and punctuation make no other word. */
const plain = (word) => word.toLowerCase().replace(/[^\p{L}\p{N}]/gu, "") || word;

/* The fewest changes that make `words` of `reference`: how many, and which of `words` they made.
   A word that is missing marks none. Null if the answers are too long to compare. */
export function differences(words, reference) {
  const rows = words.length + 1, columns = reference.length + 1;
  if (rows * columns > MOST_CELLS) return null;
  const ours = words.map(plain), theirs = reference.map(plain);
  const costs = new Uint32Array(rows * columns);
  for (let j = 0; j < columns; j++) costs[j] = j;
  for (let i = 1; i < rows; i++) {
    costs[i * columns] = i;
    for (let j = 1; j < columns; j++) {
      const here = i * columns + j;
      const same = costs[here - columns - 1] + (ours[i - 1] === theirs[j - 1] ? 0 : 1);
      costs[here] = Math.min(same, costs[here - columns] + 1, costs[here - 1] + 1);
    }
  }
  return { count: costs[rows * columns - 1], changed: changedWords(costs, ours, theirs) };
}

function changedWords(costs, ours, theirs) {
  const columns = theirs.length + 1, changed = new Set();
  let i = ours.length, j = theirs.length;
  while (i > 0) {
    const here = i * columns + j;
    const change = j > 0 && ours[i - 1] === theirs[j - 1] ? 0 : 1;
    if (j > 0 && costs[here] === costs[here - columns - 1] + change) {
      if (change) changed.add(i - 1);
      i--, j--;
    } else if (costs[here] === costs[here - columns] + 1) changed.add(--i);
    else j--;
  }
  return changed;
}
