// The explorer: what comes next for a user, by two models side by side, and what would change it.

import { drawFacts, drawLegend } from "./facts.js";
import { openFinder, readyToFind } from "./find.js";
import { readyToPlace, suggest } from "./ghost.js";
import { drawHistory } from "./history.js";
import { drawKeys, readyKeys } from "./keys.js";
import { drawLinks } from "./links.js";
import { List } from "./lists.js";
import { forget, readAddress, remember, state, undo, writeAddress } from "./state.js";
import { drawSteer, readyToSteer } from "./steer.js";
import { arrange, glyph } from "./systems.js";
import { saveEvents, saveLists } from "./save.js";
import { readyTips } from "./tip.js";
import { $, announce, ask, element, name, problem, settled, useToken } from "./tools.js";
import { changesOf, drawTrial } from "./trial.js";
import { drawWhy } from "./why.js";

const LENGTH = 10;
const MOST_HISTORY = 1000;

// What the server said last.
const view = {
  served: [], examples: [], events: [], base: null, baseOf: "", now: null,
  reasons: new Map(), explained: false, items: new Map(), titles: new Map(), shown: 0,
};
const places = [$("left"), $("right")];
const remembered = new Map(); // explanations, by what they explain
let lists = [];
let turn = 0;

const names = () => view.served.map((model) => model.model);
const served = (model) => view.served.find((each) => each.model === model);
const changed = () => state.tried.length > 0 || state.back > 0 || state.about !== "";
const subject = () => (state.user === null ? { history: [] } : { user_id: state.user });
const called = () => (state.user === null ? "this history" : `user ${state.user}`);

// The ids of the history as it is tried.
function effective() {
  const kept = view.events.slice(0, view.events.length - state.back).map((event) => event.item_id);
  return [...kept, ...state.tried];
}

// Whom a request is about that knows nothing of trials.
const trial = () => (changed() || state.user === null ? { history: effective().slice(-MOST_HISTORY) } : { user_id: state.user });

const act = {
  refresh: () => refresh(),
  choose(item, model) {
    state.why = item.item_id;
    state.by = model;
    drawKeepingFocus();
    explain();
  },
  by(model) {
    state.by = model;
    drawKeepingFocus();
    explain();
  },
  attempt(item) {
    change(() => {
      state.tried = [...state.tried, item.item_id].slice(-20);
      view.titles.set(item.item_id, name(item));
    }, () => announce(changesOf(view, state)));
  },
  pick(side, model) {
    change(() => {
      if (state.models[1 - side] === model) state.models.reverse();
      else state.models[side] = model;
      if (!state.models.includes(state.by)) state.by = state.models[side];
      view.shown = side;
    });
  },
  hover(id) {
    drawLinks($("gutter"), places, current(), id || state.why);
    for (const row of document.querySelectorAll(".item")) row.classList.toggle("hot", row.dataset.item === id);
  },
  user(user) {
    change(() => {
      Object.assign(state, { user, own: false, tried: [], back: 0, why: null });
    }, () => announce($("facts").textContent), true);
  },
  another() {
    const users = view.examples.map((each) => each.user_id);
    const next = users[(users.indexOf(state.user) + 1) % users.length];
    if (next !== undefined && next !== state.user) act.user(next);
  },
  undo() {
    const user = state.user;
    if (undo()) load(user !== state.user).then(() => announce("Undone."));
  },
  steer(about, weight) {
    if (about === state.about && (!about || weight === state.weight)) return;
    change(() => Object.assign(state, { about, weight }), () => announce($("steer-says").textContent));
  },
  back() {
    if (state.back < view.events.length - 1) change(() => { state.back += 1; }, () => announce($("history-says").textContent));
  },
  forward() {
    if (state.back) change(() => { state.back -= 1; }, () => announce($("history-says").textContent));
  },
  other() {
    if (state.models.length > 1) {
      view.shown = 1 - view.shown;
      act.by(state.models[1 - state.models.indexOf(state.by)]);
    }
  },
  whatIf() {
    const item = view.items.get(state.why);
    if (item) act.attempt(item);
  },
  find: () => openFinder(view, act),
  saved() {
    forget();
    state.tried = [];
    load(true);
  },
};

function change(work, then, other = false) {
  remember();
  work();
  load(other).then(then);
}

const current = () => state.models.map((model) => view.now?.models.find((list) => list.model === model) || null);

// Reads the user's events where the user is another, then the lists.
async function load(other) {
  writeAddress(names());
  if (other) {
    view.base = null;
    remembered.clear();
    view.events = [];
    if (state.user !== null) {
      try {
        const reply = await ask("GET", `/v1/users/${encodeURIComponent(state.user)}?details=true`);
        view.events = reply.history;
      } catch (error) {
        if (error.status !== 404) {
          $("status").replaceChildren(problem(error, () => load(true)));
          return;
        }
      }
    }
  }
  await refresh();
}

