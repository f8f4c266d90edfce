/** SVG elements. Colours are presentation attributes, not classes, so that an exported figure needs no style sheet. */

const NAMESPACE = "http://www.w3.org/2000/svg";

/** Colours that are distinct for the colour-blind and readable on both grounds (Okabe and Ito, darker yellow). */
export const PALETTE = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#56b4e9"];
export const TONES = { up: "#2f8f5b", down: "#c0532d", neutral: "#3d74b8" };
export const INK = "#1b1f23";
export const GROUND = "#ffffff";

/** Create an SVG element with attributes and children; null and false are skipped. */
export function s(tag, attributes = {}, ...children) {
  const element = document.createElementNS(NAMESPACE, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children.filter((child) => child !== null && child !== false));
  return element;
}

/** Return an `svg` element of a size in pixels, which shrinks with its container; `label` describes it. */
export function picture(width, height, label, ...children) {
  return s(
    "svg",
    {
      viewBox: `0 0 ${width} ${height}`,
      width,
      height,
      role: "img",
      "aria-label": label,
      "font-family": "system-ui, sans-serif",
      "font-size": 11,
      color: "currentColor",
    },
    ...children,
  );
}

/** Return a text. `anchor` is start, middle or end. */
export function label(x, y, text, { anchor = "start", ...attributes } = {}) {
  return s("text", { x, y, "text-anchor": anchor, fill: "currentColor", ...attributes }, text);
}
