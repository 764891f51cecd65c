// The page of an audit. All that comes from a file is put in as text, never as HTML.
"use strict";

const CANNOT_TELL = "cannot_tell";
const MAX_ZOOM = 40;
const COARSE = 4; // from which magnification on pixels stay square
const byId = (id) => document.getElementById(id);

let done = []; // of each item: is there a choice
let kinds = [];
let place = -1; // of the item that is shown
let item = null;
let saving = null; // a choice that is on its way, as a promise
let unsaved = null; // a choice that could not be saved
let atEnd = false;
const drafts = new Map(); // notes on items without a choice

// The server

async function ask(path, body) {
  const options = body && {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(body)};
  let reply;
  try {
    reply = await fetch(path, options);
  } catch {
    throw new Error("capcurr audit does not answer. Start it again and open the address it prints");
  }
  if (!reply.ok) throw new Error((await reply.text()).trim() || `status ${reply.status}`);
  return reply.json();
}

function alarm(text) {
  byId("alert").hidden = false;
  byId("alert-text").textContent = text;
  byId("state").textContent = "";
}

function calm() {
  byId("alert").hidden = true;
  byId("alert-text").textContent = "";
}

// Time with the item in sight

let since = performance.now();
let spent = 0;

function seconds() {
  return (spent + (document.hidden ? 0 : performance.now() - since)) / 1000;
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) spent += performance.now() - since;
  since = performance.now();
});

// Going from item to item

async function start() {
  try {
    const overview = await ask("overview");
    done = overview.done;
    kinds = [...overview.kinds, {name: CANNOT_TELL, rule: "None of the kinds can be told from what is shown here."}];
    makeKinds();
    await goToNextOpen();
  } catch (error) {
    alarm(`Not loaded: ${error.message}.`);
    byId("again").onclick = () => location.reload();
  }
}

async function go(to) {
  if (!(await leave())) return;
  try {
    const next = await ask(`items/${to}`);
    place = to;
    item = next;
    spent = 0;
    since = performance.now();
    atEnd = false;
    calm();
    byId("state").textContent = "";
    show();
  } catch (error) {
    alarm(`Not loaded: ${error.message}.`);
    byId("again").onclick = () => go(to);
  }
}

async function goToNextOpen() {
  const order = [...done.keys()].map((step) => (place + 1 + step) % done.length);
  const open = order.find((one) => !done[one]);
  if (open === undefined) await goToEnd();
  else await go(open);
}

async function forward() {
  if (place + 1 < done.length) await go(place + 1);
  else await goToNextOpen();
}

async function back() {
  if (atEnd) await go(Math.max(0, done.length - 1));
  else if (place > 0) await go(place - 1);
}

// May the item be left? Not before all that was said of it is saved.
async function leave() {
  while (saving) await saving;
  if (unsaved) {
    byId("again").focus();
    return false;
  }
  return !item || saveNote();
}

async function goToEnd() {
  if (!(await leave())) return;
  try {
    const told = await ask("summary");
    atEnd = true;
    calm();
    byId("item").hidden = true;
    byId("end").hidden = false;
    byId("what").textContent = "";
    byId("state").textContent = "";
    byId("place").textContent = "Done";
    countDone();
    byId("end-title").textContent = told.total === 1 ? "The only one is done" : `All ${told.total} are done`;
    const percent = (share) => `${(100 * share).toFixed(1)} %`;
    byId("accuracy").textContent = told.accuracy ? percent(told.accuracy[0]) : "";
    byId("accuracy-text").textContent = told.accuracy
      ? `of all verdicts of the judge are right, by your choices (between ${percent(told.accuracy[1])} and ${percent(told.accuracy[2])}).`
      : "You could not tell the kind of any.";
    byId("end-text").textContent =
      `${told.cannot_tell ? `You could not tell ${told.cannot_tell}. ` : ""}Your choices are in ${told.file}. ` +
      "End capcurr audit with Ctrl-C; with a larger --sample it goes on.";
    byId("end-title").focus();
  } catch (error) {
    alarm(`Not loaded: ${error.message}.`);
    byId("again").onclick = goToEnd;
  }
}

// Choosing

async function choose(kind) {
  while (saving) await saving;
  if (atEnd || !item) return;
  const note = byId("note").value;
  if (!unsaved && item.chosen && item.chosen.kind === kind && item.chosen.note === note) return;
  await save(kind, note);
}

function save(kind, note) {
  saving = post(kind, note);
  byId("state").textContent = "saving";
  return saving;
}

