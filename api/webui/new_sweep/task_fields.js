/** The fields of a spec's tasks: name, data, languages, limit. */

import { field, h, select } from "../dom.js";
import { assign, numberInput } from "./controls.js";
import { languagePicker } from "./languages.js";

/** Return the fields of all tasks, and a button that adds one. */
export function taskFields({ spec, offers, edit }) {
  const tasks = spec.tasks ?? [];
  const names = h("datalist", { id: "task-names" }, ...offers.tasks.map(({ id }) => h("option", { value: id })));
  const add = h(
    "button",
    {
      type: "button",
      name: "add-task",
      onclick: () => edit((changed) => (changed.tasks = [...tasks, nextTask(offers, tasks)]), { again: true }),
    },
    "Add a task",
  );
  return h(
    "fieldset",
    {},
    h("legend", {}, "Tasks"),
    names,
    ...tasks.map((task, index) => oneTask(task, index, { offers, edit, isOnly: tasks.length === 1 })),
    add,
  );
}

/** Return a task that the spec does not have yet, with the languages of the last one that its data has. */
function nextTask({ tasks: offered }, tasks) {
  const used = tasks.map(({ name }) => name);
  const { id, languages } = offered.find((task) => task.languages?.length && !used.includes(task.id)) ?? offered[0];
  const last = tasks.at(-1)?.languages ?? [];
  const shared = last.filter((code) => languages?.includes(code));
  return { name: id, languages: shared.length ? shared : (languages ?? last).slice(0, 2), limit: 40 };
}

function oneTask(task, index, { offers, edit, isOnly }) {
  const offer = offers.tasks.find(({ id }) => id === task.name);
  const change = (apply, options) => edit((spec) => apply(spec.tasks[index]), options);
  const name = h("input", {
    name: `task-${index}`,
    value: task.name ?? "",
    onchange: ({ target }) => change((changed) => Object.assign(changed, { name: target.value }), { again: true }),
  });
  name.setAttribute("list", "task-names");
  const data = select(`data-${index}`, dataChoices(task, offer, offers), {
    value: task.data ?? "",
    onchange: ({ target }) => change((changed) => assign(changed, "data", target.value)),
  });
  const limit = numberInput(
    `limit-${index}`,
    task.limit,
    (value) => change((changed) => (value === undefined ? delete changed.limit : (changed.limit = value))),
    { min: 1, step: 1, placeholder: "all" },
  );
  const remove = h(
    "button",
    { type: "button", name: `remove-${index}`, onclick: () => edit((spec) => spec.tasks.splice(index, 1), { again: true }) },
    "Remove",
  );
  return h(
    "fieldset",
    { class: "task" },
    h("legend", {}, `Task ${index + 1}`),
    h(
      "div",
      { class: "row" },
      field("Task", name, "name"),
      field("Data", data, "data"),
      field("Items", limit, "limit"),
      offer?.supports_chat ? chat(task, index, change) : null,
      isOnly ? null : remove,
    ),
    languagePicker({
      legend: "Data languages",
      name: `language-${index}`,
      available: task.data || !offer?.languages ? offers.languages : offer.languages,
      selected: task.languages ?? [],
      onchange: (codes) => change((changed) => (changed.languages = codes)),
    }),
  );
}

/** Return the choices of the data of a task: its default, and all data sets of the server. */
function dataChoices(task, offer, { dataSets }) {
  const place = ({ local, hub }) => (local ? "" : ` (downloaded from ${hub})`);
  const choices = dataSets.map((set) => [set.id, set.id + place(set)]);
  if (task.data && !dataSets.some(({ id }) => id === task.data)) choices.push([task.data, task.data]);
  return [["", offer?.data ? `the default, ${offer.data}` : "the default"], ...choices];
}

function chat(task, index, change) {
  const box = h("input", {
    type: "checkbox",
    name: `chat-${index}`,
    checked: task.chat ?? false,
    onchange: ({ target }) =>
      change((changed) => (target.checked ? (changed.chat = true) : delete changed.chat)),
  });
  return h("label", {}, box, "through the chat template");
}
