
"use strict";
(() => {
  // All texts are of models and data files: they become text nodes, never markup.
  const PAGE = 20, PRINTED = 100;
  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId("errors-data").textContent);
  const list = byId("errors-list"), status = byId("errors-status"), search = byId("errors-search");
  const choices = ["kind", "benchmark", "model", "agreement"].map((name) => byId("errors-" + name));
  const number = (value) => value.toLocaleString("en-US");
  let fitting = data.cards, first = 0, current = -1;

  function element(tag, kind, ...inside) {
    const made = document.createElement(tag);
    if (kind) made.className = kind;
    made.append(...inside);
    return made;
  }

  // Filters

  const values = {
    kind: (card) => data.kinds[card.kind].words,
    benchmark: (card) => card.benchmark,
    model: (card) => card.model,
    agreement: (card) => (card.votes[0] === card.votes[1] ? "all votes agree" : "votes differ"),
  };

  function fillChoice(choice) {
    const value = values[choice.name], counts = new Map();
    for (const card of data.cards) counts.set(value(card), (counts.get(value(card)) || 0) + 1);
    for (const [name, count] of [...counts].sort((one, other) => (one[0] < other[0] ? -1 : 1))) {
      choice.append(new Option(`${name} (${number(count)})`, name));
    }
    choice.closest("label").hidden = counts.size < 2;
  }

  const said = (card) =>
    (card.said ||= [
      card.id, card.index, card.model, card.benchmark, card.category, card.question, card.truth, card.final || "",
      card.response.join(""), card.image, values.kind(card),
    ].join("\n").toLowerCase());

  function fits(card) {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    return choices.every((choice) => !choice.value || values[choice.name](card) === choice.value)
      && words.every((word) => said(card).includes(word));
  }

  function refilter() {
    fitting = data.cards.filter(fits);
    current = -1;
    show(0);
  }

  // Cards

  function show(from, count = PAGE) {
    first = from;
    list.replaceChildren(...fitting.slice(from, from + count).map(cardOf));
    for (const box of list.querySelectorAll(".response")) {
      const mark = box.querySelector("mark");
      if (mark) box.scrollTop = mark.offsetTop - box.clientHeight / 3;
    }
    const last = Math.min(from + count, fitting.length);
    status.textContent = fitting.length
      ? `${number(from + 1)} to ${number(last)} of ${number(fitting.length)} errors` +
        (fitting.length < data.cards.length ? ` that fit, of ${number(data.cards.length)}` : "")
      : "No error fits.";
    for (const pager of document.querySelectorAll(".errors-pager")) {
      pager.hidden = fitting.length <= PAGE;
      pager.querySelector("[name=earlier]").disabled = from === 0;
      pager.querySelector("[name=later]").disabled = last >= fitting.length;
    }
  }

  function cardOf(card) {
    const kind = data.kinds[card.kind];
    const chip = element("span", "chip kind-" + card.kind, kind.words);
    chip.title = kind.rule;
    const link = element("a", "", card.benchmark + ", " + card.index);
    link.href = "#error-" + card.id;
    const about = [card.category, card.model].filter(Boolean).join(" · ");
    const made = element("article", "card", element("h3", "", chip, " ", link), element("p", "about", about));
    const body = element("div", "body");
    if (card.pictures.length) body.append(element("div", "pictures", ...card.pictures.map(pictureOf)));
    body.append(element("div", "texts", ...parts(card)));
    made.append(body);
    made.id = "error-" + card.id;
    made.tabIndex = -1;
    return made;
  }

  function pictureOf(picture, place) {
    if (picture.reason !== undefined) return element("p", "missing", picture.reason);
    const image = element("img");
    image.alt = "Picture " + (place + 1) + " of the question";
    [image.width, image.height] = picture.size;
    image.src = byId("errors-picture-" + picture.place).textContent;
    return image;
  }

  function* parts(card) {
    yield part("Question", card.question);
    const final = card.final === null ? "nothing could be read" : card.final;
    yield element("div", "pair", part("Counts as right", card.truth), part("Read as the answer", final));
    const [before, quote, after] = card.response;
    const response = element("div", "text response", before, ...(quote ? [element("mark", "", quote)] : []), after);
    response.tabIndex = 0;
    yield element("div", "part", element("h4", "", card.whole ? "Response" : "Response, as the evaluator kept it"), response);
    if (card.quote) yield part("Where the error is, in other words than the response", card.quote);
    if (card.image) yield part("The picture shows instead", card.image);
    yield element("p", "verdict", verdict(card));
  }

  const part = (name, text) => element("div", "part", element("h4", "", name), element("div", "text", text));

  function verdict(card) {
    const [votes, of] = card.votes;
    const told = [`${card.judge}: ${data.kinds[card.kind].words}`];
    if (card.confidence) told.push(`${card.confidence} confidence`);
    if (of > 1) told.push(`${votes} of ${of} votes`);
    if (card.others.length) told.push(`other votes: ${card.others.join(", ")}`);
    if (card.why) told.push(card.why);
    return told.join(" · ");
  }

  // Going from one to the next

  function go(place) {
    if (place < 0 || place >= fitting.length) return;
    current = place;
    const page = place - (place % PAGE);
    if (page !== first || !byId("error-" + fitting[place].id)) show(page);
    const card = byId("error-" + fitting[place].id);
    history.replaceState(null, "", "#" + card.id);
    card.focus({ preventScroll: true });
    card.scrollIntoView({ block: "start" });
  }

  function turn(by) {
    current = -1;
    show(first + by * PAGE);
    byId("errors").scrollIntoView();
  }

  function followLink() {
    if (!location.hash.startsWith("#error-")) return;
    const id = location.hash.replace("#error-", "");
    if (!data.cards.some((card) => card.id === id)) return;
    if (!fitting.some((card) => card.id === id)) {
      for (const choice of [...choices, search]) choice.value = "";
      refilter();
    }
    go(fitting.findIndex((card) => card.id === id));
  }

  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, select, textarea");
    if (typing || event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.key === "j") go(current < 0 ? first : current + 1);
    if (event.key === "k") go(current < 0 ? first : current - 1);
  });
  let shown = 0;
  addEventListener("beforeprint", () => {
    shown = first;
    show(0, PRINTED);
  });
  addEventListener("afterprint", () => show(shown));
  addEventListener("hashchange", followLink);
  for (const choice of choices) {
    fillChoice(choice);
    choice.addEventListener("change", refilter);
  }
  let waiting = 0;
  search.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(refilter, 150);
  });
  for (const pager of document.querySelectorAll(".errors-pager")) {
    pager.querySelector("[name=earlier]").addEventListener("click", () => turn(-1));
    pager.querySelector("[name=later]").addEventListener("click", () => turn(1));
  }
  byId("errors-browser").hidden = false;
  byId("errors-without").hidden = true;
  show(0);
  followLink();
})();
