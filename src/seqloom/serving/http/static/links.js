// Between two lists: a line joins what both hold, a stub has the rank for the other model.

import { element, svg } from "./tools.js";

const STUB = 12;
const WIDE = 70;

export function drawLinks(gutter, places, lists, hot) {
  const width = gutter.clientWidth;
  gutter.replaceChildren();
  if (!width || lists.some((list) => !list || list.problem)) return;
  const ids = lists.map((list) => list.items.map((item) => item.item_id));
  const both = ids[0].filter((id) => ids[1].includes(id));
  const top = gutter.getBoundingClientRect().top;
  const middle = (side, id) => {
    const row = [...places[side].querySelectorAll(".item")].find((each) => each.dataset.item === id);
    if (!row) return null;
    // Where the row will be: it may still be travelling there.
    return row.offsetTop + row.offsetHeight / 2 + places[side].getBoundingClientRect().top - top;
  };
  const lines = [];
  const late = [];
  for (const id of both) {
    const [from, to] = [middle(0, id), middle(1, id)];
    if (from === null || to === null) continue;
    const half = width / 2;
    const line = svg("path", { class: id === hot ? "hot" : "", d: `M0 ${from}C${half} ${from} ${half} ${to} ${width} ${to}` });
    (id === hot ? late : lines).push(line);
  }
  lists.forEach((list, side) => {
    for (const id of ids[side].filter((each) => !both.includes(each))) {
      const at = middle(side, id);
      if (at === null) continue;
      const [x, way] = side ? [width, -1] : [0, 1];
      const rank = lists[1 - side].ranks[id];
      const state = id === hot ? "hot" : "";
      late.push(
        svg("path", { class: state, d: `M${x} ${at}h${STUB * way}` }),
        svg("circle", { class: state, cx: x + (STUB + 3) * way, cy: at, r: 3 }));
      if (rank && width > WIDE) {
        late.push(svg("text", { class: state, x: x + (STUB + 10) * way, y: at + 4, "text-anchor": side ? "end" : "start" }, rank > 999 ? "999+" : rank));
      }
    }
  });
  gutter.append(
    element("div", { class: "agree" }, element("b", {}, `${both.length}/${Math.max(ids[0].length, ids[1].length)}`), element("span", {}, "in both")),
    svg("svg", {}, ...lines, ...late));
}
