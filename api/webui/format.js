/** Numbers, times, durations, starts of engines, neuron sets, their progress and steered tokens as text. */

/** Return a number with separators of thousands; a dash for an unknown one. */
export const count = (value) => (value === null || value === undefined ? "–" : value.toLocaleString());

/** Return a duration in seconds as text, such as "3 min 20 s". */
export function duration(seconds) {
  if (seconds < 1) return seconds === 0 ? "0 s" : "less than 1 s";
  const [hours, minutes, rest] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, Math.floor(seconds % 60)];
  if (hours) return `${hours} h ${minutes} min`;
  return minutes ? `${minutes} min ${rest} s` : `${rest} s`;
}

/** Return a number of bytes in GiB. */
export const gibibytes = (bytes) => `${(bytes / 2 ** 30).toFixed(1)} GiB`;

/** Return a time in seconds since 1970 as local time. */
export const time = (seconds) => new Date(seconds * 1000).toLocaleString();

/** Return what tells a neuron set from others: its method, its corpus, its languages, its id. */
export const neuronSetTitle = (set) =>
  `${set.method} on ${set.corpus || "a file"}, ${Object.keys(set.languages).length} languages, ${set.id.slice(0, 11)}`;

/** Return what an engine that is starting does, and for how long it has been starting. */
export const startText = ({ phase, start_seconds: seconds }) =>
  `starting: ${[phase, seconds >= 1 ? duration(seconds) : ""].filter(Boolean).join(", ")}`;

/** Return how far the recording of a corpus is: language, tokens, rate and time left. */
export function recordingText(progress) {
  const { language, languages, languages_done: done, tokens, total_tokens: total, tokens_per_second: rate } = progress;
  const parts = [
    `finding neurons: ${language ? `${language}, ` : ""}${done} of ${languages} languages`,
    total ? `${count(tokens)} of ${count(total)} tokens` : "",
    rate ? `${count(Math.round(rate))} tokens/s` : "",
    progress.seconds_left === null ? "" : `about ${duration(progress.seconds_left)} left`,
  ];
  return parts.filter(Boolean).join(", ");
}

/** Return which tokens of an answer were steered, from pairs of the first, counted from 0, and the one after the last. */
export function spansText(spans) {
  if (!spans.length) return "no token steered";
  const texts = spans.map(([first, end]) => (end - first === 1 ? String(end) : `${first + 1} to ${end}`));
  return `steered tokens: ${texts.join(", ")}`;
}
