// One case: the image with its layers, zoom and pan, its lesions one by one, and what a reviewer says of it.
"use strict";

const CLOSEST = 64; // screen pixels per image pixel
const dagger = data.footnote ? ` ${data.footnote[0]}` : ""; // beside what the footnote speaks of
const layers = {
  truth: { title: "Ground truth", on: true, opacity: 1, there: true },
  predicted: { title: `Prediction${dagger}`, on: true, opacity: 1, there: data.given.panoptic },
  detection: { title: `Detections${dagger}`, on: !data.given.panoptic, opacity: 1, there: data.given.detections },
  heat: { title: "Heat map", on: false, opacity: 0.7, there: data.given.heat },
  regions: { title: "Regions", on: false, opacity: 0.8, there: true },
};
const there = Object.keys(layers).filter((name) => layers[name].there);
const look = { filled: false, names: true };
const eye = { x: 0, y: 0, w: 1, h: 1, width: 1, height: 1 }; // what is seen of an image of width x height

/** Draw one layer's outlines. */
function outlinesOf(row, detail, side) {
  const paths = row.lesions.flatMap((lesion, number) => (lesion.side === side ? [
    element("path", { d: detail.outlines[number], stroke: colourOf(lesion.class), fill: colourOf(lesion.class), "data-lesion": number }),
    element("text", { x: lesion.box[0], "data-top": lesion.box[1], "data-bottom": lesion.box[1] + lesion.box[3], fill: colourOf(lesion.class) },
      [lesion.id, className(lesion.class), lesion.score?.toFixed(2)].filter((part) => part !== undefined).join(" ")),
  ] : []));
  return element("g", { class: `layer ${side}` }, ...paths);
}

function draw(row, detail) {
  const [width, height] = row.size;
  const whole = { x: 0, y: 0, width, height, preserveAspectRatio: "none" };
  const base = element("image", { ...whole, href: row.image, class: "base" });
  base.addEventListener("error", () => say(
    `The image could not be loaded from ${row.image}. Was the DATASET moved? mammoprep gallery --copy puts the images beside the pages.`));
  const crops = Object.values(detail.crops || {}).map(({ file, box }) =>
    element("image", { href: file, x: box[0], y: box[1], width: box[2], height: box[3], preserveAspectRatio: "none" }));
  const regions = Object.values(detail.regions).map((d) => element("path", { d, stroke: "#7fd4ff", fill: "#7fd4ff" }));
  byId("viewer").replaceChildren(
    element("g", { class: "pixels" }, base, ...crops),
    element("g", { class: "layer heat" }, row.heat ? element("image", { ...whole, href: row.heat, filter: "url(#heat-colours)" }) : null),
    element("g", { class: "layer regions" }, ...regions),
    outlinesOf(row, detail, "detection"), outlinesOf(row, detail, "predicted"), outlinesOf(row, detail, "truth"));
  Object.assign(eye, { width, height });
  showLayers();
  fit();
}

function showLayers() {
  for (const [name, layer] of Object.entries(layers)) {
    const drawn = byId("viewer").querySelector(`.layer.${name}`);
    if (drawn) {
      drawn.style.display = layer.on ? "" : "none";
      drawn.style.opacity = layer.opacity;
    }
  }
  byId("viewer").classList.toggle("filled", look.filled);
  byId("viewer").classList.toggle("nameless", !look.names);
}

/** The controls of the layers: a box to show, a slider to fade. */
function controls() {
  const lines = there.map((name, number) => {
    const layer = layers[name];
    const box = element("input", { type: "checkbox", name, on: { change: () => { layer.on = box.checked; showLayers(); } } });
    box.checked = layer.on;
    const slider = element("input", { type: "range", name: `${name}-opacity`, min: 0, max: 1, step: 0.01, value: layer.opacity,
      "aria-label": `${layer.title}: how opaque`, on: { input: () => { layer.opacity = Number(slider.value); showLayers(); } } });
    return element("span", { class: `control ${name}` }, element("label", { title: `Show or hide (${number + 1})` }, box, layer.title), slider);
  });
  const option = (key, text, title) => {
    const box = element("input", { type: "checkbox", name: key, on: { change: () => { look[key] = box.checked; showLayers(); } } });
    box.checked = look[key];
    return element("label", { title }, box, text);
  };
  byId("layers").replaceChildren(...lines, element("span", { class: "control" },
    option("filled", "Filled", "Outline or fill (o)"), option("names", "Names", "Names of the classes (l)")));
}

