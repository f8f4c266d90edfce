/** The frame of the page: the navigation between views, the state of the engines, the API key. */

import { readAddress } from "./address.js";
import { h } from "./dom.js";
import { startText } from "./format.js";
import { newSweepView } from "./new_sweep/new_sweep.js";
import { key } from "./rest.js";
import { steerView } from "./steer/steer.js";
import { sweepsView } from "./sweeps/sweeps.js";

const ENGINES_POLL_MS = 3000;

const views = new Map(Object.entries({ steer: steerView, sweeps: sweepsView, new: newSweepView }));
const main = document.querySelector("#view");
let currentView = new AbortController();

/** Show the view that the fragment of the address names, such as `#sweeps/ID`, and abort the previous view's work. */
async function show() {
  currentView.abort();
  currentView = new AbortController();
  const { name, id, params } = readAddress();
  const view = views.get(name) ?? steerView;
  if (main.contains(document.activeElement)) main.focus({ preventScroll: true }); // what has the focus is replaced
  for (const link of document.querySelectorAll("nav a")) {
    if (views.get(link.hash.slice(1)) === view) {
      link.setAttribute("aria-current", "page");
      document.title = `${link.textContent} – Ampsweep`;
    } else link.removeAttribute("aria-current");
  }
  await view(main, { signal: currentView.signal, id, params });
}

/** Show the state of every engine. `/readyz` has the same body with status 503, while a model has no engine. */
async function showEngines() {
  const list = document.querySelector("#engines");
  try {
    const { engines } = await (await fetch("readyz", { cache: "no-store" })).json();
    list.replaceChildren(
      ...engines.map((engine) => {
        const { model, state, error } = engine;
        const text = state === "ready" ? model : `${model} (${state === "starting" ? startText(engine) : state})`;
        return h("li", { "data-state": state, title: error ?? state }, text);
      }),
    );
  } catch {
    list.replaceChildren(h("li", { "data-state": "failed" }, "server unreachable"));
  }
}

const input = document.querySelector("#key input");
input.value = key.get();
input.addEventListener("change", () => {
  key.set(input.value.trim());
  show();
});
addEventListener("hashchange", () => {
  scrollTo({ top: 0, behavior: "instant" });
  show();
});
setInterval(() => document.hidden || showEngines(), ENGINES_POLL_MS);
document.addEventListener("visibilitychange", () => document.hidden || showEngines());
showEngines();
show();
