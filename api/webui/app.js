/** The frame around the views: which one is shown, the engines, the key. */

import { h } from "./dom.js";
import { key } from "./rest.js";
import { steerView } from "./steer.js";
import { sweepsView } from "./sweeps.js";

const ENGINES_EVERY = 3000;

const views = { steer: steerView, sweeps: sweepsView };
const main = document.querySelector("#view");
let leave = new AbortController();

/** Show the view that the address names behind its `#`, as `#sweeps/ID`; what the last one had under way ends. */
async function show() {
  leave.abort();
  leave = new AbortController();
  const [name, ...rest] = location.hash.slice(1).split("/");
  const view = views[name] ?? steerView;
  for (const link of document.querySelectorAll("nav a")) {
    if (views[link.hash.slice(1)] === view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  await view(main, { signal: leave.signal, id: rest.join("/") });
}

/** Show the state of every engine; `/readyz` answers 503, with the same body, while one is missing. */
async function showEngines() {
  const list = document.querySelector("#engines");
  try {
    const { engines } = await (await fetch("readyz", { cache: "no-store" })).json();
    list.replaceChildren(
      ...engines.map(({ model, state, error }) => h("li", { "data-state": state, title: error ?? state }, model)),
    );
  } catch {
    list.replaceChildren(h("li", { "data-state": "failed" }, "the server cannot be reached"));
  }
}

const input = document.querySelector("#key input");
input.value = key.get();
input.addEventListener("change", () => {
  key.set(input.value.trim());
  show();
});
addEventListener("hashchange", show);
setInterval(showEngines, ENGINES_EVERY);
showEngines();
show();
