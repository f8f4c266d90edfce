/** Which tokens an intervention edits: its fields `tokens` and `when` as texts of form controls, and back. */

const SCOPES = { all: "", prompt: "of the prompt", generation: "generated" };

/** Return a number from its text; what is no number stays a text, which the server then names in its error. */
export const numberOf = (text) => (Number.isFinite(Number(text)) ? Number(text) : text);

/**
 * Return `tokens` from the text of a slice such as "2:8" or of positions such as "0, -1", and from the text of the decay;
 * undefined for all tokens at full strength.
 */
export function tokensOf(which, decay) {
  const tokens = {};
  const text = which.trim();
  if (/^[^:]*:[^:]*$/.test(text)) {
    const [start, end] = text.split(":").map((part) => part.trim());
    if (start) tokens.start = numberOf(start);
    if (end) tokens.end = numberOf(end);
  } else if (text && text !== "all") tokens.positions = text.split(/[\s,]+/).filter(Boolean).map(numberOf);
  if (decay.trim()) tokens.decay = numberOf(decay.trim());
  return Object.keys(tokens).length ? tokens : undefined;
}

/** Return the text of a slice or of positions; null and undefined mean the same in `tokens`. */
export function whichText(tokens) {
  const { start, end, positions } = tokens ?? {};
  if (positions) return [positions].flat().join(", ");
  return (start ?? end ?? null) === null ? "all" : `${start ?? ""}:${end ?? ""}`;
}

/** Return `when` from the texts of the settings of `drift` by their names: the word alone if all are empty. */
export function driftWhen(texts) {
  const settings = Object.entries(texts).filter(([, text]) => text.trim());
  return settings.length ? { drift: Object.fromEntries(settings.map(([name, text]) => [name, numberOf(text.trim())])) } : "drift";
}

/** Return the settings of `when` in either form; null without `when`. */
export function driftSettings(when) {
  if ((when ?? null) === null) return null;
  return typeof when === "object" ? (when.drift ?? {}) : {};
}

/** Return in a few words what differs from editing every token at full strength; empty if nothing does. Lists are counted. */
export function tokensText(fields) {
  const choices = Object.entries(fields).filter(([, value]) => Array.isArray(value));
  const { scope, tokens, when, part } = { ...fields, ...Object.fromEntries(choices.map(([name]) => [name, undefined])) };
  const which = whichText(tokens);
  const place = [which === "all" ? "" : which, SCOPES[scope ?? "all"] ?? scope].filter(Boolean).join(" ");
  const decay = tokens?.decay ?? null;
  return [
    place && `tokens ${place}`,
    decay !== null && `decay ${decay}`,
    driftSettings(when) && "while the text drifts",
    part && `only the ${part}`,
    ...choices.map(([name, { length }]) => `${length} choices of ${name}`),
  ]
    .filter(Boolean)
    .join(", ");
}
