/** The view of all sweeps, newest first, found by text and by tag. */

import { readAddress, setParams } from "../address.js";
import { isDialogOpen } from "../dialog.js";
import { errorMessage, field, h, renew, select } from "../dom.js";
import { json } from "../rest.js";
import { untilShown } from "../visibility.js";
import { organizeButtons, tagButtons } from "./organize.js";
import { sweepView } from "./sweep.js";
import { progress, status } from "./sweep_parts.js";

const POLL_MS = 2000;
/** Pause after a key stroke before the list is fetched. */
const TYPING_MS = 200;
const LIMIT = 100;
const TITLES = ["Sweep", "Status", "Cells", "Samples", "Submitted", "Change"];

/** Show the list of sweeps or, with an `id`, that sweep, until `signal` is aborted. */
export async function sweepsView(main, { signal, id }) {
  if (id) {
    await sweepView(main, { signal, id });
    return;
  }
  const { params } = readAddress();
  const list = h("tbody");
  const search = h("input", { type: "search", name: "search", value: params.get("search") ?? "" });
  const tag = select("tag", [["", "any"]]);
  const message = h("div", { role: "status" });
  const heads = TITLES.map((title) => h("th", { scope: "col", class: title === "Samples" ? "number" : "" }, title));
  const table = h("table", { class: "sweeps", hidden: true }, h("thead", {}, h("tr", {}, ...heads)), list);
  let shown = "";
  let latest = 0;
  let typing;

  async function refresh() {
    const mine = ++latest;
    const query = new URLSearchParams({ limit: LIMIT });
    if (search.value.trim()) query.set("text", search.value.trim());
    if (tag.value) query.set("tag", tag.value);
    try {
      const page = await json(`v1/sweeps?${query}`, { signal });
      if (mine === latest && !isDialogOpen()) draw(page);
    } catch (error) {
      if (signal.aborted || mine !== latest) return;
      const element = errorMessage(error);
      if (message.textContent !== element.textContent) message.replaceChildren(element); // it is read out once
    }
  }

  /** Show a page. Nothing is renewed if it is the one that is shown. */
  function draw({ data, has_more: hasMore }) {
    const none = search.value.trim() || tag.value ? "No sweep matches." : "No sweep has been submitted yet. “New sweep” opens a form that describes one.";
    const text = data.length ? (hasMore ? `The newest ${LIMIT}; find others by name, model, id or tag.` : "") : none;
    if (message.textContent !== text) message.replaceChildren(text ? h("p", {}, text) : "");
    table.hidden = !data.length;
    const content = JSON.stringify(data);
    if (content === shown) return;
    shown = content;
    offerTags(data.flatMap(({ tags }) => tags));
    renew(list, ...data.map((sweep) => tableRow(sweep, { signal, onchanged: refresh, ondeleted: refresh, ontag })));
  }

  function offerTags(tags) {
    const known = new Set([...tag.options].map(({ value }) => value));
    const added = [...new Set(tags)].filter((each) => !known.has(each)).sort();
    tag.append(...added.map((each) => h("option", { value: each }, each)));
  }

  function ontag(value) {
    tag.value = value;
    onfilter();
  }

  function onfilter() {
    setParams({ search: search.value, tag: tag.value });
    clearTimeout(typing);
    typing = setTimeout(refresh, TYPING_MS);
  }

  offerTags([params.get("tag")].filter(Boolean));
  tag.value = params.get("tag") ?? "";
  search.addEventListener("input", onfilter);
  tag.addEventListener("change", onfilter);
  const filters = [field("Find by name, model or id", search), field("Tag", tag)];
  main.replaceChildren(
    h("div", { class: "row" }, h("a", { class: "button", href: "#new" }, "New sweep"), ...filters),
    message,
    table,
  );
  while (!signal.aborted) {
    await refresh();
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    await untilShown(signal);
  }
}

function tableRow(sweep, { signal, onchanged, ondeleted, ontag }) {
  const { id, name, spec, samples, created_at: created } = sweep;
  const tags = tagButtons(sweep, ontag);
  return h(
    "tr",
    {},
    h("td", {}, h("a", { href: `#sweeps/${id}`, "data-key": `name ${id}` }, name), h("small", {}, spec.model), ...tags),
    h("td", {}, status(sweep)),
    h("td", {}, progress(sweep)),
    h("td", { class: "number" }, samples.toLocaleString()),
    h("td", {}, new Date(created * 1000).toLocaleString()),
    h("td", {}, organizeButtons(sweep, { signal, onchanged, ondeleted })),
  );
}
