/** What the list of sweeps and the view of one have in common. */

import { h } from "./dom.js";

/** A sweep's status as a badge. */
export function status(sweep) {
  return h("span", { class: "status", "data-status": sweep.status }, sweep.status.replaceAll("_", " "));
}

/** How far a sweep is: completed, failed and reused cells of all. */
export function progress(sweep) {
  const { total, completed, failed, reused } = sweep.request_counts;
  const more = [failed && `${failed} failed`, reused && `${reused} reused`].filter(Boolean).join(", ");
  return h(
    "span",
    { class: "progress" },
    h("progress", { max: total, value: completed + failed }),
    `${completed} of ${total}`,
    more ? h("small", {}, more) : null,
  );
}
