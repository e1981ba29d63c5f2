"use strict";
(() => {
  const root = document.documentElement;
  const byId = (id) => document.getElementById(id);

  // Print, and a choice between dark and light.
  const print = byId("print");
  const theme = byId("theme");
  const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches);
  const label = () => { theme.textContent = dark() ? "Light" : "Dark"; };
  print.hidden = theme.hidden = false;
  print.onclick = () => window.print();
  theme.onclick = () => { root.dataset.theme = dark() ? "light" : "dark"; label(); };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", label);
  label();
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    opened.forEach((each) => { each.open = true; });
  });
  addEventListener("afterprint", () => opened.forEach((each) => { each.open = false; }));

  // Tables sorted by a column.
  const number = (text) => {
    const found = text.replaceAll("\u2212", "-").replaceAll(",", "").match(/[-+]?\d*\.?\d+(\s*[kMG])?/);
    if (!found) return null;
    const sizes = { k: 1e3, M: 1e6, G: 1e9 };
    const units = { min: 60, h: 3600 };
    const unit = (text.match(/(min|h)\s*$/) || [])[1];
    return parseFloat(found[0]) * (sizes[(found[1] || "").trim()] || 1) * (units[unit] || 1);
  };
  const compare = (a, b) => {
    const [x, y] = [number(a), number(b)];
    if (x !== null && y !== null) return x - y;
    if (x === null && y === null) return a.localeCompare(b);
    return x === null ? -1 : 1;
  };
  document.querySelectorAll("table.sort thead th").forEach((head) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.onclick = () => {
      const column = [...head.parentNode.children].indexOf(head);
      const body = head.closest("table").tBodies[0];
      const down = head.getAttribute("aria-sort") !== "descending";
      head.parentNode.querySelectorAll("[aria-sort]").forEach((each) => each.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const text = (row) => row.children[column].textContent.trim();
      const byName = column === 0;
      const rows = [...body.rows].sort((a, b) => (byName ? text(a).localeCompare(text(b)) : compare(text(a), text(b))));
      body.append(...(down ? rows.reverse() : rows));
    };
  });

  // Exact values on hover and on focus.
  const tip = byId("tip");
  const items = byId("map-tips");
  const titles = items ? JSON.parse(items.textContent) : [];
  const words = (target) => {
    if (target.dataset.tip) return target.dataset.tip;
    const at = [...target.parentNode.children].indexOf(target);
    return titles[at] || "";
  };
  const show = (event) => {
    const target = event.target.closest ? event.target.closest("[data-tip], .maps circle") : null;
    tip.hidden = !target;
    if (!target) return;
    tip.textContent = words(target);
    const box = target.getBoundingClientRect();
    const left = box.left + box.width / 2 - tip.offsetWidth / 2;
    const above = box.top - tip.offsetHeight - 8;
    tip.style.left = `${Math.max(8, Math.min(left, innerWidth - tip.offsetWidth - 8))}px`;
    tip.style.top = `${above > 60 ? above : box.bottom + 8}px`;
  };
  const hide = () => { tip.hidden = true; };
  document.addEventListener("mouseover", show);
  document.addEventListener("focusin", show);
  document.addEventListener("focusout", hide);
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
  addEventListener("wheel", hide, { passive: true });
  addEventListener("touchmove", hide, { passive: true });

  // Where the reader is.
  const sections = [...document.querySelectorAll("[data-section]")];
  const links = [...document.querySelectorAll(".toc a")];
  const mark = () => {
    const end = scrollY + innerHeight >= document.body.scrollHeight - 2;
    const passed = sections.filter((each) => each.getBoundingClientRect().top < 160);
    const here = end ? sections[sections.length - 1] : passed[passed.length - 1] || sections[0];
    links.forEach((link) => (here && link.hash === `#${here.id}` ? link.setAttribute("aria-current", "true") : link.removeAttribute("aria-current")));
  };
  addEventListener("scroll", mark, { passive: true });
  mark();
})();
