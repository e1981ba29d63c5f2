// Steering by a sentence: what was understood, or why it cannot be followed, in its place.

import { state } from "./state.js";
import { $, element, listed, problem } from "./tools.js";

export function readyToSteer(models, act) {
  const field = $("about");
  const readable = models.some((model) => model.columns.length);
  field.disabled = !readable;
  $("weight").disabled = !readable;
  $("steer").querySelector("button").disabled = !readable;
  if (!readable) {
    $("steer-says").replaceChildren(element("p", { class: "soft" }, "The catalogue has no texts, so no sentence can steer the lists."));
  }
  $("steer").addEventListener("submit", (event) => {
    event.preventDefault();
    act.steer(field.value.trim(), Number($("weight").value));
  });
  $("weight").addEventListener("change", () => {
    if (state.about) act.steer(state.about, Number($("weight").value));
  });
  $("steer-clear").addEventListener("click", () => {
    act.steer("", Number($("weight").value));
    field.focus();
  });
}

// A weight of a copied link may be none of those offered.
function showWeight(weight) {
  const place = $("weight");
  if (![...place.options].some((each) => Number(each.value) === weight)) {
    place.append(element("option", { value: weight }, `weight ${weight}`));
  }
  place.value = weight;
}

export function drawSteer(view) {
  const field = $("about");
  if (field.disabled) return;
  if (document.activeElement !== field || !state.about) field.value = state.about;
  if (state.about) showWeight(state.weight);
  $("steer-clear").hidden = !state.about;
  const place = $("steer-says");
  if (!state.about) {
    place.replaceChildren();
    return;
  }
  const faulty = (view.now?.models || []).filter((list) => list.problem?.type.endsWith(":about"));
  if (faulty.length) {
    place.replaceChildren(problem({ message: `${faulty[0].problem.detail}.`.replace(/\.\.$/, "."), requestId: faulty[0].problem.request_id }));
    return;
  }
  const about = (view.now?.models || []).map((list) => list.about).find(Boolean);
  if (!about) {
    place.replaceChildren();
    return;
  }
  const part = (way, text) => [element("span", {}, element("span", { class: "soft" }, `${way} `), element("b", {}, text)), " "];
  place.replaceChildren(element("p", { class: "understood" },
    about.wanted && part("towards", about.wanted),
    about.unwanted.length > 0 && part("away from", listed(about.unwanted)),
    ...about.filters.map((each) => part("only", each))));
}
