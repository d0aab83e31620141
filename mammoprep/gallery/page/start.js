// Begin: the theme, the filters, the keys, and the view that the address names.
"use strict";

function onKey(event) {
  if (event.ctrlKey || event.altKey || event.metaKey || byId("help").open) return;
  const typing = event.target.matches("input[type=text], input[type=search], input[type=number], select");
  if (typing) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (event.target.matches("input[type=range]") && event.key.startsWith("Arrow")) return;
  const act = { t: toggleTheme, "?": toggleHelp }[event.key] || views[shown.view].keys[event.key];
  if (!act) return;
  event.preventDefault();
  act();
}

document.documentElement.dataset.theme = remember("mammoprep-theme") || "";
byId("title").textContent = data.title;
byId("to-scores").hidden = !data.scores;
byId("footnote").textContent = data.footnote || "";
byId("footnote").hidden = !data.footnote;
byId("theme").addEventListener("click", toggleTheme);
byId("help-button").addEventListener("click", toggleHelp);
byId("filters").open = innerWidth > 700;
addEventListener("keydown", onKey);
addEventListener("hashchange", follow);
review.start();
listen();
facets();
choose();
follow();