async function compare(extra) {
  return ask("POST", "/v1/compare", { ...subject(), models: state.models, k: LENGTH, rank_of: state.why ? [state.why] : [], ...extra });
}

async function refresh() {
  const mine = ++turn;
  lists.forEach((list) => list.busy(true));
  const key = JSON.stringify([state.user, state.models]);
  state.back = Math.min(state.back, Math.max(0, view.events.length - 1));
  try {
    const steps = { tried: state.tried, hide_last: state.back, ...(state.about ? { about: state.about, about_weight: state.weight } : {}) };
    const [base, now] = await Promise.all([
      view.base && view.baseOf === key ? view.base : compare({}),
      changed() ? compare(steps) : null,
    ]);
    if (mine !== turn) return;
    Object.assign(view, { base, baseOf: key });
    keep(now || base);
    $("status").replaceChildren();
    $("view").hidden = false;
    drawKeepingFocus();
    explain();
  } catch (error) {
    if (mine !== turn) return;
    const fail = problem(error, refresh);
    if ($("view").hidden) $("status").replaceChildren(fail);
    else lists.forEach((list) => list.fail(error, refresh));
  } finally {
    if (mine === turn) lists.forEach((list) => list.busy(false));
  }
}

// A sentence that cannot be followed leaves the lists as they were.
function keep(reply) {
  const refused = reply.models.every((list) => list.problem?.type.endsWith(":about"));
  view.now = refused && view.now ? { ...view.now, models: view.now.models.map((old) => ({ ...old, problem: reply.models[0].problem, kept: true })) } : reply;
  for (const event of view.events) remembering(event);
  for (const list of [...view.base.models, ...reply.models]) for (const item of list.items || []) remembering(item);
  if (reply.next) remembering(reply.next);
  const first = reply.models.find((list) => list.items?.length)?.items[0];
  if (!state.why || !view.items.has(state.why)) state.why = first ? first.item_id : null;
  nameTried();
}

function remembering(item) {
  view.items.set(item.item_id, item);
  view.titles.set(item.item_id, name(item));
}

// Tried items of a copied link are known by id alone.
async function nameTried() {
  const unknown = state.tried.filter((id) => !view.titles.has(id));
  for (const id of unknown) view.titles.set(id, id);
  for (const id of unknown) {
    try {
      const { attributes } = await ask("GET", `/v1/items/${encodeURIComponent(id)}`);
      const title = Object.keys(attributes).find((column) => /(title|name)$/i.test(column));
      if (title && attributes[title]) view.titles.set(id, attributes[title]);
      drawKeepingFocus();
    } catch { /* the id stands for it */ }
  }
}

// Asks both models why; the answers colour the history too.
async function explain() {
  const mine = turn;
  const item = state.why;
  const ids = effective();
  if (!item || !ids.length) {
    view.reasons = new Map(state.models.map((model) => [model, { none: true, history: [], unknown: {} }]));
    view.explained = false;
    drawReasons();
    return;
  }
  const history = trial();
  const wanted = state.models.map((model) => [model, JSON.stringify([model, item, ids])]);
  view.reasons = new Map(wanted.filter(([, key]) => remembered.has(key)).map(([model, key]) => [model, remembered.get(key)]));
  view.explained = view.reasons.size > 0;
  drawReasons();
  await Promise.all(wanted.filter(([, key]) => !remembered.has(key)).map(async ([model, key]) => {
    let reason;
    try {
      reason = await ask("POST", "/v1/explain", { ...history, item_id: item, model });
      remembered.set(key, reason);
    } catch (error) {
      reason = { error };
    }
    if (mine !== turn || item !== state.why) return;
    view.reasons.set(model, reason);
    view.explained = [...view.reasons.values()].some((each) => !each.error);
    drawReasons();
  }));
}

function drawReasons() {
  holdingFocus(() => {
    drawHistory(view, state, effective(), act);
    drawWhy(view, state, act);
  });
}

const drawKeepingFocus = () => holdingFocus(draw);

// Draws, and returns the focus to what stands where it was.
function holdingFocus(work) {
  const before = document.activeElement;
  const key = before?.dataset?.focus;
  const rank = before?.dataset?.rank;
  work();
  if (!key || document.activeElement === before) return;
  const all = [...document.querySelectorAll("[data-focus]")];
  const side = key.slice(0, 2);
  const next = all.find((each) => each.dataset.focus === key)
    || all.find((each) => rank && each.dataset.focus.startsWith(side) && each.dataset.rank === rank)
    || $("who");
  next.focus({ preventScroll: true });
}

