// Random numbers that a seed repeats.

/** A generator from `seed`: `below(n)`, `between(a, b)`, `pick(list)`. */
export function randomFrom(seed) {
  let state = (seed * 0x9e3779b1) >>> 0;
  // mulberry32
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  const below = (bound) => Math.floor(next() * bound);
  return { below, between: (from, to) => from + below(to - from + 1), pick: (list) => list[below(list.length)] };
}
