/** Scales, ticks, and means with their intervals, for small plots. */

/** Return a function from values between `low` and `high` to pixels between `start` and `end`. */
export function scale(low, high, start, end) {
  const span = high - low || 1;
  return (value) => start + ((value - low) / span) * (end - start);
}

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

/** Return the mean of values and half the width of its 95 % interval by Student's t; null with a single value. */
export function meanAndHalf(values) {
  const n = values.length;
  const mean = values.reduce((sum, value) => sum + value, 0) / n;
  if (n < 2) return { mean, half: null };
  const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (n - 1);
  return { mean, half: (STUDENT[n - 2] ?? 1.96) * Math.sqrt(variance / n) };
}
