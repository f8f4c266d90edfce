/** Writes a spec as YAML, as a person would: blocks outside, short lists and objects in one line. */

const LINE = 100;
const PLAIN = /^[A-Za-z_][\w./+:@-]*$/;
/** Words that YAML 1.1 reads as something else than a text. */
const RESERVED = /^(y|yes|n|no|on|off|true|false|null)$/i;
/** Characters that YAML folds or does not allow in quotes, and JSON does not escape. */
const ESCAPED = /[\u007f-\u009f\u2028\u2029\ufeff\ufffe\uffff]/g;

/** Return the YAML text of an object. */
export function toYaml(object) {
  return block(object, "").join("\n") + "\n";
}

function block(value, indent) {
  if (Array.isArray(value)) return value.flatMap((item) => listItem(item, indent));
  return Object.entries(value).flatMap(([key, item]) => {
    const head = `${indent}${scalar(key)}:`;
    const line = `${head} ${flow(item)}`;
    const nested = isNested(item) && !isFlat(item) && (indent === "" || line.length > LINE);
    return nested ? [head, ...block(item, `${indent}  `)] : [line];
  });
}

function listItem(item, indent) {
  const line = `${indent}- ${flow(item)}`;
  if (!isNested(item) || Array.isArray(item) || line.length <= LINE) return [line];
  const [first, ...rest] = block(item, `${indent}  `);
  return [`${indent}- ${first.trimStart()}`, ...rest];
}

const isNested = (value) => value !== null && typeof value === "object" && Object.keys(value).length > 0;

/** Return whether a value is a list of scalars, which is written in one line. */
const isFlat = (value) => Array.isArray(value) && !value.some(isNested);

function flow(value) {
  if (Array.isArray(value)) return `[${value.map(flow).join(", ")}]`;
  if (value === null || typeof value !== "object") return scalar(value);
  const pairs = Object.entries(value).map(([key, item]) => `${scalar(key)}: ${flow(item)}`);
  return `{${pairs.join(", ")}}`;
}

/** Return a scalar; a text in quotes, unless it is a plain word that no version of YAML reads as something else. */
function scalar(value) {
  if (typeof value !== "string") return JSON.stringify(value);
  const isPlain = PLAIN.test(value) && !value.endsWith(":") && !RESERVED.test(value);
  const escape = (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
  return isPlain ? value : JSON.stringify(value).replace(ESCAPED, escape);
}