async function post(kind, note) {
  try {
    item = await ask(`items/${place}/choice`, {kind, note, seconds: seconds()});
    unsaved = null;
    done[place] = true;
    drafts.delete(place);
    calm();
    byId("state").textContent = `Saved ${new Date().toTimeString().slice(0, 8)}`;
    return true;
  } catch (error) {
    unsaved = {kind, note};
    alarm(`NOT SAVED: ${named(kind)}. ${error.message}.`);
    byId("again").onclick = () => save(kind, byId("note").value);
    return false;
  } finally {
    saving = null;
    const within = byId("kinds").contains(document.activeElement);
    showChoice();
    countDone();
    if (within && item.chosen) byId("next").focus();
  }
}

async function saveNote() {
  const note = byId("note").value;
  if (!item.chosen) {
    drafts.set(place, note);
    return true;
  }
  return note === item.chosen.note || save(item.chosen.kind, note);
}

window.addEventListener("beforeunload", (event) => {
  if (unsaved || (item && item.chosen && byId("note").value !== item.chosen.note)) event.preventDefault();
});

// What is shown

function named(kind) {
  return kind.replaceAll("_", " ");
}

function show() {
  byId("item").hidden = false;
  byId("end").hidden = true;
  byId("place").textContent = `${place + 1} / ${done.length}`;
  document.title = `${place + 1} / ${done.length} · Audit`;
  const category = item.category && ` (${item.category})`;
  byId("what").textContent = `${item.benchmark} · ${item.index}${category} · ${item.model}`;
  byId("what").title = byId("what").textContent;
  byId("question").textContent = item.question;
  byId("truth").textContent = item.truth;
  const final = item.final === "" ? "no answer could be made out" : `answer made out: ${item.final}`;
  byId("final").textContent = item.final === null ? "" : `(${final})`;
  if (!item.whole) byId("final").textContent += " (only what the evaluator kept)";
  byId("note").value = item.chosen ? item.chosen.note : drafts.get(place) || "";
  for (const id of ["question", "truth", "response"]) byId(id).scrollTop = 0;
  showPictures();
  showResponse();
  showChoice();
  countDone();
  if (document.activeElement !== document.body) document.activeElement.blur();
  window.scrollTo(0, 0);
}

function countDone() {
  const count = done.filter(Boolean).length;
  byId("progress").value = count / done.length;
  byId("done").textContent = `${count} done`;
}

function showResponse() {
  const [before, quote, after] = item.response;
  const mark = document.createElement("mark");
  mark.textContent = quote;
  byId("response").replaceChildren(before, ...(quote ? [mark] : []), after);
  byId("toggle-mark").hidden = !quote;
  if (quote) {
    const box = byId("response");
    box.scrollTop = mark.offsetTop - box.offsetTop - (box.clientHeight - mark.offsetHeight) / 2;
  }
}

function makeKinds() {
  kinds.forEach((kind, number) => {
    const key = document.createElement("kbd");
    key.textContent = kind.name === CANNOT_TELL ? "0" : String(number + 1);
    const text = document.createElement("span");
    text.textContent = named(kind.name);
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.kind = kind.name;
    button.append(key, text);
    button.addEventListener("click", () => choose(kind.name));
    button.addEventListener("mouseenter", () => showRule(kind));
    button.addEventListener("focus", () => showRule(kind));
    button.addEventListener("mouseleave", () => showRule(null));
    button.addEventListener("blur", () => showRule(null));
    button.setAttribute("aria-description", kind.rule);
    byId("kinds").append(button);
    const name = document.createElement("dt");
    name.textContent = `${key.textContent}  ${named(kind.name)}`;
    const rule = document.createElement("dd");
    rule.textContent = kind.rule;
    byId("meanings").append(name, rule);
    for (const [lead, text] of [["", kind.example], ["Not so: ", kind.counterexample]]) {
      const example = document.createElement("dd");
      example.textContent = lead + text;
      if (text) byId("meanings").append(example);
    }
  });
}

function showRule(kind) {
  byId("rule").textContent = kind ? kind.rule : "Point at a kind to read its rule; ? shows them all.";
}

