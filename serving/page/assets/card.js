/* The card of one answer: its text, its segments and its times. */

import { clock, counted, figure, make, seconds } from "./dom.js";
import { asSrt, asText, asVtt, save } from "./subtitles.js";
import { differences, wordsOf } from "./words.js";

const STATES = { waiting: "waits for its turn", asking: "sent", answering: "is answering", cancelled: "cancelled" };

export class Card {
  #text = make("p.text");
  #list = make("ol.segments");
  #facts = make("dl.facts");
  #state = make("span.state");
  #badge = make("span.badge", { hidden: true });
  #fill = make("span.fill");
  #until = make("span.until");
  #time = make("span.time");
  #verdict = make("p.verdict", { hidden: true });
  #fault = make("div.fault", { hidden: true });
  #foot = make("div.foot", { hidden: true });
  #cancel;
  #drawn = 0; // segments

  /* `actions`: play(seconds), again(), cancel(), remove(), and asWav() or null. */
  constructor(answer, actions) {
    this.answer = answer;
    this.actions = actions;
    const { label, beams, colour } = answer.asked;
    this.#cancel = make("button.quiet", { type: "button", textContent: "Cancel", onclick: actions.cancel });
    this.#cancel.setAttribute("aria-label", `Cancel the answer of ${label}`);
    const title = make("h3", {}, make("i.dot"), label);
    const head = make("div.head", {}, title, this.#badge, this.#state, this.#cancel);
    const bar = make("div.time-bar", {}, make("div.track", {}, this.#fill, this.#until), this.#time);
    this.element = make("article", {}, head, bar, this.#list, this.#text, this.#fault, this.#verdict, this.#facts, this.#foot);
    this.element.style.setProperty("--own", colour);
    this.element.setAttribute("aria-label", `Answer of ${label}, ${counted(beams, "beam")}`);
  }

  focus() {
    (this.#cancel.hidden ? this.#foot.querySelector("button") : this.#cancel)?.focus();
  }

  /* Draw what has changed. */
  show() {
    const { answer } = this;
    this.element.dataset.state = answer.state;
    this.element.setAttribute("aria-busy", answer.underWay);
    this.#state.textContent = STATES[answer.state] ?? "";
    this.#cancel.hidden = !(answer.underWay || answer.state === "waiting");
    for (; this.#drawn < answer.segments.length; this.#drawn++) this.#list.append(this.#segment(this.#drawn));
    const rest = answer.rest;
    this.#text.textContent = rest || (answer.state === "done" && !answer.segments.length ? "No speech was found." : "");
    this.#text.hidden = !this.#text.textContent && !answer.underWay;
    if (this.#cancel.hidden) this.#showEnd();
  }

  /* The bar, of `longest` seconds at most. */
  measure(longest) {
    const { first, elapsed } = this.answer, part = (value) => `${((100 * value) / longest).toFixed(2)}%`;
    this.#fill.style.width = part(elapsed);
    this.#until.style.width = part(first ?? elapsed);
    this.#time.textContent = elapsed ? seconds(elapsed) : "";
  }

  /* Words and times beside those of the first answer; null: this is the first. */
  compare(reference) {
    const { answer } = this, compared = reference && answer.state === "done";
    this.#badge.hidden = !compared;
    this.#verdict.hidden = !compared;
    if (!compared) return this.#underline(new Set());
    const ratio = reference.fastest / answer.fastest; // of several runs: noise only ever adds time
    this.#badge.textContent = ratio >= 1 ? `${figure(ratio)}× as fast` : `${figure(1 / ratio)}× the time`;
    this.#badge.classList.toggle("slower", ratio < 1);
    this.#badge.title = `of ${reference.asked.label}, ${counted(reference.asked.beams, "beam")}`;
    const found = differences(answer.words, reference.words), beside = reference.asked.label;
    this.#underline(found?.changed ?? new Set());
    this.#verdict.textContent = !found
      ? `Too long to compare word by word with ${beside}.`
      : found.count
        ? `${counted(found.count, "word")} unlike ${beside}, of ${reference.words.length}`
        : `Word for word as ${beside}`;
    this.#verdict.classList.toggle("same", found?.count === 0);
  }

  /* Mark the segment that is heard at so many seconds; null: none. */
  hear(place) {
    this.answer.segments.forEach(({ start, end }, i) => {
      const button = this.#list.children[i].firstChild;
      if (place !== null && start <= place && place < end) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
    });
  }

  #segment(i) {
    const { start, end, text } = this.answer.segments[i];
    const times = make("span.when", {}, clock(start), make("span.until-when", {}, ` – ${clock(end)}`));
    const button = make("button", { type: "button", onclick: () => this.actions.play(start) }, times, make("span.words", {}, text.trim()));
    button.title = "Play from here";
    return make("li", {}, button);
  }

  #underline(changed) {
    let number = 0;
    const places = this.answer.segments.length ? [...this.#list.querySelectorAll(".words")] : [this.#text];
    for (const place of places) {
      const words = wordsOf(place.textContent);
      place.replaceChildren(...words.flatMap((word, i) => [i ? " " : "", changed.has(number++) ? make("mark", {}, word) : word]));
    }
  }

  #showEnd() {
    const { answer } = this;
    this.#foot.hidden = false;
    this.#facts.replaceChildren(...(answer.state === "done" ? this.#figures() : []));
    this.#foot.replaceChildren(...this.#buttons());
    this.#fault.hidden = !answer.fault;
    if (answer.fault) this.#fault.replaceChildren(...this.#told(answer.fault));
  }

  #figures() {
    const { first, whole, audio, profile, reason, times, fastest, asked } = this.answer;
    const figures = [
      ["first text", first === null ? "none" : seconds(first)],
      ["whole answer", seconds(whole)],
      ["audio", audio === null ? "unknown" : `${figure(audio)} s`],
      ["speed", audio === null ? "unknown" : `${figure(audio / whole)}× real time`],
      ["beams", String(asked.beams)],
      ["answered by", profile ?? asked.label],
    ];
    if (times.length > 1) figures.push([`fastest of ${times.length}`, seconds(fastest)]);
    if (reason) figures.push(["because", reason]);
    return figures.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value)));
  }

  #told({ title, message, after }) {
    const sentence = /[.!?]$/.test(message) ? message : `${message}.`;
    return [make("b", {}, title), ` ${sentence}`, after ? ` It asks to wait ${counted(after, "second")}.` : ""];
  }