// Zoom and pan: the part of the image that the viewBox shows.
const scale = () => {
  const { width, height } = byId("viewer").getBoundingClientRect();
  return Math.min(width / eye.w, height / eye.h) || 1;
};

function see(x, y, w, h) {
  Object.assign(eye, { x, y, w, h });
  const viewer = byId("viewer");
  viewer.setAttribute("viewBox", `${x} ${y} ${w} ${h}`);
  const now = scale();
  viewer.classList.toggle("close", now * devicePixelRatio > 4);
  viewer.classList.toggle("whole", w >= eye.width && h >= eye.height);
  for (const text of viewer.querySelectorAll("text")) {
    text.setAttribute("font-size", 13 / now);
    text.setAttribute("stroke-width", 3 / now);
    text.setAttribute("y", nameAt(text, now));
  }
  byId("zoom").textContent = `${Math.round(100 * now)} %`;
}

/** Where a name stands: above a true lesion, below a predicted one, and in sight where the lesion is. */
function nameAt(text, now) {
  const [top, bottom] = [Number(text.dataset.top), Number(text.dataset.bottom)];
  if (!text.parentNode.classList.contains("truth")) return Math.min(bottom + 15 / now, Math.max(eye.y + eye.h, top) - 4 / now);
  return top - 18 / now > eye.y ? top - 5 / now : Math.min(Math.max(top, eye.y) + 15 / now, bottom + 15 / now);
}

const fit = () => see(0, 0, eye.width, eye.height);

/** Come closer by a factor, and leave the point (x, y) of the image where it is on the screen. */
function zoom(factor, x = eye.x + eye.w / 2, y = eye.y + eye.h / 2) {
  const real = Math.min(factor, CLOSEST / scale());
  const w = eye.w / real, h = eye.h / real;
  if (w >= eye.width && h >= eye.height) fit();
  else see(x - (x - eye.x) / real, y - (y - eye.y) / real, w, h);
}

function pointAt(event) {
  return new DOMPoint(event.clientX, event.clientY).matrixTransform(byId("viewer").getScreenCTM().inverse());
}

/** Show a box of the image with some room around it. */
function lookAt([x, y, w, h]) {
  const room = Math.max(w, h, 24) * 0.5;
  see(x - room, y - room, w + 2 * room, h + 2 * room);
}

function listen() {
  const viewer = byId("viewer");
  const fingers = new Map();
  viewer.addEventListener("wheel", (event) => {
    event.preventDefault();
    const { x, y } = pointAt(event);
    zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), x, y);
  }, { passive: false });
  viewer.addEventListener("pointerdown", (event) => {
    viewer.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, event);
  });
  viewer.addEventListener("pointermove", (event) => {
    const before = fingers.get(event.pointerId);
    if (!before) return;
    const other = [...fingers].find(([id]) => id !== event.pointerId)?.[1];
    if (other) {
      const { x, y } = pointAt(other);
      const spread = (one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY) || 1;
      zoom(spread(event) / spread(before), x, y);
    } else {
      const now = scale();
      see(eye.x - (event.clientX - before.clientX) / now, eye.y - (event.clientY - before.clientY) / now, eye.w, eye.h);
    }
    fingers.set(event.pointerId, event);
  });
  for (const name of ["pointerup", "pointercancel"]) viewer.addEventListener(name, (event) => fingers.delete(event.pointerId));
  viewer.addEventListener("dblclick", (event) => {
    const { x, y } = pointAt(event);
    if (eye.w < eye.width) fit();
    else zoom(3, x, y);
  });
  addEventListener("resize", () => { if (shown.view === "case") see(eye.x, eye.y, eye.w, eye.h); });
  for (const [id, act] of [["closer", () => zoom(1.5)], ["farther", () => zoom(1 / 1.5)], ["fit", fit], ["before", () => go(-1)], ["after", () => go(1)]]) {
    byId(id).addEventListener("click", act);
  }
}