function showChoice() {
  const {chosen} = item;
  const kind = unsaved ? unsaved.kind : chosen && chosen.kind;
  for (const button of byId("kinds").children) {
    button.setAttribute("aria-pressed", String(button.dataset.kind === kind));
    button.classList.toggle("judged", Boolean(chosen) && chosen.judge.kind === button.dataset.kind && chosen.kind !== chosen.judge.kind);
  }
  byId("next").classList.toggle("ready", Boolean(chosen));
  byId("next-text").textContent = chosen ? "Next" : "Skip";
  byId("next-key").textContent = chosen ? "Enter" : "→";
  byId("rule").hidden = Boolean(chosen);
  showRule(null);
  byId("verdict").hidden = !chosen;
  if (chosen) showVerdict(chosen);
  if (chosen && item.response[1] && !byId("response").querySelector("mark")) showResponse(); // it was blind before
}

function showVerdict({kind, judge}) {
  const same = kind === judge.kind;
  byId("verdict").classList.toggle("differs", !same);
  const says = document.createElement("strong");
  says.textContent = same ? "The judge says the same" : `The judge says ${named(judge.kind)}`;
  const votes = judge.votes > 1 ? `, ${judge.for} of ${judge.votes} readings` : "";
  const sure = judge.confidence ? `, confidence ${judge.confidence}` : "";
  byId("judged").replaceChildren(says, `${sure}${votes}`);
  const lines = [];
  if (judge.image) lines.push(`The picture shows instead: ${judge.image}`);
  if (judge.quote && !item.response[1]) lines.push(`Quotes: ${judge.quote}`);
  if (judge.why) lines.push(judge.why);
  byId("shows").textContent = lines.join("\n");
}

// Pictures

let shownPicture = 0;
let zoom = 1, left = 0, above = 0;

function showPictures() {
  byId("others").replaceChildren();
  if (item.images.length > 1) {
    item.images.forEach((image, number) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = String(number + 1);
      button.setAttribute("aria-label", `Picture ${number + 1}`);
      button.addEventListener("click", () => showPicture(number));
      byId("others").append(button);
    });
  }
  showPicture(0);
}

function showPicture(number) {
  shownPicture = number;
  [...byId("others").children].forEach((button, at) => button.setAttribute("aria-pressed", String(at === number)));
  const image = item.images[number];
  const problem = !image ? "This question has no picture." : image.problem && `The picture ${image.name} ${image.problem}.`;
  const picture = byId("picture");
  picture.hidden = true;
  picture.removeAttribute("src");
  if (!problem) {
    picture.src = `items/${place}/images/${number}`;
    picture.alt = `Picture ${number + 1} of the question`;
  }
  say(problem);
  byId("stage").classList.toggle("empty", Boolean(problem));
  fit();
}

function say(problem) {
  byId("picture-problem").hidden = !problem;
  byId("picture-problem").textContent = problem || "";
}

byId("picture").addEventListener("load", () => {
  byId("picture").hidden = false;
  draw();
});
byId("picture").addEventListener("error", () => say("The picture cannot be shown: its file is damaged, or capcurr audit does not answer."));

function fit() {
  zoom = 1;
  left = above = 0;
  draw();
}

function draw() {
  const {clientWidth: width, clientHeight: height} = byId("stage");
  left = Math.min(0, Math.max(width * (1 - zoom), left));
  above = Math.min(0, Math.max(height * (1 - zoom), above));
  const picture = byId("picture");
  picture.style.transform = `translate(${left}px, ${above}px) scale(${zoom})`;
  byId("stage").classList.toggle("zoomed", zoom > 1);
  const fitted = Math.min(width / (picture.naturalWidth || 1), height / (picture.naturalHeight || 1));
  picture.classList.toggle("coarse", zoom * fitted > COARSE);
  byId("zoom").textContent = zoom > 1 ? `${zoom.toFixed(1)}×` : "";
}

function zoomAt(factor, x, y) {
  if (byId("picture").hidden) return;
  const {clientWidth: width, clientHeight: height} = byId("stage");
  const [atX, atY] = x === undefined ? [width / 2, height / 2] : [x, y];
  const next = Math.min(MAX_ZOOM, Math.max(1, zoom * factor));
  left = atX - ((atX - left) * next) / zoom;
  above = atY - ((atY - above) * next) / zoom;
  zoom = next;
  draw();
}

function move(x, y) {
  left += x;
  above += y;
  draw();
}

const fingers = new Map();
let travelled = 0;

function inStage(event) {
  const box = byId("stage").getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
}

byId("stage").addEventListener("wheel", (event) => {
  event.preventDefault();
  zoomAt(Math.exp(-event.deltaY * 0.0016), ...inStage(event));
}, {passive: false});

