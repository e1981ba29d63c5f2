// What if this item existed: its rank, its reach and its neighbours, without adding it.

import { glyph } from "./systems.js";
import { $, ask, count, element, name, ordinal, problem, svg } from "./tools.js";

const FIELDS = 4;

export function readyToPlace(models, subject) {
  const columns = [...new Set(models.flatMap((model) => model.columns))].filter((each) => !/image|img|url|picture|photo|thumb/i.test(each));
  if (!columns.length) {
    $("ghost").hidden = true;
    return;
  }
  const title = columns.find((each) => /(title|name)$/i.test(each)) || columns[0];
  const ordered = [title, ...columns.filter((each) => each !== title)];
  const field = (column) => element("label", {}, element("span", { class: "soft small" }, column), element("input", { class: "field", name: column, maxlength: "2000", autocomplete: "off" }));
  const more = ordered.slice(FIELDS);
  $("ghost-fields").replaceChildren(
    ...ordered.slice(0, FIELDS).map(field),
    ...(more.length ? [element("details", {}, element("summary", {}, "More columns"), ...more.map(field))] : []));
  empty();
  $("ghost-form").addEventListener("submit", (event) => {
    event.preventDefault();
    place(subject);
  });
}

export function empty() {
  $("ghost-result").replaceChildren(element("p", { class: "soft" }, "Its rank, the users it would reach and its nearest known items come here."));
}

// Shows the texts of a known item as examples of what to write.
export function suggest(item) {
  for (const field of $("ghost-fields").querySelectorAll("input")) {
    const text = item?.attributes?.[field.name] || (/(title|name)$/i.test(field.name) ? item?.title : "");
    field.placeholder = text ? `such as ${text.slice(0, 60)}` : "";
  }
}

async function place(subject) {
  const result = $("ghost-result");
  const fields = [...$("ghost-fields").querySelectorAll("input")];
  const texts = Object.fromEntries(fields.map((field) => [field.name, field.value.trim()]).filter(([, text]) => text));
  if (!Object.keys(texts).length) {
    result.replaceChildren(element("p", { class: "note" }, "Write at least one text, such as a title."));
    fields[0].focus();
    return;
  }
  result.setAttribute("aria-busy", "true");
  try {
    const whom = subject();
    const reply = await ask("POST", "/v1/preview", { ...whom.body, models: whom.models, attributes: texts });
    result.replaceChildren(...reply.models.map((each) => one(each, whom.label)));
  } catch (error) {
    result.replaceChildren(problem(error, () => place(subject)));
  } finally {
    result.removeAttribute("aria-busy");
  }
}

function one(seen, whom) {
  const head = element("h3", {}, glyph(seen.model), seen.model);
  if (seen.reason) return element("div", {}, head, element("p", { class: "soft" }, `Cannot place it: ${seen.reason}.`.replace(/\.\.$/, ".")));
  const reach = !seen.asked ? "" : seen.reached
    ? `In the top 50 of ${count(seen.reached)} of ${count(seen.asked)} users asked.` : `In the top 50 of none of ${count(seen.asked)} users asked.`;
  const parts = [head];
  if (seen.rank) {
    parts.push(
      element("p", {}, element("span", { class: "big" }, ordinal(seen.rank)), element("span", { class: "soft" }, ` of ${count(seen.rankable)} for ${whom}. ${reach}`)),
      scale(seen.rank, seen.rankable));
  } else parts.push(element("p", { class: "soft" }, `No rank: ${whom} has no known history. ${reach}`));
  if (seen.nearest.length) parts.push(element("p", { class: "soft" }, `Nearest known items: ${seen.nearest.map(name).join(" \u00b7 ")}`));
  return element("div", {}, ...parts);
}

// A rank on a logarithmic line; the first ten places are what a list shows.
function scale(rank, most) {
  const x = (value) => `${1 + (Math.log(value) / Math.log(Math.max(most, 2))) * 96}%`;
  const marks = [1, 10, 100, 1000, 10000, 100000].filter((each) => each < most * 0.6).concat(most);
  return svg("svg", { class: "scale", height: 44, role: "img", "aria-label": `Rank ${rank} of ${most} on a logarithmic scale` },
    svg("line", { x1: x(1), x2: x(most), y1: 14, y2: 14, class: "rule" }),
    svg("line", { x1: x(1), x2: x(Math.min(10, most)), y1: 14, y2: 14, class: "listed" }),
    svg("line", { x1: x(rank), x2: x(rank), y1: 5, y2: 23, class: "here" }),
    ...marks.map((each) => svg("text", { x: x(each), y: 38, "text-anchor": each === 1 ? "start" : each === most ? "end" : "middle" }, count(each))));
}
