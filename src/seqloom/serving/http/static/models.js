// How well each served model ranks: one table, the groups side by side, the trainings in one chart.

import { curves } from "./curves.js";
import { arrange, colour, glyph } from "./systems.js";
import { $, ask, count, duration, element, listed, problem, size, useToken } from "./tools.js";

const METRIC = "ndcg@10";
const GROUPS = [
  ["tail_item", "Rare items"], ["head_item", "Popular items"],
  ["tail_user", "Short histories"], ["head_user", "Long histories"],
];
const UNKNOWN = "\u2013";

const value = (number, digits = 4) => (Number.isFinite(number) ? number.toFixed(digits) : UNKNOWN);

// The evaluation that is compared: full ranking where there is one.
const main = (results) => results.evaluations.find((each) => each.protocol === "full") || results.evaluations[0];

const COLUMNS = [
  { label: "NDCG@10", of: (row) => row.metrics?.[METRIC], show: (metric) => value(metric) },
  { label: "Hit rate@10", of: (row) => row.metrics?.["hr@10"], show: (hit, row) => (Number.isFinite(hit) ? `${value(hit)} \u00b1 ${halfWidth(hit, row.users).toFixed(4)}` : UNKNOWN) },
  { label: "MRR", of: (row) => row.metrics?.mrr, show: (metric) => value(metric) },
  { label: "NDCG@10, rare items", of: (row) => row.groups?.tail_item?.metrics?.[METRIC], show: (metric) => value(metric) },
  { label: "Coverage@10", of: (row) => row.metrics?.["coverage@10"], show: (share) => value(share, 3) },
  { label: "Parameters", of: (row) => row.parameters, show: (number) => size(number) },
  { label: "Training", of: (row) => row.seconds, show: (seconds) => duration(seconds) },
];

// Half the width of a 95 % interval of a share.
const halfWidth = (share, users) => 1.96 * Math.sqrt((share * (1 - share)) / Math.max(users, 1));

async function start() {
  const status = $("status");
  status.replaceChildren(element("p", { class: "loading" }, "Loading\u2026"));
  try {
    const { models } = await ask("GET", "/v1/models");
    arrange(models);
    const results = await Promise.all(models.map((model) => ask("GET", `/v1/models/${encodeURIComponent(model.model)}/metrics`).catch((error) => ({ error, evaluations: [], log: [] }))));
    const rows = models.map((model, at) => row(model, results[at]));
    status.replaceChildren();
    say(rows);
    $("panels").replaceChildren(...[
      overview(rows), groups(rows), curves(rows), served(rows), ...failures(rows),
    ].filter(Boolean));
  } catch (error) {
    status.replaceChildren(problem(error, start));
    if (error.status === 401) status.append(tokenForm());
  }
}

function tokenForm() {
  const field = element("input", { class: "field", type: "password", id: "token", autocomplete: "off", required: true });
  const form = element("form", { class: "row" }, element("label", { for: "token" }, "Access token"), field, element("button", { class: "button" }, "Use it"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    useToken(field.value.trim());
    start();
  });
  return form;
}

function row(model, results) {
  const evaluation = main(results);
  return {
    ...model, ...results, model: model.model, evaluation, metrics: evaluation?.metrics, groups: evaluation?.groups,
    users: evaluation?.users, seconds: results.seconds_total,
  };
}

function say(rows) {
  const ranked = rows.filter((each) => Number.isFinite(each.metrics?.[METRIC])).sort((a, b) => b.metrics[METRIC] - a.metrics[METRIC]);
  const missing = rows.filter((each) => !each.evaluation && !each.error).map((each) => each.model);
  if (!ranked.length) {
    $("lead").replaceChildren("No model was evaluated yet: run ", element("code", {}, "seqloom evaluate"), " on a run, and reload.");
    return;
  }
  const [best, second] = ranked;
  const found = best.metrics["hr@10"];
  $("finding").textContent = ranked.length > 1 ? `${best.model} has the highest NDCG@10 of ${ranked.length} models` : `${best.model} finds ${Math.round(100 * found)} of 100 next items`;
  const parts = [];
  if (second) parts.push(element("b", {}, value(best.metrics[METRIC], 3)), ` against ${value(second.metrics[METRIC], 3)} of ${second.model}. `);
  parts.push(`${second ? best.model : "It"} puts the true next item among its first ten for `, element("b", {}, `${Math.round(100 * found)} of 100 users`));
  if (second) parts.push(`, ${second.model} for ${Math.round(100 * second.metrics["hr@10"])}. Whether a difference may be chance, `, element("code", {}, "seqloom compare"), " tests user by user.");
  else parts.push(".");
  if (missing.length) parts.push(` Not evaluated: ${listed(missing)}.`);
  $("lead").replaceChildren(...parts);
}

