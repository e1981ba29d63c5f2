// A tooltip on hover and focus; it adds precision and never holds the only copy.

import { $ } from "./tools.js";

export function readyTips() {
  const tip = $("tip");
  const hide = () => { tip.hidden = true; };
  const show = (event) => {
    const target = event.target.closest?.("[data-tip]");
    if (!target || target.closest("dialog")) {
      hide();
      return;
    }
    tip.textContent = target.dataset.tip;
    tip.hidden = false;
    const place = target.getBoundingClientRect();
    const left = Math.max(8, Math.min(innerWidth - tip.offsetWidth - 8, place.left + place.width / 2 - tip.offsetWidth / 2));
    const above = place.top - tip.offsetHeight - 8;
    tip.style.left = `${left}px`;
    tip.style.top = `${above > 60 ? above : place.bottom + 8}px`;
  };
  addEventListener("mouseover", show);
  addEventListener("focusin", show);
  addEventListener("pointerdown", hide);
  addEventListener("scroll", hide, { passive: true });
  addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
}
