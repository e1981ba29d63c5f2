// Why an item is where it is: the strongest cause in words, then what raises and what lowers its score.

import { colour, glyph } from "./systems.js";
import { $, decimals, element, name, ordinal, percent, plural, problem, signed } from "./tools.js";

const EACH_WAY = 5;
const VIEWS = { collaborative: "from events", semantic: "from its text" };

export function drawWhy(view, state, act) {
  const place = $("why");
  const item = view.items.get(state.why);
  if (!item) {
    place.replaceChildren(element("h2", {}, "Why is it there?"), element("p", { class: "soft" }, "Choose an item of a list to see what put it there."));
    return;
  }
  const explanation = view.reasons.get(state.by);
  const busy = explanation === undefined;
  const ready = explanation && !explanation.error && !explanation.none;
  place.className = `card why ${colour(state.by)}`;
  if (busy) place.setAttribute("aria-busy", "true");
  else place.removeAttribute("aria-busy");
  place.replaceChildren(
    element("div", { class: "why-head" },
      element("p", { class: "soft small" }, "Why is it there?"),
      element("h2", { class: "clamp" }, name(item)),
      switcher(view, state, act),
      ...(explanation?.error ? [problem(explanation.error, explanation.error.kind === "nothing-to-explain" ? null : act.refresh)] : []),
      ...(explanation?.none ? [element("p", { class: "says soft" }, "There is no history yet to explain it from.")] : []),
      ...(ready ? [sentence(explanation, state, view), views(explanation)] : [])),
    element("div", { class: "why-bars" },
      ...(ready ? bars(explanation) : []),
      element("button", {
        type: "button", class: "button main", "data-focus": "what-if", "aria-keyshortcuts": "W", onclick: () => act.attempt(item),
      }, "What if this came next? ", element("kbd", {}, "W"))));
}

function switcher(view, state, act) {
  return element("div", { class: "segments", role: "group", "aria-label": "Model" }, ...state.models.map((model) => {
    const rank = view.now?.models.find((each) => each.model === model)?.ranks?.[state.why];
    return element("button", {
      type: "button", "aria-pressed": String(model === state.by), "data-focus": `by:${model}`, onclick: () => act.by(model),
    }, glyph(model), model, rank && element("b", {}, ` ${ordinal(rank)}`));
  }));
}

function sentence(explanation, state, view) {
  const strongest = explanation.history.reduce((a, b) => (Math.abs(b.change) > Math.abs(a.change) ? b : a));
  const way = strongest.change < 0 ? "higher" : "lower";
  const parts = [
    element("b", {}, name(strongest)), ` did most: without it the score, ${decimals(explanation.score, 2)}, would be `,
    element("b", {}, `${Math.abs(strongest.change).toFixed(2)} ${way}`), ". ",
  ];
  const rank = view.now?.models.find((each) => each.model === state.by)?.ranks?.[state.why] ?? (state.about ? null : explanation.list_rank);
  if (rank) parts.push(`It is ${ordinal(rank)} of ${explanation.rankable.toLocaleString("en")} that can be recommended.`);
  else if (state.about) parts.push("It is not in reach here: the sentence, or the history, leaves it out.");
  else parts.push("It cannot be recommended here: the history holds it, or it was removed.");
  if (state.about) parts.push(element("span", { class: "soft" }, " The bars leave the sentence out."));
  return element("p", { class: "says" }, ...parts);
}

function views(explanation) {
  const all = Object.entries(explanation.views);
  if (all.length < 2) return null;
  return element("div", { class: "views" },
    element("p", {}, "What the score is made of"),
    element("div", { class: "shares", "aria-hidden": "true" }, ...all.map(([, view]) => element("i", { css: { "flex-grow": view.share } }))),
    element("p", { class: "soft small spread" }, ...all.map(([key, view]) => element("span", {}, `${VIEWS[key] || key} ${percent(view.share)}`))));
}

function bars(explanation) {
  // What would read 0.00, or be drawn as nothing, is left to the chart of the history.
  const least = Math.min(0.005, 0.01 * Math.max(...explanation.history.map((each) => Math.abs(each.change))));
  const raises = explanation.history.filter((each) => each.change > least).slice(0, EACH_WAY);
  const lowers = explanation.history.filter((each) => each.change < -least).slice(-EACH_WAY);
  const shown = [...raises, ...lowers];
  const largest = Math.max(...shown.map((each) => Math.abs(each.change)), 1e-9);
  const rest = explanation.history.length - shown.length;
  return [
    element("div", { class: "two-ways axis", "aria-hidden": "true" }, element("span", {}), element("span", { class: "spread" }, element("span", {}, "lowers"), element("span", {}, "raises")), element("span", {})),
    element("ol", {}, ...shown.map((each) => element("li", { class: "two-ways", "data-position": each.position },
      element("span", { class: "clamp" }, name(each)),
      element("span", { class: "track", "aria-hidden": "true" },
        element("i", { class: each.change < 0 ? "lowers" : "raises", css: { width: `${(Math.abs(each.change) / largest) * 50}%` } })),
      element("span", { class: "value" }, signed(each.change))))),
    element("p", { class: "soft small" }, rest > 0 ? `and ${plural(rest, "smaller one")}, all in the history above` : "Every event of the history is here."),
  ];
}
