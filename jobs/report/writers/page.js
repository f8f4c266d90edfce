"use strict";
// Sorts a table by a column: a click on its head, a second one the other way round. Missing values stay at the end.
const collator = new Intl.Collator(undefined, { numeric: true });
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const descending = head.getAttribute("aria-sort") === "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const rows = [...table.tBodies[0].rows];
      const key = (row) => row.cells[index].dataset.value ?? row.cells[index].textContent;
      const compare = (a, b) => ("value" in a.cells[index].dataset ? key(a) - key(b) : collator.compare(key(a), key(b)));
      const present = rows.filter((row) => key(row) !== "").sort(compare);
      if (descending) present.reverse();
      table.tBodies[0].append(...present, ...rows.filter((row) => key(row) === ""));
    });
  });
}
// Prints the tables with their figures, whether they are open or not.
let opened = [];
addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("details.table:not([open])")];
  for (const details of opened) details.open = true;
});
addEventListener("afterprint", () => {
  for (const details of opened) details.open = false;
});
