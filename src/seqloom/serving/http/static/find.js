// Finds users and items from anywhere: a field with a list below it.

import { attributes } from "./lists.js";
import { $, ask, element, name, plural, settled } from "./tools.js";

const ITEMS = 8;
const USERS = 5;

export function openFinder(view, act) {
  const dialog = $("find");
  $("query").value = "";
  dialog.showModal();
  $("query").focus();
  search(view, act);
}

export function readyToFind(view, act) {
  const dialog = $("find");
  const field = $("query");
  const later = settled(() => search(view, act));
  field.addEventListener("input", later);
  field.addEventListener("keydown", (event) => {
    const options = [...$("found").querySelectorAll("[role=option]")];
    const at = options.findIndex((each) => each.getAttribute("aria-selected") === "true");
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step && options.length) {
      event.preventDefault();
      select(options[(at + step + options.length) % options.length]);
    } else if (event.key === "Enter") {
      event.preventDefault();
      options[Math.max(at, 0)]?.click();
    }
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
}

function select(option) {
  for (const each of $("found").querySelectorAll("[role=option]")) each.setAttribute("aria-selected", String(each === option));
  $("query").setAttribute("aria-activedescendant", option ? option.id : "");
  option?.scrollIntoView({ block: "nearest" });
}

let turn = 0;

async function search(view, act) {
  const mine = ++turn;
  const text = $("query").value.trim();
  const user = text.replace(/^user\s+/i, "");
  const says = $("found-says");
  try {
    const [users, items] = await Promise.all([
      text ? ask("GET", `/v1/users?forgiving=true&prefix=${encodeURIComponent(user)}`).then((r) => r.users) : view.examples.map((each) => each.user_id),
      text ? ask("GET", `/v1/items?details=true&limit=${ITEMS}&query=${encodeURIComponent(text.slice(0, 200))}`).then((r) => r.items) : [],
    ]);
    if (mine !== turn) return;
    draw(users.slice(0, USERS), items, act);
    const total = Math.min(users.length, USERS) + items.length;
    says.textContent = total
      ? (text ? `${plural(total, "result")}` : "Users to look at")
      : text ? `Nothing matches \u201c${text}\u201d. Beginnings of ids and words of titles, brands and categories are matched; small errors are forgiven.`
        : "Type a user id, an item id, or words of a title.";
  } catch (error) {
    if (mine === turn) {
      $("found").replaceChildren();
      says.textContent = error.message;
    }
  }
}

function draw(users, items, act) {
  const close = (then) => () => {
    $("find").close();
    then();
  };
  const option = (label, extra, then, at) => element("div", {
    role: "option", id: `found-${at}`, "aria-selected": "false", onclick: close(then),
  }, element("span", {}, label), element("span", { class: "soft small" }, extra));
  const group = (title, options) => options.length > 0 && element("div", { role: "group", "aria-label": title }, element("span", { class: "soft small", "aria-hidden": "true" }, title), ...options);
  const groups = [
    group("Users", users.map((each, at) => option(`user ${each}`, "", () => act.user(each), at))),
    group("Items", items.map((each, at) => option(name(each), attributes(each) || each.item_id, () => act.attempt(each), users.length + at))),
  ].filter(Boolean);
  $("found").replaceChildren(...groups);
  $("found").hidden = !groups.length;
  select($("found").querySelector("[role=option]"));
}
