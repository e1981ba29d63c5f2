// The bar that stays in sight while something is tried, and the one place that writes.

import { $, announce, ask, element, listed, problem } from "./tools.js";

export function drawTrial(view, state, act) {
  const bar = $("trial");
  const tried = state.tried.map((id) => view.titles.get(id) || id);
  bar.hidden = !tried.length;
  if (!tried.length) return;
  bar.replaceChildren(
    element("p", {}, "You are trying ", element("b", {}, listed(tried)), tried.length > 1 ? " as the next items. " : " as the next item. ", "Nothing is saved."),
    element("span", { class: "actions" },
      element("button", { type: "button", class: "button", "data-focus": "undo", "aria-keyshortcuts": "Z", onclick: act.undo }, "Undo ", element("kbd", {}, "Z")),
      state.user !== null && !state.back && element("button", { type: "button", class: "button", "data-focus": "save", onclick: () => askToSave(view, state, act) }, "Save to history\u2026")));
}

// Asks once, then stores the tried items as events of the user.
function askToSave(view, state, act) {
  const dialog = $("save");
  const tried = [...state.tried];
  const titles = tried.map((id) => view.titles.get(id) || id);
  const fault = element("div", {});
  const save = element("button", { type: "button", class: "button main" }, "Save");
  save.addEventListener("click", async () => {
    save.disabled = true;
    try {
      // A time each: two events of one item within a second would count as one.
      const now = Math.floor(Date.now() / 1000);
      const events = tried.map((id, at) => ({ user_id: state.user, item_id: id, timestamp: now - (tried.length - 1 - at) }));
      await ask("POST", "/v1/events", { events });
      dialog.close();
      announce(`Saved: ${listed(titles)}.`);
      act.saved();
    } catch (error) {
      fault.replaceChildren(problem(error));
      save.disabled = false;
    }
  });
  dialog.replaceChildren(
    element("h2", { id: "save-title" }, `Save to the history of user ${state.user}?`),
    element("p", {}, element("b", {}, listed(titles)), ` will be stored as ${tried.length > 1 ? "events" : "an event"} of now. Every later list counts ${tried.length > 1 ? "them" : "it"}; a single event cannot be taken out again.`),
    fault,
    element("p", { class: "actions" }, save, element("button", { type: "button", class: "button", onclick: () => dialog.close() }, "Cancel")));
  dialog.showModal();
}

// What a trial changed, in words, for the live region.
export function changesOf(view, state) {
  const parts = (view.now?.models || []).map((list) => {
    const before = view.base?.models.find((each) => each.model === list.model)?.items.map((item) => item.item_id) || [];
    const fresh = (list.items || []).filter((item) => !before.includes(item.item_id)).length;
    return `${fresh} new in ${list.model}`;
  });
  const tried = state.tried.map((id) => view.titles.get(id) || id);
  return `${listed(tried)} tried: ${parts.join(", ")}`;
}