  #buttons() {
    const { answer, actions } = this, { label, clip } = answer.asked;
    const button = (text, told, onclick) => {
      const made = make("button.quiet", { type: "button", textContent: text, onclick });
      made.setAttribute("aria-label", told);
      return made;
    };
    const file = `${clip.name.replace(/\.[^.]*$/, "")}.${label}`;
    const found = [];
    if (answer.state === "done") {
      const { clipboard } = navigator; // which browsers lend to pages over https and on localhost alone
      if (clipboard) found.push(button("Copy", `Copy the text of ${label}`, () => clipboard.writeText(answer.told)));
      found.push(button("TXT", `Save the text of ${label}`, () => save(`${file}.txt`, asText(answer.told))));
      if (answer.segments.length) {
        found.push(button("SRT", `Save SubRip subtitles of ${label}`, () => save(`${file}.srt`, asSrt(answer.segments))));
        found.push(button("VTT", `Save WebVTT subtitles of ${label}`, () => save(`${file}.vtt`, asVtt(answer.segments))));
      }
    }
    if (answer.fault?.param === "file" && actions.asWav) found.push(button("Send as WAV", "Send the recording again, as WAV of 16 kHz", actions.asWav));
    found.push(make("span.space"));
    found.push(button("Again", `Ask ${label} again`, actions.again));
    found.push(button("Remove", `Remove the answer of ${label}`, actions.remove));
    return found;
  }
}
