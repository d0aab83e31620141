// All figures of `mammoprep evaluate`: what one reads first as tables, all the rest by its name in scores.json.
"use strict";

const QUALITIES = ["PQ", "RQ", "SQ", "AP"];
const FIRST = [0.05, 0.1, 0.25, 0.5];
const scored = { threshold: 0.1 };
const percent = (value) => (value === null || value === undefined ? "–" : (100 * value).toFixed(2));
const at = (content, ...path) => path.reduce((inner, key) => (inner === null || inner === undefined ? undefined : inner[key]), content);
const levelOf = (threshold) => data.scores.thresholds.indexOf(threshold);

/** A score in per cent with its deviation over folds or its interval, where they are given. */
function cell(...path) {
  const value = at(data.scores, ...path);
  if (value === null || value === undefined) return "–";
  const spread = at(data.scores.std, ...path);
  const interval = at(data.scores.intervals, ...path);
  return element("span", {}, percent(value) + (typeof spread === "number" ? ` ± ${percent(spread)}` : ""),
    interval && interval.every((end) => typeof end === "number") ? element("small", {}, ` ${percent(interval[0])} – ${percent(interval[1])}`) : null);
}

function sweep() {
  const best = data.scores.best?.threshold;
  const lines = (thresholds) => table([["IoU", ...QUALITIES], ...thresholds.map((threshold) => [
    `${threshold.toFixed(2)}${threshold === best ? " (best PQ)" : ""}`,
    ...QUALITIES.map((name) => cell("sweep", name, levelOf(threshold)))])]);
  const all = data.scores.thresholds;
  return [element("h2", {}, "Mean over the lesion classes, per cent"),
    lines(all.filter((threshold) => FIRST.includes(threshold) || threshold === best)),
    element("details", {}, element("summary", {}, "All thresholds"), lines(all))];
}

function byClass() {
  const level = levelOf(scored.threshold);
  const line = (name, ...path) => [name, ...QUALITIES.map((quality) => cell(...path, quality, level)),
    ...["TP", "FP", "FN"].map((count) => String(at(data.scores, ...path, count, level) ?? "–")), cell("dice", "per_class", name), cell("iou", "per_class", name)];
  return table([["Class", ...QUALITIES, "TP", "FP", "FN", "Dice", "IoU"],
    ...Object.keys(data.scores.per_class).map((name) => line(name, "per_class", name)), line("class ignored", "detection")]);
}

function parts() {
  const level = levelOf(scored.threshold);
  const head = ["Part", "images", "lesions", ...QUALITIES, "sensitivity", "false, an image", "Dice"];
  const lines = Object.entries(data.scores.strata || {}).flatMap(([part, values]) => Object.entries(values).map(([name, entry]) =>
    [`${part.replaceAll("_", " ")}: ${name}`, String(entry.images), String(entry.lesions),
      ...QUALITIES.map((quality) => percent(at(entry, quality, level))), percent(at(entry, "sensitivity", level)),
      at(entry, "false_positives", level)?.toFixed(3) ?? "–", percent(entry.dice)]));
  return lines.length ? table([head, ...lines]) : element("p", {}, "No parts are given.");
}

function atThreshold() {
  const chooser = element("select", { name: "threshold", on: { change: () => { scored.threshold = Number(chooser.value); views.scores.show(); byId("scores").querySelector("select").focus(); } } },
    ...data.scores.thresholds.map((threshold) => element("option", { value: threshold }, threshold.toFixed(2))));
  chooser.value = scored.threshold;
  return [element("h2", {}, "By class and by part, per cent"), element("label", {}, "at IoU ", chooser), byClass(), parts()];
}

/** Show any part of scores.json by its names. */
function tree(value) {
  if (value === null) return "not given";
  if (typeof value === "number") return Number.isInteger(value) ? String(value) : value.toFixed(4);
  if (typeof value !== "object") return String(value);
  if (Array.isArray(value)) {
    if (value.every((each) => each === null || typeof each !== "object")) return value.map(tree).join(", ");
    return element("ol", {}, ...value.map((each) => element("li", {}, tree(each))));
  }
  return element("dl", { class: "facts" }, ...Object.entries(value).flatMap(([name, inner]) => [element("dt", {}, name), element("dd", {}, tree(inner))]));
}

function rest() {
  return Object.entries(data.scores).filter(([name]) => !["notes", "not_given", "best", "thresholds", "sweep"].includes(name))
    .filter(([, value]) => value !== null && typeof value === "object" && Object.keys(value).length)
    .map(([name, value]) => element("details", {}, element("summary", {}, name.replaceAll("_", " ")), tree(value)));
}

views.scores = {
  show() {
    document.title = `${data.title}: scores`;
    const { images, patients, matching, notes, not_given: lacking, knows_truth: known } = data.scores;
    byId("scores").replaceChildren(
      element("p", {}, `${known ? "† " : ""}${images} images${patients ? ` of ${patients} patients` : ""}, matching ${matching}. Small: 95 % intervals over patients, where they are given.`),
      ...sweep(), ...atThreshold(),
      ...(data.figures.length ? [element("h2", {}, "Figures"), element("div", { class: "figures" }, ...data.figures.map((name, number) =>
        element("figure", {}, element("img", { src: `figures/${number}.png`, loading: "lazy", alt: name }), element("figcaption", {}, name))))] : []),
      element("h2", {}, "Everything, by its name in scores.json"), ...rest(),
      element("h2", {}, "Notes"), element("ul", {}, ...notes.map((note) => element("li", {}, note)),
        ...Object.entries(lacking).map(([name, reason]) => element("li", {}, `${name} is not given: ${reason}`))));
  },
  keys: { Escape: () => { location.hash = "#/"; } },
};
