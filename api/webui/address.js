/** The fragment of the address, such as `#sweeps/ID?show=samples&task=lss`: the view, its object and its state. */

/** Return the name of the view, the id of its object (empty without one), and the parameters of its state. */
export function readAddress() {
  const [path, query = ""] = location.hash.slice(1).split("?");
  const [name, ...rest] = path.split("/");
  return { name, id: rest.join("/"), params: new URLSearchParams(query) };
}

/** Change parameters in the address, without showing the view anew; an empty value removes its parameter. */
export function setParams(values) {
  const { name, id, params } = readAddress();
  for (const [key, value] of Object.entries(values)) {
    if (value) params.set(key, value);
    else params.delete(key);
  }
  const path = id ? `${name}/${id}` : name;
  history.replaceState(null, "", params.size ? `#${path}?${params}` : `#${path}`);
}
