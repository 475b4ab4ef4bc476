// Puts what the server says is new into the page. Without it the page is as it was when it was asked for.
"use strict";
(() => {
  const region = document.getElementById("live");
  if (!region || !window.EventSource) return;
  const state = document.getElementById("live-state");
  const toggle = document.getElementById("live-toggle");
  state.parentElement.hidden = false;
  let source = null;

  const replace = (event) => {
    // Who reads a table with the keyboard, has one open or marks a text is not disturbed.
    const selection = document.getSelection();
    if (region.contains(document.activeElement) || (selection && !selection.isCollapsed && region.contains(selection.anchorNode))) return;
    const open = [...region.querySelectorAll("details")].map((d) => d.open);
    const next = new DOMParser().parseFromString(JSON.parse(event.data), "text/html");
    region.replaceChildren(...next.body.childNodes);
    region.querySelectorAll("details").forEach((d, i) => { d.open = Boolean(open[i]); });
  };
  const start = () => {
    source = new EventSource(region.dataset.events);
    source.addEventListener("now", replace);
    source.addEventListener("open", () => { state.textContent = "Live"; });
    source.addEventListener("error", () => { state.textContent = "Not connected"; });
    toggle.setAttribute("aria-pressed", "false");
  };
  const stop = () => {
    source.close();
    state.textContent = "Held";
    toggle.setAttribute("aria-pressed", "true");
  };
  toggle.addEventListener("click", () => (toggle.getAttribute("aria-pressed") === "true" ? start() : stop()));
  addEventListener("pagehide", () => source.close());
  addEventListener("pageshow", (event) => { if (event.persisted) start(); });
  start();
})();
