/** The fragment of the address, such as `#sweeps/ID?show=samples&task=lss`: the view, its object and its state. */

/** A value of more characters is left out: each may take nine in the address, and browsers refuse addresses of some megabytes. */
const MAX_LENGTH = 50_000;

/** Return the name of the view, the id of its object (empty without one), and the parameters of its state. */
export function readAddress() {
  const [, path, query] = /^#?([^?]*)\??(.*)$/s.exec(location.hash);
  const [name, ...rest] = path.split("/");
  return { name, id: rest.join("/"), params: new URLSearchParams(query) };
}

/**
 * Change parameters in the address, without showing the view anew; an empty value removes its parameter. Return the names of
 * those that were left out, because their values are too long for an address.
 */
export function setParams(values) {
  const { name, id, params } = readAddress();
  const isTooLong = (value) => value?.length > MAX_LENGTH;
  for (const [key, value] of Object.entries(values)) {
    if (value && !isTooLong(value)) params.set(key, value);
    else params.delete(key);
  }
  const path = id ? `${name}/${id}` : name;
  try {
    history.replaceState(null, "", params.size ? `#${path}?${params}` : `#${path}`);
  } catch {
    // Safari refuses more than 100 changes in half a minute; the next change writes all parameters of its form
  }
  return Object.keys(values).filter((key) => isTooLong(values[key]));
}
