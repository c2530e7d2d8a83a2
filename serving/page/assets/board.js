/* All answers about a recording: they are found one after the other, so that none slows down another. */

import { Answer } from "./answer.js";
import { Fault, transcription } from "./api.js";
import { Card } from "./card.js";
import { counted, find, seconds } from "./dom.js";

const OPEN_END = 1.15; // of the bar of an answer that has not ended
const SAID_EVERY = 1500; // ms between two pieces that a screen reader is told

export class Board {
  #cards = [];
  #running = null; // the AbortController of the request under way
  #events;
  #said = { words: 0, at: 0 };

  /* `events`: changed(busy), wantsKey(), play(seconds), marked(segments). */
  constructor(events) {
    this.#events = events;
  }

  get busy() {
    return this.#running !== null || this.#cards.some(({ answer }) => answer.state === "waiting");
  }

  /* Ask for {clip, model, label, colour, beams, prompt, inSegments}; what was asked before is asked again in its place. */
  ask(asked) {
    const same = this.#cards.find(({ answer }) =>
      ["model", "beams", "prompt", "inSegments"].every((name) => answer.asked[name] === asked[name]),
    );
    if (same) this.#replace(same, asked);
    else this.#put(this.#card(asked));
  }

  /* Ask again for what was refused for want of a key. */
  askRefused() {
    for (const card of [...this.#cards]) if (card.answer.fault?.status === 401) this.#replace(card, card.answer.asked);
  }

  cancel() {
    for (const card of this.#cards) if (card.answer.state === "waiting") this.#end(card, "cancelled");
    this.#running?.abort();
  }

  clear() {
    this.cancel();
    for (const card of this.#cards) card.element.remove();
    this.#cards = [];
    this.#changed();
  }

  /* Mark what is heard at so many seconds; null: nothing is. */
  hear(place) {
    for (const card of this.#cards) card.hear(place);
  }

  #card(asked) {
    const card = new Card(new Answer(asked), {
      play: this.#events.play,
      cancel: () => (card.answer.state === "waiting" ? this.#end(card, "cancelled") : this.#running.abort()),
      again: () => this.#replace(card, card.answer.asked),
      remove: () => this.#remove(card),
      asWav: asked.clip.asWav && (() => this.#replace(card, { ...card.answer.asked, clip: asked.clip.asWav() })),
    });
    return card;
  }

  #put(card) {
    find("cards").append(card.element);
    this.#cards.push(card);
    this.#begin(card);
  }

  #replace(card, asked) {
    const fresh = this.#card(asked);
    if (asked.clip === card.answer.asked.clip) fresh.answer.earlier = card.answer.times;
    const held = card.element.contains(document.activeElement);
    card.element.replaceWith(fresh.element);
    this.#cards[this.#cards.indexOf(card)] = fresh;
    this.#begin(fresh);
    if (held) fresh.focus();
  }

  #remove(card) {
    card.element.remove();
    this.#cards = this.#cards.filter((one) => one !== card);
    this.#changed();
    find("results-title").focus();
  }

  #begin(card) {
    card.show();
    this.#changed();
    this.#work();
  }

  #end(card, state, fault = null) {
    card.answer.end(state, fault);
    card.show();
    this.#changed();
  }

  async #work() {
    if (this.#running) return;
    for (let card; (card = this.#cards.find((one) => one.answer.state === "waiting")); ) await this.#found(card);
  }

  async #found(card) {
    const { answer } = card, running = (this.#running = new AbortController());
    const ticking = setInterval(() => {
      this.#measure();
      this.#say(card);
    }, 100);
    this.#said = { words: 0, at: performance.now() };
    answer.begin();
    card.show();
    this.#changed();
    let end = ["done"];
    try {
      for await (const event of transcription(answer.asked, running.signal)) {
        answer.take(event);
        card.show();
      }
    } catch (fault) {
      if (fault.name !== "AbortError" && !(fault instanceof Fault)) throw fault;
      end = fault instanceof Fault ? ["failed", fault] : ["cancelled"];
    } finally {
      clearInterval(ticking);
      this.#running = null;
    }
    this.#end(card, ...end);
    this.#sayEnd(card);
    if (answer.fault?.status === 401) this.#events.wantsKey();
  }

  #changed() {
    this.#measure();
    this.#compare();
    const marked = this.#cards.find(({ answer }) => answer.segments.length);
    this.#events.marked(marked?.answer.segments ?? []);
    this.#events.changed(this.busy, this.#cards.length);
  }

  #measure() {
    const lengths = this.#cards.map(({ answer }) => answer.elapsed * (answer.underWay ? OPEN_END : 1));
    const longest = Math.max(0.001, ...lengths);
    for (const card of this.#cards) card.measure(longest);
  }

  #compare() {
    const done = this.#cards.filter(({ answer }) => answer.state === "done");
    for (const card of done) card.compare(card === done[0] ? null : done[0].answer);
  }

  /* What has arrived since the last time, for those who hear the page: not every word on its own. */
  #say(card) {
    const now = performance.now(), { words } = card.answer;
    if (now - this.#said.at < SAID_EVERY || words.length === this.#said.words) return;
    find("said").textContent = words.slice(this.#said.words).join(" ");
    Object.assign(this.#said, { words: words.length, at: now });
  }

  #sayEnd({ answer }) {
    const { label } = answer.asked, fault = answer.fault;
    const ends = {
      done: () => `${label} has answered in ${seconds(answer.whole)}: ${counted(answer.words.length, "word")}.`,
      cancelled: () => `The answer of ${label} was cancelled.`,
      failed: () => `${label}: ${fault.title} ${fault.message}`,
    };
    find("said").textContent = ends[answer.state]();
  }
}
