/** What the list of sweeps and the view of one have in common. */

import { h } from "./dom.js";

/** A sweep's status as a badge. */
export function status(sweep) {
  const failures = hasFailures(sweep);
  const text = sweep.status.replaceAll("_", " ") + (failures && sweep.status === "completed" ? " with failures" : "");
  return h("span", { class: "status", "data-status": sweep.status, "data-failures": String(failures) }, text);
}

/** Whether cells or samples of a sweep have failed. */
export const hasFailures = (sweep) => sweep.request_counts.failed > 0 || sweep.failed_samples > 0;

/** How far a sweep is: completed, failed and reused cells of all. */
export function progress(sweep) {
  const { total, completed, failed, reused } = sweep.request_counts;
  const samples = sweep.failed_samples;
  const more = [failed && `${failed} failed`, samples && `${samples} failed samples`, reused && `${reused} reused`]
    .filter(Boolean)
    .join(", ");
  return h(
    "span",
    { class: "progress" },
    h("progress", { max: total, value: completed + failed }),
    `${completed} of ${total}`,
    more ? h("small", {}, more) : null,
  );
}
