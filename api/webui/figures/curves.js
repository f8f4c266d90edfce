/** Curves of a metric over the factor or the layer, with intervals and controls: a small plot for each target. */

import { h, languageName } from "../dom.js";
import { extent, meanOf } from "./axes.js";
import { keptSelect } from "./choices.js";
import { exportLinks } from "./export.js";
import { curvesPicture, legendItems, plotPicture } from "./plots.js";
import { distinct, interventionText, isControl, isSelf, methodName, metricText, steeredRows } from "./rows.js";

const MEAN = "mean";
const EDIT = ["op", "patch", "statistic", "weights", "tokens", "when", "part"];
const X = {
  factor: { title: "Factor", of: (row) => row.factor, others: ["layers"] },
  layer: { title: "Layer", of: (row) => Number(row.layers), others: ["factor"] },
};
const CSV_COLUMNS = ["target_language", "series", "x", "y", "low", "high", "n"];

/** Return selects for metric, data language and axis, and the curves of a summary; nothing without several factors. */
export function curves(rows) {
  const steered = steeredRows(rows).filter(({ factor, neuron_layer: layer }) => factor !== null && (layer ?? null) === null);
  const axes = Object.keys(X).filter((name) => distinct(steered.filter(hasX(name)), X[name].of).length > 1);
  if (!axes.length) return [];
  const plots = h("div", { class: "plots" });
  const legend = h("p", { class: "legend" });
  const pairs = (values) => values.map((value) => [value, value]);
  const metric = keptSelect("Metric", "curve", pairs(distinct(steered, metricText)), draw);
  const languages = distinct(steered, (row) => row.data_language).sort();
  const means = languages.length > 1 ? [[MEAN, "mean, without the target"]] : [];
  const data = keptSelect("Data language", "data", [...means, ...languages.map((code) => [code, languageName(code)])], draw);
  const axis = keptSelect("Over", "over", axes.map((name) => [name, X[name].title.toLowerCase()]), draw);
  const model = () => plotModel(steered, metric.control.value, data.control.value, axis.control.value);
  function draw() {
    const content = model();
    plots.replaceChildren(...content.plots.map((plot) => plotPicture(plot, content)));
    legend.replaceChildren(...legendItems(content));
  }
  draw();
  const links = exportLinks("curves", {
    svg: () => curvesPicture(model()),
    table: () => [CSV_COLUMNS, ...model().plots.flatMap(csvRows)],
  });
  const about = "Bands and bars: 95 % intervals. Dashed: controls. Horizontal line: unsteered, or the value without effect.";
  return [
    h("h3", {}, "Curves"),
    h("div", { class: "row" }, metric.element, data.element, axis.element),
    plots,
    legend,
    h("p", { class: "note" }, about),
    links,
  ];
}

/** Return a test of whether a row has a place on an axis; `layers` is a single number with `layers: each`. */
const hasX = (axis) => (row) => axis === "factor" || /^\d+$/.test(row.layers ?? "");

/** Return the plots, one for each target language, with their shared series, labels and limits. */
function plotModel(steered, metric, data, axis) {
  const isMean = data === MEAN;
  const all = steered.filter((row) => metricText(row) === metric && hasX(axis)(row));
  const others = all.filter((row) => !isSelf(row));
  const rows = isMean ? (others.length ? others : all) : all.filter((row) => row.data_language === data);
  const names = distinct(rows, (row) => seriesName(row, axis)).sort((a, b) => isControl(a) - isControl(b));
  const plots = distinct(rows, (row) => row.target_language)
    .sort()
    .map((target) => {
      const own = rows.filter((row) => row.target_language === target);
      return { target, title: languageName(target), series: names.map((name) => series(name, own, axis)), line: line(own) };
    });
  const points = plots.flatMap((plot) => plot.series.flatMap((each) => each.points));
  const ys = [...points.flatMap(({ y, low, high }) => [y, low ?? y, high ?? y]), ...plots.map((plot) => plot.line)];
  const known = ys.filter((y) => y !== null && Number.isFinite(y));
  return {
    plots,
    names,
    title: `${metric}${isMean ? ", mean of the data languages without the target" : `, on ${data}`}`,
    x: X[axis].title,
    y: metric.split(": ").at(-1),
    limits: { x: extent(points.map(({ x }) => x)), y: extent(known) },
  };
}

/** Return whose neurons were edited and how, without the factor and the seed: rows that belong to one curve. */
function seriesName(row, axis) {
  return `${methodName(row)}: ${interventionText(row, [...EDIT, ...X[axis].others])}`;
}

/** Return the points of a curve from the rows of its target, by their place on the axis. */
function series(name, rows, axis) {
  const own = rows.filter((row) => seriesName(row, axis) === name);
  const xs = distinct(own, X[axis].of).sort((a, b) => a - b);
  return { name, points: xs.map((x) => point(x, own.filter((row) => X[axis].of(row) === x))) };
}

/**
 * Return a point: the mean of one or several rows (data languages, draws). Its interval is that of rows with the same
 * answers, the mean of theirs, because languages and draws share their items, and without the samples it is unknown how
 * far.
 */
function point(x, rows) {
  const n = rows.reduce((sum, row) => sum + row.n, 0);
  const isKnown = rows.every(({ ci_low: low, ci_high: high }) => low !== null && high !== null);
  const meanIn = (column) => meanOf(rows.map((row) => row[column]));
  return { x, y: meanIn("value"), low: isKnown ? meanIn("ci_low") : null, high: isKnown ? meanIn("ci_high") : null, n };
}

/** Return the value of the unsteered model, or that of an intervention without effect; null if neither is known. */
function line(rows) {
  const values = rows.map((row) => row.baseline ?? row.no_effect).filter((value) => value !== null && value !== undefined);
  return values.length ? meanOf(values) : null;
}

function csvRows({ target, series: all }) {
  return all.flatMap(({ name, points }) => points.map(({ x, y, low, high, n }) => [target, name, x, y, low, high, n]));
}
