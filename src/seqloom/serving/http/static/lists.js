// One model's list: rank, title, attributes, movement, and a way to try each item.

import { colour, glyph } from "./systems.js";
import { element, name, plural, problem } from "./tools.js";

const MOVE_MS = 280;
const calm = matchMedia("(prefers-reduced-motion: reduce)");

// The short texts of an item, on one quiet line; numbers keep the name of their column.
export function attributes(item) {
  const texts = Object.entries(item.attributes || {})
    .filter(([, text]) => text.length <= 60 && !/^https?:/.test(text))
    .map(([column, text]) => (/^[\d.,\s]+$/.test(text) && !/year|date/i.test(column) ? `${column}\u00a0${text}` : text));
  return texts.slice(0, 3).join(" \u00b7 ");
}

export function rareTag(item) {
  return item.tail && element("span", { class: "tag", "data-tip": "Few events in training: the item is of the long tail." }, "rare");
}

// How an item moved since `before`, an order of ids; null where nothing was changed.
function movement(item, rank, before) {
  if (!before) return null;
  const old = before.indexOf(item.item_id) + 1;
  if (!old) return element("span", { class: "move new" }, "new");
  const up = old - rank;
  if (!up) return element("span", { class: "move" }, element("span", { "aria-hidden": "true" }, "="), element("span", { class: "unseen" }, "unmoved"));
  return element("span", { class: up > 0 ? "move up" : "move down" },
    element("span", { "aria-hidden": "true" }, `${up > 0 ? "\u25b2" : "\u25bc"} ${Math.abs(up)}`),
    element("span", { class: "unseen" }, `${up > 0 ? "up" : "down"} ${Math.abs(up)}`));
}

export class List {
  // `act` has choose(item, model), attempt(item), pick(side, model), hover(id).
  constructor(place, side, act) {
    this.place = place;
    this.side = side;
    this.act = act;
    this.mark = element("span", { class: "mark" });
    this.select = element("select", { class: "picker", "aria-label": `Model of the ${side ? "second" : "first"} list` });
    this.select.addEventListener("change", () => act.pick(side, this.select.value));
    this.kind = element("span", { class: "soft small" });
    this.notes = element("div", { class: "notes" });
    this.rows = element("ol", { class: "rows" });
    place.append(element("header", {}, this.mark, this.select, this.kind), this.notes, this.rows);
    this.rows.addEventListener("mouseover", (event) => act.hover(event.target.closest(".item")?.dataset.item));
    this.rows.addEventListener("mouseleave", () => act.hover(null));
  }

  offer(models) {
    this.select.replaceChildren(...models.map((each) => element("option", { value: each.model }, each.model)));
  }

  busy(on) {
    if (on) this.place.setAttribute("aria-busy", "true");
    else this.place.removeAttribute("aria-busy");
  }

  fail(error, again) {
    this.notes.replaceChildren(problem(error, again));
  }

  // `list` is a reply of /v1/compare for one model, `other` that of the other one or null.
  draw(list, other, before, model, chosen) {
    this.place.className = `card list ${colour(model.model)}`;
    this.mark.replaceChildren(glyph(model.model));
    this.select.value = model.model;
    this.kind.textContent = model.system === model.model ? "" : model.system;
    if (list.problem) {
      this.fail({ message: list.problem.detail, requestId: list.problem.request_id });
      return;
    }
    const notes = [];
    if (list.fallback) notes.push(`Popular items: ${list.fallback}.`);
    const unknown = list.unknown.history || [];
    if (unknown.length) notes.push(`${plural(unknown.length, "item")} of the history unknown to the model.`);
    if (!list.items.length) notes.push("Nothing is left to recommend.");
    this.notes.replaceChildren(...notes.map((each) => element("p", { class: "note" }, each)));
    const old = new Map([...this.rows.children].map((row) => [row.dataset.item, row.getBoundingClientRect().top]));
    const pictures = list.items.some((item) => item.picture);
    this.rows.className = pictures ? "rows pictured" : "rows";
    this.rows.replaceChildren(...list.items.map((item, at) => this.row(item, at + 1, other, before, model.model, chosen, pictures)));
    if (!calm.matches && old.size) this.travel(old);
  }

  row(item, rank, other, before, model, chosen, pictures) {
    const title = name(item);
    const place = other?.ranks?.[item.item_id];
    const selected = item.item_id === chosen;
    return element("li", { class: `item${selected ? " selected" : ""}`, "data-item": item.item_id },
      element("span", { class: "rank" }, rank),
      pictures && (item.picture
        ? element("img", { class: "picture", src: item.picture, alt: "", loading: "lazy", referrerpolicy: "no-referrer", width: 36, height: 36 })
        : element("span", { class: "picture" })),
      element("div", { class: "words" },
        element("button", {
          type: "button", class: "title", "data-focus": `${this.side}:${item.item_id}`, "data-rank": rank,
          "aria-pressed": String(selected), "aria-label": `Why ${title}?`,
          onclick: () => this.act.choose(item, model),
        }, element("span", { class: "clamp" }, title)),
        element("span", { class: "soft small meta" }, rareTag(item), attributes(item))),
      element("span", { class: "aside" },
        movement(item, rank, before),
        place && element("span", { class: "elsewhere soft small" }, `${other.model} ${place}`)),
      element("button", {
        type: "button", class: "add", "data-focus": `${this.side}+${item.item_id}`, "data-rank": rank,
        "aria-label": `What if ${title} came next?`, "data-tip": "What if this came next?",
        onclick: () => this.act.attempt(item),
      }, element("span", { "aria-hidden": "true" }, "+")));
  }

  travel(old) {
    for (const row of this.rows.children) {
      const from = old.get(row.dataset.item);
      const to = row.getBoundingClientRect().top;
      if (from === undefined) row.animate([{ opacity: 0 }, { opacity: 1 }], MOVE_MS);
      else if (Math.abs(from - to) > 1) {
        row.animate([{ transform: `translateY(${from - to}px)` }, { transform: "none" }], { duration: MOVE_MS, easing: "cubic-bezier(.2,.8,.2,1)" });
      }
    }
  }
}

// The buttons of a list's titles, for the arrow keys.
export const titles = (place) => [...place.querySelectorAll(".item .title")];