// What is said beside the image.
function tell(row, detail) {
  const facts = [["Patient", row.patient_id], ["Study", row.study_id !== row.patient_id && row.study_id], ["View", [row.laterality, row.view].filter(Boolean).join(" ")],
    ["Density", row.density], ["Manufacturer", row.manufacturer], ["Header", row.attributes], ["Split", row.split],
    ["Fold", row.fold], ["Stored size", `${row.size[0]} × ${row.size[1]} px`], ["Findings", row.lesion_free ? "lesion-free" : null]];
  const list = facts.filter(([, value]) => value !== undefined && value !== null && value !== "" && value !== false)
    .flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, String(value))]);
  byId("told").replaceChildren(...[
    element("h2", {}, row.name), element("dl", { class: "facts" }, ...list), doubtsOf(row), imageReview(row),
    lesionsOf(row, detail), ...cropsOf(row, detail)].filter(Boolean));
}

function doubtsOf(row) {
  if (!row.doubts) return null;
  return element("ul", { class: "doubts" }, ...row.doubts.map((doubt) =>
    element("li", {}, `${sides[doubt.side]} ${doubt.lesion}: ${doubt.why}`)));
}

/** Buttons to accept or reject, and a line to comment. */
function marker(row, finding, what) {
  const now = () => review.of(row.name, finding);
  const set = (change) => { review.set(row.name, finding, change); show(); };
  const accept = button("Accept", () => set({ mark: now().mark === "accept" ? null : "accept" }), { class: "accept", "aria-label": `Accept ${what}` });
  const reject = button("Reject", () => set({ mark: now().mark === "reject" ? null : "reject" }), { class: "reject", "aria-label": `Reject ${what}` });
  const comment = element("input", { type: "text", class: "comment", maxlength: 500, placeholder: "comment", "aria-label": `Comment on ${what}`,
    on: { change: () => review.set(row.name, finding, { comment: comment.value }) } });
  comment.value = now().comment || "";
  function show() {
    for (const [name, made] of [["accept", accept], ["reject", reject]]) made.setAttribute("aria-pressed", String(now().mark === name));
  }
  show();
  return element("span", { class: "marker" }, accept, reject, comment);
}

function imageReview(row) {
  if (!review.possible) return null;
  return element("div", { id: "image-review" }, element("h3", {}, "The whole image"), marker(row, null, "the image"));
}

function lesionsOf(row, detail) {
  const parts = row.lesions.map((lesion, number) => element("li", { class: lesion.side },
    element("button", { type: "button", class: "lesion", title: "Show it", on: {
      click: () => lookAt(lesion.box), pointerenter: () => light(number, true), pointerleave: () => light(number, false) } }),
    lesion.side === "truth" && review.possible && lesion.source ? marker(row, lesion.source, `finding ${lesion.id}`) : null,
    lesion.side === "truth" ? more(lesion, detail.facts[lesion.id]) : null));
  parts.forEach((part, number) => {
    const lesion = row.lesions[number];
    part.querySelector(".lesion").append(swatch(lesion.class), `${sides[lesion.side]} ${lesion.id}: ${className(lesion.class)}`,
      element("small", {}, [sizeOf(lesion), lesion.score === undefined ? null : `score ${lesion.score.toFixed(2)}`,
        lesion.iou === undefined ? null : `IoU ${lesion.iou.toFixed(2)} with ${lesion.side === "truth" ? sides.predicted : sides.truth} ${lesion.partner}`].filter(Boolean).join(", ")),
      ...(lesion.verdict ? [element("span", { class: `chip ${lesion.verdict.replace(" ", "-")}` }, lesion.verdict)] : []));
  });
  return parts.length ? element("ol", { class: "lesions" }, ...parts) : element("p", {}, "No lesion is annotated or predicted.");
}

/** Draw a lesion's outline thick, or as the others. */
const light = (number, on) => byId("viewer").querySelector(`[data-lesion="${number}"]`).classList.toggle("lit", on);

function more(lesion, facts) {
  const lines = [];
  if (lesion.source) lines.push(["source", lesion.source]);
  for (const [name, value] of Object.entries(facts || {})) {
    if (name === "source") continue;
    for (const [key, inner] of typeof value === "object" && value !== null && !Array.isArray(value) ? Object.entries(value) : [["", value]]) {
      lines.push([[name === "attributes" ? "" : name, key].filter(Boolean).join(" "), written(inner)]);
    }
  }
  return lines.length ? element("details", {}, element("summary", {}, "what the data set says"),
    element("dl", { class: "facts" }, ...lines.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]))) : null;
}

