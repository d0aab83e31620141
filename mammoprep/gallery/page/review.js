// Marks of a reviewer: kept by the browser, saved to a file that `mammoprep convert --review FILE` applies.
"use strict";

const review = {
  possible: Boolean(data.review.dataset),
  key: `mammoprep-review-${data.review.dataset}`,
  marks: new Map(), // "image\nfinding": {image, finding, mark, comment}

  start() {
    if (!this.possible) return;
    this.add(data.review.marks);
    try {
      this.add(JSON.parse(remember(this.key) || "[]"));
    } catch { /* what the browser kept is damaged */ }
    this.show();
    addEventListener("storage", (event) => { if (event.key === this.key) location.reload(); });
  },

  add(entries) {
    for (const entry of entries) this.marks.set(keyOf(entry.image, entry.finding), entry);
  },

  of(image, finding = null) {
    return this.marks.get(keyOf(image, finding)) || { image, finding, mark: null, comment: "" };
  },

  set(image, finding, change) {
    this.marks.set(keyOf(image, finding), { ...this.of(image, finding), ...change });
    remember(this.key, JSON.stringify([...this.marks.values()]));
    this.show();
  },

  /** The marks that say something, in a fixed order. */
  made() {
    return [...this.marks.values()]
      .filter((entry) => entry.mark || entry.comment)
      .sort((a, b) => (keyOf(a.image, a.finding) < keyOf(b.image, b.finding) ? -1 : 1));
  },

  toJson() {
    const marks = this.made().map(({ image, finding, mark, comment }) => ({ image, finding, mark, comment }));
    return `${JSON.stringify({ format: 1, dataset: data.review.dataset, marks }, null, 1)}\n`;
  },

  save() {
    const address = URL.createObjectURL(new Blob([this.toJson()], { type: "application/json" }));
    element("a", { href: address, download: "review.json" }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10000);
  },

  async load(file) {
    let content = null;
    try {
      content = JSON.parse(await file.text());
    } catch { /* said below */ }
    if (!content || content.format !== 1 || !Array.isArray(content.marks)) {
      say(`${file.name} is no review that was saved here.`);
    } else if (content.dataset !== data.review.dataset) {
      say(`${file.name} is a review of another data set.`);
    } else {
      this.add(content.marks);
      remember(this.key, JSON.stringify([...this.marks.values()]));
      this.show();
      views[shown.view].show(shown.case);
      say(`${content.marks.length} marks loaded from ${file.name}.`);
    }
  },

  show() {
    const count = this.made().length;
    const chooser = element("input", { type: "file", accept: ".json,application/json", hidden: true, id: "review-file",
      on: { change: (event) => { if (event.target.files[0]) this.load(event.target.files[0]); } } });
    byId("review-bar").replaceChildren(
      element("span", { id: "review-count" }, `Review: ${count} ${count === 1 ? "mark" : "marks"}`),
      button("Save", () => this.save(), { id: "review-save", disabled: count === 0,
        title: "Save review.json, which mammoprep convert --review applies" }),
      button("Load", () => chooser.click(), { title: "Load a review that was saved before" }), chooser);
  },
};

const keyOf = (image, finding) => `${image}\n${finding || ""}`;

/** What is said of an image or of any of its findings, for the filter and the cards. */
function marksOf(row) {
  if (!review.possible) return [];
  const own = [review.of(row.name), ...row.lesions.filter((l) => l.source).map((l) => review.of(row.name, l.source))];
  const found = own.flatMap((entry) => [
    ...(entry.mark === "accept" ? ["accepted"] : []),
    ...(entry.mark === "reject" ? ["rejected"] : []),
    ...(entry.comment ? ["commented"] : []),
  ]);
  return found.length ? [...new Set(found)] : ["not marked"];
}
