// The history as a chart: an event is a column, a gap is a change of day, a lane is a model.

import { colour, glyph } from "./systems.js";
import { $, count, day, element, listed, name, ordinal, plural, signed } from "./tools.js";

const SHOWN = 60; // the latest events
const CHIPS = 24;
const LABEL_PX = 58;
const PARTS = {
  train: "training", valid: "validation", test: "test", unused: "held out, not used", after: "after the training",
};

const dayOf = (event) => (event.timestamp === null ? null : Math.floor(event.timestamp / 86400));

// What each event did for the explained score, by its place among `events`; empty where it is not known.
export function contributions(explanation, effective) {
  const changes = new Map();
  if (!explanation || explanation.error || explanation.none) return changes;
  const unknown = new Set(explanation.unknown.history || []);
  const known = effective.map((id, at) => [id, at]).filter(([id]) => !unknown.has(id));
  const read = known.slice(-explanation.history.length);
  for (const each of explanation.history) {
    if (read[each.position]) changes.set(read[each.position][1], each.change);
  }
  return changes;
}

export function drawHistory(view, state, effective, act) {
  const events = view.events;
  const first = Math.max(0, events.length - SHOWN);
  const shown = events.slice(first).map((event, at) => ({ ...event, at: first + at }));
  const tried = state.tried.map((id, at) => ({ item_id: id, title: view.titles.get(id), tried: true, at: events.length - state.back + at }));
  drawSays(view, state, act);
  drawLanes(view, state, shown, tried, effective);
  drawChips(shown, tried, events.length - state.back);
  drawTable(view, state, effective);
  $("back").disabled = state.back >= events.length - 1;
  $("forward").hidden = !state.back;
  $("back").hidden = events.length < 2;
}

function drawSays(view, state, act) {
  const place = $("history-says");
  const next = view.now?.next;
  if (!view.events.length) {
    place.replaceChildren(state.tried.length ? "Only what you try is in the history. " : "No events yet. ",
      element("button", { type: "button", class: "link", "data-focus": "empty", onclick: act.find }, state.tried.length ? "Find another item" : "Try an item"));
    return;
  }
  if (state.back && next) {
    const ranks = state.models.filter((model) => next.ranks[model]).map((model) => `${ordinal(next.ranks[model])} for ${model}`);
    place.replaceChildren(
      `As it stood ${plural(state.back, "event")} ago. `, element("b", {}, name(next)), " came next: ",
      ranks.length ? listed(ranks) : "no model can list it here", `; ${wasSeen(next.parts, state.models)}.`);
    return;
  }
  const chosen = view.titles.get(state.why);
  if (chosen && view.explained) {
    place.replaceChildren("What each event did for ", element("b", {}, chosen), `: up raised its score, down lowered it${late(view.events)}.`);
  } else place.replaceChildren(`Every column is an event, the latest on the right${late(view.events)}.`);
}

// The lanes end where columns would be too thin to read.
function late(events) {
  return events.length > SHOWN ? `; the ${SHOWN} latest of ${count(events.length)}, the table has all` : "";
}

function wasSeen(parts, models) {
  const values = models.map((model) => parts[model]);
  const trained = models.filter((model) => parts[model] === "train");
  if (values.every((part) => part === null || part === undefined)) return "whether training saw it is not known";
  if (trained.length === models.length) return models.length > 1 ? "both were trained on it" : "it was trained on it";
  if (trained.length) return `${listed(trained)} was trained on it`;
  if (values.includes("valid")) return "held out for validation, so no model was trained on it";
  if (values.includes("test")) return "held out for the test, so no model was trained on it";
  return "no model was trained on it";
}

