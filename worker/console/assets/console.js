// Fetches the page every two seconds and replaces the old state, so that the scroll position and a selection survive.
"use strict";

async function refresh() {
  let fresh = null;
  try {
    const response = await fetch("/", { signal: AbortSignal.timeout(5000) });
    if (response.ok) {
      fresh = new DOMParser().parseFromString(await response.text(), "text/html");
    }
  } catch {
    // The worker is stopped or restarting: show that and keep polling.
  }
  document.getElementById("stale").hidden = fresh !== null;
  if (fresh !== null && window.getSelection().isCollapsed) {
    document.title = fresh.title;
    const scrolled = Array.from(document.querySelectorAll(".scroll"), (box) => box.scrollLeft);
    document.getElementById("state").replaceWith(document.adoptNode(fresh.getElementById("state")));
    document.querySelectorAll(".scroll").forEach((box, i) => { box.scrollLeft = scrolled[i] ?? 0; });
  }
  setTimeout(refresh, document.hidden ? 10000 : 2000);
}

setTimeout(refresh, 2000);