/** Write a value of any kind; of a fraction no more digits than one reads. */
function written(value) {
  if (Array.isArray(value)) return value.map(written).join(", ");
  if (typeof value === "number" && !Number.isInteger(value)) return String(Number(value.toPrecision(5)));
  return value !== null && typeof value === "object" ? JSON.stringify(value) : String(value);
}

function cropsOf(row, detail) {
  const figures = row.lesions.flatMap((lesion) => (lesion.side === "truth" ? [cropOf(lesion, row, detail)] : []));
  if (!figures.length) return [];
  const why = detail.raw ? [`Native resolution is not given: ${detail.raw}.`]
    : data.raw ? [] : ["At stored resolution. For native resolution: ", element("code", {}, "mammoprep gallery --raw RAW")];
  return [element("h3", {}, "Lesions, enlarged"), why.length ? element("p", { class: "note" }, ...why) : null,
    element("div", { class: "crops" }, ...figures)];
}

function cropOf(lesion, row, detail) {
  const crop = (detail.crops || {})[lesion.id];
  const margin = Math.max(12, 0.4 * Math.max(lesion.box[2], lesion.box[3]));
  const [x, y, w, h] = crop ? crop.box : [lesion.box[0] - margin, lesion.box[1] - margin, lesion.box[2] + 2 * margin, lesion.box[3] + 2 * margin];
  const image = crop
    ? element("image", { href: crop.file, x, y, width: w, height: h, preserveAspectRatio: "none" })
    : element("image", { href: row.image, x: 0, y: 0, width: row.size[0], height: row.size[1], preserveAspectRatio: "none" });
  const text = crop ? `native resolution, ${crop.size[0]} × ${crop.size[1]} px${crop.share < 1 ? `, reduced to ${Math.round(100 * crop.share)} %` : ""}` : "stored resolution";
  const near = row.lesions.flatMap((other, number) => (other.side === "detection" ? [] : [element("g", { class: other.side },
    element("path", { d: detail.outlines[number], stroke: colourOf(other.class), fill: "none" }))]));
  return element("figure", {}, element("svg", { viewBox: `${x} ${y} ${w} ${h}`, role: "img", "aria-label": `Lesion ${lesion.id}` }, image, ...near),
    element("figcaption", {}, `${lesion.id}: ${className(lesion.class)}, ${text}`));
}

/** Go to another of the chosen cases. */
function go(by) {
  const places = chosen.places.includes(shown.case) ? chosen.places : data.images.map((_, place) => place);
  const next = places[places.indexOf(shown.case) + by];
  if (next !== undefined) openCase(next);
}

function toggle(number) {
  const name = there[number];
  if (!name) return;
  layers[name].on = !layers[name].on;
  controls();
  showLayers();
}

function markImage(mark) {
  if (review.possible) byId("image-review").querySelector(`.${mark}`).click();
}

views.case = {
  async show(place) {
    const row = data.images[place];
    const at = chosen.places.indexOf(place);
    byId("place").textContent = at < 0 ? "not among the chosen cases" : `${at + 1} of ${chosen.places.length}`;
    document.title = `${data.title}: ${row.name}`;
    try {
      const detail = await detailOf(place);
      if (shown.case !== place) return;
      controls();
      draw(row, detail);
      tell(row, detail);
    } catch (error) {
      say(error.message);
    }
  },
  keys: {
    Escape: () => { location.hash = "#/"; }, ArrowLeft: () => go(-1), ArrowRight: () => go(1),
    "+": () => zoom(1.5), "=": () => zoom(1.5), "-": () => zoom(1 / 1.5), 0: fit,
    1: () => toggle(0), 2: () => toggle(1), 3: () => toggle(2), 4: () => toggle(3), 5: () => toggle(4),
    o: () => { look.filled = !look.filled; controls(); showLayers(); }, l: () => { look.names = !look.names; controls(); showLayers(); },
    a: () => markImage("accept"), r: () => markImage("reject"),
    c: () => { if (review.possible) byId("image-review").querySelector(".comment").focus(); },
  },
};