function draw() {
  writeAddress(names());
  document.title = `seqloom explorer: ${called()}`;
  $("who").textContent = called();
  $("asked").classList.toggle("short", called().length < 22);
  const shared = current();
  drawFacts(view.events, state.user, shared);
  const single = state.models.length < 2;
  $("bench").classList.toggle("single", single);
  places[1].hidden = single;
  $("gutter").hidden = single;
  state.models.forEach((model, side) => {
    const list = shared[side];
    if (!list) return;
    const before = changed() ? view.base.models[side]?.items?.map((item) => item.item_id) : null;
    lists[side].draw(list.kept ? { ...list, problem: undefined } : list, shared[1 - side], before, served(model), state.why);
    places[side].toggleAttribute("data-off", side !== view.shown);
  });
  $("which").hidden = single;
  $("which").replaceChildren(...state.models.map((model, side) => element("button", {
    type: "button", "aria-pressed": String(side === view.shown), "data-focus": `which:${model}`,
    onclick: () => { view.shown = side; act.by(model); },
  }, glyph(model), model)));
  $("another").hidden = view.examples.length < 2;
  drawTrial(view, state, act);
  drawSteer(view);
  drawHistory(view, state, effective(), act);
  drawWhy(view, state, act);
  suggest(view.items.get(state.why));
  drawLinks($("gutter"), places, single ? [null] : shared, state.why);
  drawLegend(single, served(state.models[0]).tail_below);
}

async function start() {
  $("status").replaceChildren(element("p", { class: "loading" }, "Loading\u2026"));
  try {
    const { models } = await ask("GET", "/v1/models");
    if (!view.served.length) prepare(models);
    $("token-form").hidden = true;
    view.examples = (await ask("GET", "/v1/examples")).users;
    await openAddress();
  } catch (error) {
    $("status").replaceChildren();
    if (error.status === 401) {
      $("token-form").hidden = false;
      $("token").focus();
    } else $("status").append(problem(error, start));
  }
}

function prepare(models) {
  view.served = models;
  arrange(models);
  lists.forEach((list) => list.offer(models));
  readyToSteer(models, act);
  readyToPlace(models, () => ({ body: trial(), models: state.models, label: called() }));
}

async function openAddress() {
  readAddress(names());
  if (state.user === null && !state.own) {
    if (view.examples.length) state.user = view.examples[0].user_id;
    else state.own = true;
  }
  await load(true);
}

function ready() {
  lists = places.map((place, side) => new List(place, side, act));
  readyToFind(view, act);
  readyTips();
  drawKeys();
  readyKeys(act);
  for (const [id, work] of Object.entries({ who: act.find, "find-button": act.find, another: act.another, back: act.back, forward: act.forward })) $(id).addEventListener("click", work);
  $("keys-button").addEventListener("click", () => $("keys").showModal());
  $("copy").addEventListener("click", copyLink);
  $("save-lists").addEventListener("click", () => saveLists(state.models, current()));
  $("save-events").addEventListener("click", () => saveEvents(view.events));
  $("why").addEventListener("mouseover", (event) => point(event.target.closest("[data-position]")));
  $("why").addEventListener("mouseleave", () => point(null));
  addEventListener("hashchange", openAddress);
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault(); // the address belongs to the state
    $("main").focus();
  });
  addEventListener("resize", settled(() => { if (!$("view").hidden) drawReasons(); }, 100));
  new ResizeObserver(() => drawLinks($("gutter"), places, current(), state.why)).observe($("bench"));
  $("token-form").addEventListener("submit", (event) => {
    event.preventDefault();
    useToken($("token").value.trim());
    $("token").value = "";
    start();
  });
}

// Marks the event of a reason in the history.
function point(reason) {
  const explanation = view.reasons.get(state.by);
  const unknown = new Set(explanation?.unknown?.history || []);
  const known = effective().map((id, at) => [id, at]).filter(([id]) => !unknown.has(id));
  const read = explanation?.history ? known.slice(-explanation.history.length) : [];
  const at = reason ? read[Number(reason.dataset.position)]?.[1] : undefined;
  for (const each of document.querySelectorAll("[data-at]")) each.classList.toggle("hot", at !== undefined && each.dataset.at === String(at));
}

async function copyLink() {
  try {
    await navigator.clipboard.writeText(location.href);
    $("copy").textContent = "Copied";
    announce("Link copied.");
  } catch {
    $("copy").textContent = "Copy it from the address bar";
  }
  setTimeout(() => { $("copy").textContent = "Copy link"; }, 2000);
}

ready();
start();
