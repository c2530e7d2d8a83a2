/* What is known of one answer; times are in seconds from the moment that its request was sent. */

import { wordsOf } from "./words.js";

export class Answer {
  state = "waiting"; // asking, answering, and at last done, failed or cancelled
  told = ""; // pieces, joined
  segments = []; // {start, end, text}
  first = null; // time
  whole = null; // time
  audio = null; // seconds of audio
  profile = null; // that has answered
  reason = null; // why it was this one, where the server has chosen it
  fault = null;
  earlier = []; // whole times of the same question
  #began = null;

  /* `asked`: {clip, model, label, colour, beams, prompt, inSegments}. */
  constructor(asked) {
    this.asked = asked;
  }

  get underWay() {
    return this.state === "asking" || this.state === "answering";
  }

  get elapsed() {
    return this.whole ?? this.#now;
  }

  get words() {
    return wordsOf(this.segments.length && !this.rest ? this.segments.map(({ text }) => text).join(" ") : this.told);
  }

  /* Text that no segment holds yet: a segment may be told before or after its pieces. */
  get rest() {
    const held = this.segments.reduce((count, { text }) => count + wordsOf(text).length, 0);
    return this.state === "done" && held ? "" : wordsOf(this.told).slice(held).join(" ");
  }

  get fastest() {
    return Math.min(this.whole, ...this.earlier);
  }

  /* Whole times of this question so far. */
  get times() {
    return this.state === "done" ? [...this.earlier, this.whole] : this.earlier;
  }

  begin() {
    this.state = "asking";
    this.#began = performance.now();
  }

  take(event) {
    const { type, ...told } = event;
    if (type === "answering") Object.assign(this, { state: "answering", ...told });
    else if (type === "transcript.text.delta") this.told += event.delta;
    else if (type === "transcript.text.segment") this.segments.push(event);
    else if (type === "transcript.text.done") {
      this.told = event.text;
      this.audio = event.usage?.seconds ?? this.asked.clip.seconds;
      this.whole = this.#now;
    }
    if (this.words.length) this.first ??= this.#now;
  }

  end(state, fault = null) {
    if (this.#began !== null) this.whole ??= this.#now;
    Object.assign(this, { state, fault });
  }

  get #now() {
    return this.#began === null ? 0 : (performance.now() - this.#began) / 1000;
  }
}
