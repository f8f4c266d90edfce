/** Links that save a figure as SVG and PNG, and its numbers as CSV. */

import { errorMessage, h } from "../dom.js";
import { GROUND, INK, s } from "./svg.js";

const PNG_SCALE = 2;

/**
 * Return the links. `svg` returns the figure as an `svg` element, `table` its numbers as rows of values, the first one
 * with the names of the columns. Both are called when a link is used. Without `svg` there is only CSV.
 */
export function exportLinks(name, { svg, table }) {
  const formats = [
    ...(svg ? [["SVG", "svg", () => svgBlob(svg())], ["PNG", "png", () => pngBlob(svg())]] : []),
    ["CSV", "csv", () => new Blob([csv(table())], { type: "text/csv" })],
  ];
  const links = formats.map(([text, ending, make]) => saveButton(text, `${name}.${ending}`, make));
  return h("p", { class: "exports" }, h("span", {}, "Save as "), ...links);
}

function saveButton(text, file, make) {
  const button = h("button", { type: "button", "data-file": file, "aria-label": `${text}: ${file}` }, text);
  button.addEventListener("click", async () => {
    try {
      save(await make(), file);
    } catch (error) {
      button.after(errorMessage(error));
    }
  });
  return button;
}

/** Save a blob as a file. */
export function save(blob, file) {
  const url = URL.createObjectURL(blob);
  h("a", { href: url, download: file }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

/** Return a figure as a file: dark ink on white, whatever the scheme of the page. */
export function svgBlob(figure) {
  const copy = figure.cloneNode(true);
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  copy.setAttribute("color", INK);
  copy.prepend(s("rect", { width: "100%", height: "100%", fill: GROUND }));
  return new Blob([new XMLSerializer().serializeToString(copy)], { type: "image/svg+xml" });
}

async function pngBlob(figure) {
  const url = URL.createObjectURL(svgBlob(figure));
  try {
    const image = new Image();
    image.src = url;
    await image.decode();
    const canvas = h("canvas", {
      width: Number(figure.getAttribute("width")) * PNG_SCALE,
      height: Number(figure.getAttribute("height")) * PNG_SCALE,
    });
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    return await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  } finally {
    URL.revokeObjectURL(url);
  }
}

/** Return rows of values as CSV (RFC 4180). */
export function csv(rows) {
  const cell = (value) => {
    const text = value === null || value === undefined ? "" : String(value);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return rows.map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
}