function overview(rows) {
  const evaluated = rows.find((each) => each.evaluation)?.evaluation;
  let by = 0;
  let falling = true;
  const body = element("tbody", {});
  const heads = COLUMNS.map((column, at) => element("th", { scope: "col" }, element("button", { type: "button", onclick: () => {
    falling = by === at ? !falling : true;
    by = at;
    fill();
  } }, column.label)));
  const fill = () => {
    const of = COLUMNS[by].of;
    const rank = (each) => (Number.isFinite(of(each)) ? of(each) : -Infinity);
    const sorted = [...rows].sort((a, b) => (falling ? rank(b) - rank(a) : rank(a) - rank(b)));
    heads.forEach((head, at) => {
      if (at === by) head.setAttribute("aria-sort", falling ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    body.replaceChildren(...sorted.map((each) => element("tr", {},
      element("th", { scope: "row" }, element("span", { class: "named" }, glyph(each.model), each.model)),
      ...COLUMNS.map((column) => element("td", {}, column.show(column.of(each), each))))));
  };
  fill();
  const table = element("table", {}, element("thead", {}, element("tr", {}, element("th", { scope: "col" }, element("span", {}, "Model")), ...heads)), body);
  return element("section", { class: "card panel whole", "aria-labelledby": "overview" },
    element("h2", { id: "overview" }, "All models"),
    element("p", {}, evaluated ? `${evaluated.protocol === "full" ? "Full ranking" : "Sampled ranking"}, ${evaluated.details?.part || "test"} part, ${count(evaluated.users)} users.` : "Not evaluated yet."),
    element("div", { class: "wide", tabindex: "0", role: "group", "aria-label": "All models" }, table),
    evaluated && element("p", { class: "fine" }, `${evaluated.statement} \u00b1 is a 95\u202f% interval of the share of users. Overlapping intervals are no test.`));
}

function groups(rows) {
  const shown = rows.filter((each) => each.groups);
  if (!shown.length) return null;
  const all = GROUPS.flatMap(([key]) => shown.map((each) => each.groups[key]?.metrics?.[METRIC] || 0));
  const largest = Math.max(...all, 1e-9);
  return element("section", { class: "card panel", "aria-labelledby": "groups" },
    element("h2", { id: "groups" }, "Who is served well"),
    element("p", {}, "NDCG@10 by group, all on one scale from zero."),
    ...GROUPS.filter(([key]) => shown.some((each) => each.groups[key]?.metrics)).map(([key, label]) => element("div", { class: "dots" },
      element("h3", {}, label, element("span", { class: "soft small" }, ` ${count(shown[0].groups[key]?.users || 0)} users`)),
      ...shown.flatMap((each) => {
        const metric = each.groups[key]?.metrics?.[METRIC];
        const at = `${(100 * (metric || 0)) / largest}%`;
        return [
          element("span", { class: "named" }, glyph(each.model), each.model),
          element("span", { class: `rail ${colour(each.model)}`, "aria-hidden": "true" }, element("i", { css: { width: at } }), placed(each.model, at)),
          element("span", { class: "value" }, value(metric)),
        ];
      }))));
}

function placed(model, left) {
  const mark = glyph(model);
  mark.style.left = left;
  return mark;
}

function served(rows) {
  const body = rows.map((each) => element("tr", {},
    element("th", { scope: "row" }, element("span", { class: "named" }, glyph(each.model), each.model)),
    element("td", {}, each.system),
    element("td", {}, count(each.items)),
    element("td", {}, each.search === "exact" ? "exact" : `approximate, recall ${value(each.recall, 3)}`),
    element("td", {}, each.new_items ? "yes" : "no"),
    element("td", {}, element("code", {}, each.version))));
  const head = ["Model", "System", "Items", "Search", "Takes new items", "Version"];
  return element("section", { class: "card panel whole", "aria-labelledby": "served" },
    element("h2", { id: "served" }, "As served"),
    element("div", { class: "wide", tabindex: "0", role: "group", "aria-label": "As served" }, element("table", {},
      element("thead", {}, element("tr", {}, ...head.map((each) => element("th", { scope: "col" }, each)))), element("tbody", {}, ...body))));
}

const failures = (rows) => rows.filter((each) => each.error).map((each) => element("section", { class: "card panel whole" }, element("h2", {}, each.model), problem(each.error, start)));

start();
