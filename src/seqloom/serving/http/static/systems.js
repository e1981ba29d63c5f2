// A model has one colour and one shape everywhere, by its place among the served ones.

import { svg } from "./tools.js";

const BASELINE = 8;
const SHAPES = [
  () => svg("circle", { cx: 5, cy: 5, r: 4.5 }),
  () => svg("rect", { x: 0.8, y: 0.8, width: 8.4, height: 8.4, rx: 1 }),
  () => svg("path", { d: "M5 0 10 5 5 10 0 5Z" }),
  () => svg("path", { d: "M.3 1.2h9.4L5 9.4Z" }),
  () => svg("path", { d: "M3.4.4h3.2v3h3v3.2h-3v3H3.4v-3h-3V3.4h3Z" }),
  () => svg("path", { d: "M5 .3 9.8 3.8 8 9.5H2L.2 3.8Z" }),
  () => svg("path", { d: "M2 .2 5 3.2 8 .2 9.8 2 6.8 5l3 3L8 9.8l-3-3-3 3L.2 8l3-3-3-3Z" }),
  () => svg("path", { d: "M.3 8.8h9.4L5 .6Z" }),
];

const slots = new Map();

export function arrange(models) {
  slots.clear();
  let next = 1;
  for (const model of models) {
    if (model.system === "popularity") slots.set(model.model, BASELINE);
    else slots.set(model.model, Math.min(next++, 7));
  }
}

// The class that sets a model's colour.
export const colour = (model) => `system-${slots.get(model) || 1}`;

export function glyph(model) {
  const shape = SHAPES[(slots.get(model) || 1) - 1]();
  return svg("svg", { class: `glyph ${colour(model)}`, width: 10, height: 10, viewBox: "0 0 10 10", "aria-hidden": "true" }, shape);
}
