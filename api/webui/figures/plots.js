/** Draws the plots of curves: one picture for each on the page, all of them in one picture to save. */

import { h } from "../dom.js";
import { scale, short, ticks } from "./axes.js";
import { isControl } from "./rows.js";
import { label, PALETTE, picture, s } from "./svg.js";

/** Size of a plot, and the box of its axes in it, in pixels. */
const SIZE = { width: 260, height: 190 };
const BOX = { left: 44, right: 250, top: 22, bottom: 152 };
const COLUMNS = 3;
const LEGEND_LINE = 18;

/** Return one plot of a model (`curves.js`) as a picture. */
export function plotPicture(plot, model) {
  const values = plot.series.map(({ name, points }) => `${name} ${points.map(({ x, y }) => `${short(x)}: ${short(y)}`).join(", ")}`);
  return picture(SIZE.width, SIZE.height, `${plot.title}. ${model.y} by ${model.x}. ${values.join("; ")}`, ...drawn(plot, model));
}

/** Return all plots of a model with their title and legend as one picture. */
export function curvesPicture(model) {
  const rows = Math.ceil(model.plots.length / COLUMNS);
  const columns = Math.min(COLUMNS, model.plots.length);
  const width = Math.max(columns * SIZE.width, 420);
  const legendTop = 24 + rows * SIZE.height + 14;
  return picture(
    width,
    legendTop + model.names.length * LEGEND_LINE,
    model.title,
    label(8, 16, model.title, { "font-size": 13, "font-weight": 600 }),
    ...model.plots.map((plot, index) => {
      const x = (index % COLUMNS) * SIZE.width;
      const y = 24 + Math.floor(index / COLUMNS) * SIZE.height;
      return s("g", { transform: `translate(${x} ${y})` }, ...drawn(plot, model));
    }),
    ...model.names.flatMap((name, index) => {
      const y = legendTop + index * LEGEND_LINE;
      return [s("line", { x1: 8, x2: 36, y1: y, y2: y, ...stroke(name, index) }), label(42, y + 4, name)];
    }),
  );
}

/** Return the entries of the legend for the page. */
export function legendItems({ names }) {
  return names.map((name, index) =>
    h(
      "span",
      { class: "item" },
      s("svg", { width: 28, height: 10, "aria-hidden": "true" }, s("line", { x1: 0, x2: 28, y1: 5, y2: 5, ...stroke(name, index) })),
      name,
    ),
  );
}

function stroke(name, index) {
  const isDashed = isControl(name);
  return {
    stroke: PALETTE[index % PALETTE.length],
    "stroke-width": isDashed ? 1.5 : 2,
    ...(isDashed ? { "stroke-dasharray": "5 3" } : {}),
    fill: "none",
  };
}

/** Return the elements of a plot. All plots have the same limits, so that they can be compared. */
function drawn(plot, model) {
  const { limits, names } = model;
  const margin = (limits.y[1] - limits.y[0]) * 0.06 || 0.5;
  const [low, high] = [limits.y[0] - margin, limits.y[1] + margin];
  const x = scale(...limits.x, BOX.left + 8, BOX.right - 8);
  const y = scale(low, high, BOX.bottom, BOX.top);
  return [
    label(BOX.left, 14, plot.title, { "font-weight": 600 }),
    ...frame(limits.x, [low, high], x, y, model),
    plot.line === null
      ? null
      : s("line", { x1: BOX.left, x2: BOX.right, y1: y(plot.line), y2: y(plot.line), stroke: "currentColor", "stroke-opacity": 0.6 }),
    ...plot.series.flatMap((series) => curve(series, names.indexOf(series.name), x, y)),
  ];
}

/** Return the grid lines, the ticks and the titles of the axes. */
function frame(xLimits, yLimits, x, y, model) {
  const faint = { stroke: "currentColor", "stroke-opacity": 0.15 };
  return [
    ...ticks(...yLimits).flatMap((value) => [
      s("line", { x1: BOX.left, x2: BOX.right, y1: y(value), y2: y(value), ...faint }),
      label(BOX.left - 5, y(value) + 4, short(value), { anchor: "end", "font-size": 10 }),
    ]),
    ...ticks(...xLimits, 6).flatMap((value) => [
      s("line", { x1: x(value), x2: x(value), y1: BOX.bottom, y2: BOX.bottom + 4, stroke: "currentColor" }),
      label(x(value), BOX.bottom + 15, short(value), { anchor: "middle", "font-size": 10 }),
    ]),
    label((BOX.left + BOX.right) / 2, BOX.bottom + 32, model.x, { anchor: "middle", "font-size": 10 }),
    label(BOX.right, 14, model.y, { anchor: "end", "font-size": 10 }),
  ];
}

function curve({ name, points }, index, x, y) {
  if (!points.length) return [];
  const attributes = stroke(name, index);
  const path = points.map((point, position) => `${position ? "L" : "M"}${x(point.x).toFixed(1)} ${y(point.y).toFixed(1)}`).join("");
  const withInterval = points.filter(({ low }) => low !== null);
  return [
    ...bands(points, attributes.stroke, x, y),
    ...withInterval.map(({ x: at, low, high }) =>
      s("line", { x1: x(at), x2: x(at), y1: y(low), y2: y(high), stroke: attributes.stroke, "stroke-width": 1 }),
    ),
    s("path", { d: path, ...attributes }),
    ...points.map(({ x: at, y: value }) => s("circle", { cx: x(at), cy: y(value), r: 2.5, fill: attributes.stroke })),
  ];
}

/** Return the areas between the ends of the intervals of successive points; a point without an interval divides them. */
function bands(points, fill, x, y) {
  const runs = [[]];
  for (const point of points) {
    if (point.low === null) runs.push([]);
    else runs.at(-1).push(point);
  }
  return runs.filter((run) => run.length > 1).map((run) => band(run, fill, x, y));
}

function band(points, fill, x, y) {
  const high = points.map((point) => `${x(point.x).toFixed(1)},${y(point.high).toFixed(1)}`);
  const low = points.map((point) => `${x(point.x).toFixed(1)},${y(point.low).toFixed(1)}`).reverse();
  return s("polygon", { points: [...high, ...low].join(" "), fill, "fill-opacity": 0.12 });
}
