/** A grid of values, such as languages by languages: as a table on the page, and as SVG to save. */

import { h, languageName } from "../dom.js";
import { label, picture, s, TONES } from "./svg.js";

/** Opacity of the strongest colour in a picture. */
const SHADE = 0.7;
const CELL = { width: 96, height: 46 };
const HEAD = { width: 90, height: 44 };

/**
 * Return a grid as a table.
 *
 * A grid has `corner`, `caption`, the names of `rows` and `columns`, and `cells`, a map from `row\ncolumn` to
 * `{value, lines, tone, share, title}`: the value as text, smaller lines below it, the colour, its strength from 0 to 1,
 * and a tooltip.
 */
export function gridTable({ corner, caption, rows, columns, cells }) {
  const head = (scope, name) => h("th", { scope, title: languageName(String(name)) }, String(name));
  return h(
    "table",
    { class: "map" },
    h("caption", {}, caption),
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, corner), ...columns.map((name) => head("col", name)))),
    h(
      "tbody",
      {},
      ...rows.map((row) =>
        h("tr", {}, head("row", row), ...columns.map((column) => tableCell(cells.get(`${row}\n${column}`)))),
      ),
    ),
  );
}

function tableCell(cell) {
  if (cell === undefined) return h("td", {});
  const lines = cell.lines.map((line) => h("small", {}, line));
  const element = h(
    "td",
    { class: cell.tone, ...(cell.title ? { title: cell.title } : {}) },
    h("span", { class: "value" }, cell.value),
    ...lines,
  );
  element.style.setProperty("--share", cell.share.toFixed(3));
  return element;
}

/** Return a grid as SVG. */
export function gridPicture({ corner, caption, rows, columns, cells }) {
  const lines = Math.max(0, ...[...cells.values()].map((cell) => cell.lines.length));
  const height = CELL.height - 12 * (2 - Math.min(2, lines));
  const width = HEAD.width + columns.length * CELL.width;
  const x = (index) => HEAD.width + index * CELL.width;
  const y = (index) => HEAD.height + index * height;
  const parts = [
    label(4, 14, caption, { "font-size": 10 }),
    label(4, HEAD.height - 6, corner, { "font-size": 10 }),
    ...columns.map((name, index) =>
      label(x(index) + CELL.width / 2, HEAD.height - 6, String(name), { anchor: "middle", "font-weight": 600 }),
    ),
    ...rows.map((name, index) => label(4, y(index) + height / 2 + 4, String(name), { "font-weight": 600 })),
  ];
  for (const [r, row] of rows.entries()) {
    for (const [c, column] of columns.entries()) {
      const cell = cells.get(`${row}\n${column}`);
      if (cell) parts.push(pictureCell(cell, x(c), y(r), height));
    }
  }
  return picture(Math.max(width, 6 * caption.length), y(rows.length) + 8, caption, ...parts);
}

function pictureCell(cell, x, y, height) {
  const middle = x + CELL.width / 2;
  return s(
    "g",
    {},
    s("rect", {
      x,
      y,
      width: CELL.width - 1,
      height: height - 1,
      fill: TONES[cell.tone],
      "fill-opacity": (cell.share * SHADE).toFixed(3),
    }),
    label(middle, y + 15, cell.value, { anchor: "middle" }),
    ...cell.lines.map((line, index) => label(middle, y + 27 + 11 * index, line, { anchor: "middle", "font-size": 9 })),
  );
}
