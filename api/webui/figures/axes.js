/** Scales, ticks, and means with their intervals, for small plots. */

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

/** The 97.5 % quantiles of Student's t distribution with 1 to 30 degrees of freedom. */
const STUDENT = [
  12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.16, 2.145, 2.131, 2.12, 2.11,
  2.101, 2.093, 2.086, 2.08, 2.074, 2.069, 2.064, 2.06, 2.056, 2.052, 2.048, 2.045, 2.042,
];

export const meanOf = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

/**
 * Return the mean of several values with its 95 % interval: Student's t over the values, but no narrower than their own
 * intervals are on average, because they may rest on the same items, and within the bounds of the metric. Equal values
 * without intervals have none.
 *
 * @param {{value: number, low: ?number, high: ?number}[]} points At least two values with their intervals.
 * @param {[number, number]} bounds The smallest and the largest value that the metric can have.
 */
export function meanInterval(points, [bottom, top]) {
  const n = points.length;
  const mean = meanOf(points.map(({ value }) => value));
  const squares = points.reduce((sum, { value }) => sum + (value - mean) ** 2, 0);
  const half = (STUDENT[n - 2] ?? 1.96) * Math.sqrt(squares / (n - 1) / n);
  const isKnown = points.every(({ low, high }) => low !== null && high !== null);
  if (!isKnown && half < 1e-12) return { mean, low: null, high: null };
  const down = isKnown ? mean - meanOf(points.map(({ low }) => low)) : 0;
  const up = isKnown ? meanOf(points.map(({ high }) => high)) - mean : 0;
  return { mean, low: Math.max(bottom, mean - Math.max(half, down)), high: Math.min(top, mean + Math.max(half, up)) };
}
