// The cases: filters, order, and pages of small pictures.
"use strict";

const PER_PAGE = 60;
const sides = { truth: "ground truth", predicted: "prediction", detection: "detection" };
const partnerOf = (lesion, row) =>
  row.lesions.find((other) => other.id === lesion.partner && other.side === "predicted");
/** A true lesion that was found has the score of what found it. */
const scoreOf = (lesion, row) =>
  lesion.score ?? (lesion.side === "truth" && lesion.partner !== undefined ? partnerOf(lesion, row)?.score : undefined);

// A lesion has to meet all that is asked of lesions; an image all that is asked of images.
const LESION_FACETS = {
  class: ["Class", (lesion) => className(lesion.class)],
  birads: ["BI-RADS", (lesion) => lesion.birads],
  size: ["Size", (lesion) => lesion.size],
  method: ["Pseudo-mask", (lesion) => lesion.method],
  verdict: ["Hit or miss", (lesion) => lesion.verdict],
};
const IMAGE_FACETS = {
  findings: ["Findings", (row) => [row.lesion_free ? "lesion-free"
    : row.lesions.some((lesion) => lesion.side === "truth") ? "with lesions" : "without a finding"]],
  view: ["View", (row) => [row.view]],
  laterality: ["Side", (row) => [row.laterality]],
  density: ["Density", (row) => [row.density]],
  manufacturer: ["Manufacturer", (row) => [row.manufacturer]],
  attributes: ["Header", (row) => (row.attributes || "").split("; ")],
  split: ["Split", (row) => [row.split]],
  fold: ["Fold", (row) => [row.fold === undefined ? undefined : String(row.fold)]],
  doubt: ["Doubt", (row) => (row.doubts || []).map((doubt) => doubt.kind)],
  mark: ["Review", marksOf],
};
const ORDERS = {
  given: ["as in the data set", () => 0],
  doubt: ["doubtful first", (row) => -(row.weight || 0)],
  large: ["largest lesion first", (row) => -largest(row)],
  small: ["smallest lesion first", (row) => smallest(row)],
  sure: ["highest score first", (row) => -Math.max(-1, ...scores(row))],
};
const areas = (row) => row.lesions.filter((lesion) => lesion.side === "truth").map((lesion) => lesion.mm2 ?? lesion.area);
const largest = (row) => Math.max(0, ...areas(row));
const smallest = (row) => Math.min(Infinity, ...areas(row));
const scores = (row) => row.lesions.map((lesion) => lesion.score).filter((score) => score !== undefined);

const chosen = { places: [], page: 0, facets: {}, search: "", low: null, high: null, order: data.queue ? "doubt" : "given" };

function isChosen(row) {
  const words = chosen.search.toLowerCase();
  if (words && ![row.name, row.patient_id, row.study_id].some((text) => (text || "").toLowerCase().includes(words))) return false;
  for (const [key, [, values]] of Object.entries(IMAGE_FACETS)) {
    if (chosen.facets[key] && !values(row).includes(chosen.facets[key])) return false;
  }
  const asked = Object.entries(LESION_FACETS).filter(([key]) => chosen.facets[key]);
  if (!asked.length && chosen.low === null && chosen.high === null) return true;
  return row.lesions.some((lesion) =>
    asked.every(([key, [, value]]) => value(lesion) === chosen.facets[key]) && isScored(lesion, row));
}

function isScored(lesion, row) {
  if (chosen.low === null && chosen.high === null) return true;
  const score = scoreOf(lesion, row);
  return score !== undefined && score >= (chosen.low ?? 0) && score <= (chosen.high ?? 1);
}

/** Choose the cases anew and show their first page. */
function choose() {
  const [, weigh] = ORDERS[chosen.order];
  const found = data.images.map((row, place) => [isChosen(row) ? weigh(row) : null, place]);
  chosen.places = found.filter(([weight]) => weight !== null)
    .sort((a, b) => (a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : a[1] - b[1])).map(([, place]) => place);
  turn(0);
}

/** Show a page of the chosen cases. */
function turn(page) {
  const last = Math.max(Math.ceil(chosen.places.length / PER_PAGE) - 1, 0);
  chosen.page = Math.min(Math.max(page, 0), last);
  const start = chosen.page * PER_PAGE;
  byId("cards").replaceChildren(...chosen.places.slice(start, start + PER_PAGE).map(card));
  byId("count").textContent = `${chosen.places.length} of ${data.images.length} cases`;
  if (!chosen.places.length) byId("cards").append(element("p", { class: "nothing" }, "No case meets all of this. ", button("Clear the filters", clear)));
  byId("pages").replaceChildren(...(last ? [
    button("‹", () => turn(chosen.page - 1), { disabled: chosen.page === 0, title: "Page before (p)", "aria-label": "Page before" }),
    element("span", {}, `page ${chosen.page + 1} of ${last + 1}`),
    button("›", () => turn(chosen.page + 1), { disabled: chosen.page === last, title: "Next page (n)", "aria-label": "Next page" }),
  ] : []));
}

