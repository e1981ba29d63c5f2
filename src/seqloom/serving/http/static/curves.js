// The trainings of all models in one chart: validation NDCG@10 by epoch.

import { colour, glyph } from "./systems.js";
import { element, svg } from "./tools.js";

const METRIC = "ndcg@10";
const HEIGHT = 380;
const TOP = 12;
const BOTTOM = 344;

const points = (log) => log.filter((row) => Number.isFinite(row.valid?.[METRIC])).map((row, at) => [at + 1, row.valid[METRIC]]);

export function curves(rows) {
  const lines = rows.map((row) => ({ ...row, points: points(row.log) })).filter((row) => row.points.length > 1);
  if (!lines.length) return null;
  const last = Math.max(...lines.map((line) => line.points.length));
  const largest = Math.max(...lines.flatMap((line) => line.points.map(([, value]) => value)), 1e-9);
  const step = nice(largest / 4);
  const top = Math.ceil(largest / step - 1e-9) * step;
  const x = (epoch) => 44 + ((epoch - 1) / Math.max(last - 1, 1)) * 440;
  const y = (value) => BOTTOM - (value / top) * (BOTTOM - TOP);
  const ticks = Array.from({ length: Math.round(top / step) + 1 }, (_, at) => at * step);
  const digits = Math.max(0, -Math.floor(Math.log10(step)));
  const best = lines.map((line) => `${line.model} ${Math.max(...line.points.map(([, value]) => value)).toFixed(4)}`);
  return element("section", { class: "card panel", "aria-labelledby": "training" },
    element("h2", { id: "training" }, "How they learnt"),
    element("p", {}, "NDCG@10 on validation by epoch; the weights of the best one are served."),
    svg("svg", { class: "curves", viewBox: `0 0 500 ${HEIGHT}`, preserveAspectRatio: "xMidYMid meet", role: "img", "aria-label": `Validation NDCG@10 by epoch. Best: ${best.join(", ")}` },
      ...ticks.flatMap((tick) => [
        svg("line", { class: "rule", x1: 44, x2: 484, y1: y(tick), y2: y(tick) }),
        svg("text", { x: 36, y: y(tick) + 4, "text-anchor": "end" }, tick.toFixed(digits)),
      ]),
      svg("text", { x: 44, y: BOTTOM + 22 }, "epoch 1"),
      svg("text", { x: 484, y: BOTTOM + 22, "text-anchor": "end" }, String(last)),
      ...lines.map((line) => svg("polyline", { class: colour(line.model), points: line.points.map(([epoch, value]) => `${x(epoch).toFixed(1)},${y(value).toFixed(1)}`).join(" ") })),
      ...lines.map((line) => ending(line, x, y))),
    element("div", { class: "legend" }, ...lines.map((line) => element("span", { class: "named" }, glyph(line.model), line.model, element("span", { class: "soft small" }, `best ${Math.max(...line.points.map(([, value]) => value)).toFixed(4)}`)))));
}

// The model's shape at the end of its line.
function ending(line, x, y) {
  const [epoch, value] = line.points[line.points.length - 1];
  const mark = glyph(line.model);
  mark.setAttribute("x", x(epoch) - 5);
  mark.setAttribute("y", y(value) - 5);
  return mark;
}

function nice(step) {
  const power = 10 ** Math.floor(Math.log10(step));
  return [1, 2, 2.5, 5, 10].find((each) => each * power >= step) * power;
}