function drawLanes(view, state, shown, tried, effective) {
  const place = $("lanes");
  const kept = view.events.length - state.back;
  const timed = shown.some((event) => event.timestamp !== null);
  const starts = shown.map((event, at) => at > 0 && timed && dayOf(event) !== dayOf(shown[at - 1]));
  const lanes = state.models.flatMap((model) => {
    const changes = contributions(view.reasons.get(model), effective);
    const largest = Math.max(...[...changes.values()].map(Math.abs), 1e-9);
    const column = (event, at) => {
      const change = event.at < kept || event.tried ? changes.get(event.at) : undefined;
      const classes = ["tick", starts[at] && !event.tried && "day", event.tried && "day tried", !event.tried && event.at > kept && "off", !event.tried && event.at === kept && state.back && "next"];
      const height = change === undefined ? 0 : Math.max(2, (Math.abs(change) / largest) * 46);
      const bar = change === undefined
        ? element("i", { class: "plain" })
        : element("i", { class: change < 0 ? "lowers" : "raises", css: { height: `${height}%` } });
      const when = event.tried ? "tried" : event.timestamp === null ? "" : day(event.timestamp, true);
      const effect = change === undefined ? "" : `${model} ${signed(change)}`;
      return element("span", { class: classes.filter(Boolean).join(" "), "data-at": event.at, "data-tip": [name(event), when, effect].filter(Boolean).join(", ") }, bar);
    };
    return [
      element("div", { class: "lane-name" }, glyph(model), model),
      element("div", { class: `lane ${colour(model)}` }, [...shown, ...tried].map(column)),
    ];
  });
  const count = starts.filter(Boolean).length;
  place.hidden = !shown.length && !tried.length;
  place.className = `lanes${count > 12 ? " many" : ""}`;
  place.setAttribute("role", "img");
  place.setAttribute("aria-label", `${plural(shown.length, "event")} of the history, and what each did for the chosen item; the numbers are in the table below`);
  place.replaceChildren(...lanes, element("div", { class: "lane-name" }), element("div", { class: "days" }));
  if (shown.length) labelDays(place, shown, starts, timed);
}

// A date below the first event of a day, wherever there is room for it.
function labelDays(place, shown, starts, timed) {
  const row = place.querySelector(".days");
  const left = row.getBoundingClientRect().left;
  const ticks = [...place.querySelector(".lane").children];
  let free = -Infinity;
  shown.forEach((event, at) => {
    if (at && !starts[at]) return;
    const x = ticks[at].getBoundingClientRect().left - left;
    if (x < free || x > row.clientWidth - 40) return;
    free = x + LABEL_PX;
    row.append(element("span", { css: { left: `${x}px` } }, timed ? (event.timestamp === null ? "no date" : day(event.timestamp)) : "oldest first"));
  });
}

function drawChips(shown, tried, kept) {
  const chips = shown.slice(-CHIPS).map((event) => element("li", {
    class: `chip${event.at === kept ? " next" : event.at > kept ? " off" : ""}`, "data-at": event.at, "data-tip": name(event),
  }, name(event)));
  const place = $("chips");
  place.replaceChildren(...chips, ...tried.map((item) => element("li", { class: "chip tried" }, `${name(item)}?`)));
  place.hidden = !place.children.length;
  place.scrollLeft = place.scrollWidth;
}

function drawTable(view, state, effective) {
  const changes = state.models.map((model) => contributions(view.reasons.get(model), effective));
  const head = ["Item", "Date", "Part", ...state.models];
  const events = view.events.map((event, at) => ({ ...event, at }));
  const rows = events.reverse().map((event) => element("tr", {},
    element("th", { scope: "row" }, name(event)),
    element("td", {}, event.timestamp === null ? "\u2013" : day(event.timestamp, true)),
    element("td", {}, PARTS[event.part] || "not known"),
    ...changes.map((each) => element("td", {}, each.has(event.at) && event.at < effective.length ? signed(each.get(event.at), 3) : "\u2013"))));
  $("history-table").replaceChildren(element("table", {},
    element("thead", {}, element("tr", {}, ...head.map((each) => element("th", { scope: "col" }, each)))),
    element("tbody", {}, ...rows)));
  document.querySelector(".numbers").hidden = !events.length;
}
