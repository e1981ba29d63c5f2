// One model's recommendations for the person in question, and why they are there.

import { ask, element, number, problem } from "./tools.js";

const LENGTH = 10;

export class List {
  // `add(item)` is called when the user takes an item of the list.
  constructor(place, add) {
    this.place = place;
    this.add = add;
    this.turn = 0;
    this.subject = null;
    this.select = element("select", { "aria-label": `Model of the ${place.id} list` });
    this.select.addEventListener("change", () => this.show(this.subject));
    this.body = element("div", { class: "body" });
    place.append(this.select, this.body);
  }

  // `models` are those served; `chosen` is the one shown first.
  offer(models, cascade, chosen) {
    const options = models.map((m) => element("option", { value: m.model }, `${m.model} (${m.system})`));
    if (cascade.length) {
      options.unshift(element("option", { value: "" }, `cascade: ${cascade.join(", ")}`));
    }
    this.select.replaceChildren(...options);
    this.select.value = chosen;
  }

  // `subject` is {user_id} or {history}; null shows the empty state.
  async show(subject) {
    this.subject = subject;
    const turn = ++this.turn;
    if (!subject) {
      this.body.replaceChildren(
        element("p", { class: "hint" }, "Choose a user, or put items into a history."),
      );
      return;
    }
    this.place.setAttribute("aria-busy", "true");
    if (!this.body.querySelector(".entries")) {
      this.body.replaceChildren(element("p", { class: "hint" }, "Loading\u2026"));
    }
    const body = { ...subject, k: LENGTH, details: true };
    if (this.select.value) body.model = this.select.value;
    try {
      const reply = await ask("POST", "/v1/recommend", body);
      if (turn === this.turn) this.draw(reply);
    } catch (error) {
      if (turn === this.turn) this.body.replaceChildren(problem(error, () => this.show(subject)));
    } finally {
      if (turn === this.turn) this.place.removeAttribute("aria-busy");
    }
  }

  draw(reply) {
    const notes = [];
    if (reply.fallback) notes.push(`These are the popular items: ${reply.fallback}.`);
    for (const [part, ids] of Object.entries(reply.unknown)) {
      notes.push(`Unknown to the model (${part}): ${ids.join(", ")}`);
    }
    for (const step of reply.cascade || []) {
      notes.push(`${step.model} ${step.outcome}: ${step.reason}`);
    }
    const entries = reply.items.map((item) => this.entry(item, reply));
    this.body.replaceChildren(
      element("p", { class: "hint" }, `${reply.model}, version ${reply.version}, `
        + `from ${reply.history_length} known items`),
      ...notes.map((note) => element("p", { class: "note" }, note)),
      entries.length
        ? element("ol", { class: "entries" }, ...entries)
        : element("p", { class: "hint" }, "Nothing is left to recommend."),
    );
  }

  entry(item, reply) {
    const name = item.title || item.item_id;
    const line = element("li", {},
      element("span", { class: "title" }, name),
      item.tail ? element("span", { class: "tail", title: "Of the long tail" }, "tail") : null,
      element("span", { class: "score", title: "Score" }, number(item.score)),
    );
    if (!reply.fallback) {
      const why = element("button", {
        type: "button", "aria-expanded": "false", "aria-label": `Why ${name}?`,
        onclick: () => this.explain(line, why, item, reply.model),
      }, "Why?");
      line.append(why);
    }
    line.append(element("button", {
      type: "button", "aria-label": `Add ${name} to the history`, onclick: () => this.add(item),
    }, "Add"));
    return line;
  }

  async explain(line, button, item, model) {
    const open = line.querySelector(".why");
    if (open) {
      open.remove();
      button.setAttribute("aria-expanded", "false");
      return;
    }
    const box = element("div", { class: "why" }, "Loading\u2026");
    line.append(box);
    button.setAttribute("aria-expanded", "true");
    const body = { ...this.subject, item_id: item.item_id, model };
    try {
      box.replaceChildren(...explanation(await ask("POST", "/v1/explain", body)));
    } catch (error) {
      box.replaceChildren(problem(error));
    }
  }
}

// What each item of the history did for the score, and what each view of the model did.
function explanation(told) {
  const largest = Math.max(...told.history.map((each) => Math.abs(each.change)), 1e-9);
  const lines = told.history.slice(0, 8).map((each) => element("li", {},
    element("span", {}, each.title || each.item_id),
    element("meter", {
      min: 0, max: largest, value: Math.max(each.change, 0),
      "aria-label": `carried ${number(each.change)}`,
    }),
    element("span", { class: "score" }, (each.change > 0 ? "+" : "") + number(each.change)),
  ));
  const parts = [
    element("p", {}, `Rank ${told.rank} among all items, seen ones too. What the score loses without each item of the history:`),
    element("ol", {}, ...lines),
  ];
  for (const [name, view] of Object.entries(told.views)) {
    parts.push(element("p", { class: "view" }, `${name} view: ${number(100 * view.share, 0)} %`));
  }
  return parts;
}
