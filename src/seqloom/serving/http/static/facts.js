// One line of facts below the question, and what the signs of the lists mean.

import { $, day, element, name, plural } from "./tools.js";

export function drawFacts(events, user, [left, right]) {
  const dated = events.filter((event) => event.timestamp !== null);
  const days = new Set(dated.map((event) => Math.floor(event.timestamp / 86400))).size;
  const parts = [];
  if (!events.length) parts.push(user === null ? "An empty history: find an item and try it. " : "The store has no events of this user; the lists show what is popular. ");
  else if (!dated.length) parts.push(`${plural(events.length, "event")}, without dates. `);
  else parts.push(`${plural(events.length, "event")} on ${plural(days, "day")}, ${day(dated[0].timestamp, true)} to ${day(dated[dated.length - 1].timestamp, true)}. `);
  if (left?.items?.length && right?.items?.length) {
    const ids = right.items.map((item) => item.item_id);
    const both = left.items.filter((item) => ids.includes(item.item_id)).length;
    parts.push("The models agree on ", element("b", {}, `${both} of ${Math.max(left.items.length, ids.length)}`));
    const [first, second] = [left.items[0], right.items[0]];
    if (first.item_id === second.item_id) parts.push(", and both put ", element("b", {}, name(first)), " first.");
    else parts.push(`; ${left.model} puts `, element("b", {}, name(first)), ` first, ${right.model} `, element("b", {}, name(second)), ".");
  } else if (left?.items?.length) parts.push(`${left.model} puts `, element("b", {}, name(left.items[0])), " first.");
  $("facts").replaceChildren(...parts);
}

// Each sign is explained once.
export function drawLegend(single, rare) {
  const sample = (kind) => element("span", { class: `sample ${kind}`, "aria-hidden": "true" });
  $("legend").replaceChildren(...[
    !single && element("span", { class: "between" }, sample("line"), "in both lists"),
    !single && element("span", { class: "between" }, sample("stub"), "only here; a number is its rank for the other model"),
    rare && element("span", {}, element("span", { class: "tag" }, "rare"), ` fewer than ${plural(rare, "event")} in training`),
  ].filter(Boolean));
}
