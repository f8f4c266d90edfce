/** The layer profile of a neuron set: how many neurons each language has in each layer. */

import { h } from "../dom.js";
import { exportLinks } from "./export.js";
import { gridPicture, gridTable } from "./grid.js";

/** Return the profile of a neuron set (`GET /v1/neuron-sets/{id}`) as a heat map. */
export function layerProfile({ id, by_layer: byLayer, width }) {
  const languages = Object.keys(byLayer).sort();
  const layers = byLayer[languages[0]]?.map((_, layer) => layer) ?? [];
  const widthOf = (layer) => (Array.isArray(width) ? width[layer] : width);
  const largest = Math.max(1, ...Object.values(byLayer).flat());
  const cell = (language, layer) => {
    const count = byLayer[language][layer];
    return [
      `${language}\n${layer}`,
      { value: String(count), lines: [], tone: "neutral", share: count / largest, title: `${count} of ${widthOf(layer)} neurons` },
    ];
  };
  const grid = {
    corner: "language \\ layer",
    caption: `Number of neurons of each language in each layer, in ${id}.`,
    rows: languages,
    columns: layers,
    cells: new Map(languages.flatMap((language) => layers.map((layer) => cell(language, layer)))),
  };
  return [
    h("h3", {}, "Layer profile"),
    h("div", { class: "scroll profile", tabIndex: 0, role: "region", "aria-label": "Layer profile" }, gridTable(grid)),
    exportLinks("layer-profile", {
      svg: () => gridPicture(grid),
      table: () => [
        ["language", "layer", "neurons"],
        ...languages.flatMap((language) => layers.map((layer) => [language, layer, byLayer[language][layer]])),
      ],
    }),
  ];
}