byId("stage").addEventListener("pointerdown", (event) => {
  if (event.button !== 0) return;
  if (!fingers.size) travelled = 0;
  fingers.set(event.pointerId, inStage(event));
  byId("stage").setPointerCapture(event.pointerId);
  byId("stage").classList.add("held");
});

byId("stage").addEventListener("pointermove", (event) => {
  const was = fingers.get(event.pointerId);
  if (!was) return;
  const now = inStage(event);
  const other = [...fingers].find(([id]) => id !== event.pointerId);
  travelled += Math.hypot(now[0] - was[0], now[1] - was[1]);
  if (other) {
    const apart = (one) => Math.max(1, Math.hypot(one[0] - other[1][0], one[1] - other[1][1]));
    zoomAt(apart(now) / apart(was), (now[0] + other[1][0]) / 2, (now[1] + other[1][1]) / 2);
  } else if (zoom > 1) {
    move(now[0] - was[0], now[1] - was[1]);
  }
  fingers.set(event.pointerId, now);
});

for (const name of ["pointerup", "pointercancel"]) {
  byId("stage").addEventListener(name, (event) => {
    const was = fingers.delete(event.pointerId);
    if (fingers.size) return;
    byId("stage").classList.remove("held");
    if (was && name === "pointerup" && travelled < 5) {
      if (zoom > 1) fit();
      else zoomAt(3, ...inStage(event));
    }
  });
}

window.addEventListener("resize", draw);

// Keys

function keyed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  const {key, target} = event;
  if (byId("help").open) {
    if (key === "?") byId("help").close();
    return;
  }
  if (target === byId("note")) {
    if (key === "Escape") target.blur();
    return;
  }
  const onButton = target instanceof HTMLButtonElement;
  if (onButton && (key === "Enter" || key === " ")) return;
  const act = event.shiftKey && MOVES[key] ? () => move(...MOVES[key]) : ACTS[key] || digit(key);
  if (act) {
    event.preventDefault();
    if (!event.repeat || REPEATED.has(key)) act();
  }
}

function digit(key) {
  if (key === "0") return () => choose(CANNOT_TELL);
  const kind = /^[1-9]$/.test(key) && kinds[Number(key) - 1];
  return kind && kind.name !== CANNOT_TELL ? () => choose(kind.name) : null;
}

function enter() {
  if (unsaved) byId("again").click();
  else if (!atEnd && item && !item.chosen) byId("state").textContent = "Choose a kind first (1 to 7, 0), or go on with →";
  else if (!atEnd) goToNextOpen();
}

function nextPicture() {
  if (item.images.length) showPicture((shownPicture + 1) % item.images.length);
}

function toggleMark() {
  const hidden = byId("response").classList.toggle("unmarked");
  byId("toggle-mark").setAttribute("aria-pressed", String(!hidden));
}

function scroll(share) {
  byId("response").scrollBy({top: share * byId("response").clientHeight});
}

const STEP = 60; // pixels
const MOVES = {ArrowLeft: [STEP, 0], ArrowRight: [-STEP, 0], ArrowUp: [0, STEP], ArrowDown: [0, -STEP]};
const ACTS = {
  Enter: enter,
  ArrowRight: () => atEnd || forward(),
  ArrowLeft: back,
  ArrowUp: () => scroll(-0.15),
  ArrowDown: () => scroll(0.15),
  PageUp: () => scroll(-0.85),
  PageDown: () => scroll(0.85),
  " ": () => scroll(0.85),
  "+": () => zoomAt(1.4),
  "=": () => zoomAt(1.4),
  "-": () => zoomAt(1 / 1.4),
  f: fit,
  p: nextPicture,
  m: toggleMark,
  n: () => byId("note").focus(),
  "?": () => byId("help").showModal(),
};
const REPEATED = new Set(["ArrowUp", "ArrowDown", "PageUp", "PageDown", " ", "+", "=", "-"]);

document.addEventListener("keydown", keyed);
byId("back").addEventListener("click", back);
byId("next").addEventListener("click", () => (item.chosen ? goToNextOpen() : forward()));
byId("return").addEventListener("click", back);
byId("note").addEventListener("blur", () => saving || unsaved || atEnd || saveNote());
byId("toggle-mark").addEventListener("click", toggleMark);
byId("smaller").addEventListener("click", () => zoomAt(1 / 1.4));
byId("larger").addEventListener("click", () => zoomAt(1.4));
byId("fit").addEventListener("click", fit);
byId("open-help").addEventListener("click", () => byId("help").showModal());
byId("close-help").addEventListener("click", () => byId("help").close());
start();
