// The keyboard: single keys while nobody types, arrows within and between the lists.

import { titles } from "./lists.js";
import { $, element } from "./tools.js";

const KEYS = [
  ["/", "find"], ["\u2191", ""], ["\u2193", "move"], ["Enter", "why"], ["W", "what if"], ["Z", "undo"],
  ["[", ""], ["]", "step through time"], ["M", "other model"], ["U", "another user"], ["?", "all keys"],
];

export function drawKeys() {
  const groups = [];
  let held = [];
  for (const [key, label] of KEYS) {
    held.push(element("kbd", {}, key));
    if (label) {
      groups.push([held, label]);
      held = [];
    }
  }
  $("keys-line").replaceChildren(...groups.map(([keys, label]) => element("span", {}, ...keys.map((key) => key.cloneNode(true)), label)));
  const dialog = $("keys");
  dialog.replaceChildren(
    element("h2", { id: "keys-title" }, "Keys"),
    element("dl", {}, ...groups.flatMap(([keys, label]) => [element("dt", {}, ...keys), element("dd", {}, label)]),
      element("dt", {}, element("kbd", {}, "\u2190"), element("kbd", {}, "\u2192")), element("dd", {}, "from one list to the other")),
    element("p", { class: "actions" }, element("button", { type: "button", class: "button main", onclick: () => dialog.close() }, "Close")));
}

export function readyKeys(act) {
  const single = {
    "/": act.find, u: act.another, z: act.undo, w: act.whatIf, "[": act.back, "]": act.forward, m: act.other, "?": () => $("keys").showModal(),
  };
  addEventListener("keydown", (event) => {
    if (document.querySelector("dialog[open]") || $("view").hidden) return;
    if (event.target.matches?.("input, select, textarea")) return;
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
      event.preventDefault();
      act.find();
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const work = single[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (work) {
      event.preventDefault();
      work();
    } else if (event.key.startsWith("Arrow")) move(event);
  });
}

function move(event) {
  const lists = [titles($("left")), titles($("right"))].map((list) => list.filter((each) => each.offsetParent));
  const side = lists.findIndex((list) => list.some((title) => title.closest(".item").contains(document.activeElement)));
  if (side < 0) {
    const first = lists.flat()[0];
    if (!event.target.matches?.("body, main") || !first || !["ArrowDown", "ArrowUp"].includes(event.key)) return;
    event.preventDefault();
    (lists.flat().find((title) => title.getAttribute("aria-pressed") === "true") || first).focus();
    return;
  }
  const list = lists[side];
  const at = list.findIndex((title) => title.closest(".item").contains(document.activeElement));
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  const to = step ? list[at + step] : (event.key === "ArrowRight" ? lists[1] : lists[0])[Math.min(at, lists[1 - side].length - 1)];
  event.preventDefault();
  to?.focus();
}