function card(place) {
  const row = data.images[place];
  const [width, height] = row.size;
  const boxes = row.lesions.filter((lesion) => lesion.side !== "detection" || !data.given.panoptic).map((lesion) => {
    const [x, y, w, h] = lesion.box;
    return element("rect", { x, y, width: w, height: h, class: lesion.side, stroke: colourOf(lesion.class) });
  });
  return element("a", { class: "card", href: `#/case-${row.id}`, title: row.name },
    element("span", { class: "picture" },
      element("img", { src: `thumbs/${row.id}.jpg`, loading: "lazy", decoding: "async", alt: `${row.laterality || ""} ${row.view || ""}`.trim() || "image" }),
      element("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "xMidYMid meet", "aria-hidden": "true" }, ...boxes)),
    element("span", { class: "name" }, row.name),
    element("span", { class: "facts" }, [row.laterality, row.view, row.manufacturer].filter(Boolean).join(" ") || " "),
    element("span", { class: "chips" },
      ...verdictsOf(row),
      ...(row.lesions.some((lesion) => lesion.verdict) ? [] : classesOf(row)),
      ...(chosen.order === "doubt" ? reasonsOf(row) : []),
      ...marksOf(row).filter((mark) => mark !== "not marked").map((mark) => element("span", { class: `chip mark ${mark}` }, mark))));
}

/** How many lesions were hit, missed …, and how many predicted ones are false. */
function verdictsOf(row) {
  const counts = new Map();
  for (const { side, verdict } of row.lesions) {
    if (verdict && (side === "truth" || verdict === "false")) counts.set(verdict, (counts.get(verdict) || 0) + 1);
  }
  return [...counts].map(([verdict, count]) =>
    element("span", { class: `chip ${verdict.replace(" ", "-")}` }, count > 1 ? `${count} ${verdict}` : verdict));
}

/** The first doubt of each kind, and how many more there are. */
function reasonsOf(row) {
  const kinds = new Map();
  for (const doubt of row.doubts || []) kinds.set(doubt.kind, [...(kinds.get(doubt.kind) || []), doubt]);
  return [...kinds.values()].map(([first, ...others]) =>
    element("span", { class: "why" }, first.why + (others.length ? ` (and ${others.length} more)` : "")));
}

function classesOf(row) {
  const names = [...new Set(row.lesions.filter((lesion) => lesion.side === "truth").map((lesion) => lesion.class))];
  return names.map((id) => element("span", { class: "chip" }, swatch(id), className(id)));
}

/** The values of a facet with how many cases have them, numbers in the order of their size. */
function countsOf(values) {
  const counts = new Map();
  for (const row of data.images) {
    for (const value of new Set(values(row))) if (value) counts.set(value, (counts.get(value) || 0) + 1);
  }
  return [...counts].sort((a, b) => a[0].localeCompare(b[0], undefined, { numeric: true }));
}

function select(key, title, counts) {
  const options = counts.map(([value, count]) => element("option", { value }, `${value} (${count})`));
  const made = element("select", { name: key, on: { change: () => { chosen.facets[key] = made.value; choose(); } } },
    element("option", { value: "" }, "all"), ...options);
  made.value = chosen.facets[key] || "";
  return element("label", {}, title, made);
}

function facets() {
  const search = element("input", { type: "search", name: "search", placeholder: "image, patient", title: "Search (/)",
    on: { input: () => { chosen.search = search.value.trim(); choose(); } } });
  const order = element("select", { name: "order", on: { change: () => { chosen.order = order.value; choose(); } } },
    ...Object.entries(ORDERS).map(([key, [title]]) => element("option", { value: key }, title)));
  order.value = chosen.order;
  const ofLesions = Object.entries(LESION_FACETS).map(([key, [title, value]]) => [key, title, (row) => row.lesions.map(value)]);
  const ofImages = Object.entries(IMAGE_FACETS).map(([key, [title, values]]) => [key, title, values]);
  const selects = [...ofLesions, ...ofImages].map(([key, title, values]) => [key, title, countsOf(values)])
    .filter(([key, , counts]) => counts.length > 1 || (counts.length && key !== "split" && key !== "mark") || (key === "mark" && review.possible))
    .map(([key, title, counts]) => select(key, title, key === "mark" ? MARKS : counts));
  byId("facets").replaceChildren(
    element("label", {}, "Search", search), element("label", {}, "Order", order), ...selects,
    ...(data.images.some((row) => scores(row).length) ? [scoreRange()] : []),
    button("Clear", clear, { id: "clear" }));
  byId("facets").addEventListener("submit", (event) => event.preventDefault());
}

// Marks come and go while one looks, so they are not counted.
const MARKS = ["accepted", "rejected", "commented", "not marked"].map((mark) => [mark, ""]);

function scoreRange() {
  const field = (name, text) => {
    const made = element("input", { type: "number", name, min: 0, max: 1, step: 0.05, placeholder: text,
      "aria-label": `score ${text}`, on: { input: () => { chosen[name] = made.value === "" ? null : Number(made.value); choose(); } } });
    return made;
  };
  return element("label", {}, "Score", element("span", { class: "range" }, field("low", "from"), field("high", "to")));
}

function clear() {
  Object.assign(chosen, { facets: {}, search: "", low: null, high: null });
  facets();
  choose();
}

/** Move the focus among the cards by columns and rows. */
function step(across, down) {
  const cards = [...byId("cards").querySelectorAll(".card")];
  if (!cards.length) return;
  const here = cards.indexOf(document.activeElement);
  const columns = cards.filter((each) => each.offsetTop === cards[0].offsetTop).length;
  const next = here < 0 ? 0 : here + across + down * columns;
  if (next >= 0 && next < cards.length) cards[next].focus();
}

views.grid = {
  show() {
    const at = shown.case === null ? -1 : chosen.places.indexOf(shown.case);
    turn(at < 0 ? chosen.page : Math.floor(at / PER_PAGE));
    document.title = `${data.title}: cases`;
    if (at >= 0) byId("cards").children[at % PER_PAGE].focus();
  },
  keys: {
    ArrowRight: () => step(1, 0), ArrowLeft: () => step(-1, 0), ArrowDown: () => step(0, 1), ArrowUp: () => step(0, -1),
    n: () => turn(chosen.page + 1), p: () => turn(chosen.page - 1), "/": () => byId("facets").elements.search.focus(),
  },
};
