/** Selects that choose which rows of a summary a figure shows. Their values are kept in the address. */

import { readAddress, setParams } from "../address.js";
import { field, select } from "../dom.js";

/** Return a labelled select of `[value, text]` pairs whose value is kept in the address as `name`. */
export function keptSelect(title, name, pairs, onchange) {
  const kept = readAddress().params.get(name);
  const first = pairs[0]?.[0] ?? "";
  const control = select(name, pairs, {
    value: pairs.some(([value]) => value === kept) ? kept : first,
    onchange: () => {
      setParams({ [name]: control.value === first ? "" : control.value });
      onchange();
    },
  });
  return { control, element: field(title, control) };
}
