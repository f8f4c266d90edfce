/** Scales, ticks and means, for small plots. */

/** Return a function from values between `low` and `high` to pixels between `start` and `end`. */
export function scale(low, high, start, end) {
  const span = high - low || 1;
  return (value) => start + ((value - low) / span) * (end - start);
}

/** Return the smallest and the largest of any number of values. */
export const extent = (values) =>
  values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);

/** Return about `wanted` round numbers between two values, both ends included if they are round. */
export function ticks(low, high, wanted = 4) {
  const span = high - low || 1;
  const magnitude = 10 ** Math.floor(Math.log10(span / wanted));
  const step = magnitude * [1, 2, 5, 10].find((factor) => span / (factor * magnitude) <= wanted);
  const first = Math.ceil(low / step - 1e-9);
  const count = Math.floor(high / step + 1e-9) - first;
  return Array.from({ length: count + 1 }, (_, index) => Number(((first + index) * step).toPrecision(12)));
}

/** Return a number as short text. */
export const short = (value) => (Math.abs(value) >= 1000 ? value.toExponential(0) : String(Number(value.toPrecision(3))));

export const meanOf = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
