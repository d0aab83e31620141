// What all views share: the data, elements, the address, and the details of a case, which are loaded when it is shown.
"use strict";

const data = window.GALLERY;
const SVG = new Set(["svg", "g", "path", "rect", "image", "text"]);
const MOST_CHUNKS = 12; // chunks of details in memory
const byId = (id) => document.getElementById(id);
const views = {}; // name: {show(argument), keys: {key: action}}
const shown = { view: "", case: null };

/** Make an element. Attributes that are null, undefined or false are left out; `on` holds listeners. */
function element(name, attributes = {}, ...children) {
  const made = SVG.has(name)
    ? document.createElementNS("http://www.w3.org/2000/svg", name)
    : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "on") {
      for (const [event, act] of Object.entries(value)) made.addEventListener(event, act);
    } else if (value !== null && value !== undefined && value !== false) {
      made.setAttribute(key, value === true ? "" : value);
    }
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

const button = (text, act, attributes = {}) =>
  element("button", { type: "button", on: { click: act }, ...attributes }, text);
const className = (id) => data.classes[id][0];
const colourOf = (id) => `rgb(${data.classes[id][1].join(",")})`;

/** A square in a class's colour. */
function swatch(id) {
  const made = element("span", { class: "swatch" });
  made.style.background = colourOf(id);
  return made;
}

/** A table from rows of cells: texts or elements; the first row is its head. */
function table(rows, attributes = {}) {
  const [head, ...body] = rows;
  const line = (cells, name) => element("tr", {}, ...cells.map((cell) => element(name, {}, cell)));
  return element("div", { class: "wide" },
    element("table", attributes,
      element("thead", {}, line(head, "th")),
      element("tbody", {}, ...body.map((cells) => line(cells, "td")))));
}

function say(text) {
  byId("message").textContent = text;
  byId("message").hidden = !text;
}

function sizeOf(lesion) {
  return lesion.mm2 === undefined ? `${lesion.area} px` : `${lesion.mm2} mm²`;
}

// Details: outlines, facts and crops, a file for some cases each.
const chunks = new Map();
const placeOf = new Map(data.images.map((row, place) => [String(row.id), place]));

data.take = (number, details) => chunks.get(number).arrived(details);

/** Load the details of the case at a place. */
function detailOf(place) {
  const number = Math.floor(place / data.chunk);
  if (!chunks.has(number)) {
    if (chunks.size >= MOST_CHUNKS) chunks.delete(chunks.keys().next().value);
    chunks.set(number, loading(number));
  }
  return chunks.get(number).promise.then((details) => details[place % data.chunk]);
}

function loading(number) {
  const chunk = {};
  chunk.promise = new Promise((resolve, reject) => {
    chunk.arrived = resolve;
    const script = element("script", { src: `data/cases-${number}.js` });
    script.addEventListener("load", () => script.remove());
    script.addEventListener("error", () => {
      script.remove();
      chunks.delete(number);
      reject(new Error(`data/cases-${number}.js could not be loaded: was the folder copied whole?`));
    });
    document.head.append(script);
  });
  return chunk;
}

// The address: #/ for the cases, #/case-ID, #/scores.
function follow() {
  const [, id] = location.hash.match(/^#\/case-(\d+)$/) || [];
  say("");
  if (id !== undefined && placeOf.has(id)) open("case", placeOf.get(id));
  else open(location.hash === "#/scores" && data.scores ? "scores" : "grid");
}

function open(view, argument) {
  shown.view = view;
  shown.case = view === "case" ? argument : shown.case;
  for (const name of Object.keys(views)) byId(name).hidden = name !== view;
  for (const [id, name] of [["to-grid", "grid"], ["to-scores", "scores"]]) {
    byId(id).toggleAttribute("aria-current", name === view);
  }
  views[view].show(argument);
}

const openCase = (place) => { location.hash = `#/case-${data.images[place].id}`; };

// Light or dark: the system's, until the button says otherwise.
function remember(key, value) {
  try {
    if (value === undefined) return localStorage.getItem(key);
    localStorage.setItem(key, value);
  } catch { /* private windows keep nothing */ }
  return null;
}

function toggleTheme() {
  const root = document.documentElement;
  const dark = root.dataset.theme
    ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  remember("mammoprep-theme", root.dataset.theme);
}

function toggleHelp() {
  const help = byId("help");
  if (help.open) help.close();
  else help.showModal();
}
