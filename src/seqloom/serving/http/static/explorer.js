// The explorer: a user or a history of one's own, and two models' lists side by side.

import { List } from "./lists.js";
import { showMetrics } from "./metrics.js";
import { ask, element, problem, settled, useToken } from "./tools.js";

const $ = (id) => document.getElementById(id);
const state = { who: "user", user: null, kept: [], own: [], models: [] };
const lists = [new List($("left"), take), new List($("right"), take)];

function say(message) {
  $("status").textContent = message;
}

function subject() {
  if (state.who === "user") return state.user === null ? null : { user_id: state.user };
  return state.own.length ? { history: state.own.map((item) => item.item_id) } : null;
}

function draw() {
  $("user-part").hidden = state.who !== "user";
  $("history-head").textContent = state.who !== "user" ? "My history"
    : state.user === null ? "History" : `History of ${state.user}`;
  const items = state.who === "user" ? state.kept : state.own;
  // The most recent first: it counts most, and is what was just added.
  const lines = items.map((item, index) => element("li", {},
    element("span", { class: "title" }, item.title || item.item_id),
    state.who === "user" ? null : element("button", {
      type: "button", "aria-label": `Remove ${item.title || item.item_id}`,
      onclick: () => { state.own.splice(index, 1); refresh(); },
    }, "Remove"),
  )).reverse();
  $("history").replaceChildren(...lines);
  if (!lines.length) {
    $("history").append(element("li", { class: "hint" }, "Nothing yet."));
  }
}

function refresh() {
  draw();
  const whom = subject();
  return Promise.all(lists.map((list) => list.show(whom)));
}

async function chooseUser(user) {
  state.user = user;
  state.kept = [];
  $("users").replaceChildren();
  $("user-search").value = user;
  await Promise.all([refresh(), readHistory()]);
}

async function readHistory() {
  try {
    state.kept = (await ask("GET", `/v1/users/${encodeURIComponent(state.user)}`)).history;
  } catch (error) {
    state.kept = [];
    if (error.status !== 404) say(error.message);
  }
  draw();
}

// An item was chosen: an event of the user, or one more item of one's own history.
async function take(item) {
  if (state.who === "history") {
    state.own.push(item);
    say(`Added ${item.title || item.item_id}.`);
    await refresh();
    return;
  }
  if (state.user === null) {
    say("Choose a user first.");
    return;
  }
  try {
    const events = [{ user_id: state.user, item_id: item.item_id }];
    await ask("POST", "/v1/events", { events });
    say(`Kept an event: ${state.user}, ${item.title || item.item_id}.`);
    await Promise.all([refresh(), readHistory()]);
  } catch (error) {
    say(error.message);
  }
}

// Wire a search field to its list of hits; older answers never replace newer ones.
function search(field, place, find, hit) {
  let turn = 0;
  const run = async () => {
    const mine = ++turn;
    const text = field.value.trim();
    if (!text) {
      place.replaceChildren();
      return;
    }
    try {
      const found = await find(text);
      if (mine !== turn) return;
      const none = element("li", { class: "hint" }, "Nothing found.");
      place.replaceChildren(...(found.length ? found.map((each) => element("li", {}, hit(each))) : [none]));
    } catch (error) {
      if (mine === turn) place.replaceChildren(element("li", {}, problem(error, run)));
    }
  };
  field.addEventListener("input", settled(run));
  field.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown") place.querySelector("button")?.focus();
    if (event.key === "Escape") place.replaceChildren();
  });
  place.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const buttons = [...place.querySelectorAll("button")];
    const next = buttons[buttons.indexOf(document.activeElement) + step];
    (next || field).focus();
  });
}

search($("user-search"), $("users"),
  async (text) => (await ask("GET", `/v1/users?prefix=${encodeURIComponent(text)}`)).users,
  (user) => element("button", { type: "button", onclick: () => chooseUser(user) }, user));
search($("item-search"), $("items"),
  async (text) => (await ask("GET", `/v1/items?query=${encodeURIComponent(text)}`)).items,
  (item) => element("button", { type: "button", onclick: () => take(item) },
    item.title || item.item_id, " ", element("span", { class: "id" }, item.item_id)));

for (const choice of document.querySelectorAll("input[name=who]")) {
  choice.addEventListener("change", () => { state.who = choice.value; refresh(); });
}

function route() {
  const page = location.hash === "#metrics" ? "metrics" : "explore";
  for (const name of ["explore", "metrics"]) {
    $(name).hidden = name !== page;
    if (name === page) $(`nav-${name}`).setAttribute("aria-current", "page");
    else $(`nav-${name}`).removeAttribute("aria-current");
  }
  if (page === "metrics" && state.models.length) showMetrics($("metrics"), state.models);
}

async function start() {
  say("Loading\u2026");
  try {
    const { models, cascade } = await ask("GET", "/v1/models");
    state.models = models;
    lists[0].offer(models, cascade, cascade.length ? "" : models[0].model);
    lists[1].offer(models, cascade, (models[1] || models[0]).model);
    $("token-form").hidden = true;
    say("");
    route();
    await refresh();
  } catch (error) {
    if (error.status === 401) {
      $("token-form").hidden = false;
      $("token").focus();
    }
    say("");
    $("status").append(problem(error, start));
  }
}

$("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useToken($("token").value.trim());
  $("token").value = "";
  start();
});
window.addEventListener("hashchange", route);
start();
